"""Which fold holds each image out."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
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
        return "all images" if self == WHOLE else f"repeat {self.repeat} fold {self.fold}"

    @property
    def parts(self) -> tuple[str, str]:
        """Its place as names of files have it."""
        return f"repeat-{self.repeat}", f"fold-{self.fold}"

    def within(self, models: Path) -> Path:
        """Where its model is in a folder of models."""
        repeat, fold = self.parts
        return models / repeat / f"{fold}.safetensors"


# The fold that holds no image out, of any number of folds: by its place its model gets randomness of its own.
WHOLE = Fold(0, 2**31 - 1)


def assign(labels: NDArray[np.int64], cv: CV, units: NDArray[np.int64] | None = None) -> NDArray[np.int32]:
    """Deal images to folds with scikit-learn's splitters.

    Parameters
    ----------
    labels : (N,) int64
        Class of each image.
    cv : CV
        Strategy, k, repeats and seed.
    units : (N,) int64, optional
        Images of one number are held out together; by default each is on its own.

    Returns
    -------
    (repeats, N) int32
        For each repeat, the fold (0 to k - 1) that holds each image out.

    Raises
    ------
    FoldwiseError
        If there are fewer units, or under `stratified` fewer of the rarest class, than folds.

    Notes
    -----
    - Each image is held out exactly once per repeat.
    - Where each image is on its own, sizes of a repeat's folds differ by one at most; under `stratified` so do each
      class's counts. The first repeat equals `StratifiedKFold(k, shuffle=True, random_state=seed)`; later ones go on
      in its stream. Else it is `StratifiedGroupKFold`, for which images that are on their own are bundled.
    """
    units = np.arange(len(labels)) if units is None else units
    numbers = np.unique(units)
    alone = len(numbers) == len(labels)
    what = "image" if alone else "unit"
    if cv.k > len(numbers):
        raise FoldwiseError(
            f"cv.k is {cv.k} but there are {len(numbers)} training {what}s{_explained(alone)}: set cv.k to that or less"
        )
    pairs = np.unique(np.stack([labels, units]), axis=1)
    counts = np.bincount(pairs[0])
    rarest = int(counts[counts > 0].min())
    if cv.strategy == "stratified" and cv.k > rarest:
        lower = f"cv.k to {rarest} or less, or " if rarest > 1 else ""
        raise FoldwiseError(
            f"cv.k is {cv.k} but the rarest class has {rarest} training {what}{'s' * (rarest > 1)}{_explained(alone)}: "
            f"set {lower}cv.strategy to kfold, or raise data.subset where it is set"
        )
    from sklearn import model_selection  # takes a second to load, and only `split` needs it

    splitter = {
        ("stratified", True): model_selection.StratifiedKFold,
        ("kfold", True): model_selection.KFold,
        ("stratified", False): model_selection.StratifiedGroupKFold,
        ("kfold", False): model_selection.GroupKFold,
    }[cv.strategy, alone]
    random = np.random.RandomState(cv.seed)
    assignments = np.empty((cv.repeats, len(labels)), dtype=np.int32)
    for row in assignments:
        groups = None if alone else units
        if groups is not None and cv.strategy == "stratified":
            groups = _bundled(labels, units, cv.k, random)
        parts = splitter(cv.k, shuffle=True, random_state=random).split(labels, labels, groups)
        for fold, (_, held_out) in enumerate(parts):
            row[held_out] = fold
    return assignments


def _bundled(
    labels: NDArray[np.int64], units: NDArray[np.int64], k: int, random: np.random.RandomState
) -> NDArray[np.int64]:
    """Make most of each class's images that are on their own k units of one size, drawn at random.

    `StratifiedGroupKFold` takes a fifth of a millisecond for each unit. Of each class as many images stay as they are
    as even out k - 1 folds where the other one holds out the unit that has most of the class.
    """
    _, units, sizes = np.unique(units, return_inverse=True, return_counts=True)
    pairs, together = np.unique(np.stack([labels, units]), axis=1, return_counts=True)
    bundled = units.copy()
    for label in np.unique(labels):
        images = np.flatnonzero((sizes[units] == 1) & (labels == label))
        size = len(images) // k - int(together[pairs[0] == label].max())
        if size > 1:
            bundled[random.permutation(images)[: k * size]] = bundled.max() + 1 + np.arange(k * size) % k
    return bundled


def _explained(alone: bool) -> str:
    return "" if alone else " (images of one group, or copies, are one unit)"


# A part of the images may lack a fold.
_OR_MORE = ", or raise data.subset where it is set"


def given(values: Sequence[str] | None, cv: CV) -> NDArray[np.int32]:
    """Take the folds of a table, (1, N), which are counted from 0 or from 1.

    Raises
    ------
    FoldwiseError
        If a value is no such number, one is left out, or `cv.k` is another than there are.
    """
    if values is None:
        raise FoldwiseError(
            "cv.strategy is given, but no metadata.csv has a column fold: set it to stratified, or number them there"
        )
    if wrong := [value for value in values if not (value.isdecimal() and len(value) < 10)]:
        raise FoldwiseError(f"metadata.csv has fold {wrong[0]!r}: number the folds of training images from 0")
    numbers = np.array([int(value) for value in values], np.int64)
    found = np.unique(numbers)
    first = min(int(found[0]), 1)
    if (gaps := np.flatnonzero(found != np.arange(first, first + len(found)))).size:
        missing = first + int(gaps[0])
        raise FoldwiseError(
            f"metadata.csv has no fold {missing} but a fold {found[-1]}: number the folds of training images from 0, "
            f"without a gap{_OR_MORE}"
        )
    if len(found) < 2:
        raise FoldwiseError(f"metadata.csv has one fold, {found[0]}: it takes two or more{_OR_MORE}")
    if len(found) != cv.k:
        remedy = f"set cv.k to {len(found)}{_OR_MORE if len(found) < cv.k else ''}"
        raise FoldwiseError(f"cv.k is {cv.k} but metadata.csv has {len(found)} folds: {remedy}")
    return (numbers - first).astype(np.int32)[np.newaxis]


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
    groups: str = "none"
    copies: str = "none"


@dataclass(frozen=True)
class Folds:
    """Folds of one data set: the assignments and the settings that made them.

    Attributes
    ----------
    assignments : (repeats, N) int32
    description : Description
    all_units : (N + M,) int64, optional
        Training and test images of one number depend on each other, whether held out together or not; by default each
        is on its own.
    """

    assignments: NDArray[np.int32]
    description: Description
    all_units: NDArray[np.int64] | None = None

    @property
    def units(self) -> NDArray[np.int64]:
        """The unit of each training image, (N,)."""
        n = self.assignments.shape[1]
        return np.arange(n) if self.all_units is None else self.all_units[:n]

    @property
    def test_units(self) -> NDArray[np.int64]:
        """The unit of each test image, (M,), where that is known."""
        return np.empty(0, np.int64) if self.all_units is None else self.all_units[self.assignments.shape[1] :]

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


def save(
    directory: Path,
    assignments: NDArray[np.int32],
    cv: CV,
    units: NDArray[np.int64] | None = None,
    kept: Mapping[str, str] | None = None,
) -> None:
    """Write `assignments.npy`, `units.npy` and `folds.json`.

    Parameters
    ----------
    directory : Path
    assignments : (repeats, N) int32
    cv : CV
    units : (N + M,) int64, optional
        Of training and test images; by default each of the N is on its own.
    kept : mapping, optional
        What was done with `groups` and `copies`, where there are any.
    """
    description = Description(
        strategy=cv.strategy, k=cv.k, repeats=cv.repeats, seed=cv.seed, sha256=digest(assignments), **(kept or {})
    )
    files.write_array(directory / "assignments.npy", assignments)
    files.write_array(directory / "units.npy", np.arange(assignments.shape[1]) if units is None else units)
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
    units = None  # older runs tell nothing of what depends on what
    if (directory / "units.npy").exists():
        units = files.read_array(directory / "units.npy", np.int64, 1)
        if len(units) < n_images:
            raise FoldwiseError(f"{directory}: units.npy is of fewer images: run `dvc repro -f -s split`")
    if not all(np.array_equal(np.unique(row), np.arange(description.k)) for row in assignments):
        raise FoldwiseError(f"{directory}: a repeat has not {description.k} folds: run `dvc repro -f -s split`")
    return Folds(assignments, description, units)
