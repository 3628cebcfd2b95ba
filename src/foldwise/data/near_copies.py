"""Images that look alike: pairs of near thumbnails."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from foldwise.data.pixels import images_at_a_time

# Images that are compared at most.
MOST = 100_000
# Sides of a thumbnail, in cells.
_CELLS = 16
# Distance of two thumbnails of unit length: their correlation is 0.995.
_NEAR = 0.1
# Directions of largest spread by which pairs are found that can be near at all.
_DIRECTIONS = 12


def near_copies(
    train: NDArray[np.uint8], test: NDArray[np.uint8], copies: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Find all pairs of images whose small grey thumbnails are nearly the same, whatever their brightness and contrast.

    No pair is missed: in a projection on some directions, in which they are looked up, two are never further apart.

    Parameters
    ----------
    train, test : (N, C, H, W), (M, C, H, W) uint8
    copies : (N + M,) int64
        Equal numbers for equal images, of which the first alone is compared.

    Returns
    -------
    (pairs, 2) int64 or None
        Nearest first; test images are counted on from the training images. None where there are more than `MOST`.
    """
    if len(copies) > MOST:
        return None
    thumbnails = np.concatenate([_thumbnails(images) for images in (train, test) if len(images)])
    _, first = np.unique(copies, return_index=True)
    length = np.linalg.norm(thumbnails, axis=1)
    # Those without contrast would all look alike, but for noise.
    compared = np.intersect1d(first, np.flatnonzero(length > _CELLS))
    if len(compared) < 2:
        return np.empty((0, 2), np.int64)
    unit = thumbnails[compared] / length[compared, None]
    spread = unit - unit.mean(axis=0)
    _, directions = np.linalg.eigh(spread.T @ spread)
    tree = cKDTree((unit @ directions[:, -_DIRECTIONS:]).astype(np.float64))
    pairs = tree.query_pairs(_NEAR, output_type="ndarray")
    apart = np.concatenate(
        [np.empty(0), *(np.linalg.norm(unit[some[:, 0]] - unit[some[:, 1]], axis=1) for some in _parts(pairs))]
    )
    near = np.flatnonzero(apart < _NEAR)
    order = near[np.lexsort((pairs[near, 1], pairs[near, 0], apart[near]))]
    return np.asarray(compared[pairs[order]], np.int64)


def _thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean grey of the cells of each image, less the image's mean: (N, cells)."""
    height, width = images.shape[2:]
    rows, columns = (np.linspace(0, side, min(_CELLS, side) + 1).astype(int) for side in (height, width))
    sizes = np.outer(np.diff(rows), np.diff(columns)) * images.shape[1]
    made = []
    step = images_at_a_time(images)
    for start in range(0, len(images), step):
        grey = images[start : start + step].sum(axis=1, dtype=np.float32)
        cells = np.add.reduceat(np.add.reduceat(grey, rows[:-1], axis=1), columns[:-1], axis=2) / sizes
        flat = cells.reshape(len(cells), -1).astype(np.float32)
        made.append(flat - flat.mean(axis=1, keepdims=True))
    return np.concatenate(made)


def _parts(pairs: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    return [pairs[start : start + 100_000] for start in range(0, len(pairs), 100_000)]
