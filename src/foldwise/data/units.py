"""Images that depend on each other: those of one group, and copies of each other. Together they are a unit."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


def copies_of(*parts: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number images by their pixels, those of several arrays one after another: equal numbers, equal pixels.

    Blank ones, of one value, are copies of none (-1): a scanner's empty images are no reason to hold patients together.
    """
    made, blank = [], []
    for images in parts:
        for row in np.ascontiguousarray(images):  # of a map a view, which is quicker to index
            made.append(hashlib.blake2b(row.data, digest_size=8).digest())
            blank.append(row[0, 0, 0] == row[-1, -1, -1] and (row == row[0, 0, 0]).all())
    _, numbers = np.unique(np.frombuffer(b"".join(made), np.uint64), return_inverse=True)
    return np.where(blank, -1, numbers)


def effective_number(units: NDArray[np.int64]) -> float:
    """How many independent images some images are worth at least, by the units that they are of.

    That is their number where each is on its own, that of the units where these are of one size and their images all
    alike, and less where few units have most images. Source: Kish, "Survey Sampling" (1965), section 8.2, for images
    of a unit that are all alike.
    """
    sizes = np.unique(units, return_counts=True)[1].astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def connected(*kinds: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number images so that two have one number where a chain of equal values leads from one to the other.

    Parameters
    ----------
    *kinds : (N,) int arrays
        What images have in common, such as a group; a negative value is nothing that another has.

    Returns
    -------
    (N,) int64
        From 0, in the order in which units first come: `arange(N)` where every image is on its own.
    """
    from scipy.sparse import coo_array  # slow to load, and workers do without
    from scipy.sparse.csgraph import connected_components

    n = nodes = len(kinds[0])
    rows, columns = [], []
    for kind in kinds:
        shared = np.flatnonzero(kind >= 0)
        values, places = np.unique(kind[shared], return_inverse=True)
        rows.append(shared)
        columns.append(nodes + places)
        nodes += len(values)
    edges = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(edges[0]), bool), edges), (nodes, nodes))
    _, found = connected_components(graph, directed=False)
    _, first, numbers = np.unique(found[:n], return_index=True, return_inverse=True)
    order = np.empty_like(first)
    order[np.argsort(first)] = np.arange(len(first))
    return np.asarray(order[numbers], np.int64)


def commonest_classes(
    labels: NDArray[np.int64], units: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the numbers of the units of images, ascending, and the commonest class of each, (U,) both."""
    numbers, places = np.unique(units, return_inverse=True)
    classes, columns = np.unique(labels, return_inverse=True)
    pairs, counts = np.unique(places * len(classes) + columns, return_counts=True)
    # Of a unit's classes the last in this order, and of equally common ones the lowest, is the one that stays.
    order = np.lexsort((-pairs, counts))
    commonest = np.empty(len(numbers), np.int64)
    commonest[pairs[order] // len(classes)] = classes[pairs[order] % len(classes)]
    return numbers, commonest


def groups_of(*tables: "pd.DataFrame") -> NDArray[np.int64]:
    """Number the groups of the rows of tables, one after another; -1 where a row is of none."""
    rows = sum(map(len, tables))
    if not any("group" in table for table in tables):
        return np.full(rows, -1)
    import pandas as pd  # takes half a second to load, and workers do without

    groups = pd.concat(tables)["group"]
    codes, _ = pd.factorize(groups.mask(groups == ""))
    return np.asarray(codes, np.int64)
