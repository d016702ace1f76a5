"""tiny_data: corpora, their windows, and a download that never leaves a wrong file."""

import hashlib
import http.server
import itertools
import json
import os
import socket
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import plan
import tiny_data
from attnres_ref import notebook
from tiny_data import Corpus, PointerChasing, download, files, python_sources, sources
from tiny_data.pack import pack

GOOD = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 4000
WRONG = b"<html>Please log in</html>"
GOOD_SHA256 = hashlib.sha256(GOOD).hexdigest()


def numbered(length: int) -> Corpus:
    """A corpus in which a byte tells its position (modulo 256)."""
    return Corpus("numbered", torch.arange(length).to(torch.uint8))


def text_of(corpus: Corpus) -> bytes:
    return corpus.tokens.numpy().tobytes()


# --- the corpus: splits, batches, validation windows ---------------------------------


@pytest.mark.parametrize("length", [1, 9, 10, 11, 999, 1000])
def test_splits_cover_the_text_once_without_a_copy(length):
    corpus = numbered(length)
    assert len(corpus.train) == length * 9 // 10
    assert torch.equal(torch.cat([corpus.train, corpus.val]), corpus.tokens)
    assert corpus.val.data_ptr() == corpus.tokens.data_ptr() + len(corpus.train)


def test_fingerprint_is_the_checksum_of_the_bytes():
    corpus = Corpus.from_bytes("mine", GOOD)
    expected = {"name": "mine", "bytes": len(GOOD), "sha256": GOOD_SHA256}
    assert json.loads(json.dumps(corpus.fingerprint)) == expected
    assert corpus.tokens.dtype == torch.uint8 and text_of(corpus) == GOOD


@pytest.mark.parametrize("length", [40, 999, 1011])
def test_halves_of_the_validation_split_follow_each_other_and_are_all_of_it(length):
    whole = numbered(length)
    tuning, judging = (whole.validated_on(part) for part in ("tuning", "judging"))
    assert torch.equal(torch.cat([tuning.val, judging.val]), whole.val)
    assert 0 <= len(judging.val) - len(tuning.val) <= 1
    for half in (tuning, judging):
        assert torch.equal(half.train, whole.train)
        assert half.val.data_ptr() - whole.val.data_ptr() in (0, len(tuning.val))
        named = {**whole.fingerprint, "validation": half.validation}
        assert half.fingerprint == named and half.validated_on("all").fingerprint != named
        windows = half.validation_windows(1, context=len(half.val) - 1)
        assert [*windows[0][0], windows[1][0, -1]] == half.val.tolist()
    with pytest.raises(ValueError, match="'half': choose one of .'all', 'judging', 'tun"):
        whole.validated_on("half")


def test_a_batch_holds_windows_and_the_next_bytes_and_draws_nothing_from_torch():
    arguments = dict(seed=1, step=2, batch_size=7, context=33)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    inputs, targets = numbered(5000).batch(**arguments)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(numbered(5000).batch(**arguments)[0], inputs)
    assert inputs.shape == targets.shape == (7, 33)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, (inputs + 1) % 256)
    assert torch.equal(inputs[:, 1:], (inputs[:, :-1] + 1) % 256)


def test_batches_of_different_seeds_and_steps_differ():
    corpus = Corpus("random", torch.randint(256, (200_000,), dtype=torch.uint8))
    # 2**32 and its neighbours: torch's CPU generator sees 32 bits of its seed only.
    numbers = [*range(40), 1000, 10**6, 2**31, 2**32, 2**32 + 1, 2**40]
    pairs = itertools.product(numbers, numbers)
    drawn = {corpus.batch(*pair, 4, 16)[0].numpy().tobytes() for pair in pairs}
    assert len(drawn) == len(numbers) ** 2


def test_batches_reach_every_training_window_and_no_validation_byte():
    tokens = torch.cat([torch.arange(90), torch.full((10,), 255)]).to(torch.uint8)
    corpus = Corpus("marked", tokens)
    inputs, targets = corpus.batch(seed=0, step=0, batch_size=5000, context=8)
    assert sorted(set(inputs[:, 0].tolist())) == list(range(90 - 8))
    assert targets.max() == 89
    for n_windows in (2, 50):                  # 50 do not fit without overlap
        for tokens in corpus.validation_windows(n_windows, context=4):
            assert (tokens == 255).all()


@pytest.mark.parametrize("n_windows, context", [(1, 8), (2, 8), (12, 8), (9, 11), (99, 1)])
def test_validation_windows_span_the_split_and_do_not_overlap(n_windows, context):
    inputs, targets = numbered(1000).validation_windows(n_windows, context)  # of 900..999
    assert inputs.shape == targets.shape == (n_windows, context)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, (inputs + 1) % 256)
    assert inputs[0, 0] == 900 % 256
    if n_windows > 1:
        assert targets[-1, -1] == 999 % 256
        gaps = inputs[:, 0].diff() % 256
        assert gaps.min() >= context and gaps.max() <= gaps.min() + 1


def test_shortest_corpus_that_fits_and_one_byte_less():
    assert numbered(10).batch(0, 0, 2, context=8)[1].tolist() == [[*range(1, 9)]] * 2
    with pytest.raises(ValueError, match="train split has 9 of its 10 bytes, .* needs 10;"):
        numbered(10).batch(0, 0, 2, context=9)
    assert numbered(50).validation_windows(1, context=4)[0].shape == (1, 4)
    with pytest.raises(ValueError, match="'numbered' is too short: its val split has 5 of"):
        numbered(50).validation_windows(1, context=5)


@pytest.mark.parametrize("data", [numbered(1000), PointerChasing()], ids=["text", "puzzle"])
@pytest.mark.parametrize("value", [-1, 2.5, 2.0, "2", True, None, float("nan")])
def test_a_size_that_is_no_number_from_one_on_is_named(data, value):
    usual = dict(seed=0, step=0, batch_size=1, context=40)
    for name in usual:
        with pytest.raises(ValueError, match=f"^{name} (is {value!r}: it |.* got -1)"):
            data.batch(**usual | {name: value})
    for name, size in dict(n_windows=(value, 40), context=(1, value)).items():
        with pytest.raises(ValueError, match=f"^{name} (is {value!r}: it |.* got -1)"):
            data.validation_windows(*size)


@pytest.mark.parametrize("data", [numbered(1000), PointerChasing()], ids=["text", "puzzle"])
def test_batches_are_the_same_by_numpys_numbers_and_wherever_torch_makes_tensors(data):
    arguments, (two, forty) = (3, 1, 2, 40), np.array([2, 40])
    expected = *data.batch(*arguments), *data.validation_windows(2, 40)
    with torch.device("meta"):
        found = *data.batch(*np.array(arguments)), *data.validation_windows(two, forty)
    assert all(torch.equal(*pair) for pair in zip(found, expected))


@pytest.mark.parametrize("tokens", [b"bytes", torch.arange(9), torch.zeros(1, 9).byte()])
def test_a_corpus_is_a_row_of_bytes(tokens):
    with pytest.raises(ValueError, match=r"tokens is \S+: it must be a row of bytes"):
        Corpus("wrong", tokens)
    with pytest.raises(TypeError, match="text is of .*: it must be bytes"):
        Corpus.from_bytes("wrong", "text")


# --- sources: installed code, a file of one's own -------------------------------------


RECORDED = Path(__file__).resolve().parents[1] / "notebooks" / "recorded"
THE_TEXT = {
    "name": "python_sources",
    "bytes": 8_794_440,
    "sha256": "c40025974e27677c3356292aa1302a087d974d14c7e7b40203c069c45275b501",
}


def test_the_default_text_is_the_one_of_every_recorded_run():
    for name in ("python_sources", Path("python_sources")):
        assert tiny_data.load(name).fingerprint == python_sources().fingerprint == THE_TEXT
    contents = [json.loads(file.read_text("utf-8")) for file in RECORDED.glob("*.json")]
    records = [r for content in contents for r in content.get("python_sources", [])]
    assert len(records) > 200
    for record in records:
        assert THE_TEXT.items() <= record["data"].items(), record["name"]


def test_the_runs_that_judge_read_all_of_their_half_and_no_byte_twice():
    half, (context,) = python_sources().validated_on("judging"), contexts()
    targets = half.validation_windows(plan.JUDGING_WINDOWS, context)[1]
    # With one window more some byte would be a target twice, see validation_windows.
    assert targets.numel() < len(half.val) <= targets.numel() + context


def contexts() -> set[int]:
    """Of the models that are judged."""
    return {size.model["context"] for size in (plan.STUDY, plan.SIZE)}


def test_packages_are_added_on_request():
    text = Path(pytest.__file__).read_bytes().strip()
    assert text not in text_of(python_sources())
    more = python_sources(packages=("pytest",))
    assert text in text_of(more) and more.fingerprint != THE_TEXT


def test_what_was_packed_comes_back_and_packs_to_the_same_bytes(tmp_path):
    given = {"b.py": b"b\n", "a/deep.py": b"", "caf\xe9.py": b"\x00\xff\r\n"}
    one, other = tmp_path / "one", tmp_path / "other"
    pack(given, one)
    pack(dict(reversed(given.items())), other)
    assert sources.unpacked(one) == given and one.read_bytes() == other.read_bytes()
    with tarfile.open(one) as archive:
        assert {(entry.mtime, entry.uid, entry.uname) for entry in archive} == {(0, 0, "")}


def write_files(root, files: dict[str, bytes]):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text)


def test_files_are_ordered_by_their_names_hash_and_equal_ones_kept_once(tmp_path):
    files = {f"{letter}.py": b"text of " + letter.encode() for letter in "abcdefgh"}
    by_hash = sorted(files, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert by_hash != list(files)
    files |= {"twin.py": b"x = 1\n", "twins.py": b"x = 1\r\n", "empty.py": b""}
    write_files(tmp_path, files)
    (tmp_path / "gone.py").symlink_to("nowhere")
    (tmp_path / "_sysconfigdata_linux.py").write_bytes(b"the machine's paths")
    found = sources.python_files(tmp_path, "sample/")
    assert found.keys() == {f"sample/{name}" for name in files}
    found = {name.removeprefix("sample/"): text for name, text in found.items()}
    lines = sources.join_files(found).split(b"\n")
    assert sorted(lines) == sorted([b"", b"x = 1", *(files[name] for name in by_hash)])
    assert [line for line in lines if b"text of" in line] == [files[n] for n in by_hash]


def test_package_is_read_without_its_tests_and_not_run(tmp_path, monkeypatch):
    files = {
        "sample_package/__init__.py": b"raise SystemExit('imported')\n",
        "sample_package/core/deep.py": b"deep = 'kept source'\n",
        "sample_package/tests/check.py": b"check = 'skipped source'\n",
        "sample_package/core/test/check.py": b"check = 'skipped source too'\n",
        "sample_package/notes.txt": b"skipped source, not Python",
        "sample_module.py": b"single = 'a module'\n",
    }
    write_files(tmp_path, files)
    monkeypatch.syspath_prepend(tmp_path)
    text = text_of(python_sources(("sample_package", "sample_module")))
    for kept in (b"imported", b"kept source", b"single = 'a module'"):
        assert kept in text
    assert b"skipped source" not in text


@pytest.mark.parametrize("packages, error, message", [
    (("no_such",), ModuleNotFoundError, "'no_such' is not installed .* install it or"),
    (("no_such.part",), ModuleNotFoundError, "'no_such.part' is not installed"),
    (("sys",), ValueError, "'sys' has no Python source files; take it out"),
    ("torch", TypeError, r"packages is 'torch': it must be a tuple of names, as \("),
    (None, TypeError, "packages is None: it must"),
    (("json", None), TypeError, "packages is .*, None.: it must"),
])
def test_packages_that_cannot_be_read_are_named(packages, error, message):
    with pytest.raises(error, match=message):
        python_sources(packages)


def test_text_file_keeps_every_byte(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"caf\xc3\xa9\r\n\x00\xff")
    for corpus in (tiny_data.text_file(path), tiny_data.load(str(path))):
        assert corpus.name == "text_file:mine.txt" and text_of(corpus) == path.read_bytes()


def test_text_file_errors_name_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot read .*absent.txt .*: give"):
        tiny_data.text_file(tmp_path / "absent.txt")
    for read in (tiny_data.text_file, tiny_data.load):
        with pytest.raises(TypeError, match="path is None: it must be a string or a"):
            read(None)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="empty.txt is empty"):
        tiny_data.text_file(tmp_path / "empty.txt")


@pytest.mark.parametrize("place", ["folder", "pipe", "/dev/zero", "large"])
def test_what_has_no_end_or_no_room_is_not_read(tmp_path, place):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", files.LARGEST + 1)            # takes no space
    reason = "more than 4 GiB" if place == "large" else "a folder, a pipe or a device"
    with pytest.raises(OSError, match=rf"cannot read .*{place} \(.*{reason}.*\): give"):
        tiny_data.load(tmp_path / place)


@pytest.mark.parametrize("name", ["python_source", "", "x" * 5000])
def test_load_of_an_unknown_name_lists_the_choices(name):
    choices = "choose 'python_sources', 'tinyshakespeare' or the path of a text file"
    with pytest.raises(ValueError, match=f"unknown corpus {name!r}: {choices}"):
        tiny_data.load(name)


# --- tinyshakespeare ----------------------------------------------------------------


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Where the text may lie: data folder and cache, both empty; GOOD is the text."""
    monkeypatch.setenv("ATTNRES_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ATTNRES_CACHE_DIR", " ")       # as if it were not set
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_SHA256", GOOD_SHA256)
    folders = tmp_path / "data", tmp_path / ".cache" / "attnres"
    return [folder / "tinyshakespeare" / "input.txt" for folder in folders]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen += os.listdir(self.server.folder)
        if self.path == "/torn":
            return self.wfile.write(b"no HTTP")
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        bodies = {"/good": GOOD, "/wrong": WRONG.ljust(len(GOOD))}
        self.wfile.write(bodies.get(self.path, GOOD[: len(GOOD) // 2]))
        if self.path == "/stall":
            time.sleep(1)

    log_message = lambda *_: None


@pytest.fixture
def server(places, monkeypatch):
    """`seen` lists what lay in the cache at each request."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.folder, server.seen = places[1].parent, []
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        monkeypatch.delenv("ATTNRES_DATA_DIR")
        yield server
        server.shutdown()


def test_a_download_fills_the_cache_from_a_temporary_file(places, server, monkeypatch):
    """One of its own, so that two processes do not meet."""
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_URL", server.url + "/good")
    for _ in range(2):
        for corpus in (tiny_data.tinyshakespeare(), tiny_data.load("tinyshakespeare")):
            assert corpus.name == "tinyshakespeare" and text_of(corpus) == GOOD
        assert os.listdir(places[1].parent) == ["input.txt"] and not places[0].exists()
        places[1].unlink()
    assert len(set(server.seen)) == 2 and "input.txt" not in server.seen


@pytest.mark.parametrize("page, cause", [
    ("/wrong", f'(invalid hash value (expected "{GOOD_SHA256}", got '),
    ("/cut", f'(invalid hash value (expected "{GOOD_SHA256}", got '),
    ("/stall", "(timed out)"),
    ("/torn", "(no HTTP)"),
    ("no server", "Connection refused"),
])
def test_a_failed_download_leaves_nothing(places, server, monkeypatch, page, cause):
    url = server.url + page if page.startswith("/") else "http://127.0.0.1:9/input.txt"
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_URL", url)
    if page == "/stall":
        monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(download.DownloadError) as error:
        tiny_data.tinyshakespeare()
    for part in (url, cause, "ATTNRES_DATA_DIR", str(places[1]), "python_sources"):
        assert part in str(error.value)
    assert error.value.__suppress_context__  # one message, no chain of tracebacks
    assert os.listdir(places[1].parent) == []
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("variables, runs, texts", [
    ({}, ".cache/attnres/checkpoints", ".cache/attnres"),
    (dict(XDG_CACHE_HOME="{}/xdg"), "xdg/attnres/checkpoints", "xdg/attnres"),
    (dict(XDG_CACHE_HOME="here"), ".cache/attnres/checkpoints", ".cache/attnres"),
    (dict(ATTNRES_CACHE_DIR=" ~/a ", ATTNRES_DATA_DIR=" ~/b "), "a", "b"),
    (dict(HOME="?", ATTNRES_CACHE_DIR="{}/a", ATTNRES_DATA_DIR="{}/b"), "a", "b"),
])
def test_variables_name_folders(places, tmp_path, monkeypatch, variables, runs, texts):
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert notebook.cache_dir() == tmp_path / runs and (tmp_path / runs).is_dir()
    write_files(tmp_path, {f"{texts}/tinyshakespeare/input.txt": GOOD})
    assert text_of(tiny_data.tinyshakespeare()) == GOOD


@pytest.mark.parametrize("act, variables, message", [
    (notebook.cache_dir, dict(HOME="?"), "home folder is known.: set ATTNRES_CACHE"),
    (notebook.cache_dir, dict(ATTNRES_CACHE_DIR="~no-such-user/a"), "no home folder"),
    (notebook.cache_dir, dict(ATTNRES_CACHE_DIR=__file__), ".File exists.: set ATTN"),
    (notebook.cache_dir, dict(ATTNRES_CACHE_DIR="/proc"), ": set ATTNRES_CACHE_DIR"),
    (tiny_data.tinyshakespeare, dict(HOME="?"), "set HOME; or .* set ATTNRES_DATA_DIR"),
    (tiny_data.tinyshakespeare, {}, "ATTNRES_DATA_DIR is '.*/data', and no tinyshake"),
])
def test_a_wrong_folder_is_named(places, monkeypatch, act, variables, message):
    """Before a server is asked."""
    monkeypatch.setattr(sources, "download", lambda *_, **__: pytest.fail("asked"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match=message):
        act()


@pytest.mark.parametrize("which", [0, 1], ids=["ATTNRES_DATA_DIR", "cache"])
def test_a_file_at_hand_needs_no_server_and_is_checked(places, which):
    for place, text in zip(places[which:], (GOOD, WRONG)):     # the first of them counts
        write_files(place.parent, {place.name: text})
    assert text_of(tiny_data.tinyshakespeare()) == GOOD
    places[which].write_bytes(WRONG)
    with pytest.raises(ValueError, match=f"is not TinyShakespeare.*{GOOD_SHA256}; delete"):
        tiny_data.tinyshakespeare()
    assert places[which].read_bytes() == WRONG


@pytest.mark.skipif("ATTNRES_DATA_DIR" not in os.environ, reason="it names no local copy")
def test_the_real_tinyshakespeare():
    assert text_of(tiny_data.tinyshakespeare()).startswith(b"First Citizen:\nBefore we")
