"""Where the user's own files are, also for the copies of the repository in which DVC runs experiments."""

from __future__ import annotations  # an old Python gets this far

import os
from contextlib import suppress
from pathlib import Path


def original_root() -> Path | None:
    """Root of the repository whose copy, made by DVC for an experiment, is the current folder; None if it is none."""
    with suppress(OSError):  # the current folder may have been removed
        for folder in Path.cwd().parents:
            if folder.parts[-3:] == (".dvc", "tmp", "exps"):
                return folder.parents[2]
    return None


def shared_by_copies(place: Path) -> Path:
    """Path of a folder of the repository that its copies use too, which must not be a copy's own."""
    return (original_root() or Path.cwd()) / place


def named_by_user(place: str) -> Path:
    """Path of a file or folder that the user names; a copy lacks what Git does not track, so the original is asked."""
    path = Path(os.path.expanduser(place))  # noqa: PTH111 -- pathlib's raises where nobody has that name
    root = original_root()
    return path if root is None or os.path.exists(path) else root / path  # noqa: PTH110 -- pathlib's may raise
