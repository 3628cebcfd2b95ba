"""Writing files so that they are whole or absent, reading them so that a wrong one is noticed."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors.numpy import load, save

from foldwise.base.errors import FoldwiseError

if TYPE_CHECKING:
    import pandas as pd

Arrays = dict[str, NDArray[Any]]

# How Lustre, NFS and FUSE say that they have no such call.
_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENODEV}


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write a file or a folder under; on success it becomes `path`.

    Raises
    ------
    FoldwiseError
        If the disk is full or the folder cannot be written; what was at `path` is then still whole.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.glob(f".{path.name}.*.part"):
            with suppress(OSError), _locked(other) as proved:
                if proved:  # else its process may still live
                    shutil.rmtree(other, ignore_errors=True)
        kind = {"prefix": f".{path.name}.", "suffix": ".part"}
        with TemporaryDirectory(dir=path.parent, ignore_cleanup_errors=True, **kind) as folder, _locked(Path(folder)):
            temporary = Path(folder, path.name)
            yield temporary
            if temporary.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        reason = error.strerror or f"is the disk full? {error}"  # NumPy's own gives numbers alone
        raise FoldwiseError(f"{path} cannot be written: {reason}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a lock that ends with the process, however that ends; False on a file system that has none."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            yield False
        else:
            yield True


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FoldwiseError(f"{path} is missing: run `dvc repro`, or `dvc pull` where a remote holds it") from error
    except Exception as error:  # on damaged files the readers raise errors of many types
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"not a whole {kind} file"
        raise FoldwiseError(
            f"{path} cannot be read ({reason}): delete it and run `dvc checkout` or `dvc repro`"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON; NaN and infinity are refused, None becomes `null`."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    with _reading(path, "JSON"):
        return json.loads(path.read_bytes())


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array in NumPy's own format, without pickle."""
    with writing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def mapped(path: Path, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> NDArray[Any]:
    """Make an array on disk, to be filled through memory.

    Its place is taken at once: on a disk that is full only later, the process would be killed without a word.
    """
    array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with path.open("rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno not in {errno.EINVAL, *_UNSUPPORTED}:
                    raise
    return array


def read_array(path: Path, dtype: DTypeLike, ndim: int, *, may_be_empty: bool = False) -> NDArray[Any]:
    """Map an array of NumPy's own format into memory; what is written to it stays in this process.

    Raises
    ------
    FoldwiseError
        If the file is missing, not whole, holds objects, or has another type or number of dimensions.
    """
    with _reading(path, "NumPy array"):
        array = _mapped(path)
        if array.size == 0 and not may_be_empty:
            raise ValueError("empty")
    if array.dtype != np.dtype(dtype) or array.ndim != ndim:
        raise FoldwiseError(
            f"{path} holds {array.dtype} of {array.ndim} dimensions where {np.dtype(dtype)} of {ndim} is expected: "
            "delete it and run `dvc checkout` or `dvc repro`"
        )
    return array


def _mapped(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        array = np.load(path, allow_pickle=False)
    return array


def encoded(arrays: Arrays) -> bytes:
    """Put named arrays into safetensors; no metadata, whose order would differ from process to process."""
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write named arrays as safetensors."""
    write_bytes(path, encoded(arrays))


def read_arrays(path: Path) -> Arrays:
    """Read the named arrays of a safetensors file."""
    with _reading(path, "safetensors"):
        return load(path.read_bytes())


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV, floats to nine significant digits (enough to give back any float32)."""
    write_bytes(path, table.to_csv(index=False, lineterminator="\n", float_format="%.9g").encode())


def read_csv(path: Path, columns: Sequence[str]) -> "pd.DataFrame":
    """Read a CSV table that has at least `columns`, all of numbers."""
    import pandas as pd  # takes half a second to load, and workers do without

    with _reading(path, "CSV"):
        table = pd.read_csv(path)
    missing = [name for name in columns if name not in table or not pd.api.types.is_numeric_dtype(table[name])]
    if missing:
        raise FoldwiseError(
            f"{path} has no column {missing[0]} of numbers: delete it and run `dvc checkout` or `dvc repro`"
        )
    return table


def read_text_table(path: Path, columns: Sequence[str]) -> "pd.DataFrame":
    """Read a CSV table of text that has at least `columns`; an empty value stays an empty text."""
    import pandas as pd

    with _reading(path, "CSV"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, lineterminator="\n")
        if missing := [name for name in columns if name not in table]:
            raise ValueError(f"no column {missing[0]}")
    return table
