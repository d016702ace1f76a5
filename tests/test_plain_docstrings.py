"""Docstrings in plain text become reStructuredText that says the same."""

from plain_docstrings import restructured


def test_parameters_prose_and_formulas():
    doc = """\
Read what earlier layers wrote (Eq. 2-4).

    h = sum_i a_i v_i

query:       [d], the query w_l
sources:     n tensors
             of one shape
Returns [..., d]: also `weights` [n, ...].
Raises ValueError for *args."""
    assert restructured(doc, {"query", "sources"}) == [
        "Read what earlier layers wrote (Eq. 2-4).",
        "",
        "::",
        "",
        "    h = sum_i a_i v_i",
        "",
        "",
        ":param query: [d], the query w\\_l",
        ":param sources: n tensors of one shape",
        "",
        "Returns [..., d]\\: also \\ ``weights``\\  [n, ...].",
        "Raises ValueError for \\*args.",
        "",
    ]


def test_a_word_and_a_colon_are_no_parameter():
    assert restructured("Note: nothing.", {"query"}) == ["Note\\: nothing.", ""]
