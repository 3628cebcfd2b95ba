"""One revision of a repository as DVC knows it: files from Git, the workspace, the cache or a remote."""

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.config import Config  # type: ignore[import-untyped]
from dvc.exceptions import DvcException, NotDvcRepoError  # type: ignore[import-untyped]
from dvc.lock import LockError  # type: ignore[import-untyped]
from dvc.repo import Repo  # type: ignore[import-untyped]
from dvc.scm import RevError, SCMError  # type: ignore[import-untyped]
from dvc.utils.serialize import parse_yaml  # type: ignore[import-untyped]
from dvc_data.index import DataIndexDirError

from foldwise.errors import FoldwiseError


class Revision:
    """What can be asked of one revision; paths are relative to the repository's root."""

    def __init__(self, repo: Any) -> None:
        self._repo = repo

    @property
    def commit(self) -> str:
        """Hash of the Git commit; for the workspace that which is checked out."""
        return str(self._repo.get_rev())

    def find(self, path: str) -> bytes | None:
        """Content of a file, None if it is not to be had."""
        try:
            with self._repo.dvcfs.open(f"/{path}", "rb") as file:
                return bytes(file.read())
        except (FileNotFoundError, DataIndexDirError):
            return None

    def md5(self, path: str) -> str | None:
        """Digest of a file as `dvc.lock` gives it, None if it is not to be had."""
        content = self.find(path)
        return None if content is None else hashlib.md5(content, usedforsecurity=False).hexdigest()

    def yaml(self, path: str) -> dict[str, Any]:
        """Content of a YAML file that Git tracks, as DVC understands it."""
        content = self.find(path)
        if content is None:
            raise FoldwiseError(f"{path} is missing: run `dvc repro` there, and commit {path}")
        parsed = parse_yaml(content.decode(errors="replace"), path)
        return parsed if isinstance(parsed, dict) else {}

    def result(self, path: str) -> bytes:
        """Content of a file that DVC tracks."""
        content = self.find(path)
        if content is None:
            raise FoldwiseError(
                f"{path} is neither in the cache nor on a remote: run `dvc push` (for an experiment `dvc exp push`) "
                "where it was made, or `dvc repro` there again"
            )
        return content

    def check_unmodified(self, paths: Collection[str]) -> None:
        """Refuse a workspace in which one of these outputs is not what `dvc.lock` records."""
        with self._repo.lock:
            for out in (out for stage in self._repo.index.stages for out in stage.outs):
                path = Path(out.fs_path).relative_to(self._repo.root_dir).as_posix()
                if path in paths and "modified" in out.workspace_status().values():
                    raise FoldwiseError(
                        f"{path} is not what dvc.lock records: run `dvc checkout` to bring that back, or `dvc repro`"
                    )


@contextmanager
def revision(directory: Path, name: str) -> Iterator[Revision]:
    """Open one revision of the repository that `directory` lies in, and leave the workspace as it is.

    Parameters
    ----------
    directory : Path
    name : str
        A Git revision, the name of a DVC experiment, or `workspace`.

    Raises
    ------
    FoldwiseError
        If there is no repository or no such revision, if DVC cannot read it, and for what is raised within: `name` is
        put before it.
    """
    try:
        # Old commits do not know today's remotes, and in a commit's settings DVC misreads relative paths.
        settings = Config(Repo.find_dvc_dir(str(directory))).read()
        with Repo(str(directory), config=settings) as repo, repo.switch(name):
            yield Revision(repo)
    except (FoldwiseError, DvcException) as error:
        raise FoldwiseError(f"{name}: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    match error:
        case FoldwiseError():
            return str(error)
        case RevError() if "ambiguous" in str(error):
            return "several experiments have this name: give the commit that `dvc exp list --all-commits --sha` shows"
        case RevError():
            return "no such Git revision or experiment: `git log --oneline` and `dvc exp list` show what there is"
        case NotDvcRepoError() | SCMError():
            return "no Git repository with DVC here: run this inside a clone"
        case LockError():
            return "DVC is at work in this workspace: wait for it, or compare commits"
        case _:
            return f"DVC cannot read it: {' '.join(str(error).split())}"
