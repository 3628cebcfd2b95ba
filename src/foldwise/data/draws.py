"""A part of the images: whole units, drawn stratified."""

import numpy as np
from numpy.typing import NDArray

from foldwise.data.units import commonest_classes
from foldwise.sources.subsets import part


def draw(labels: NDArray[np.int64], units: NDArray[np.int64], size: int) -> NDArray[np.intp]:
    """Draw whole units of about `size` images in all, stratified by their commonest class; always the same.

    Returns
    -------
    (n,) int
        Indices, ascending; exactly `size` where every image is on its own.
    """
    numbers, classes = commonest_classes(labels, units)
    least = len(np.unique(classes))
    count = min(max(round(size * len(numbers) / len(labels)), least), len(numbers))
    return np.flatnonzero(np.isin(units, numbers[part(classes, count)]))
