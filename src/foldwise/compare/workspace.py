"""The headline numbers of the workspace, read without DVC, whose import takes longer than all of this."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from foldwise.base import files, params
from foldwise.base.errors import FoldwiseError
from foldwise.compare.lockfile import Lock, digest_of
from foldwise.compare.lockfile import describe as describe_changes
from foldwise.evaluation.headline import describe


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Takes `3e-05`, as DVC writes small numbers, for a number; YAML's own reader does not."""


_SMALL = re.compile(r"[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)e[-+]?[0-9]+$", re.IGNORECASE)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _SMALL, list("-+.0123456789"))


def parse(content: bytes) -> dict[str, Any]:
    """Give the content of a YAML file as DVC understands it, in a hundredth of DVC's time."""
    parsed = _Loader(content).get_single_data()
    return parsed if isinstance(parsed, dict) else {}


def summary(directory: Path) -> str:
    """Put the headline numbers in words, and what has changed since they were made.

    Parameters
    ----------
    directory : Path
        The repository's root, or a folder within.

    Raises
    ------
    FoldwiseError
        If `params.yaml` is wrong, there is no repository, or there are no results.
    """
    root = _root(directory)
    params.load(_shown(root / "params.yaml"))
    lock = Lock.of(_yaml(root / "dvc.lock"), _yaml(root / "dvc.yaml"))
    output = lock.output("summary.json")
    path = _shown(root / output.path)
    try:
        text = describe(files.read_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise FoldwiseError(f"{path} lacks headline numbers: run `dvc repro -f -s {output.stage}`") from error
    notes = []
    if _digest(path) != output.md5:
        notes.append(f"{path} is not what dvc.lock records: `dvc repro` makes it again")
    try:
        changed = lock.changed(
            lock.lineage(output.stage), lambda name: _yaml(root / name), lambda path: _digest(root / path)
        )
        notes += [describe_changes(changed)] if changed else []
    except FoldwiseError as error:
        notes.append(str(error))
    return "\n".join([text, *(f"Note: {note}." for note in notes)])


def _root(directory: Path) -> Path:
    for folder in (directory, *directory.parents):
        if (folder / ".dvc").is_dir():
            return folder
    raise FoldwiseError("no repository with DVC here: run this inside a clone")


def _shown(path: Path) -> Path:
    """As the user would name it, from where he stands."""
    return Path(os.path.relpath(path))


def _yaml(path: Path) -> dict[str, Any]:
    shown = _shown(path)
    try:
        return parse(path.read_bytes())
    except FileNotFoundError as error:
        raise FoldwiseError(f"{shown} is missing: run `dvc repro`, or `git checkout {shown}`") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # on odd text the reader raises errors of many types
        raise FoldwiseError(f"{shown} is not valid YAML: `git diff {shown}` shows what was changed") from error


def _digest(path: Path) -> str | None:
    try:
        if path.is_dir():
            return digest_of({str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.py")})
        return digest_of(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> FoldwiseError:
    shown = _shown(path)
    return FoldwiseError(f"{shown} cannot be read ({error.strerror}): `git checkout {shown}` brings it back")
