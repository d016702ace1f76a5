"""The glossary: three languages a row, in order, and every term of the notation table."""

import re

import pytest

import cells

GLOSSARY = cells.ROOT / "notebooks" / "glossary.md"
MAP = cells.ROOT / "notebooks" / "README.md"
ANCHOR = re.compile(r'<a id="([a-z0-9-]+)"></a>')
HAN = re.compile(r"[\u4e00-\u9fff]")
# Proper names that Chinese texts leave as they are.
AS_IT_IS = {"DenseFormer", "LayerScale", "ReZero", "SwiGLU", "Triton"}


def table_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if row[0] != "English"]


def notation_rows() -> list[list[str]]:
    text = MAP.read_text(encoding="utf-8")
    part = re.search(r"^## Notation\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)[1]
    return [row for row in table_rows(part) if row[0] != "paper"]


def order(term: str) -> str:
    return re.sub(r"[^a-z0-9 ]", "", term.lower().replace("-", " "))


TEXT = GLOSSARY.read_text(encoding="utf-8")
ROWS = table_rows(TEXT)
TERMS = [ANCHOR.sub("", row[0]).strip() for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=TERMS)
def test_a_row_has_three_languages_and_an_explanation(row):
    english, _, chinese, french, meaning = row
    term = ANCHOR.sub("", english)
    assert len(ANCHOR.findall(english)) == 1 and term and french and meaning
    assert HAN.search(chinese) or chinese == term in AS_IT_IS
    assert not HAN.search(term + french)
    assert not meaning.endswith(".")


def test_terms_are_sorted_and_said_once():
    assert [order(t) for t in TERMS] == sorted({order(t) for t in TERMS})


def test_each_letter_has_its_heading():
    letter = ""
    for line in TEXT.splitlines():
        if line.startswith("## "):
            letter = line.removeprefix("## ")
        elif line.startswith("| <a"):
            assert order(ANCHOR.sub("", line.split("|")[1]).strip())[0] == letter.lower()


def test_anchors_are_unique():
    anchors = ANCHOR.findall(TEXT)
    assert len(set(anchors)) == len(anchors) == len(ROWS) > 100


@pytest.mark.parametrize("row", notation_rows(), ids=lambda row: row[1])
def test_the_notation_table_is_covered_and_linked(row):
    _, names, meaning = row
    letters = {}                       # of each name in code, that of its glossary row
    for term, known in zip(TERMS, ROWS):
        letters |= dict.fromkeys(re.findall(r"`(\w+)`", known[1]), order(term)[0])
    wanted = {letters[name] for name in re.findall(r"`(\w+)`", names)}
    assert set(re.findall(r"\]\(glossary\.md#([\w-]+)\)", meaning)) >= wanted
