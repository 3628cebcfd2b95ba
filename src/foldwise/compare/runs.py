"""Reading finished runs: of the workspace, of a Git revision, or of a DVC experiment."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, get_args

import numpy as np

from foldwise.base import files, libraries
from foldwise.base.errors import FoldwiseError
from foldwise.base.params import Evaluate
from foldwise.compare.lockfile import Lock, Output, value_of
from foldwise.data.folds import Folds
from foldwise.data.folds import load as load_folds
from foldwise.evaluation.results import HeldOut
from foldwise.evaluation.scores import SCORES, Score

WORKSPACE = "workspace"
PRIMARY = "evaluate.primary"
# What is read: folders by the last part of their path, and the files in each.
_FILES = {
    "normalized": ("train_labels.npy",),
    "folds": ("assignments.npy", "folds.json", "units.npy"),
    "predictions": ("out_of_fold.npy",),
    "scores": ("folds.csv",),
}
# Older runs have none.
_NEW = "units.npy"


class Opened(Protocol):
    """What is asked of a revision that is open; paths are relative to the repository's root."""

    @property
    def commit(self) -> str:
        """Hash of the Git commit."""

    def find(self, path: str) -> bytes | None:
        """Content of a file, None if it is not to be had."""

    def digest(self, path: str) -> str | None:
        """Digest of a file or a folder of code as `dvc.lock` gives it, None if it is not to be had."""

    def yaml(self, path: str) -> dict[str, Any]:
        """Content of a YAML file that Git tracks, as DVC understands it."""

    def result(self, path: str, digest: str) -> bytes:
        """Content of a file in a folder that DVC tracks under `digest`."""


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
    classes : tuple of str
        Their names; numbers where the run did not keep them.
    results : HeldOut
    """

    name: str
    commit: str | None
    parameters: dict[str, Any]
    sources: dict[str, str]
    digests: dict[str, str]
    changed: tuple[str, ...]
    libraries: dict[str, str]
    unpinned: str
    classes: tuple[str, ...]
    results: HeldOut


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
    with revision(directory, name) as opened:
        if name == WORKSPACE:
            lock = Lock.of(opened.yaml("dvc.lock"), opened.yaml("dvc.yaml"))
            opened.check_unmodified([lock.output(folder).path for folder in _FILES])
        return of(opened, name)


def of(opened: Opened, name: str) -> Run:
    """Read a run that is open; see `read`."""
    lock = Lock.of(opened.yaml("dvc.lock"), opened.yaml("dvc.yaml"))
    outputs = {folder: lock.output(folder) for folder in _FILES}
    stages = lock.lineage(outputs["predictions"].stage, outputs["scores"].stage)
    # Not dvc.lock's: what is asked of the results does not change them.
    primary = str(value_of(PRIMARY, opened.yaml("params.yaml")) or "accuracy")
    if primary not in get_args(Evaluate.model_fields["primary"].annotation):
        raise FoldwiseError(f"{PRIMARY} is {primary}, which is no score: `foldwise summary` says which there are")
    versions, unpinned = _libraries(opened, lock, stages)
    results = _results(opened, outputs, SCORES[primary])
    return Run(
        name=name,
        commit=None if name == WORKSPACE else opened.commit,
        parameters=lock.parameters(stages),
        sources=lock.sources(stages),
        digests={folder: output.md5 for folder, output in outputs.items()},
        changed=tuple(lock.changed(stages, opened.yaml, opened.digest)),
        libraries=versions,
        unpinned=unpinned,
        classes=_classes(opened, outputs["normalized"], results.out_of_fold.shape[2]),
        results=results,
    )


def _libraries(opened: Opened, lock: Lock, stages: list[str]) -> tuple[dict[str, str], str]:
    """Versions that the models were made with, and which are not those pinned; nothing of runs that kept none."""
    curves = [output for output in lock.outputs("curves") if output.stage in stages]
    path = f"{curves[0].path}/libraries.json" if curves else ""
    if not curves or opened.find(path) is None:
        return {}, ""
    try:
        versions = dict(json.loads(opened.result(path, curves[0].md5)))
    except (TypeError, ValueError) as error:
        raise FoldwiseError(f"{path} lists no libraries: run `dvc repro -f` there") from error
    deps = lock.stages[curves[0].stage].deps
    pins = [opened.find(dep.path) or b"" for dep in deps if Path(dep.path).name == "requirements.lock"]
    return versions, libraries.unlike(versions, b"".join(pins).decode(errors="replace"))


def _classes(opened: Opened, normalized: Output, count: int) -> tuple[str, ...]:
    content = opened.find(f"{normalized.path}/meta.json")
    try:
        names = tuple(map(str, json.loads(content or b"{}")["classes"]))
    except (KeyError, TypeError, ValueError):
        names = ()
    return names if len(names) == count else tuple(map(str, range(count)))


def _results(opened: Opened, outputs: dict[str, Output], primary: Score) -> HeldOut:
    """Copy the files aside, as the workspace is not to be touched, and read them."""
    try:
        with TemporaryDirectory() as temporary:
            for folder, output in outputs.items():
                Path(temporary, folder).mkdir()
                for file in _FILES[folder]:
                    if file == _NEW and opened.find(f"{output.path}/{file}") is None:
                        continue
                    Path(temporary, folder, file).write_bytes(opened.result(f"{output.path}/{file}", output.md5))
            try:
                results = _load(Path(temporary), primary)
            except FoldwiseError as error:
                # The user knows the run's own paths, not those of the copies.
                message = re.sub(rf"{re.escape(temporary)}/(\w+)", lambda match: outputs[match[1]].path, str(error))
                raise FoldwiseError(message) from error
    except OSError as error:
        raise FoldwiseError(
            f"temporary copies cannot be kept ({error.strerror}): make room where they lie, or set TMPDIR to a folder "
            "that has some"
        ) from error
    results.check(f"run `dvc repro -f -s {outputs['predictions'].stage}` there")
    return results


def _load(folder: Path, primary: Score) -> HeldOut:
    """Read copies of the files into memory; a score that an older version did not write is missing in every fold."""
    labels = np.array(files.read_array(folder / "normalized" / "train_labels.npy", np.int64, 1))
    folds = load_folds(folder / "folds", len(labels))
    units = None if folds.all_units is None else np.array(folds.all_units)
    table = files.read_csv(folder / "scores" / "folds.csv", ["repeat", "fold", "n", "accuracy"])
    return HeldOut(
        folds=Folds(np.array(folds.assignments), folds.description, units),
        labels=labels,
        out_of_fold=np.array(files.read_array(folder / "predictions" / "out_of_fold.npy", np.float32, 3)),
        scores=table.assign(**{name: np.nan for name in SCORES if name not in table}),
        primary=primary,
    )
