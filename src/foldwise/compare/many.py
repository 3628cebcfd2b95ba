"""Many runs at once, from Git's and DVC's own files: through DVC, reading each anew, they take a second each.

Commits and the cache are read without a lock, so that a queue that is at work is not disturbed. What the cache lacks,
and the workspace, is read through DVC.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from foldwise.base.errors import FoldwiseError
from foldwise.compare import runs
from foldwise.compare.lockfile import Lock, Output, digest_of
from foldwise.compare.repository import places
from foldwise.compare.runs import WORKSPACE, Run
from foldwise.compare.workspace import parse

_REFS = "refs/exps"
# What else DVC keeps there.
_NO_EXPERIMENTS = ("apply", "celery", "exec", "stash")


class _NotHereError(Exception):
    """Something is not in Git, or not in the cache, or not whole there: DVC may bring it, or says what is wrong."""


class _Git:
    """Commits of a repository; what was read of one is known for all that have the same."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        command, pipe = ["git", "cat-file", "--batch"], subprocess.PIPE
        try:
            self._objects = subprocess.Popen(command, cwd=directory, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        except OSError as error:
            raise FoldwiseError(f"git cannot be run ({error.strerror}): install it, or mend PATH") from error
        self._known: dict[str, bytes] = {}
        self._parsed: dict[str, dict[str, Any]] = {}

    def run(self, *arguments: str) -> str:
        command = ["git", *arguments]
        # A name need not be UTF-8.
        done = subprocess.run(
            command, cwd=self._directory, capture_output=True, text=True, errors="surrogateescape", check=False
        )
        if done.returncode:
            raise FoldwiseError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "git failed")
        return done.stdout

    def files(self, commit: str) -> dict[str, str]:
        """Give the hash of each file of a commit, by its path from the root; none for a link or a submodule."""
        listed = self.run("ls-tree", "-r", "-z", commit).split("\0")
        entries = (entry.split("\t", 1) for entry in listed if entry)
        return {path: described.split()[2] if described.startswith("100") else "" for described, path in entries}

    def read(self, hashed: str) -> bytes:
        """Content of a file by its hash."""
        if not hashed:
            raise _NotHereError
        if hashed not in self._known:
            assert self._objects.stdin
            assert self._objects.stdout
            self._objects.stdin.write(f"{hashed}\n".encode())
            self._objects.stdin.flush()
            header = self._objects.stdout.readline().split()
            if len(header) != 3:
                raise _NotHereError(hashed)
            self._known[hashed] = self._objects.stdout.read(int(header[2]))
            self._objects.stdout.read(1)
        return self._known[hashed]

    def parsed(self, hashed: str) -> dict[str, Any]:
        """Content of a YAML file by its hash."""
        if hashed not in self._parsed:
            self._parsed[hashed] = parse(self.read(hashed))
        return self._parsed[hashed]

    def experiments(self) -> dict[str, str]:
        """Give the commit of each experiment, by name; by the commit where several have the name."""
        listed = self.run("for-each-ref", "--format=%(objectname) %(refname)", _REFS).splitlines()
        entries = (line.split(" ", 1) for line in listed)
        named = [
            (ref.rpartition("/")[2], commit) for commit, ref in entries if ref.split("/")[2] not in _NO_EXPERIMENTS
        ]
        often = Counter(name for name, _ in named)
        return {name if often[name] == 1 else commit[:7]: commit for name, commit in sorted(named)}

    def commit(self, name: str) -> str | None:
        """Hash of the commit that a name means, None if none has it."""
        try:
            return self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()
        except FoldwiseError:
            return None

    def close(self) -> None:
        self._objects.communicate()


class _Snapshot:
    """What `runs.of` asks of a commit; results are those in DVC's cache on this machine, and no others."""

    def __init__(self, git: _Git, commit: str, cache: Path) -> None:
        self.commit = commit
        self._git, self._cache, self._files = git, cache, git.files(commit)

    def find(self, path: str) -> bytes | None:
        if path in self._files:
            return self._git.read(self._files[path])
        folders = {output.path: output.md5 for output in self._outputs()}
        folder = str(PurePosixPath(path).parent)
        return self._within(folders[folder]).get(path.removeprefix(f"{folder}/")) if folder in folders else None

    def digest(self, path: str) -> str | None:
        if path in self._files:
            return digest_of(self._git.read(self._files[path]))
        inside = f"{path}/"
        code = {
            name.removeprefix(inside): self._git.read(hashed)
            for name, hashed in self._files.items()
            if name.startswith(inside) and name.endswith(".py")
        }
        return digest_of(code) if code else None

    def yaml(self, path: str) -> dict[str, Any]:
        if path not in self._files:
            raise FoldwiseError(f"{path} is missing: run `dvc repro` there, and commit {path}")
        try:
            return self._git.parsed(self._files[path])
        except _NotHereError:
            raise
        except Exception as error:  # on odd text the reader raises errors of many types
            raise FoldwiseError(f"{path} is not valid YAML: mend that, and commit it") from error

    def result(self, path: str, digest: str) -> bytes:
        found = self._within(digest).get(PurePosixPath(path).name)
        if found is None:
            raise _NotHereError(path)
        return found

    def _outputs(self) -> list[Output]:
        return Lock.of(self.yaml("dvc.lock"), self.yaml("dvc.yaml")).outputs()

    def _within(self, digest: str) -> "_Folder":
        return _Folder(self._cache, json.loads(_cached(self._cache, digest)))


class _Folder:
    """A folder of results in the cache."""

    def __init__(self, cache: Path, entries: list[dict[str, str]]) -> None:
        self._cache = cache
        self._digests = {entry["relpath"]: entry["md5"] for entry in entries}

    def get(self, name: str) -> bytes | None:
        return _cached(self._cache, self._digests[name]) if name in self._digests else None


def _cached(cache: Path, digest: str) -> bytes:
    try:
        content = Path(cache, digest[:2], digest[2:]).read_bytes()
    except OSError as error:
        raise _NotHereError(digest) from error
    if digest_of(content) != digest.removesuffix(".dir"):
        raise _NotHereError(digest)
    return content


def read(directory: Path, names: Sequence[str] = ()) -> tuple[list[Run], dict[str, str]]:
    """Read runs of the repository that `directory` lies in; by default HEAD and all experiments.

    Returns
    -------
    runs : list of Run
        In the order of `names`, or HEAD first and the experiments by name.
    left_out : dict of str to str
        Why an experiment cannot be read, by name; a run that was named raises instead.

    Raises
    ------
    FoldwiseError
        As `runs.read`.
    """
    root, cache = places(directory)
    found: list[Run] = []
    left_out: dict[str, str] = {}
    with closing(_Git(root)) as git:
        experiments = git.experiments()
        for name in names or ["HEAD", *experiments]:
            try:
                found.append(_read(name, directory, git, experiments, cache))
            except FoldwiseError as error:
                if names or name == "HEAD":
                    raise
                left_out[name] = str(error).removeprefix(f"{name}: ")
    return found, left_out


def _read(name: str, directory: Path, git: _Git, experiments: dict[str, str], cache: Path) -> Run:
    commit = git.commit(name) or experiments.get(name)
    if name == WORKSPACE or commit is None:
        return runs.read(name, directory)
    try:
        return runs.of(_Snapshot(git, commit, cache), name)
    except _NotHereError:
        return runs.read(name, directory)
    except FoldwiseError as error:
        raise FoldwiseError(f"{name}: {error}") from error
