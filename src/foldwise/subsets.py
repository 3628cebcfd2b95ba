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
    """Draw `size` of the indices of `labels`, stratified; always the same, ascending.

    Each class keeps its share to within one image (the largest remainders get what is left), and one at least.
    """
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * size / len(labels)
    kept = np.maximum(shares.astype(int), 1)
    while kept.sum() < size:
        kept[np.argmax(np.where(kept < counts, shares - kept, -np.inf))] += 1
    while kept.sum() > size:
        kept[np.argmax(np.where(kept > 1, kept - shares, -np.inf))] -= 1
    random = np.random.default_rng(0)
    drawn = [random.choice(np.flatnonzero(labels == c), n, replace=False) for c, n in zip(classes, kept, strict=True)]
    return np.sort(np.concatenate(drawn))
