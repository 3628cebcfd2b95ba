"""What the competitors share: the same images, the same folds, one figure at the end."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

K = 5
SEED = 42
NORMALIZED = Path("data/normalized")
TORCHVISION = Path("data/torchvision")  # holds MNIST/raw, where torchvision looks


def recipe(name: str) -> dict[str, Any]:
    """Read the parameters of a recipe."""
    words = (Path(__file__).parents[1] / "recipes" / name).read_text().split()
    settings = (word.partition("=") for word in words if word != "-S")
    return {parameter: yaml.safe_load(value) for parameter, _, value in settings}


def arguments(epochs: int | None = None) -> argparse.ArgumentParser:
    """Make the options that each competitor has; without `epochs`, the recipe of params.yaml decides."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folds", type=int, default=K, help="train only the first of the five folds")
    parser.add_argument("--epochs", type=int, default=epochs)
    return parser


def load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the training images, (N, 1, 28, 28), and their labels."""
    return np.load(NORMALIZED / "train_images.npy"), np.load(NORMALIZED / "train_labels.npy")


def folds(labels: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Give the training and held-out indices of each fold."""
    return list(StratifiedKFold(K, shuffle=True, random_state=SEED).split(labels, labels))


def report(accuracies: list[float]) -> None:
    """Print the figure that all the work was for."""
    print(f"mean fold accuracy {np.mean(accuracies):.6f}")


@contextmanager
def needed() -> Iterator[None]:
    """Say in one line how a package that is not there is installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = Path(sys.argv[0]).name
        sys.exit(f"{name}: the package {error.name} is not installed: run `make bench`")
