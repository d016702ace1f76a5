"""The messages that troubleshooting.md quotes are still those of the code."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import torch

import cells
import exercises
import tiny_data
from attnres_kernels import interpret
from attnres_ref import LM, LMConfig, notebook
from attnres_ref.training import presets
from attnres_ref.training import run_directory as checkpoint
from attnres_ref.training.run_directory import RunDirectory
from tiny_data import sources
from tiny_data.download import DownloadError

ROOT = cells.ROOT
PAGE = (ROOT / "notebooks" / "troubleshooting.md").read_text(encoding="utf-8")
FOLDERS = ["attnres_ref", "kernels", "tiny_data", "notebooks/exercises"]
TYPE = re.compile(r"^(?:[A-Z]\w*|error): ")        # as Python or a command begins a line


def boxes(kind: str) -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [" ".join(box.split()) for box in found]


OURS = boxes("text")


def templates() -> list[re.Pattern]:
    """A pattern for each string of the code; what an f-string fills in is open."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    for path in cells.notebooks():
        code = [c.source for c in cells.read(path).cells if c.cell_type == "code"]
        trees += [ast.parse(source) for source in code]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    filled = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    pieces = {id(piece) for node in filled for piece in node.values}
    found = [
        [getattr(piece, "value", None) if isinstance(piece, ast.Constant) else None
         for piece in node.values]
        for node in filled
    ]
    found += [
        [node.value] for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        and id(node) not in pieces
    ]
    return [pattern for parts in found if (pattern := as_pattern(parts))]


def as_pattern(parts: list[str | None]) -> re.Pattern | None:
    """None for a string too short to recognise a message by."""
    if sum(len(part.strip()) for part in parts if part) < 12:
        return None

    def piece(part):
        return r"\s+".join(map(re.escape, re.split(r"\s+", part))) if part else ".*?"

    pattern = "".join(map(piece, parts))
    return re.compile(pattern.removesuffix("?") if parts[-1] is None else pattern)


def in_the_code(message: str, known: list[re.Pattern]) -> bool:
    """Whether strings of the code cover all of the message, from word to word."""
    message = f" {TYPE.sub('', message)} "
    left = list(message)
    for pattern in known:
        for found in pattern.finditer(message):
            left[slice(*found.span())] = " " * len(found[0])
    return not re.search(r"\w", "".join(left))


@pytest.fixture(scope="module")
def known():
    return templates()


# Put together from several strings or from other parts of the repository.
ELSEWHERE = {
    "Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.12 ...": "Makefile",
    "02.1 not yet right: the keys are not normalised": "notebooks/exercises/nb02.py",
}


@pytest.mark.parametrize("message", OURS, ids=lambda message: message[:50])
def test_a_quoted_message_is_in_the_code(message, known):
    if message in ELSEWHERE:
        text = (ROOT / ELSEWHERE[message]).read_text(encoding="utf-8")
        assert message.removeprefix("02.1 not yet right: ") in text
        return
    if message in stored_lines():
        return
    assert in_the_code(message, known)


@cache
def stored_lines() -> set[str]:
    """What the notebooks' stored outputs print; True for False, which a reader may see."""
    found = set()
    for path in cells.notebooks():
        for cell in cells.read(path).cells:
            for output in cell.get("outputs", []):
                lines = output.get("text", "").splitlines()
                found |= {" ".join(line.split()) for line in lines}
    return found | {line.replace("corpus: True", "corpus: False") for line in found}


@pytest.mark.parametrize(
    "message",
    [
        "ValueError: preset is 'large': take one of ['ci', 'cpu', 'gpu', 't4']",
        "RankFailed: no answer from ranks [0, 1] in time; they were stopped",
        "interrupted: run the same command with --resume to go on again",
    ],
)
def test_a_changed_message_is_found(message, known):
    assert not in_the_code(message, known)


# --- provoked: the whole message, word by word ---------------------------------------


def identity(lr):
    return dict(train=dict(lr=lr))


def a_run(lr=0.004, resume=False):
    return RunDirectory("out", identity(lr), resume)


def saved(step=2):
    run = a_run()
    for i in range(step):
        run.append(dict(step=i))
    run.save(dict(step=step))


def already_there():
    saved()
    a_run()


def other_configuration():
    saved()
    a_run(0.001, resume=True).restore()


def truncated():
    saved()
    path = Path("out/checkpoint.pt")
    path.write_bytes(path.read_bytes()[:100])
    checkpoint.load_checkpoint(path)


def short_corpus():
    corpus = tiny_data.Corpus.from_bytes("text", bytes(10240))
    corpus.validation_windows(1, 3000)


def too_long():
    size = dict(d_model=8, n_layers=2, n_heads=2, context=64, residual="prenorm")
    LM(LMConfig(**size))(torch.zeros(1, 65, dtype=torch.long))


def without_triton():
    interpret.Stub(None)[(1,)]


PROVOKED = {
    "preset is": presets.current,
    "no recorded run": lambda: notebook.recorded("residuals"),
    "checkpoint_dir out already": already_there,
    "belongs to another": other_configuration,
    "is truncated": truncated,
    "block_size is 9": lambda: LMConfig(n_layers=8, residual="block", block_size=9),
    "d_model 100": lambda: LMConfig(d_model=100, n_heads=3),
    "tokens has length": too_long,
    "corpus 'text'": short_corpus,
    "unknown corpus": lambda: tiny_data.load("shakespear"),
    "Triton is not": without_triton,
    "the sources are on cpu": lambda: interpret.check_device(torch.zeros(2)),
}


@pytest.mark.parametrize("start", PROVOKED)
def test_provoked_messages_are_quoted_whole(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTNRES_PRESET", "large")
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    monkeypatch.setattr(interpret, "INTERPRETING", False)
    monkeypatch.setattr(interpret, "available", lambda: True)
    with pytest.raises(Exception) as error:
        PROVOKED[start]()
    said = " ".join(str(error.value).split())
    quoted = [TYPE.sub("", message) for message in OURS]
    assert start in said and said in quoted


def test_a_download_that_fails_is_quoted_but_for_its_places(tmp_path, monkeypatch):
    monkeypatch.delenv("ATTNRES_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_URL", "http://127.0.0.1:9/input.txt")
    with pytest.raises(DownloadError) as error:
        tiny_data.load("tinyshakespeare")

    def bare(text):
        return re.sub(r"\(.*?\)\. |in the cache as \S+", "", text)

    assert bare(str(error.value)) in [bare(TYPE.sub("", message)) for message in OURS]


def test_an_unsolved_exercise_says_what_is_quoted(capsys):
    exercises.check("02.1", lambda query, sources, eps=0: None)
    assert capsys.readouterr().out.strip() in OURS


def test_a_cache_folder_that_fails_is_quoted_but_for_its_place(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATTNRES_CACHE_DIR", str(tmp_path / "file" / "folder"))
    with pytest.raises(OSError) as error:
        notebook.cache_dir()
    pattern = r"(?<=checkpoints )\S+ \([\w ]+\)"
    said = re.sub(pattern, "X", str(error.value))
    assert said in [re.sub(pattern, "X", TYPE.sub("", message)) for message in OURS]


def test_the_page_lists_its_sections():
    listed = re.findall(r"\]\(#([\w-]+)\)", PAGE)
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert listed == [heading.lower().replace(" ", "-") for heading in headings]
