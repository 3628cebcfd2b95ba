"""Reading finished runs: of the workspace, a Git revision or a DVC experiment, through DVC's cache or remote.

What a run is stands in its own `dvc.lock`: the parameters and code that made its results, and where they lie.
"""

import hashlib
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foldwise import files
from foldwise.errors import FoldwiseError
from foldwise.folds import Folds
from foldwise.folds import load as load_folds

WORKSPACE = "workspace"
# The stage that all results compared here come out of, and the options on its command line that name them.
_STAGE = "evaluate"
_READ = {
    "normalized": ("train_labels.npy",),
    "folds": ("assignments.npy", "folds.json"),
    "predictions": ("out_of_fold.npy",),
    "scores": ("folds.csv",),
}


@dataclass(frozen=True, eq=False)
class Run:
    """The results of one run, and what made them.

    Attributes
    ----------
    name : str
        What the user calls it.
    commit : str or None
        Of Git; None for the workspace.
    parameters : dict
        Value of each knob that a stage depends on, by its full name; as recorded when the results were made.
    sources : dict of str to str
        Digest of each file of code or pins that the predictions depend on.
    outputs : dict of str to str
        Digests of `normalized`, `folds`, `predictions` and `scores`.
    folds : Folds
        Of N images.
    labels : (N,) int64
    out_of_fold : (repeats, N, classes) float32
        Log-probabilities of each image from the model that did not see it.
    scores : DataFrame
        One row per fold, in the order of `folds`.
    changed : tuple of str
        Knobs and files that have changed since: `dvc repro` would make other results.
    """

    name: str
    commit: str | None
    parameters: dict[str, Any]
    sources: dict[str, str]
    outputs: dict[str, str]
    folds: Folds
    labels: NDArray[np.int64]
    out_of_fold: NDArray[np.float32]
    scores: pd.DataFrame
    changed: tuple[str, ...] = ()


def read(names: Sequence[str], directory: Path) -> list[Run]:
    """Read runs of the repository that `directory` lies in; writes nothing but DVC's own scratch.

    Parameters
    ----------
    names : sequence of str
        Each a Git revision, the name of a DVC experiment, or `workspace`.

    Raises
    ------
    FoldwiseError
        If DVC or the repository is missing, a name is unknown, or a run's results are missing, unfinished or damaged.
    """
    try:
        from dvc.repo import Repo  # type: ignore[import-untyped]
    except ImportError as error:
        raise FoldwiseError("runs are read through DVC, which is not installed: `pip install 'dvc>=3.67'`") from error
    with _explained(directory), Repo(str(directory)) as repo:
        return [_read(repo, name) for name in names]


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Turn DVC's errors about the repository as a whole into ours."""
    from dvc.exceptions import DvcException, NotDvcRepoError  # type: ignore[import-untyped]
    from dvc.scm import SCMError  # type: ignore[import-untyped]

    try:
        yield
    except (NotDvcRepoError, SCMError) as error:
        raise FoldwiseError(f"{directory} is not in a Git repository with DVC: run this inside a clone") from error
    except DvcException as error:
        raise FoldwiseError(f"DVC cannot read this repository: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _read(repo: Any, name: str) -> Run:
    from dvc.exceptions import DvcException
    from dvc.scm import RevError

    try:
        with repo.switch(name):
            return _Reader(repo, name).run()
    except RevError as error:
        if "ambiguous" in str(error):
            hint = "is the name of several experiments: give the commit that `dvc exp list --all-commits` shows"
        else:
            hint = "is no Git revision and no experiment: `git log --oneline` and `dvc exp list` show what there is"
        raise FoldwiseError(f"{name} {hint}") from error
    except DvcException as error:
        raise FoldwiseError(f"{name} cannot be read through DVC: {_line(error)}") from error


class _Reader:
    """Reads the run that `repo` has been switched to."""

    def __init__(self, repo: Any, name: str) -> None:
        self.repo, self.name = repo, name
        self.stages = self._yaml("dvc.lock", f"it has no results: {self._remedy}").get("stages") or {}
        if _STAGE not in self.stages:
            raise FoldwiseError(f"{name}: its dvc.lock has no stage `{_STAGE}`: {self._remedy}")
        self.produced = {
            out["path"]: (out["md5"], stage) for stage, content in self.stages.items() for out in _outs(content)
        }

    @property
    def _remedy(self) -> str:
        return "run `dvc repro`" if self.name == WORKSPACE else "run `dvc repro` there and commit dvc.lock"

    def run(self) -> Run:
        words = shlex.split(self.stages[_STAGE]["cmd"])
        options = {option[2:]: value for option, value in pairwise(words) if option.startswith("--")}
        if missing := [f"--{option}" for option in _READ if options.get(option) not in self.produced]:
            raise FoldwiseError(f"{self.name}: its stage `{_STAGE}` names no {missing[0]}: it is of another layout")
        paths = {option: options[option] for option in _READ}
        if self.name == WORKSPACE:
            self._check_workspace(set(paths.values()))
        lineage = self._lineage()
        sources = self._sources(lineage)
        with TemporaryDirectory() as temporary:
            for option, names in _READ.items():
                for file in names:
                    self._copy(f"{paths[option]}/{file}", Path(temporary, option, file))
            return self._load(Path(temporary), paths, sources, self._changed(lineage, sources))

    def _load(self, at: Path, paths: dict[str, str], sources: dict[str, str], changed: tuple[str, ...]) -> Run:
        try:
            labels = np.array(files.read_array(at / "normalized" / "train_labels.npy", np.int64, 1))
            folds = load_folds(at / "folds", len(labels))
            out_of_fold = np.array(files.read_array(at / "predictions" / "out_of_fold.npy", np.float32, 3))
            scores = files.read_csv(at / "scores" / "folds.csv", ["repeat", "fold", "n", "accuracy"])
        except FoldwiseError as error:
            reason = re.sub(rf"{re.escape(str(at))}/(\w+)", lambda found: paths[found[1]], str(error))
            raise FoldwiseError(f"{self.name}: {reason}") from error
        scores = scores.sort_values(["repeat", "fold"], ignore_index=True)
        rows = list(zip(scores["repeat"], scores["fold"], strict=True))
        if rows != list(folds) or out_of_fold.shape[:2] != folds.assignments.shape:
            raise FoldwiseError(f"{self.name}: its predictions or scores are not those of its folds: {self._remedy}")
        return Run(
            name=self.name,
            commit=None if self.name == WORKSPACE else self.repo.get_rev(),
            parameters=dict(
                knob for stage in self.stages.values() for recorded in _params(stage) for knob in _flat(recorded)
            ),
            sources=sources,
            outputs={option: self.produced[path][0] for option, path in paths.items()},
            folds=Folds(np.array(folds.assignments), folds.description),
            labels=labels,
            out_of_fold=out_of_fold,
            scores=scores,
            changed=changed,
        )

    def _lineage(self) -> list[str]:
        """Names of the stages whose outputs the results were made from, and their own; checks that they fit."""
        lineage = [_STAGE]
        for stage in lineage:
            for dep in self.stages[stage].get("deps", ()):
                md5, producer = self.produced.get(dep["path"], (dep["md5"], stage))
                if md5 != dep["md5"]:
                    raise FoldwiseError(
                        f"{self.name} is half a run: {dep['path']} is newer than what `{stage}` made of it: {self._remedy}"
                    )
                if producer not in lineage:
                    lineage.append(producer)
        return lineage

    def _sources(self, lineage: list[str]) -> dict[str, str]:
        deps = [dep for stage in lineage for dep in self.stages[stage].get("deps", ())]
        return {dep["path"]: dep["md5"] for dep in deps if dep["path"] not in self.produced}

    def _changed(self, lineage: list[str], sources: dict[str, str]) -> tuple[str, ...]:
        """Knobs and files that are no longer what the results were made with."""
        changed = set()
        for stage in lineage:
            for file, recorded in self.stages[stage].get("params", {}).items():
                current = self._yaml(file, self._remedy)
                for knob, value in recorded.items():
                    now = current
                    for part in knob.split("."):
                        now = now.get(part) if isinstance(now, dict) else None
                    before, after = dict(_flat({knob: value})), dict(_flat({knob: now}))
                    changed |= {name for name in before | after if before.get(name) != after.get(name)}
        for path, md5 in sources.items():
            content = self._bytes(path)
            if content is None or hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                changed.add(path)
        return tuple(sorted(changed))

    def _check_workspace(self, read: set[str]) -> None:
        status = self.repo.status(targets=sorted({self.produced[path][1] for path in read}))
        for changes in status.values():
            for change in changes:
                outs = change.get("changed outs", {}) if isinstance(change, dict) else {}
                if touched := sorted(path for path in read if outs.get(path) == "modified"):
                    raise FoldwiseError(
                        f"{touched[0]} is not what dvc.lock records: run `dvc repro`, or `dvc checkout` to get it back"
                    )

    def _yaml(self, path: str, otherwise: str) -> dict[str, Any]:
        from dvc.utils.serialize import parse_yaml  # type: ignore[import-untyped]

        content = self._bytes(path)
        if content is None:
            raise FoldwiseError(f"{self.name}: {path} is missing, {otherwise}")
        parsed = parse_yaml(content.decode("utf-8", "replace"), path)
        return parsed if isinstance(parsed, dict) else {}

    def _bytes(self, path: str) -> bytes | None:
        try:
            with self.repo.dvcfs.open(f"/{path}", "rb") as file:
                content: bytes = file.read()
                return content
        except FileNotFoundError:
            return None

    def _copy(self, path: str, to: Path) -> None:
        content = self._bytes(path)
        if content is None:
            raise FoldwiseError(
                f"{self.name}: {path} is neither in the cache nor on a remote: `dvc push` where it was made, or `dvc repro`"
            )
        files.write_bytes(to, content)


def _outs(stage: dict[str, Any]) -> list[dict[str, Any]]:
    return [out for out in stage.get("outs", ()) if "md5" in out]


def _params(stage: dict[str, Any]) -> list[dict[str, Any]]:
    return list(stage.get("params", {}).values())


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Knobs by their full names: {"train": {"lr": 1}} gives ("train.lr", 1)."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
