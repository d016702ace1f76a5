"""A residual stream under a decoder that somebody else wrote."""

from attnres_ref.adapter.convert import convert as convert
