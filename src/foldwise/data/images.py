"""The one on-disk form of images and labels, whatever data set they came from."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foldwise.base.errors import FoldwiseError
from foldwise.base.files import (
    mapped,
    read_array,
    read_json,
    read_text_table,
    write_array,
    write_csv,
    write_json,
    writing,
)
from foldwise.data.pixels import images_at_a_time, pixel_statistics

if TYPE_CHECKING:
    import pandas as pd

# What is known of each training and of each test image.
Tables = tuple["pd.DataFrame", "pd.DataFrame"]


class Pictures(BaseModel):
    """What the pictures were like that images were made of: lowest and highest sides, and their colours.

    `highest` is the value that became 255. Of images that were never brought to size they are what those are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    heights: tuple[int, int]
    widths: tuple[int, int]
    grey: bool
    coloured: bool
    highest: int = 255


@dataclass(frozen=True, eq=False)
class Images:
    """Training and test images of one data set.

    Attributes
    ----------
    name : str
        Name of the data set.
    classes : tuple of str
        Name of each class; a label is an index into it.
    train_images, test_images : (N, C, H, W) uint8
        There may be no test images.
    train_labels, test_labels : (N,) int64
    mean, std : (C,) float
        Of the training images' pixels, by channel, on the 0-1 scale.
    pictures : Pictures
        What they were made of.
    """

    name: str
    classes: tuple[str, ...]
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pictures: Pictures

    @classmethod
    def measured(
        cls,
        name: str,
        classes: tuple[str, ...],
        train: tuple[NDArray[np.uint8], NDArray[np.int64]],
        test: tuple[NDArray[np.uint8], NDArray[np.int64]],
        pictures: Pictures | None = None,
    ) -> Self:
        """Join images and labels, and measure the training images' pixels."""
        _, channels, height, width = train[0].shape
        if pictures is None:
            is_grey = channels == 1
            pictures = Pictures(heights=(height, height), widths=(width, width), grey=is_grey, coloured=not is_grey)
        return cls(name, classes, *train, *test, *pixel_statistics(train[0]), pictures)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width


class _Meta(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    classes: list[str] = Field(min_length=2)
    shape: list[int] = Field(min_length=3, max_length=3)
    n_train: int
    n_test: int
    mean: list[float]
    std: list[float]
    pictures: dict[str, Any]


def save(data: Images, directory: Path, tables: Tables | None = None) -> None:
    """Write images, labels, `meta.json` and tables into `directory`, which afterwards holds nothing else.

    Raises
    ------
    FoldwiseError
        If the data cannot be trained on, or the disk does not take them; an earlier `directory` is then still whole.
    """
    entry = f"correct the entry of {data.name} in src/foldwise/sources/catalogue.py"
    if tables:
        entry = "look at the images of data.folder"
    flat = [channel for channel, std in enumerate(data.std) if std == 0]
    if flat:
        raise FoldwiseError(
            f"{data.name}: channel {flat[0]} has one value in all training images: {entry}, which is to leave such a "
            "channel out, or raise data.subset where it is set"
        )
    if wrong := _wrong(data):
        raise FoldwiseError(f"{data.name}: {wrong}: {entry}, or run `dvc repro` where data/raw was changed by hand")
    with writing(directory) as temporary:
        write_array(temporary / "train_images.npy", data.train_images)
        write_array(temporary / "train_labels.npy", data.train_labels)
        write_array(temporary / "test_images.npy", data.test_images)
        write_array(temporary / "test_labels.npy", data.test_labels)
        write_json(temporary / "meta.json", _meta(data))
        for name, table in zip(_TABLES, tables or (), strict=False):
            write_csv(temporary / name, table)


def load(directory: Path) -> Images:
    """Map what `save` wrote into memory.

    Raises
    ------
    FoldwiseError
        If a file is missing or corrupt, has another type or shape, or does not agree with the others.
    """
    path = directory / "meta.json"
    content = read_json(path)
    try:
        meta = _Meta.model_validate(content)
        pictures = Pictures.model_validate(meta.pictures)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"])) or "content"
        raise FoldwiseError(f"{path}: {field} is not as `normalize` writes it: {_REMEDY}") from error
    data = Images(
        meta.name,
        tuple(meta.classes),
        read_array(directory / "train_images.npy", np.uint8, ndim=4),
        read_array(directory / "train_labels.npy", np.int64, ndim=1),
        read_array(directory / "test_images.npy", np.uint8, ndim=4, may_be_empty=True),
        read_array(directory / "test_labels.npy", np.int64, ndim=1, may_be_empty=True),
        tuple(meta.mean),
        tuple(meta.std),
        pictures,
    )
    if wrong := _wrong(data):
        raise FoldwiseError(f"{directory}: {wrong}: {_REMEDY}")
    if _meta(data) != content:
        raise FoldwiseError(f"{path} does not describe the images beside it: {_REMEDY}")
    return data


def load_tables(directory: Path, data: Images) -> Tables | None:
    """Read what is known of each image besides its label, as text; None for a data set without files of its own."""
    if not (directory / _TABLES[0]).exists():
        return None
    train, test = (read_text_table(directory / name, ["file_name", "label"]) for name in _TABLES)
    if (len(train), len(test)) != (len(data.train_labels), len(data.test_labels)):
        raise FoldwiseError(f"{directory}: the tables are not of the images beside them: {_REMEDY}")
    return train, test


def copied_rows(images: NDArray[np.uint8], rows: NDArray[np.intp], target: Path) -> NDArray[np.uint8]:
    """Copy some images into an array on disk, which need not fit in memory; gives it mapped."""
    shape = len(rows), *images.shape[1:]
    if not len(rows):
        return np.empty(shape, np.uint8)
    copied = mapped(target, shape)
    step = images_at_a_time(images)
    for start in range(0, len(rows), step):
        copied[start : start + step] = images[rows[start : start + step]]
    return copied


_REMEDY = "delete the folder and run `dvc repro`"
_TABLES = "train.csv", "test.csv"


def _meta(data: Images) -> dict[str, Any]:
    return {
        "name": data.name,
        "classes": list(data.classes),
        "shape": list(data.shape),
        "n_train": len(data.train_images),
        "n_test": len(data.test_images),
        "mean": list(data.mean),
        "std": list(data.std),
        "pictures": data.pictures.model_dump(mode="json"),
    }


def _wrong(data: Images) -> str:
    """Say in a few words what cannot be trained on; empty if all can."""
    for split, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        if len(images) != len(labels):
            return f"{len(images)} {split} images but {len(labels)} labels"
        if images.shape[1:] != data.shape:
            return "train and test images differ in shape"
        low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
        if low < 0 or high >= len(data.classes):
            return f"a {split} label is {low if low < 0 else high}, outside 0 to {len(data.classes) - 1}"
    if data.train_labels.min() == data.train_labels.max():
        return "all train labels are of one class"
    if len({name for name in data.classes if isinstance(name, str)}) < len(data.classes):
        return "the names of the classes are not text, each another"
    if not len(data.mean) == len(data.std) == data.shape[0]:
        return "mean and std are not one number per channel"
    # A channel without contrast cannot be brought to unit variance.
    if not all(0 <= mean <= 1 and 0 < std <= 1 for mean, std in zip(data.mean, data.std, strict=True)):
        return f"mean {data.mean} or std {data.std} is out of range"
    return ""
