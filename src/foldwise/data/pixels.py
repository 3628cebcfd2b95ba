"""The constants by which pixels are normalised."""

import math

import numpy as np
from numpy.typing import NDArray

# Pixels that are counted at a time: enough for NumPy to be busy, few enough for any memory.
_BLOCK = 4_000_000


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
    step = images_at_a_time(images)
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(chosen), step):
            counts += np.bincount(images[chosen[start : start + step], channel].ravel(), minlength=256)
        n, total, squares = int(counts.sum()), int(counts @ values), int(counts @ values**2)
        means.append(total / (255 * n))
        deviations.append(math.sqrt(n * squares - total**2) / (255 * n))
    return tuple(means), tuple(deviations)


def images_at_a_time(images: NDArray[np.uint8]) -> int:
    """How many of images (N, C, H, W) to take at a time where all may be more than the memory holds."""
    return max(1, _BLOCK // int(np.prod(images.shape[1:])))
