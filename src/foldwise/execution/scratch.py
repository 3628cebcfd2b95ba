"""Finished folds, kept outside a stage's outputs until DVC has recorded these."""

import hashlib
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays, read_arrays, write_arrays, write_bytes
from foldwise.data.folds import Fold


@dataclass(frozen=True)
class Scratch:
    """A folder for the folds of one digest of all that they depend on.

    Attributes
    ----------
    directory : Path
        Its name is the digest: a change of anything that counts finds another folder.
    """

    directory: Path

    @classmethod
    def of(cls, root: Path, *parts: Any) -> "Scratch":
        """Choose the folder of all that the folds depend on.

        Parameters
        ----------
        root : Path
            Folder of all scratch; what it holds for other digests is removed.
        *parts : array, bytes, or anything with a faithful `repr`
            Data, indices and parameters; the package's code and its libraries' versions count too.
        """
        digest = hashlib.sha256()
        code = [path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
        versions = [version(library) for library in ("torch", "torchvision", "numpy", "scikit-learn")]
        for part in (*parts, *code, versions, platform.machine()):
            raw = part.tobytes() if isinstance(part, np.ndarray) else part
            digest.update(hashlib.sha256(raw if isinstance(raw, bytes) else repr(raw).encode()).digest())
        root = root.resolve()  # a cluster's node may run in another folder
        chosen = root / digest.hexdigest()[:16]
        for other in root.glob("*"):
            if other != chosen:
                shutil.rmtree(other, ignore_errors=True)
        return cls(chosen)

    def _path(self, fold: Fold, kind: str) -> Path:
        return self.directory / f"repeat-{fold.repeat}-fold-{fold.fold}.{kind}.safetensors"

    @property
    def within_reach(self) -> bool:
        """Whether the machine that asks has the folder's place: a cluster's node need not."""
        return self.directory.parent.parent.is_dir()

    def write(self, fold: Fold, kind: str, arrays: Arrays) -> None:
        """Keep arrays of a fold: `kind` is `epoch`, or `finished`, which needs no epoch any more."""
        write_arrays(self._path(fold, kind), arrays)
        if kind == "finished":
            self._path(fold, "epoch").unlink(missing_ok=True)

    def read(self, fold: Fold, kind: str) -> Arrays | None:
        """Arrays of a fold, or None if there are none or the file is not whole."""
        try:
            return read_arrays(self._path(fold, kind))
        except FoldwiseError:
            return None

    def end(self) -> None:
        """Note that the stage has ended well; only DVC's record of it makes the folds useless."""
        write_bytes(self._ended, b"")

    def clear_if_recorded(self) -> None:
        """Remove the folds of a run that DVC has recorded: if the stage starts again after it, it is to train again.

        A run that ended well but was killed before its record is newer than `dvc.lock`, and is not lost.
        """
        record = self.directory.parent.parent / "dvc.lock"
        if self._ended.exists() and record.exists() and record.stat().st_mtime_ns > self._ended.stat().st_mtime_ns:
            self.clear()

    def clear(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.directory.parent, ignore_errors=True)

    @property
    def _ended(self) -> Path:
        return self.directory / "ended"
