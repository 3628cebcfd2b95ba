"""Packages made for tests, and an index of them on this machine that remembers what it was asked for."""

import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path

WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def metadata(name: str, version: str, requires: Sequence[str] = ()) -> str:
    """Write what a package says of itself; `requires` are its requirements, an extra's with the extra's marker."""
    return f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {requirement}\n" for requirement in requires
    )


def wheel(
    folder: Path, name: str, version: str, requires: Sequence[str] = (), members: Mapping[str, str | bytes] = {}
) -> Path:
    """Put a wheel into a folder; `members` are its files, and go before what it says of itself."""
    stem = f"{name.replace('-', '_')}-{version}"
    about = {"METADATA": metadata(name, version, requires), "WHEEL": WHEEL, "RECORD": ""}
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in ({f"{stem}.dist-info/{file}": text for file, text in about.items()} | members).items():
            entry = zipfile.ZipInfo(member)
            entry.external_attr = 0o100755 << 16  # a file, and it may be run
            archive.writestr(entry, content)
    return path


def sdist(folder: Path, name: str, version: str) -> Path:
    """Put a package that is no wheel, and is built by setuptools without saying so, into a folder."""
    stem = f"{name}-{version}"
    setup = f"from setuptools import setup\nsetup(name={name!r}, version={version!r}, py_modules=[])\n"
    path = folder / f"{stem}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member, content in {"PKG-INFO": metadata(name, version), "setup.py": setup}.items():
            entry = tarfile.TarInfo(f"{stem}/{member}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return path


def repacked(folder: Path, name: str) -> Path:
    """Put the wheel that an installed package of pure Python came from into a folder."""
    found = distribution(name)
    files = {
        str(file): file.locate().read_bytes()
        for file in found.files or []
        if ".." not in file.parts and file.suffix != ".pyc" and file.name != "RECORD"
    }
    return wheel(folder, found.name, found.version, members=files)


def pin(path: Path) -> str:
    """Write a package's entry of a lock."""
    name, version = path.name.removesuffix(".tar.gz").split("-")[:2]
    return f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{sha256(path.read_bytes()).hexdigest()}\n"


class _Listing(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


class Index:
    """A simple index: one folder a package, whose listing is the package's page."""

    def __init__(self, root: Path, server: ThreadingHTTPServer) -> None:
        self.root = root
        self.asked = server.asked = []
        self.address = f"http://127.0.0.1:{server.server_port}"

    def of(self, name: str) -> Path:
        """Give the folder of a package."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, with this index as the only one that pip and uv know, and nothing kept."""
        foreign = "PIP_", "UV_", "MAKE", "MFLAGS", "PYTHON"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        own = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.address,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_NO_COMPILE": "1",
        }
        own |= {"UV_NO_CONFIG": "1", "UV_DEFAULT_INDEX": self.address, "UV_NO_CACHE": "1", "NO_PROXY": "127.0.0.1"}
        return kept | own


@contextmanager
def served(root: Path) -> Iterator[Index]:
    """Serve an index from a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Listing, directory=root)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Index(root, server)
        finally:
            server.shutdown()
            thread.join()
