"""tiny_data: corpora, their windows, and a download that never leaves a wrong file."""

import dataclasses
import encodings
import hashlib
import http.server
import json
import os
import shutil
import socket
import threading

import pytest
import torch

import tiny_data
from tiny_data import Corpus, download, python_sources, sources, text_file

GOOD = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 4000
WRONG = b"<html>Please log in</html>"
GOOD_SHA256 = hashlib.sha256(GOOD).hexdigest()


def numbered(length: int) -> Corpus:
    """A corpus in which a byte tells its position (modulo 256)."""
    return Corpus("numbered", torch.arange(length).to(torch.uint8))


# --- splits and fingerprint ---------------------------------------------------------


@pytest.mark.parametrize("length", [1, 9, 10, 11, 999, 1000])
def test_splits_cover_the_text_once_without_a_copy(length):
    corpus = numbered(length)
    assert len(corpus.train) == length * 9 // 10
    assert torch.equal(torch.cat([corpus.train, corpus.val]), corpus.tokens)
    base = corpus.tokens.data_ptr()
    assert corpus.val.data_ptr() == base + len(corpus.train)
    if len(corpus.train):
        assert corpus.train.data_ptr() == base


def test_fingerprint_is_the_checksum_of_the_bytes():
    corpus = Corpus.from_bytes("mine", GOOD)
    expected = {"name": "mine", "bytes": len(GOOD), "sha256": GOOD_SHA256}
    assert corpus.fingerprint == expected
    assert json.loads(json.dumps(corpus.fingerprint)) == expected
    corpus.fingerprint["sha256"] = "changed by a caller"
    assert corpus.fingerprint == expected


def test_fingerprint_hashes_the_text_once(monkeypatch):
    corpus = Corpus.from_bytes("mine", GOOD)
    first = corpus.fingerprint
    monkeypatch.setattr(hashlib, "sha256", None)
    assert corpus.fingerprint == first


def test_corpus_is_uint8_and_frozen():
    corpus = Corpus.from_bytes("bytes", bytes(range(256)))
    assert corpus.tokens.dtype == torch.uint8
    assert corpus.tokens.tolist() == list(range(tiny_data.VOCAB_SIZE))
    with pytest.raises(dataclasses.FrozenInstanceError):
        corpus.name = "other"


# --- batches ------------------------------------------------------------------------


def test_batch_shapes_and_shift():
    inputs, targets = numbered(5000).batch(seed=1, step=2, batch_size=7, context=33)
    for tokens in (inputs, targets):
        assert tokens.shape == (7, 33)
        assert tokens.dtype == torch.int64
        assert tokens.is_contiguous()
    assert torch.equal(targets, (inputs + 1) % 256)
    assert torch.equal(inputs[:, 1:], (inputs[:, :-1] + 1) % 256)


def test_batch_depends_on_seed_and_step_only():
    def draw(corpus):
        return corpus.batch(seed=3, step=40, batch_size=8, context=16)[0]

    torch.manual_seed(0)
    state = torch.get_rng_state()
    corpus = numbered(5000)
    first = draw(corpus)
    assert torch.equal(torch.get_rng_state(), state)
    for step in range(5):
        corpus.batch(seed=3, step=step, batch_size=8, context=16)
    torch.manual_seed(1)
    assert torch.equal(draw(corpus), first)
    assert torch.equal(draw(numbered(5000)), first)


def test_batches_of_different_seeds_and_steps_differ():
    corpus = Corpus("random", torch.randint(256, (200_000,), dtype=torch.uint8))
    # 2**32 and its neighbours: torch's CPU generator sees 32 bits of its seed only.
    numbers = [*range(40), 1000, 10**6, 2**31, 2**32, 2**32 + 1, 2**40]
    drawn = {
        bytes(corpus.batch(seed, step, 4, 16)[0].to(torch.uint8).flatten().tolist())
        for seed in numbers
        for step in numbers
    }
    assert len(drawn) == len(numbers) ** 2


def test_batches_reach_every_training_window_and_no_validation_byte():
    tokens = torch.cat([torch.arange(90), torch.full((10,), 255)]).to(torch.uint8)
    corpus = Corpus("marked", tokens)
    inputs, targets = corpus.batch(seed=0, step=0, batch_size=5000, context=8)
    assert sorted(set(inputs[:, 0].tolist())) == list(range(90 - 8))
    assert targets.max() == 89
    val_inputs, val_targets = corpus.validation_windows(n_windows=2, context=4)
    assert (val_inputs == 255).all()
    assert (val_targets == 255).all()


# --- validation windows -------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_windows", "context"), [(1, 8), (2, 8), (5, 16), (12, 8), (9, 11), (99, 1)]
)
def test_validation_windows_span_the_split_and_do_not_overlap(n_windows, context):
    corpus = numbered(1000)  # the split is 100 bytes: 900..999
    inputs, targets = corpus.validation_windows(n_windows, context)
    assert inputs.shape == targets.shape == (n_windows, context)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, (inputs + 1) % 256)
    assert inputs[0, 0] == 900 % 256
    if n_windows > 1:
        assert targets[-1, -1] == 999 % 256
        starts = inputs[:, 0]
        gaps = (starts[1:] - starts[:-1]) % 256
        assert gaps.min() >= context
        assert gaps.max() - gaps.min() <= 1


def test_more_validation_windows_than_fit_stay_inside_the_split():
    inputs, targets = numbered(100).validation_windows(n_windows=50, context=9)
    assert inputs.min() == 90
    assert targets.max() == 99


def test_validation_windows_are_fixed():
    corpus = numbered(1000)
    torch.manual_seed(0)
    first = corpus.validation_windows(3, 8)[0]
    corpus.batch(seed=5, step=5, batch_size=2, context=8)
    torch.manual_seed(1)
    assert torch.equal(corpus.validation_windows(3, 8)[0], first)


# --- bad arguments ------------------------------------------------------------------


def test_shortest_corpus_that_fits_and_one_byte_less():
    assert numbered(10).batch(0, 0, 2, context=8)[1].tolist() == [[*range(1, 9)]] * 2
    with pytest.raises(ValueError, match="'numbered' is too short") as error:
        numbered(10).batch(0, 0, 2, context=9)
    for part in ("train split has 9", "10 bytes", "context=9", "10; use a longer"):
        assert part in str(error.value)

    assert numbered(50).validation_windows(1, context=4)[1].tolist() == [
        [46, 47, 48, 49]
    ]
    with pytest.raises(ValueError, match="val split has 5 of its 50 bytes"):
        numbered(50).validation_windows(1, context=5)


def test_sizes_below_one_are_named():
    corpus = numbered(1000)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        corpus.batch(0, 0, batch_size=0, context=8)
    with pytest.raises(ValueError, match="context must be at least 1, got -1"):
        corpus.batch(0, 0, batch_size=1, context=-1)
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        corpus.batch(-1, 0, batch_size=1, context=8)
    with pytest.raises(ValueError, match="step must be at least 0, got -1"):
        corpus.batch(0, -1, batch_size=1, context=8)
    with pytest.raises(ValueError, match="n_windows must be at least 1, got 0"):
        corpus.validation_windows(n_windows=0, context=8)
    with pytest.raises(ValueError, match="context must be at least 1, got 0"):
        corpus.validation_windows(n_windows=1, context=0)


# --- python_sources -----------------------------------------------------------------


@pytest.fixture(scope="module")
def standard_library():
    return python_sources()


def source_of(module) -> bytes:
    with open(module.__file__, "rb") as file:
        return file.read().replace(b"\r\n", b"\n")


def text_of(corpus: Corpus) -> bytes:
    return corpus.tokens.numpy().tobytes()


def test_standard_library_without_installed_packages(standard_library):
    text = text_of(standard_library)
    assert standard_library.name == "python_sources"
    assert len(text) > 4_000_000
    for module in (dataclasses, json, http.server):
        assert source_of(module).strip() in text
    for module in (pytest, torch, encodings):
        assert source_of(module).strip() not in text


def test_standard_library_is_the_same_every_time(standard_library):
    assert python_sources().fingerprint == standard_library.fingerprint


def test_packages_are_added(standard_library):
    import tqdm.std

    with_tqdm = python_sources(packages=("tqdm",))
    assert len(with_tqdm.tokens) > len(standard_library.tokens)
    assert source_of(tqdm.std).strip() in text_of(with_tqdm)


def write_files(root, files: dict[str, bytes]):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text)


def test_order_of_files_comes_from_their_names(tmp_path):
    names = [f"{letter}.py" for letter in "abcdefgh"]
    for name in names:
        (tmp_path / name).write_text(name)
    by_hash = sorted(names, key=lambda n: hashlib.sha256(n.encode()).hexdigest())
    assert by_hash != names
    for order in (names, names[::-1]):
        text = sources.join_files({name: tmp_path / name for name in order})
        assert text == "\n".join(by_hash).encode()


def test_same_contents_are_kept_once(tmp_path):
    files = {"one": b"x = 1\n", "two": b"x = 1\r\n", "empty": b"", "other": b"y = 2\n"}
    write_files(tmp_path, files)
    text = sources.join_files({name: tmp_path / name for name in files})
    assert text in (b"x = 1\n\ny = 2\n", b"y = 2\n\nx = 1\n")


def test_unreadable_files_are_skipped(tmp_path):
    write_files(tmp_path, {"good.py": b"x = 1\n"})
    files = {"good.py": tmp_path / "good.py", "gone.py": tmp_path / "gone.py"}
    assert sources.join_files(files) == b"x = 1\n"


def test_package_is_read_without_its_tests_and_not_run(tmp_path, monkeypatch):
    package = {
        "__init__.py": b"raise SystemExit('imported')\n",
        "core/deep.py": b"deep = 'kept source'\n",
        "tests/check.py": b"check = 'skipped source'\n",
        "core/test/check.py": b"check = 'skipped source too'\n",
        "notes.txt": b"skipped source, not Python",
    }
    write_files(tmp_path / "sample_package", package)
    write_files(tmp_path, {"sample_module.py": b"single = 'a module'\n"})
    monkeypatch.syspath_prepend(tmp_path)

    text = text_of(python_sources(("sample_package", "sample_module")))
    assert b"imported" in text
    assert b"kept source" in text
    assert b"single = 'a module'" in text
    assert b"skipped source" not in text


def test_package_that_is_not_installed_is_named():
    for name in ("no_such_package", "no_such_package.part", ""):
        with pytest.raises(ModuleNotFoundError, match="install it or take it") as error:
            python_sources(packages=(name,))
        assert repr(name) in str(error.value)


def test_package_without_source_is_named():
    with pytest.raises(ValueError, match="'sys' has no Python source"):
        python_sources(packages=("sys",))


def test_packages_given_as_one_string():
    with pytest.raises(TypeError, match=r"write packages=\('torch',\)"):
        python_sources(packages="torch")


# --- text_file and load -------------------------------------------------------------


def test_text_file_keeps_every_byte(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"caf\xc3\xa9\r\n\x00\xff")
    for corpus in (text_file(path), text_file(str(path)), tiny_data.load(str(path))):
        assert corpus.name == "text_file:mine.txt"
        assert text_of(corpus) == b"caf\xc3\xa9\r\n\x00\xff"


def test_text_file_errors_name_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot read .*absent.txt .*: give"):
        text_file(tmp_path / "absent.txt")
    # Windows reports a directory as one without permission.
    with pytest.raises((IsADirectoryError, PermissionError), match=tmp_path.name):
        text_file(tmp_path)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="empty.txt is empty"):
        text_file(tmp_path / "empty.txt")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="needs a user whom file permissions stop",
)
def test_text_file_without_permission(tmp_path):
    path = tmp_path / "locked.txt"
    path.write_bytes(GOOD)
    path.chmod(0)
    with pytest.raises(PermissionError, match="cannot read .*locked.txt"):
        text_file(path)


def test_load_by_name(standard_library):
    loaded = tiny_data.load("python_sources")
    assert loaded.fingerprint == standard_library.fingerprint


@pytest.mark.parametrize("name", ["python_source", "", "x" * 5000])
def test_load_of_an_unknown_name_lists_the_choices(name):
    with pytest.raises(ValueError, match="unknown corpus") as error:
        tiny_data.load(name)
    for choice in ("'python_sources'", "'tinyshakespeare'", "path of a text file"):
        assert choice in str(error.value)


# --- download -----------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path == "/missing":
            return self.send_error(404)
        body = WRONG if self.path == "/wrong" else GOOD
        self.send_response(200)
        if self.path != "/no-length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path in ("/cut", "/stall"):
            body = body[: len(body) // 2]
        self.wfile.write(body)
        if self.path == "/stall":
            self.server.release.wait(10)  # until the test ends

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """A local HTTP server; `requests` lists what it was asked for."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # asked before any proxy is used
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.release = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def nowhere(monkeypatch):
    """The address of a server that is not there."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:  # bound but not listening: nobody else gets it
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def fetch(url, path):
    download.download(url, path, GOOD_SHA256)


@pytest.mark.parametrize("page", ["/good", "/no-length"])
def test_download_of_good_bytes(server, tmp_path, page, capfd):
    path = tmp_path / "new" / "folder" / "input.txt"
    fetch(server.url + page, path)
    assert path.read_bytes() == GOOD
    assert os.listdir(path.parent) == ["input.txt"]
    assert "download" in capfd.readouterr().err  # the progress bar


FAILURES = {
    "/wrong": "sent other bytes than expected",
    "/cut": f"cut after {len(GOOD) // 2} of {len(GOOD)} bytes|IncompleteRead",
    "/stall": "timed out",
    "/missing": "404",
}


@pytest.mark.parametrize("page", FAILURES)
@pytest.mark.parametrize("before", [None, b"an earlier good file"])
def test_failed_download_leaves_the_folder_as_it_was(
    server, tmp_path, monkeypatch, page, before
):
    if page == "/stall":
        monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.5)
    path = tmp_path / "input.txt"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(download.DownloadError, match=FAILURES[page]) as error:
        fetch(server.url + page, path)
    assert server.url + page in str(error.value)
    if before is None:
        assert os.listdir(tmp_path) == []
    else:
        assert os.listdir(tmp_path) == ["input.txt"]
        assert path.read_bytes() == before


def test_download_from_a_server_that_is_not_there(nowhere, tmp_path):
    with pytest.raises(download.DownloadError, match="refused") as error:
        fetch(nowhere + "/good", tmp_path / "input.txt")
    assert nowhere in str(error.value)
    assert os.listdir(tmp_path) == []


def test_interrupted_download_leaves_nothing(server, tmp_path, monkeypatch):
    seen = []

    def interrupt(source, sink):
        sink.write(source.read(10))
        seen.extend(os.listdir(tmp_path))
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfileobj", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url + "/good", tmp_path / "input.txt")
    assert len(seen) == 1  # there was a temporary file, under another name
    assert seen[0].startswith("input.txt.")
    assert os.listdir(tmp_path) == []


def test_file_gets_its_name_after_the_check_only(server, tmp_path, monkeypatch):
    path = tmp_path / "input.txt"
    checksum = download._sha256

    def look(temporary):
        assert not path.exists()
        assert temporary.parent == path.parent
        return checksum(temporary)

    monkeypatch.setattr(download, "_sha256", look)
    fetch(server.url + "/good", path)
    assert path.exists()


def test_download_into_a_place_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_bytes(b"not a folder")
    with pytest.raises(download.DownloadError, match="file") as error:
        fetch(server.url + "/good", tmp_path / "file" / "cache" / "input.txt")
    assert str(tmp_path / "file") in str(error.value)


# --- tinyshakespeare ----------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty data folder and an empty cache, and GOOD as the expected text."""
    monkeypatch.setenv("ATTNRES_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_SHA256", GOOD_SHA256)
    relative = "tinyshakespeare/input.txt"
    return tmp_path / "data" / relative, tmp_path / "cache" / "attnres" / relative


def put(path, text: bytes):
    path.parent.mkdir(parents=True)
    path.write_bytes(text)


def test_download_goes_to_the_cache_and_happens_once(server, folders, monkeypatch):
    local, cached = folders
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_URL", server.url + "/good")
    first, second = tiny_data.tinyshakespeare(), tiny_data.load("tinyshakespeare")
    assert first.name == "tinyshakespeare"
    assert text_of(first) == text_of(second) == GOOD
    assert cached.read_bytes() == GOOD
    assert not local.exists()
    assert server.requests == ["/good"]


@pytest.mark.parametrize("place", [0, 1], ids=["ATTNRES_DATA_DIR", "cache"])
def test_files_at_hand_need_no_server(folders, nowhere, monkeypatch, place):
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_URL", nowhere)
    put(folders[place], GOOD)
    assert text_of(tiny_data.tinyshakespeare()) == GOOD


def test_data_folder_comes_before_the_cache(folders):
    local, cached = folders
    put(local, GOOD)
    put(cached, WRONG)
    assert text_of(tiny_data.tinyshakespeare()) == GOOD


def test_cache_without_the_data_folder_variable(folders, monkeypatch):
    put(folders[1], GOOD)
    for value in ("", None):
        if value is None:
            monkeypatch.delenv("ATTNRES_DATA_DIR")
        else:
            monkeypatch.setenv("ATTNRES_DATA_DIR", value)
        assert text_of(tiny_data.tinyshakespeare()) == GOOD


def test_home_is_the_default_place_of_the_cache(folders, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    put(tmp_path / ".cache" / "attnres" / "tinyshakespeare" / "input.txt", GOOD)
    assert text_of(tiny_data.tinyshakespeare()) == GOOD


@pytest.mark.parametrize("place", [0, 1], ids=["ATTNRES_DATA_DIR", "cache"])
def test_wrong_file_at_hand_is_named_and_kept(folders, nowhere, monkeypatch, place):
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_URL", nowhere)
    put(folders[place], WRONG)
    with pytest.raises(ValueError, match="is not TinyShakespeare") as error:
        tiny_data.tinyshakespeare()
    for part in (str(folders[place]), GOOD_SHA256, "delete or replace"):
        assert part in str(error.value)
    assert folders[place].read_bytes() == WRONG


def test_offline_names_the_three_ways_out(folders, nowhere, monkeypatch):
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_URL", nowhere + "/input.txt")
    with pytest.raises(download.DownloadError) as error:
        tiny_data.tinyshakespeare()
    message = str(error.value)
    ways_out = ("ATTNRES_DATA_DIR", str(folders[1]), "python_sources")
    for part in (*ways_out, nowhere, "refused", "Three ways out"):
        assert part in message
    assert error.value.__suppress_context__  # one message, no chain of tracebacks
    assert not folders[1].exists()


def test_wrong_bytes_from_the_server_are_not_cached(server, folders, monkeypatch):
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_URL", server.url + "/wrong")
    with pytest.raises(download.DownloadError, match="other bytes than expected"):
        tiny_data.tinyshakespeare()
    assert os.listdir(folders[1].parent) == []


@pytest.mark.skipif(
    not os.environ.get("ATTNRES_DATA_DIR"),
    reason="ATTNRES_DATA_DIR is not set: no local copy of TinyShakespeare to read",
)
def test_real_tinyshakespeare(nowhere, monkeypatch):
    monkeypatch.setattr(sources, "TINYSHAKESPEARE_URL", nowhere)
    corpus = tiny_data.tinyshakespeare()
    assert corpus.fingerprint == {
        "name": "tinyshakespeare",
        "bytes": 1_115_394,
        "sha256": sources.TINYSHAKESPEARE_SHA256,
    }
    assert text_of(corpus).startswith(b"First Citizen:\nBefore we proceed")
