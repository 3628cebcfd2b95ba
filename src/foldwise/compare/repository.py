"""One revision of a repository as DVC knows it: files from Git, the workspace, the cache or a remote."""

import errno
import os
import re
import shlex
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import scmrepo.exceptions
from dvc.config import Config, ConfigError  # type: ignore[import-untyped]
from dvc.exceptions import DvcException, NotDvcRepoError  # type: ignore[import-untyped]
from dvc.lock import LockError  # type: ignore[import-untyped]
from dvc.repo import Repo  # type: ignore[import-untyped]
from dvc.scm import RevError, SCMError  # type: ignore[import-untyped]
from dvc.utils.serialize import parse_yaml  # type: ignore[import-untyped]
from dvc_data.index import DataIndexDirError
from dvc_objects.errors import ObjectFormatError

from foldwise.base.errors import FoldwiseError
from foldwise.compare.lockfile import digest_of

# What DVC raises for a file that is not there, or whose list of a folder's files is not there or not whole.
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError, KeyError, DataIndexDirError, ObjectFormatError)


@contextmanager
def _foreign() -> Iterator[None]:
    """Tell whatever Git, DVC and the file system raise in one line; around their calls alone: our bugs stay seen."""
    try:
        yield
    except FoldwiseError:
        raise
    except Exception as error:  # of a torn file or a lost connection they raise errors of many types
        raise FoldwiseError(_explain(error)) from error


class Revision:
    """What can be asked of one revision; paths are relative to the repository's root."""

    def __init__(self, repo: Any, root: str) -> None:
        self._repo = repo
        self._root = root

    @property
    def commit(self) -> str:
        """Hash of the Git commit; for the workspace that which is checked out."""
        with _foreign():
            return str(self._repo.get_rev())

    def find(self, path: str) -> bytes | None:
        """Content of a file, None if it is not to be had."""
        with _foreign():
            try:
                with self._repo.dvcfs.open(f"/{path}", "rb") as file:
                    return bytes(file.read())
            except _ABSENT as error:
                cause: BaseException = error
                while cause.__cause__ and not isinstance(cause, ObjectFormatError):
                    cause = cause.__cause__
                if isinstance(cause, _ABSENT):
                    return None
                raise cause from None

    def digest(self, path: str) -> str | None:
        """Digest of a file or a folder of code as `dvc.lock` gives it, None if it is not to be had."""
        with _foreign():
            # Of a folder of code `.dvcignore` lets nothing else count.
            names = [name for name in self._repo.dvcfs.find(f"/{path}") if name.endswith(".py")]
        content = {name.removeprefix(f"/{path}/"): self.find(name.removeprefix("/")) or b"" for name in names}
        file = self.find(path)
        return digest_of(file) if file is not None else digest_of(content) if content else None

    def yaml(self, path: str) -> dict[str, Any]:
        """Content of a YAML file that Git tracks, as DVC understands it."""
        content = self.find(path)
        if content is None:
            remedy = "run `dvc repro` there, and commit" if path == "dvc.lock" else "bring it back, and commit"
            raise FoldwiseError(f"{path} is missing: {remedy} {path}")
        with _foreign():
            parsed = parse_yaml(content.decode(errors="replace"), path)
        return parsed if isinstance(parsed, dict) else {}

    def result(self, path: str, digest: str) -> bytes:
        """Content of a file in a folder that DVC tracks under `digest`; FoldwiseError if it is not that recorded."""
        content = self.find(path)
        if content is None:
            self._check_cached(digest)
            raise FoldwiseError(
                f"{path} is neither in the cache nor on a remote: run `dvc push` (for an experiment `dvc exp push "
                "origin`) where it was made, or `dvc repro` there again"
            )
        with _foreign():
            recorded = self._repo.dvcfs.info(f"/{path}").get("md5")
        if recorded and digest_of(content) != recorded:
            self._check_cached(recorded)
            raise FoldwiseError(
                f"{path} is damaged in the workspace or on the remote: delete it there, and run `dvc checkout`, or "
                "`dvc repro`"
            )
        return content

    def _check_cached(self, digest: str) -> None:
        """Refuse a file of the cache whose bytes are not those that it is named after."""
        with _foreign():
            cached = Path(self._repo.cache.local.oid_to_path(digest))
            whole = not cached.exists() or digest_of(cached.read_bytes()) == digest.removesuffix(".dir")
            if not whole:
                self._repo.drop_data_index()  # DVC would remember a damaged list of files when it is whole again
        if not whole:
            raise FoldwiseError(
                f"the cache's file {os.path.relpath(cached, self._root)} is damaged: delete it, and if no "
                "remote holds it, run `dvc repro` there, which makes it again"
            )

    def check_unmodified(self, paths: Collection[str]) -> None:
        """Refuse a workspace in which one of these outputs is not what `dvc.lock` records."""
        with _foreign(), self._repo.lock:
            for out in (out for stage in self._repo.index.stages for out in stage.outs):
                path = Path(os.path.relpath(out.fs_path, self._root)).as_posix()
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
    opened = ExitStack()
    try:
        with _foreign():
            # Old commits do not know today's remotes, and in a commit's settings DVC misreads relative paths.
            settings = Config(Repo.find_dvc_dir(str(directory))).read()
            repo = opened.enter_context(Repo(str(directory), config=settings))
            root = repo.root_dir  # in a commit, DVC says that this is /
            try:
                opened.enter_context(repo.switch(name))
            except RevError as error:
                if Path(root, ".git", "shallow").exists():
                    raise FoldwiseError("not in this shallow clone: `git fetch --unshallow` brings the rest") from error
                raise
        yield Revision(repo, root)
    except FoldwiseError as error:
        raise FoldwiseError(f"{name}: {error}") from error
    finally:
        with _foreign():
            opened.close()


def places(directory: Path) -> tuple[Path, Path]:
    """Root of the repository that `directory` lies in, and the folder in which DVC keeps files by their digest."""
    with _foreign(), Repo(str(directory)) as repo:
        return Path(repo.root_dir), Path(repo.cache.local.path)


def _explain(error: Exception) -> str:
    text = " ".join(str(error).split())
    match error:
        case RevError() if "ambiguous" in text:
            return "several experiments have this name: give the hash that `dvc exp list -A` shows before it"
        case RevError():
            return "no such Git revision or experiment: `git log --oneline` and `dvc exp list -A` show what there is"
        case AttributeError() if "_pygit2" in text:
            return "a file or folder of Git, not a revision: `git log --oneline` shows those"
        case LockError():
            return "DVC is at work in this workspace: wait for it, or compare commits"
        case scmrepo.exceptions.SCMError() if "Empty git repo" in text:
            return "nothing is committed yet: run `dvc repro`, and commit"
        case NotDvcRepoError() | SCMError() | scmrepo.exceptions.SCMError():
            return "no Git repository with DVC here: run this inside a clone"
        case _ if owned := re.search("'(.+)' is not owned by current user", text):
            return (
                "Git does not trust a repository of another user's: "
                f"`git config --global --add safe.directory {shlex.quote(owned[1])}` lets it"
            )
        case ConfigError():
            return f"DVC's settings are wrong ({text}): mend .dvc/config or .dvc/config.local"
        case ImportError():
            return f"the remote cannot be reached: {text}"
        case OSError() if error.filename:
            space = error.errno in (errno.ENOSPC, errno.EDQUOT)
            what = "make room there" if space else f"`ls -ld {error.filename}` shows who may"
            return f"{error.filename} cannot be read or written ({error.strerror}): {what}"
        case OSError():
            return f"a file or the remote cannot be reached ({text}): `dvc remote list` shows where that should be"
        case DvcException() if path := str(getattr(error, "path", "") or "").removeprefix("./"):
            return f"DVC cannot read it: {text}: mend that; `git log --oneline {path}` shows the last whole one"
        case DvcException():
            return f"DVC cannot read it: {text}: mend that; `dvc status` may say more"
        case _:
            return f"DVC cannot read it: {type(error).__name__}: {text}: `git fsck` and `dvc status` may say more"
