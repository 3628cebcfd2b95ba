"""The constants by which pixels are normalised."""

import math

import numpy as np
from numpy.typing import NDArray

# Enough images for NumPy to be busy, few enough to stay in the processor's cache.
_BLOCK = 4096


def pixel_statistics(
    images: NDArray[np.uint8], chosen: NDArray[np.int64] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure the mean and the (population) standard deviation of the pixels of each channel on the 0-1 scale.

    The sums are integers, so the result is exact up to its last rounding and depends on no order of summation.

    Parameters
    ----------
    images : (N, C, H, W) uint8
    chosen : (n,) int64, optional
        Indices of the images to measure, which are not copied all at once; all by default.

    Returns
    -------
    mean, std : (C,) float
    """
    values, chosen = np.arange(256), np.arange(len(images)) if chosen is None else chosen
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(chosen), _BLOCK):
            counts += np.bincount(images[chosen[start : start + _BLOCK], channel].ravel(), minlength=256)
        n, total, squares = int(counts.sum()), int(counts @ values), int(counts @ values**2)
        means.append(total / (255 * n))
        deviations.append(math.sqrt(n * squares - total**2) / (255 * n))
    return tuple(means), tuple(deviations)
