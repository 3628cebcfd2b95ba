"""DVC's own copies of a repository, for `dvc exp run --temp` and the queue: what Git ignores is absent there."""

from pathlib import Path


def from_repository(path: Path) -> Path:
    """Give a relative path as the user meant it: in a copy, what is not there lies in the repository copied."""
    here = Path.cwd()
    for folder in here.parents:
        if not path.is_absolute() and not path.exists() and folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2] / path
    return path
