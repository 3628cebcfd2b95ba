"""`card.json`: what a model is, what it was made of and how good it is; it proves the files beside it."""

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from foldwise.base.errors import FoldwiseError
from foldwise.base.files import read_json
from foldwise.data.images import Pictures

CARD, PAGE, WEIGHTS, ONNX = "card.json", "card.md", "model.safetensors", "model.onnx"
# Files that can run code where they are opened, which nothing here ever does.
_UNSAFE = {".bin", ".ckpt", ".dill", ".joblib", ".npz", ".pickle", ".pkl", ".pt", ".pth"}
AGAIN = "take the whole folder again, by `dvc checkout model` or `dvc get CLONE model`"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Network(_Part):
    """What is built, and what is done to its logits.

    Attributes
    ----------
    name, options
        As `model.name` and `model.options`.
    border : int
        Empty pixels around all images, which some networks cut off.
    members : list of str
        What the names of each model's weights begin with.
    augment : str
        As `evaluate.augment`.
    temperature : float
        By which logits are divided, fitted to the out-of-fold predictions.
    """

    name: str
    options: dict[str, Any] | None
    border: int
    members: list[str]
    augment: Literal["none", "shift"]
    temperature: float


class Input(_Part):
    """What pixels the network takes, and what the pictures of the training images were like."""

    channels: int
    height: int
    width: int
    resize: Literal["pad", "crop", "stretch"]
    pictures: Pictures


class Trained(_Part):
    """What it was trained on: `sha256` is that of the training images and their labels."""

    name: str
    sha256: str
    images: int
    epochs: int


class Scores(_Part):
    """Some predictions' scores; the calibration error is that of the probabilities after the temperature."""

    n: int
    errors: int
    accuracy: float
    log_loss: float
    calibration_error: float


class OfClass(_Part):
    """A class's training images and its out-of-fold scores; None where one cannot be had."""

    name: str
    images: int
    precision: float | None
    recall: float | None
    f1: float | None


class CrossValidation(_Part):
    """What is known of the procedure."""

    k: int
    repeats: int
    strategy: str
    groups: str
    copies: str
    accuracy: dict[str, float | None]
    out_of_fold: Scores
    calibration_error_before: float
    by_class: list[OfClass]


class Proof(_Part):
    """How far the probabilities of `model.onnx` are from PyTorch's at most, on so many images."""

    images: int
    largest_difference: float


class Card(_Part):
    """All that `card.json` says; `test` is of this very model, and None where there is no test set."""

    kind: Literal["refit", "ensemble"]
    classes: list[str]
    images: Input
    network: Network
    data: Trained
    cross_validation: CrossValidation
    test: Scores | None
    audit: list[str]
    onnx: Proof
    recipe: dict[str, Any]
    sha256: dict[str, str]

    def written(self) -> bytes:
        """Give the content of `card.json`."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def read(folder: Path) -> Card:
    """Read the card of a model's folder.

    Raises
    ------
    FoldwiseError
        If there is no model, the card is not one, or a file lies beside it that can run code.
    """
    if not (folder / CARD).is_file():
        raise FoldwiseError(
            f"{folder} holds no model, as it has no {CARD}: `dvc exp run -S final.model=refit` makes one in model/"
        )
    for path in sorted(folder.iterdir()):
        if path.suffix in _UNSAFE:
            raise FoldwiseError(f"{path} is no part of the model and may run code where it is opened: remove it")
    try:
        return Card.model_validate(read_json(folder / CARD))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise FoldwiseError(f"{folder / CARD}: {where} is not as Foldwise writes it: {AGAIN}") from error


def proved(folder: Path, card: Card, name: str) -> bytes:
    """Read a file of a model's folder; FoldwiseError if it is not the one that the card describes."""
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FoldwiseError(f"{path} cannot be read ({error.strerror}): {AGAIN}") from error
    if digest(content) != card.sha256.get(name):
        raise FoldwiseError(f"{path} is not the file that {CARD} beside it describes: {AGAIN}")
    return content


def digest(content: bytes) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(content).hexdigest()
