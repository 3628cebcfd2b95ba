"""What lies in `data/raw/`: the original files of one data set, fetched and read back."""

import os
from pathlib import Path

from foldwise.base.copies import named_by_user
from foldwise.base.errors import FoldwiseError, first_line
from foldwise.base.files import writing
from foldwise.sources.archives import Original, Refused, proved
from foldwise.sources.catalogue import Dataset, TrainTest
from foldwise.sources.mirrors import bring


def fetch(dataset: Dataset, mirror: str | None, raw: Path) -> None:
    """Write the original files of `dataset` into `raw`, in a folder of its name; nothing else remains in `raw`.

    Parameters
    ----------
    dataset : Dataset
    mirror : str or None
        Folder or http(s) address that is then the only source; else that of the environment variable `FOLDWISE_MIRROR`
        is tried first, which may lack files. In a folder, the files may lie in a subfolder of the data set's name.
    raw : Path

    Raises
    ------
    FoldwiseError
        If no mirror has a file, the one that was named is wrong, or `raw` cannot be written; an earlier `raw` is then
        still whole.
    """
    site = os.environ.get("FOLDWISE_MIRROR")
    named = mirror or site
    with writing(raw) as temporary:
        folder = temporary / dataset.name
        folder.mkdir(parents=True)
        try:
            own = _subfolder(named, dataset) if named else None
            bring(dataset.remotes, () if mirror else dataset.sources, folder, own=own)
        except FoldwiseError as error:
            raise FoldwiseError(f"{error}: {_remedy(mirror, site)}") from error


def _remedy(mirror: str | None, site: str | None) -> str:
    if mirror:
        return (
            "correct data.mirror, or empty it to take the public mirrors "
            "(it is for original files: images of your own are a new data set, see CONTRIBUTING.md)"
        )
    known = "set data.mirror or FOLDWISE_MIRROR to a folder or address that holds the original files"
    if site:
        return f"correct or unset FOLDWISE_MIRROR (a data set may lie in a subfolder of its name), or {known}"
    return known


def decode(dataset: Dataset, raw: Path) -> TrainTest:
    """Decode and check the original files that `fetch` wrote.

    Returns
    -------
    train, test : (images, labels)
        (N, C, H, W) uint8 and (N,) int64, in the original order.

    Raises
    ------
    FoldwiseError
        If a file is missing or not the original, or the data set's entry does not fit the files.
    """
    folder = raw / dataset.name
    contents = {
        original.name: _content(folder / original.name, original)
        for remote in dataset.remotes
        for original in remote.originals
    }
    try:
        train, test = dataset.decode(contents, folder)
        for split, (images, labels) in (("training", train), ("test", test)):
            form = f"{images.dtype} of {images.ndim} dimensions and {labels.dtype} of {labels.ndim}"
            if form != _FORM:
                raise FoldwiseError(f"{folder} gives {split} images and labels as {form}, not {_FORM}")
            if len(images) != len(labels) or images.size == 0:
                raise FoldwiseError(f"{folder} holds {len(images)} {split} images but {len(labels)} labels")
    except FoldwiseError as error:
        raise FoldwiseError(f"{error}: {_remedy_of_originals(dataset, folder)}") from error
    except Exception as error:  # an entry is anybody's code
        wrong = f"{folder} is not what the entry decodes ({type(error).__name__}: {first_line(error)})"
        raise FoldwiseError(f"{wrong}: {_remedy_of_originals(dataset, folder)}") from error
    return train, test


_FORM = "uint8 of 4 dimensions and int64 of 1"


def _remedy_of_originals(dataset: Dataset, folder: Path) -> str:
    """Say what to do about files that were read back: those without digests of their own may have been changed."""
    entry = f"correct the entry of {dataset.name} in src/foldwise/sources/catalogue.py"
    if all(original.digest for remote in dataset.remotes for original in remote.originals):
        return f"these are the originals, so {entry}"
    return f"delete {folder} and run `dvc repro`; where that brings the same, {entry}"


def _subfolder(place: str, dataset: Dataset) -> str:
    """Give the folder of the data set's name in `place`, or `place` itself where that has none of its files."""
    folder = named_by_user(place) / dataset.name
    names = [name for remote in dataset.remotes for name in remote.names]
    return str(folder) if any(os.path.exists(folder / name) for name in names) else place  # noqa: PTH110 -- pathlib's may raise


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
