"""Reading finished runs: of the workspace, of a Git revision, or of a DVC experiment."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foldwise.base import files, libraries
from foldwise.base.errors import FoldwiseError
from foldwise.compare.lockfile import Lock
from foldwise.data.folds import Folds
from foldwise.data.folds import load as load_folds

if TYPE_CHECKING:
    from foldwise.compare.repository import Revision

WORKSPACE = "workspace"
SCORES = ("accuracy", "f1_macro", "log_loss", "roc_auc_macro")
# Options of the last stage before any statistics, whose command line names the folders; and the files that are read.
_FILES = {
    "normalized": ("train_labels.npy",),
    "folds": ("assignments.npy", "folds.json"),
    "predictions": ("out_of_fold.npy",),
    "scores": ("folds.csv",),
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run has left behind, in memory.

    Attributes
    ----------
    folds : Folds
        Of N images.
    labels : (N,) int64
    out_of_fold : (repeats, N, classes) float32
        Log-probabilities of each image from the model that did not see it.
    scores : DataFrame
        `scores/folds.csv`, in the order of `folds`.
    """

    folds: Folds
    labels: NDArray[np.int64]
    out_of_fold: NDArray[np.float32]
    scores: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Run:
    """The results of one run, and what made them.

    Attributes
    ----------
    name : str
        What the user calls it.
    commit : str or None
        Hash of the Git commit; None for the workspace.
    parameters : dict
        Value of each parameter that a stage depends on, by its full name, as it was when the results were made.
    sources : dict of str to str
        Digest of each file of code or pins that the results depend on, by path.
    digests : dict of str to str
        Of the folders `normalized`, `folds`, `predictions` and `scores`.
    changed : tuple of str
        Parameters, files and commands of this revision that are not what the results were made with.
    libraries : dict of str to str
        Version of each library that the models were made with, by name; empty where the run did not keep that.
    unpinned : str
        Which of them are not those that this revision pins, in words.
    outcome : Outcome
    """

    name: str
    commit: str | None
    parameters: dict[str, Any]
    sources: dict[str, str]
    digests: dict[str, str]
    changed: tuple[str, ...]
    libraries: dict[str, str]
    unpinned: str
    outcome: Outcome


def read(name: str, directory: Path) -> Run:
    """Read a run of the repository that `directory` lies in, through DVC's cache or remote.

    Parameters
    ----------
    name : str
        A Git revision, the name of a DVC experiment, or `workspace`.
    directory : Path

    Raises
    ------
    FoldwiseError
        If DVC or the repository is missing, the name is unknown, or results are missing, unfinished or damaged.
    """
    try:
        from foldwise.compare.repository import revision
    except ImportError as error:
        # The locks' own, as the newest of an index may not fit what they pin.
        raise FoldwiseError(
            "runs are read through DVC, which is not installed: `make .venv/installed` brings it into .venv, and "
            "`. .venv/bin/activate` switches to that"
        ) from error
    with revision(directory, name) as found:
        lock = Lock.of(found.yaml("dvc.lock"), found.yaml("dvc.yaml"))
        last = lock.making("predictions", "scores")
        options, producers = lock.stages[last].options, lock.producers
        if unknown := [option for option in _FILES if options.get(option) not in producers]:
            raise FoldwiseError(f"no stage in dvc.lock makes the --{unknown[0]} of `{last}`: run `dvc repro` there")
        paths = {option: options[option] for option in _FILES}
        if name == WORKSPACE:
            found.check_unmodified(paths.values())
        stages = lock.lineage(last)
        digests = {option: producers[path][1] for option, path in paths.items()}
        versions, unpinned = _libraries(found, lock, stages)
        return Run(
            name=name,
            commit=None if name == WORKSPACE else found.commit,
            parameters=lock.parameters,
            sources=lock.sources(stages),
            digests=digests,
            changed=tuple(lock.changed(stages, found.yaml, found.digest)),
            libraries=versions,
            unpinned=unpinned,
            outcome=_outcome(found, paths, digests, last),
        )


def _libraries(found: "Revision", lock: Lock, stages: list[str]) -> tuple[dict[str, str], str]:
    """Versions that the models were made with, and which are not those pinned; nothing of runs that kept none."""
    for stage in (lock.stages[name] for name in stages):
        curves = stage.options.get("curves")
        path, digests = f"{curves}/libraries.json", {out.path: out.md5 for out in stage.outs}
        if curves not in digests or found.find(path) is None:
            continue
        try:
            versions = dict(json.loads(found.result(path, digests[curves])))
        except (TypeError, ValueError) as error:
            raise FoldwiseError(f"{path} lists no libraries: run `dvc repro -f` there") from error
        pins = [found.find(dep.path) or b"" for dep in stage.deps if Path(dep.path).name == "requirements.lock"]
        return versions, libraries.unlike(versions, b"".join(pins).decode(errors="replace"))
    return {}, ""


def _outcome(found: "Revision", paths: dict[str, str], digests: dict[str, str], last: str) -> Outcome:
    """Copy the files aside, as the workspace is not to be touched, and read them."""
    try:
        with TemporaryDirectory() as temporary:
            for option, path in paths.items():
                Path(temporary, option).mkdir()
                for file in _FILES[option]:
                    Path(temporary, option, file).write_bytes(found.result(f"{path}/{file}", digests[option]))
            try:
                return _load(Path(temporary), f"run `dvc repro -f -s {last}`")
            except FoldwiseError as error:
                # The user knows the run's own paths, not those of the copies.
                said = re.sub(rf"{re.escape(temporary)}/(\w+)", lambda match: paths[match[1]], str(error))
                raise FoldwiseError(said) from error
    except OSError as error:
        raise FoldwiseError(
            f"temporary copies cannot be kept ({error.strerror}): make room where they lie, or set TMPDIR to a folder "
            "that has some"
        ) from error


def _load(folder: Path, again: str) -> Outcome:
    """Read copies of the files into memory, checked against one another."""
    labels = np.array(files.read_array(folder / "normalized" / "train_labels.npy", np.int64, 1))
    folds = load_folds(folder / "folds", len(labels))
    folds = Folds(np.array(folds.assignments), folds.description)
    out_of_fold = np.array(files.read_array(folder / "predictions" / "out_of_fold.npy", np.float32, 3))
    scores = files.read_csv(folder / "scores" / "folds.csv", ["repeat", "fold", "n", *SCORES])
    scores = scores.sort_values(["repeat", "fold"], ignore_index=True)
    if list(zip(scores["repeat"], scores["fold"], strict=True)) != list(folds):
        raise FoldwiseError(f"{folder / 'scores'} is not of the folds in {folder / 'folds'}: {again}")
    if out_of_fold.shape[:2] != folds.assignments.shape:
        raise FoldwiseError(f"{folder / 'predictions'} is not of the folds in {folder / 'folds'}: {again}")
    return Outcome(folds, labels, out_of_fold, scores)
