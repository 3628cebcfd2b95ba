"""What a model says of pictures, given only the folder that it is in."""

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from foldwise.base.console import printable, say
from foldwise.base.errors import FoldwiseError
from foldwise.base.params import is_own
from foldwise.delivery import card as cards
from foldwise.delivery.card import Card
from foldwise.sources import pictures

# Pixels of as many images to their probabilities, (n, classes).
Answers = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

# Images that are answered at a time.
BATCH = 256


class Prediction(NamedTuple):
    """Pictures and their probabilities, (N, classes); which could not be read, in a line, empty if all could."""

    names: list[str]
    classes: list[str]
    probabilities: NDArray[np.float32]
    missing: str

    def table(self) -> str:
        """Put them in columns for people."""
        rows = [["file", "class", "probability", "second", "probability"], *self._rows()]
        rows = [[printable(cell) for cell in row] for row in rows]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    def csv(self) -> str:
        """Put them in CSV, without a last line break."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["file_name", "predicted", "probability", "second", "second_probability"])
        writer.writerows(self._rows())
        return text.getvalue().rstrip("\n")

    def _rows(self) -> list[list[str]]:
        rows = []
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :2]
        for name, two, probabilities in zip(self.names, best, self.probabilities, strict=True):
            first, second = ([self.classes[number], f"{probabilities[number]:.4f}"] for number in two)
            rows.append([name, *first, *second])
        return rows


def predict(places: Sequence[str], folder: Path, *, by_onnx: bool = False) -> Prediction:
    """Predict pictures, and say which are unlike those that the model learnt from.

    Parameters
    ----------
    places : sequence of str
        Pictures, and folders of them.
    folder : Path
        The model's.
    by_onnx : bool
        By its ONNX file, for which PyTorch is not loaded.

    Raises
    ------
    FoldwiseError
        If the model is not whole, or there is no picture.
    """
    card, names = cards.read(folder), found(places)
    if is_own(card.network.name) and not by_onnx:
        say(f"predict: the code of {card.network.name} is not part of the model: its {cards.ONNX} answers")
        by_onnx = True
    answers = _by_onnx(card, folder) if by_onnx else _by_torch(card, folder)
    images = card.images
    form = pictures.Form(images.height, images.width, images.channels, images.resize, images.pictures.highest)
    looks, broken = pictures.look(Path(), names)
    with TemporaryDirectory() as scratch:
        target = Path(scratch, "pixels.npy")
        broken |= pictures.read(Path(), names, form, target)
        pixels = np.load(target, mmap_mode="r", allow_pickle=False)
        whole = np.array([place for place in range(len(names)) if place not in broken], np.intp)
        probabilities = np.empty((len(whole), len(card.classes)), np.float32)
        blank = np.zeros(len(names), bool)
        for start in range(0, len(whole), BATCH):
            chosen = whole[start : start + BATCH]
            batch = pixels[chosen]
            blank[chosen] = np.ptp(batch, axis=(1, 2, 3)) == 0
            probabilities[start : start + BATCH] = answers(batch)
    named = np.array(names, object)[whole]
    for line in unlike(card, looks[whole], blank[whole], named.tolist()):
        say(f"predict: {line}")
    return Prediction(named.tolist(), card.classes, probabilities, pictures.listed(broken, names) if broken else "")


def found(places: Sequence[str]) -> list[str]:
    """Name the pictures: those that are given, and of a folder all that lie in it, by name.

    Raises
    ------
    FoldwiseError
        If one is not there, a folder has none, or a name is no UTF-8, which CSV could not hold.
    """
    names: list[str] = []
    for place in places:
        within = [place]
        if os.path.isdir(place):  # noqa: PTH112 -- pathlib's may raise
            files = (Path(top, file) for top, _, inside in os.walk(place) for file in inside)
            within = sorted(str(path) for path in files if path.suffix.lower() in pictures.SUFFIXES)
        elif not os.path.exists(place):  # noqa: PTH110
            raise FoldwiseError(printable(f"there is no file or folder {place}: correct the name"))
        if not within:
            endings = ", ".join(pictures.SUFFIXES)
            raise FoldwiseError(printable(f"{place} has no pictures: their names are to end in {endings}"))
        names += within
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise FoldwiseError(f"{name!a} is no UTF-8 name: rename it") from error
    return names


def unlike(card: Card, looks: NDArray[np.void], blank: NDArray[np.bool_], names: Sequence[str]) -> Iterator[str]:
    """Say which pictures are unlike all that the model learnt from: `looks` (N,) of them, and which are blank."""
    known = card.images.pictures
    (low, high), (narrow, broad) = known.heights, known.widths
    height, width = looks["height"], looks["width"]
    others = f"where those that the model learnt from have {_sides(known.heights)} x {_sides(known.widths)}"
    kinds = {
        f"of another size, {{0[height]}} x {{0[width]}} pixels, {others}": (height < low)
        | (height > high)
        | (width < narrow)
        | (width > broad),
        "in colours, which the model has never seen": ~looks["grey"] & (not known.coloured),
        "grey, where the model has seen colours alone": looks["grey"] & (not known.grey),
        "blank: all pixels have one value": blank,
    }
    for what, hit in kinds.items():
        if (places := np.flatnonzero(hit)).size:
            first = printable(names[places[0]])
            more = f" and {len(places) - 1:,} more of {len(names):,} are" if len(places) > 1 else " is"
            yield f"{first}{more} {what.format(looks[places[0]])}"


def _sides(sides: tuple[int, int]) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]}-{sides[1]}"


def _by_torch(card: Card, folder: Path) -> Answers:
    import torch  # takes seconds to load

    from foldwise.delivery.classifier import classifier
    from foldwise.learning.networks import ImageForm

    images, path = card.images, folder / cards.WEIGHTS
    content = cards.proved(folder, card, cards.WEIGHTS)
    form = ImageForm(images.channels, images.height, images.width, len(card.classes), card.network.border)
    try:
        made = classifier(card.network, form, load(content))
    except (SafetensorError, FoldwiseError) as error:
        reason = "is no safetensors file" if isinstance(error, SafetensorError) else str(error)
        raise FoldwiseError(f"{path} {reason}: {cards.AGAIN}") from error

    def answers(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            probabilities: NDArray[np.float32] = made(torch.from_numpy(pixels))[1].numpy()
        return probabilities

    return answers


def _by_onnx(card: Card, folder: Path) -> Answers:
    from foldwise.delivery.session import Session  # slow to load

    images, content = card.images, cards.proved(folder, card, cards.ONNX)
    try:
        session = Session(content, (images.channels, images.height, images.width), len(card.classes), threads=0)
    except FoldwiseError as error:
        raise FoldwiseError(f"{folder / cards.ONNX} {error}: {cards.AGAIN}") from error
    return session.probabilities
