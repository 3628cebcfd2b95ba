"""Images side by side, each with a caption."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from foldwise.base.console import printable

COLUMNS = 6
NAME = 12
LETTERS = 21  # of two names on one line above an image


def gallery(images: Sequence[NDArray[np.uint8]], captions: Sequence[str], title: str) -> Figure:
    """Draw some images with a caption each; a sheet that says so where there are none.

    Parameters
    ----------
    images : sequence of uint8 arrays, (channels, height, width)
        One channel is drawn in grey, three as red, green and blue, of others the mean in grey.
    captions : sequence of str
        One for each image.
    title : str
    """
    rows = max(1, -(-len(images) // COLUMNS))
    height = 1.85 * rows + 0.35
    figure = Figure(figsize=(1.5 * COLUMNS, height))
    figure.suptitle(title, x=0.01, y=1 - 0.06 / height, ha="left", va="top", fontsize=10)
    figure.subplots_adjust(0.01, 0.05 / height, 0.99, 1 - 0.75 / height, wspace=0.05, hspace=0.32)
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    if not images:
        figure.text(0.5, 0.45, "none", ha="center")
    for axes, image, caption in zip(panels, images, captions, strict=False):
        channels = np.asarray(image)
        grey = channels[0] if len(channels) == 1 else channels.mean(axis=0)
        axes.imshow(np.moveaxis(channels, 0, -1) if len(channels) == 3 else grey, cmap="gray", vmin=0, vmax=255)
        axes.set_title(caption, fontsize=8, loc="center")
    return figure


def label_pairs(
    given: Iterable[str], predicted: Iterable[str], probability: Iterable[float], names: Iterable[str]
) -> list[str]:
    """Make captions of given labels, predicted classes, the probabilities of those, and names of images."""
    return [
        f"{short(a)} →{' ' if len(a + b) <= LETTERS else chr(10)}{short(b)}\n{share:.1%}  {end(name)}"
        for a, b, share, name in zip(given, predicted, probability, names, strict=True)
    ]


def short(name: str) -> str:
    """Leave out the middle of a long name, and what cannot be printed."""
    name = printable(name)
    return name if len(name) <= NAME else f"{name[: NAME - 5]}…{name[-4:]}"


def end(name: str, letters: int = NAME) -> str:
    """Leave out the beginning of a file's long name."""
    name = printable(name)
    return name if len(name) <= letters else f"…{name[1 - letters :]}"
