"""Which fold holds each image out."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from foldwise.base import files
from foldwise.base.errors import FoldwiseError
from foldwise.base.params import CV


class Fold(NamedTuple):
    """One fold of one repeat, both counted from 0."""

    repeat: int
    fold: int

    def __str__(self) -> str:
        return f"repeat {self.repeat} fold {self.fold}"

    def within(self, models: Path) -> Path:
        """Where its model is in a folder of models."""
        return models / f"repeat-{self.repeat}" / f"fold-{self.fold}.safetensors"


def assign(labels: NDArray[np.int64], cv: CV) -> NDArray[np.int32]:
    """Deal images to folds with scikit-learn's splitters.

    Parameters
    ----------
    labels : (N,) int64
        Class of each image.
    cv : CV
        Strategy, k, repeats and seed.

    Returns
    -------
    (repeats, N) int32
        For each repeat, the fold (0 to k - 1) that holds each image out.

    Raises
    ------
    FoldwiseError
        If there are fewer images, or under `stratified` fewer of the rarest class, than folds.

    Notes
    -----
    - Each image is held out exactly once per repeat.
    - Sizes of a repeat's folds differ by one at most; under `stratified` so do each class's counts.
    - The first repeat equals `StratifiedKFold(k, shuffle=True, random_state=seed)`; later ones go on in its stream.
    """
    if cv.k > len(labels):
        raise FoldwiseError(f"cv.k is {cv.k} but there are {len(labels)} training images: set cv.k to that or less")
    counts = np.bincount(labels)
    rarest = int(counts[counts > 0].min())
    if cv.strategy == "stratified" and cv.k > rarest:
        lower = f"cv.k to {rarest} or less, or " if rarest > 1 else ""
        raise FoldwiseError(
            f"cv.k is {cv.k} but the rarest class has {rarest} training image{'s' * (rarest > 1)}: "
            f"set {lower}cv.strategy to kfold, or raise data.subset where it is set"
        )
    from sklearn.model_selection import KFold, StratifiedKFold  # takes a second to load, and only `split` needs it

    splitter = StratifiedKFold if cv.strategy == "stratified" else KFold
    random = np.random.RandomState(cv.seed)
    assignments = np.empty((cv.repeats, len(labels)), dtype=np.int32)
    for row in assignments:
        for fold, (_, held_out) in enumerate(splitter(cv.k, shuffle=True, random_state=random).split(labels, labels)):
            row[held_out] = fold
    return assignments


def digest(assignments: NDArray[np.int32]) -> str:
    """SHA-256 of the assignments: equal digests, equal folds."""
    return hashlib.sha256(assignments.tobytes()).hexdigest()


class Description(BaseModel):
    """What `folds.json` says of the assignments beside it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    strategy: str
    k: int
    repeats: int
    seed: int
    sha256: str


@dataclass(frozen=True)
class Folds:
    """Folds of one data set: the assignments and the settings that made them."""

    assignments: NDArray[np.int32]
    description: Description

    def __iter__(self) -> Iterator[Fold]:
        """All folds, repeat by repeat."""
        for repeat in range(self.description.repeats):
            for fold in range(self.description.k):
                yield Fold(repeat, fold)

    def __len__(self) -> int:
        return self.description.repeats * self.description.k

    def held_out(self, fold: Fold) -> NDArray[np.intp]:
        """Indices of the images that `fold` holds out, ascending."""
        return np.flatnonzero(self.assignments[fold.repeat] == fold.fold)

    def training(self, fold: Fold) -> NDArray[np.intp]:
        """Indices of the images that `fold` trains on, ascending."""
        return np.flatnonzero(self.assignments[fold.repeat] != fold.fold)


def save(directory: Path, assignments: NDArray[np.int32], cv: CV) -> None:
    """Write `assignments.npy` and `folds.json`."""
    description = Description(
        strategy=cv.strategy, k=cv.k, repeats=cv.repeats, seed=cv.seed, sha256=digest(assignments)
    )
    files.write_array(directory / "assignments.npy", assignments)
    files.write_json(directory / "folds.json", description.model_dump())


def load(directory: Path, n_images: int) -> Folds:
    """Read the folds of `n_images` training images.

    Raises
    ------
    FoldwiseError
        If the files are damaged, do not belong together, or belong to other data.
    """
    content = files.read_json(directory / "folds.json")
    assignments = files.read_array(directory / "assignments.npy", np.int32, 2)
    try:
        description = Description.model_validate(content)
    except ValidationError as error:
        raise FoldwiseError(f"{directory / 'folds.json'} has the wrong form: run `dvc repro -f -s split`") from error
    if digest(assignments) != description.sha256:
        raise FoldwiseError(
            f"{directory}: assignments.npy is not what folds.json describes: run `dvc repro -f -s split`"
        )
    if assignments.shape != (description.repeats, n_images):
        raise FoldwiseError(
            f"{directory} deals {assignments.shape[1]} images in {len(assignments)} repeats where "
            f"{n_images} in {description.repeats} are expected: run `dvc repro -f -s split`"
        )
    if not all(np.array_equal(np.unique(row), np.arange(description.k)) for row in assignments):
        raise FoldwiseError(f"{directory}: a repeat has not {description.k} folds: run `dvc repro -f -s split`")
    return Folds(assignments, description)
