"""The glossary: three languages a row, in order, and every term of the notation table."""

import re

import cells

GLOSSARY = (cells.ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8")
MAP = (cells.ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
ANCHOR = re.compile(r'<a id="([a-z0-9-]+)"></a>(.+)')
HAN = re.compile(r"[\u4e00-\u9fff]")
# Proper names that Chinese texts leave as they are.
AS_IT_IS = {"DenseFormer", "LayerScale", "ReZero", "SwiGLU", "Triton"}


def table_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if row[0] not in ("English", "paper")]


def order(term: str) -> str:
    return re.sub(r"[^a-z0-9 ]", "", term.lower().replace("-", " "))


ROWS = {}                              # by term: anchor, names, Chinese, French, meaning
for english, *row in table_rows(GLOSSARY):
    anchor, term = ANCHOR.fullmatch(english).groups()
    ROWS[term.strip()] = anchor, *row


def test_a_row_has_three_languages_and_an_explanation():
    for term, (_, _, chinese, french, meaning) in ROWS.items():
        assert french and meaning and not HAN.search(term + french), term
        assert HAN.search(chinese) or chinese == term in AS_IT_IS, term
        assert not re.search("[()]", chinese), f"{term}: Chinese has （ and ）"


def test_terms_are_sorted_and_said_once_and_anchors_are_unique():
    assert len(ROWS) == len(table_rows(GLOSSARY)) == len({row[0] for row in ROWS.values()})
    assert [order(t) for t in ROWS] == sorted({order(t) for t in ROWS})


def test_the_notation_table_is_covered_and_linked():
    part = re.search(r"^## Notation\n(.*?)^## ", MAP, re.MULTILINE | re.DOTALL)[1]
    letters = {}                       # of each name in code, that of its glossary row
    for term, (_, names, *_) in ROWS.items():
        letters |= dict.fromkeys(re.findall(r"`(\w+)`", names), order(term)[0])
    for _, names, meaning in table_rows(part):
        wanted = {letters[name] for name in re.findall(r"`(\w+)`", names)}
        assert set(re.findall(r"\]\(glossary\.md#([\w-]+)\)", meaning)) >= wanted, names
