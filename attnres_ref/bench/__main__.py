"""python -m attnres_ref.bench: time and memory of the three models."""

from attnres_ref.bench.training import __doc__ as description
from attnres_ref.bench.training import command, measure, table

command(description.splitlines()[0], measure, table)
