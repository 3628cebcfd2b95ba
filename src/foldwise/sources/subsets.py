"""Stratified parts of a data set."""

import numpy as np
from numpy.typing import NDArray

from foldwise.base.errors import FoldwiseError
from foldwise.sources.formats import Labelled


def subset(labelled: Labelled, size: int | None) -> Labelled:
    """Keep a stratified part of images and labels, always the same one, in their order.

    Parameters
    ----------
    labelled : (images, labels)
    size : int or None
        Images to keep; None keeps all.

    Raises
    ------
    FoldwiseError
        If there are fewer images than `size`, or fewer places than classes.
    """
    images, labels = labelled
    if size is None:
        return labelled
    check_size(labels, size)
    drawn = part(labels, size)
    return images[drawn], labels[drawn]


def check_size(labels: NDArray[np.int64], size: int) -> None:
    """Raise FoldwiseError if there are fewer images than `size`, or fewer places than classes."""
    classes = len(np.unique(labels))
    if not classes <= size <= len(labels):
        raise FoldwiseError(
            f"data.subset is {size} but must be from {classes}, one image per class, to {len(labels)}, all training "
            "images: change it, or leave it empty to keep all"
        )


def part(labels: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Draw `size` of the indices of `labels`, stratified, at least one of each class; always the same, ascending."""
    classes, counts = np.unique(labels, return_counts=True)
    if size * counts.min() >= len(labels) and len(labels) - size >= len(classes):
        # Importing it takes a second that `download` need not spend.
        from sklearn.model_selection import train_test_split

        drawn, _ = train_test_split(np.arange(len(labels)), train_size=size, stratify=labels, random_state=0)
    else:  # scikit-learn would refuse, or leave a class out
        shuffled = np.random.RandomState(0).permutation(len(labels))
        places = zip(classes, _places(counts, size), strict=True)
        drawn = np.concatenate([shuffled[labels[shuffled] == label][:n] for label, n in places])
    return np.sort(drawn)


def _places(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Share `size` places out: one to each class whose share is less, to the others by the largest remainder."""
    places = np.ones_like(counts)
    large = counts > 0
    while (short := large & ((size - np.sum(~large)) * counts < counts[large].sum())).any():
        large &= ~short
    left = size - np.sum(~large)
    places[large], remainders = np.divmod(left * counts[large], counts[large].sum())
    places[np.flatnonzero(large)[np.argsort(-remainders, kind="stable")[: size - places.sum()]]] += 1
    return places
