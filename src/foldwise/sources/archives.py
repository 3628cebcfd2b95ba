"""Original files: how they are packed, and the proof that they are the originals."""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Protocol

_GZIP = b"\x1f\x8b"
_HEADERS = 2**11  # bytes that an archive spends on one file at most


@dataclass(frozen=True)
class Original:
    """A file as its authors made it, unpacked."""

    name: str  # may name subfolders
    size: int  # bytes
    # "md5:..." or "sha256:...", or, where no more is published, its beginning; empty where the packed file's is known
    digest: str = ""

    def __post_init__(self) -> None:
        path = PurePosixPath(self.name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"{self.name!r} is no path within a folder")


@dataclass(frozen=True)
class Remote:
    """A file as mirrors hold it: one original, plain or gzipped, or a .tar.gz of several."""

    name: str
    originals: tuple[Original, ...]
    digest: str = ""  # of the packed file, where the originals have none
    folder: str = ""  # of the originals within the archive; "." for its top

    @property
    def names(self) -> tuple[str, ...]:
        """What a mirror may call it; the one unpacked file will do where its own digest is known."""
        return (self.name,) if self.digest or self.folder else (self.name, self.originals[0].name)

    @property
    def limit(self) -> int:
        """Bytes that it cannot exceed: compression adds next to nothing, even at its worst, an archive its headers."""
        return sum(original.size + _HEADERS for original in self.originals) + 2**20


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Refused(Exception):
    """Not the file that is wanted; the message says why, in a few words."""


def unpacked(content: bytes, remote: Remote) -> Iterator[tuple[Original, bytes]]:
    """Give the originals in what came as `remote`, each proved; no name or size in an archive is trusted.

    Raises
    ------
    Refused
        If it is not a whole archive, or a digest or size is another.
    """
    if remote.digest:
        _prove(content, remote.digest)
    try:
        if remote.folder:
            yield from _members(content, remote)
        else:
            file = io.BytesIO(content)
            stream = gzip.GzipFile(fileobj=file) if content.startswith(_GZIP) else file
            yield remote.originals[0], proved(stream, remote.originals[0])
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise Refused("not a whole archive") from error


def _members(content: bytes, remote: Remote) -> Iterator[tuple[Original, bytes]]:
    wanted = {normpath(f"{remote.folder}/{original.name}"): original for original in remote.originals}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r|gz") as archive:
        for member in archive:
            name = normpath(member.name)
            stream = archive.extractfile(member) if member.isreg() and name in wanted else None
            if stream is not None:
                original = wanted.pop(name)
                yield original, proved(stream, original)
    if wanted:
        raise Refused(f"holds no {next(iter(wanted))}")


def proved(stream: _Readable, original: Original) -> bytes:
    """Read no more than the original's size, and prove it.

    Raises
    ------
    Refused
        If its size or digest is another.
    """
    content = stream.read(original.size + 1)
    if len(content) > original.size:
        raise Refused(f"more than the {original.size} bytes of {original.name}")
    if original.digest:
        _prove(content, original.digest)
    elif len(content) < original.size:
        raise Refused(f"fewer than the {original.size} bytes of {original.name}")
    return content


def _prove(content: bytes, digest: str) -> None:
    algorithm, _, expected = digest.partition(":")
    if not hashlib.new(algorithm, content, usedforsecurity=False).hexdigest().startswith(expected):
        web_page = content[:512].lstrip().lower().startswith((b"<!doctype", b"<html"))
        raise Refused("a web page" if web_page else "other bytes than the original's")
