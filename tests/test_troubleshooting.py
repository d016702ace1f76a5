"""The messages that troubleshooting.md quotes are still those of the code."""

import ast
import re
from functools import cache

import pytest
import torch

import cells
import exercises
import tiny_data
from attnres_kernels import interpret
from attnres_ref import LM, LMConfig, notebook
from attnres_ref.training import presets
from tiny_data import sources

ROOT = cells.ROOT
PAGE = (ROOT / "notebooks" / "troubleshooting.md").read_text(encoding="utf-8")
FOLDERS = ["attnres_ref", "kernels", "tiny_data", "notebooks/exercises"]
BOXES = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TYPE = re.compile(r"^(?:[A-Z]\w*|error): ")        # as Python or a command begins a line
QUOTED = [TYPE.sub("", " ".join(box.split())) for box in BOXES]
EXERCISE = [message for message in QUOTED if message.startswith("02.4 ")]


# --- read in the code: every message, from word to word ---------------------------------


@cache
def templates() -> list[re.Pattern]:
    """A pattern for each string of the code; what an f-string fills in is open."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    code = [path.read_text(encoding="utf-8") for path in paths]
    for path in cells.notebooks():
        code += [c.source for c in cells.read(path).cells if c.cell_type == "code"]
    nodes = [node for source in code for node in ast.walk(ast.parse(source))]
    patterns = [as_pattern(node) for node in nodes]
    return [re.compile(pattern) for pattern in patterns if pattern]


def as_pattern(node: ast.AST) -> str | None:
    """None for what is no string, or is too short to recognise a message by."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = [getattr(part, "value", None) for part in parts]
    texts = [text if isinstance(text, str) else None for text in texts]
    if sum(len(text.strip()) for text in texts if text) < 12:
        return None
    spaced = [re.sub(r"(\\?\s)+", r"\\s+", re.escape(t)) if t else ".*?" for t in texts]
    pattern = re.sub(r"(\.\*\?)+", ".*?", "".join(spaced))     # several would be slow
    return pattern if texts[-1] else pattern.removesuffix("?")


def in_the_code(message: str) -> bool:
    """Whether strings of the code cover all of the message, from word to word."""
    message = f" {message} "
    left = list(message)
    for pattern in templates():
        for match in pattern.finditer(message):
            left[slice(*match.span())] = " " * len(match[0])
    return not re.search(r"\w", "".join(left))


@cache
def printed() -> set[str]:
    """Lines that make and the notebooks print; True for False, which a reader may see."""
    lines = re.findall("echo '(.+?)'", (ROOT / "Makefile").read_text(encoding="utf-8"))
    for path in cells.notebooks():
        for cell in cells.read(path).cells:
            for output in cell.get("outputs", []):
                lines += output.get("text", "").splitlines()
    lines = {" ".join(line.split()) for line in lines}
    return lines | {line.replace("corpus: True", "corpus: False") for line in lines}


@pytest.mark.parametrize(
    "message", [m for m in QUOTED if m not in EXERCISE], ids=lambda message: message[:50]
)
def test_a_quoted_message_is_in_the_code(message):
    assert message in printed() or in_the_code(message)


@pytest.mark.parametrize("message", [
    "ATTNRES_PRESET is 'large': take one of ['ci', 'cpu', 'gpu', 't4']",
    "no answer from ranks [0, 1] in time; they were stopped",
    "interrupted: run the same command with --resume to go on again",
])
def test_a_changed_message_is_found(message):
    assert message not in printed() and not in_the_code(message)


# --- provoked: what can be, with its values as they are quoted --------------------------


def test_two_wrong_answers_to_an_exercise_are_told_what_is_quoted(capsys):
    def raw_keys(query, sources):
        values = torch.stack(tuple(sources))
        weights = (values @ query).softmax(0)
        return (weights.unsqueeze(-1) * values).sum(0)

    for answer in (lambda query, sources: None, raw_keys):
        exercises.check("02.4", answer)
    said = capsys.readouterr().out.splitlines()
    assert said[::2] == EXERCISE              # a score follows each


def too_long():
    model = LM(LMConfig(d_model=8, n_layers=2, n_heads=2, context=64, residual="prenorm"))
    model(torch.zeros(1, 65, dtype=torch.long))


@pytest.mark.parametrize("act", [
    presets.current,
    lambda: notebook.recorded("residuals"),
    lambda: LMConfig(n_layers=8, residual="block", block_size=9),
    lambda: LMConfig(d_model=100, n_heads=3),
    too_long,
    lambda: tiny_data.Corpus.from_bytes("text", bytes(10240)).validation_windows(1, 3000),
    lambda: tiny_data.load("shakespear"),
    lambda: interpret.Stub(None)[(1,)],
    lambda: interpret.check_device(torch.zeros(2)),
    lambda: tiny_data.load("tinyshakespeare"),
    notebook.cache_dir,
])
def test_a_provoked_message_is_quoted_but_for_its_places(act, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTNRES_PRESET", "large")
    monkeypatch.setenv("ATTNRES_CACHE_DIR", str(tmp_path / "file" / "folder"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ATTNRES_DATA_DIR", raising=False)
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_URL", "http://127.0.0.1:9/input.txt")
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    monkeypatch.setattr(interpret, "INTERPRETING", False)
    monkeypatch.setattr(interpret, "available", lambda: True)
    places = re.compile(r"https?://\S+ \(.*?\)|(?<=cache as )\S+|/\S+ \([\w ]+\)")
    with pytest.raises((ValueError, OSError, RuntimeError, ImportError)) as error:
        act()
    said = " ".join(str(error.value).split())
    assert places.sub("...", said) in [places.sub("...", message) for message in QUOTED]


def test_what_an_interpreter_says_that_cannot_work_is_quoted():
    assert interpret.CLASH in QUOTED
