"""Images that look alike: pairs of near thumbnails."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from foldwise.data.pixels import images_at_a_time

# Images that are compared at most, and pairs after which no more are looked for.
MOST, ENOUGH = 100_000, 200_000
# Sides of a thumbnail, in cells.
_CELLS = 16
# Distance of two thumbnails of unit length: their correlation is 0.995.
_NEAR = 0.1
# Directions of largest spread by which pairs are found that can be near at all.
_DIRECTIONS = 15
# What rounding may change a product or a distance by, and much more.
_SLACK = 1e-4
# Images of which each is compared with each at a time: their products fit in the processor's cache.
_ROWS, _COLUMNS = 128, 2048
# So many rows of blocks are given to threads at a time.
_AT_A_TIME = 50


def near_copies(
    train: NDArray[np.uint8],
    test: NDArray[np.uint8],
    copies: NDArray[np.int64],
    units: NDArray[np.int64] | None = None,
) -> NDArray[np.int64] | None:
    """Find all pairs of images whose small grey thumbnails are nearly the same, whatever their brightness and contrast.

    No pair is missed: what is left out early has a bound on its likeness that is too low.

    Parameters
    ----------
    train, test : (N, C, H, W), (M, C, H, W) uint8
    copies : (N + M,) int64
        Equal numbers for equal images, of which the first alone is compared.
    units : (N + M,) int64, optional
        Images of one number are known to belong together, and are no pair; by default each is on its own.

    Returns
    -------
    (pairs, 2) int64 or None
        Nearest first; test images are counted on from the training images. Where there are more than `ENOUGH`, not
        all. None where there are more than `MOST` images.
    """
    if len(copies) > MOST:
        return None
    units = np.arange(len(copies)) if units is None else units
    from threadpoolctl import threadpool_limits  # scikit-learn brings it

    with threadpool_limits(1):  # many small products: threads would wait for each other longer than they compute
        thumbnails = np.concatenate([_thumbnails(images) for images in (train, test) if len(images)])
        length = np.linalg.norm(thumbnails, axis=1)
        # Those without contrast would all look alike, but for noise.
        _, first = np.unique(copies, return_index=True)
        compared = np.intersect1d(first, np.flatnonzero(length > _CELLS))
        unit = thumbnails[compared] / length[compared, None]
        del thumbnails
        pairs, count = [np.empty((0, 2), np.intp)], 0
        for some in _candidates(unit):
            pairs.append(some[np.diff(units[compared[some]], axis=1)[:, 0] != 0])
            count += len(pairs[-1])
            if count > ENOUGH:
                break
    found = np.sort(np.concatenate(pairs), axis=1)
    parts = np.array_split(found, 1 + len(found) // 10_000)  # or thumbnails would be copied for all pairs at once
    apart = np.concatenate([np.linalg.norm(unit[part[:, 0]] - unit[part[:, 1]], axis=1) for part in parts])
    near = np.flatnonzero(apart < _NEAR)
    order = near[np.lexsort((found[near, 1], found[near, 0], apart[near]))]
    return np.asarray(compared[found[order]], np.int64)


def _candidates(unit: NDArray[np.float32]) -> Iterator[NDArray[np.intp]]:
    """Give pairs of vectors of unit length, (n, cells), among them all that are near.

    Vectors are sorted along the direction in which they spread most, so that those near to one are not far off. Their
    product is at most that in the main directions, and that of what is left of their lengths (Cauchy and Schwarz).
    """
    if len(unit) < 2:
        return
    least = 1 - _NEAR**2 / 2 - _SLACK
    _, directions = np.linalg.eigh(unit.T @ unit)
    main = unit @ directions[:, -_DIRECTIONS:]
    left = np.sqrt(np.maximum(0, 1 - (main**2).sum(axis=1)))
    along = main[:, main.var(axis=0).argmax()]
    order = np.argsort(along)
    along, key, unit = along[order], np.column_stack([main, left])[order], unit[order]

    def from_row(start: int) -> list[NDArray[np.intp]]:
        rows, pairs = np.arange(start, min(start + _ROWS, len(unit))), []
        end = np.searchsorted(along, along[rows[-1]] + _NEAR + _SLACK)
        for begin in range(start, int(end), _COLUMNS):
            columns = np.arange(begin, min(begin + _COLUMNS, end))
            can_be = key[rows] @ key[columns].T > least
            some = rows[can_be.any(axis=1)]
            others = columns[can_be.any(axis=0)]
            if len(some):
                i, j = np.nonzero(unit[some] @ unit[others].T > least)
                one, other = some[i], others[j]
                pairs.append(np.stack([order[one], order[other]], axis=1)[one < other])
        return pairs

    # Threads, as NumPy lets go of the interpreter; a few rows at a time, as the caller may have enough soon.
    with ThreadPoolExecutor(cpu_count()) as pool:
        for first in range(0, len(unit), _AT_A_TIME * _ROWS):
            starts = range(first, min(first + _AT_A_TIME * _ROWS, len(unit)), _ROWS)
            for pairs in pool.map(from_row, starts):
                yield from pairs


def _thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean grey of the cells of each image, less the image's mean: (N, cells)."""
    down, across = (_cells(side) for side in images.shape[2:])
    sizes = np.outer(down.sum(axis=1), across.sum(axis=1)) * images.shape[1]
    made = []
    step = images_at_a_time(images)
    for start in range(0, len(images), step):
        grey = images[start : start + step].sum(axis=1, dtype=np.float32)
        flat = (down @ grey @ across.T / sizes).reshape(len(grey), -1)
        made.append(flat - flat.mean(axis=1, keepdims=True))
    return np.concatenate(made)


def _cells(side: int) -> NDArray[np.float32]:
    """Say which pixels of a side are in which cell, (cells, side): 1, else 0."""
    edges = np.linspace(0, side, min(_CELLS, side) + 1).astype(int)
    return np.repeat(np.eye(len(edges) - 1, dtype=np.float32), np.diff(edges), axis=1)
