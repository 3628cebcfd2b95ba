"""Images side by side, each with a caption."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLUMNS = 6
NAME = 12
LETTERS = 21  # of two names on one line above an image


def gallery(images: NDArray[np.uint8], indices: Sequence[int], captions: Sequence[str], title: str) -> Figure:
    """Draw some images with a caption each; a sheet that says so where there are none.

    Parameters
    ----------
    images : uint8 array, shape (N, channels, height, width)
        One channel is drawn in grey, three as red, green and blue, of others the mean in grey.
    indices : sequence of int
        Of the images, in the order in which they are drawn.
    captions : sequence of str
        One for each index.
    title : str
    """
    rows = max(1, -(-len(indices) // COLUMNS))
    height = 1.85 * rows + 0.35
    figure = Figure(figsize=(1.5 * COLUMNS, height))
    figure.suptitle(title, x=0.01, y=1 - 0.06 / height, ha="left", va="top", fontsize=10)
    figure.subplots_adjust(0.01, 0.05 / height, 0.99, 1 - 0.75 / height, wspace=0.05, hspace=0.32)
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    if not len(indices):
        figure.text(0.5, 0.45, "none", ha="center")
    for axes, index, caption in zip(panels, indices, captions, strict=False):
        channels = np.asarray(images[index])
        grey = channels[0] if len(channels) == 1 else channels.mean(axis=0)
        axes.imshow(np.moveaxis(channels, 0, -1) if len(channels) == 3 else grey, cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{caption}  #{index}", fontsize=8, loc="center")
    return figure


def label_pairs(given: Iterable[str], predicted: Iterable[str], probability: Iterable[float]) -> list[str]:
    """Make captions of given labels, predicted classes, and the probabilities of those."""
    return [
        f"{short(a)} →{' ' if len(a + b) <= LETTERS else chr(10)}{short(b)}\n{share:.1%}"
        for a, b, share in zip(given, predicted, probability, strict=True)
    ]


def short(name: str) -> str:
    """Leave out the middle of a long name."""
    return name if len(name) <= NAME else f"{name[: NAME - 5]}…{name[-4:]}"
