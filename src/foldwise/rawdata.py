"""What lies in `data/raw/`: the original files of one data set, fetched and read back."""

import os
from contextlib import suppress
from pathlib import Path

from foldwise.copies import from_repository
from foldwise.datasets import Dataset, TrainTest
from foldwise.errors import FoldwiseError
from foldwise.files import writing
from foldwise.mirrors import bring
from foldwise.originals import Original, Refused, proved


def fetch(dataset: Dataset, mirror: str | None, raw: Path) -> None:
    """Write the original files of `dataset` into `raw`, in a folder of its name; nothing else remains in `raw`.

    Parameters
    ----------
    dataset : Dataset
    mirror : str or None
        Folder or http(s) address that is the only source. Without one, that of the environment variable
        `FOLDWISE_MIRROR` is tried before the public ones; it may lack the data set, but not have other bytes of it.
        In a folder, the files may lie in a subfolder of the data set's name.
    raw : Path

    Raises
    ------
    FoldwiseError
        If no mirror has a file, or `raw` cannot be written; an earlier `raw` is then still whole.
    """
    named = [_subfolder(place, dataset.name) for place in (mirror or os.environ.get("FOLDWISE_MIRROR"),) if place]
    with writing(raw) as temporary:
        folder = temporary / dataset.name
        folder.mkdir(parents=True)
        bring(dataset.remotes, named if mirror else [*named, *dataset.sources], folder, named=named)


def decode(dataset: Dataset, raw: Path) -> TrainTest:
    """Decode and check the original files that `fetch` wrote.

    Returns
    -------
    train, test : (images, labels)
        (N, C, H, W) uint8 and (N,) int64, in the original order.

    Raises
    ------
    FoldwiseError
        If a file is missing or not the original, or does not agree with its neighbours.
    """
    folder = raw / dataset.name
    contents = {
        original.name: _content(folder / original.name, original)
        for remote in dataset.remotes
        for original in remote.originals
    }
    train, test = dataset.decode(contents, folder)
    mend = f"these are the original files, so mend the entry of {dataset.name} in src/foldwise/datasets.py"
    for split, (images, labels) in (("training", train), ("test", test)):
        if len(images) != len(labels):
            raise FoldwiseError(f"{folder} holds {len(images)} {split} images but {len(labels)} labels: {mend}")
        if labels.min() < 0 or labels.max() >= len(dataset.classes):
            raise FoldwiseError(f"{folder} holds a {split} label outside 0 to {len(dataset.classes) - 1}: {mend}")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise FoldwiseError(f"{folder} holds training and test images of different shapes: {mend}")
    return train, test


def _subfolder(place: str, name: str) -> str:
    """Give the folder of that name in `place`, or `place` itself where there is none, or it is an address."""
    if place.startswith(("http://", "https://")):
        return place
    with suppress(OSError, RuntimeError):  # what is wrong with it will be told when it is asked
        folder = from_repository(Path(place).expanduser())
        return str(folder / name if (folder / name).is_dir() else folder)
    return place


def _content(path: Path, original: Original) -> bytes:
    try:
        with path.open("rb") as file:
            return proved(file, original)
    except OSError as error:
        raise _wrong(path, f"cannot be read ({error.strerror})") from error
    except Refused as refusal:
        raise _wrong(path, f"is not the original file ({refusal})") from refusal


def _wrong(path: Path, what: str) -> FoldwiseError:
    return FoldwiseError(f"{path} {what}: delete it and run `dvc repro`")
