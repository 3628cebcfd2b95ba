"""Finished folds, kept for every later run whose folds depend on the same things."""

import ast
import hashlib
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load

from foldwise import learning
from foldwise.base import libraries
from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays, encoded, write_bytes
from foldwise.base.startup import ROUNDING
from foldwise.data import pixels, units
from foldwise.data.folds import Fold, Folds

# Bytes that the store may hold.
LIMIT = 4 * 2**30

_DIGEST_SIZE = hashlib.sha256().digest_size

Kind = Literal["finished", "epoch"]


@dataclass(frozen=True)
class FoldStore:
    """A folder of folds, and the keys of those that one run asks for.

    A fold is found under its own key alone: a file of another fold, of another version or with damaged bytes counts as
    none. What cannot be read or written costs time, and is no error.

    Attributes
    ----------
    directory : Path
        Absolute, as a worker may run in another folder.
    keys : dict of Fold to str
    """

    directory: Path
    keys: Mapping[Fold, str]

    @property
    def within_reach(self) -> bool:
        """Whether the machine that asks has the folder's place: a cluster's node need not."""
        return self.directory.parent.is_dir()

    def write(self, fold: Fold, kind: Kind, arrays: Arrays) -> str:
        """Keep arrays of a fold; `kind` is its last epoch, or `finished`, which needs no epoch any more.

        Returns
        -------
        str
            Why they cannot be kept; empty if they are.
        """
        content = encoded(arrays)
        try:
            write_bytes(self._path(fold, kind), self._proof(fold, content) + content)
        except FoldwiseError as error:
            return str(error)
        if kind == "finished":
            self._remove(self._path(fold, "epoch"))
        # After each of thousands of small files, to look at all of them would take longer than to write them.
        if len(content) > LIMIT // 1000 or self.keys[fold].startswith("0"):
            self._make_room()
        return ""

    def read(self, fold: Fold, kind: Kind) -> Arrays | None:
        """Arrays of a fold, or None if there are none or they are not proved to be its own."""
        path = self._path(fold, kind)
        try:
            proof, content = (whole := path.read_bytes())[:_DIGEST_SIZE], whole[_DIGEST_SIZE:]
        except OSError:
            return None
        if proof != self._proof(fold, content):
            return None
        with suppress(OSError):
            os.utime(path)  # what is used stays longest
        return load(content)

    def forget(self) -> None:
        """Remove what is kept under these keys; FoldwiseError if that cannot be."""
        for path in (self._path(fold, kind) for fold in self.keys for kind in ("finished", "epoch")):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise FoldwiseError(
                    f"{path} cannot be removed ({error.strerror}): remove it, or set compute.reuse_folds to true"
                ) from error

    def _path(self, fold: Fold, kind: str) -> Path:
        return self.directory / f"repeat-{fold.repeat}-fold-{fold.fold}-{self.keys[fold]}.{kind}"

    def _proof(self, fold: Fold, content: bytes) -> bytes:
        return hashlib.sha256(self.keys[fold].encode() + content).digest()

    def _remove(self, path: Path) -> None:
        with suppress(OSError):
            path.unlink()

    def _make_room(self) -> None:
        """Remove what was used longest ago, until the rest is within `LIMIT`."""
        files = []
        for path in self.directory.rglob("*"):
            with suppress(OSError):  # another run may remove it too
                if path.is_file():
                    files.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        size = sum(size for _, size, _ in files)
        for _, freed, path in sorted(files):
            if size <= LIMIT:
                break
            self._remove(path)
            size -= freed


def fold_keys(folds: Folds, *parts: Any, which: Iterable[Fold] | None = None) -> dict[Fold, str]:
    """Give each fold a key of all that its training depends on.

    Parameters
    ----------
    folds : Folds
        Of a fold, its place, by which its randomness is seeded, and its training and held-out images count.
    *parts : array, bytes, or anything with a faithful `repr`
        What all folds depend on: data, recipe, weights to start from. The code of a fold's training, the libraries, the
        processor and what chooses its instructions are added.
    which : iterable of Fold, optional
        Those to give keys for; all of `folds` by default.
    """
    settings = sorted((name, value) for name, value in os.environ.items() if name.startswith(ROUNDING))
    common = (*parts, *_code(), sys.version_info[:2], libraries.installed(), _processor(), settings)
    digests = b"".join(map(_digest, common))
    keys = {}
    for fold in folds if which is None else which:
        own = (*fold,), folds.training(fold), folds.held_out(fold)
        keys[fold] = _digest(digests + b"".join(map(_digest, own))).hex()[:32]
    return keys


def _processor() -> tuple[Any, ...]:
    """What is known of the processor: the last digits depend on its kind."""
    names: Any = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = sorted({line for line in lines if line.startswith(("vendor_id", "model name", "CPU part"))})
    return platform.machine(), names, np.show_config(mode="dicts")["SIMD Extensions"].get("found")


def _digest(part: Any) -> bytes:
    if isinstance(part, np.ndarray):  # not copied, as it may be larger than the memory
        return hashlib.sha256(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data).digest()
    return hashlib.sha256(part if isinstance(part, bytes) else repr(part).encode()).digest()


def _code() -> Iterator[str]:
    """The modules that a fold's training runs through and whose code decides what comes of it."""
    others = (Path(str(module.__file__)) for module in (pixels, units))
    for path in (*sorted(Path(learning.__path__[0]).glob("*.py")), *others):
        yield path.stem
        yield without_words(path.read_text(encoding="utf-8"))


def without_words(source: str) -> str:
    """Put a module's code in a form that comments, docstrings, line breaks and the words of errors do not change.

    The words of an error are the texts in a `raise` statement, and in a function that always gives a `FoldwiseError`.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        returns = ast.unparse(node.returns) if isinstance(node, ast.FunctionDef) and node.returns else ""
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Raise) or returns == "FoldwiseError" or is_docstring:
            for text in ast.walk(node):
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    text.value = ""
    return ast.dump(tree)
