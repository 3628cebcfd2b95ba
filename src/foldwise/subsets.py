"""Stratified parts of a data set."""

import numpy as np
from numpy.typing import NDArray

from foldwise.errors import FoldwiseError
from foldwise.formats import Labelled


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
    classes = len(np.unique(labels))
    if not classes <= size <= len(labels):
        raise FoldwiseError(
            f"data.subset is {size} but must be from {classes}, one image per class, to {len(labels)}, all training "
            "images: change it, or leave it empty to keep all"
        )
    kept = part(labels, size)
    return images[kept], labels[kept]


def part(labels: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Draw `size` of the indices of `labels`, stratified where that can be done; always the same, ascending."""
    # Importing it takes a second that `download` need not spend.
    from sklearn.model_selection import train_test_split

    rest = len(labels) - size
    if rest == 0:
        return np.arange(len(labels))
    # scikit-learn does not stratify where the part or the rest has fewer places than there are classes.
    counts = np.unique(labels, return_counts=True)[1]
    stratify = labels if min(size, rest) >= len(counts) and counts.min() > 1 else None
    drawn, _ = train_test_split(np.arange(len(labels)), train_size=size, stratify=stratify, random_state=0)
    return np.sort(drawn)
