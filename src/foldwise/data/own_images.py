"""A folder of one's own images in the one form: decoded, and a test set set aside."""

from pathlib import Path

import numpy as np

from foldwise.base.console import printable
from foldwise.base.errors import FoldwiseError
from foldwise.base.params import Data
from foldwise.data.draws import draw
from foldwise.data.images import Images, Pictures, Tables, copied_rows
from foldwise.data.units import connected, copies_of, groups_of
from foldwise.sources import pictures
from foldwise.sources.folder import listing
from foldwise.sources.subsets import check_size


def read(data: Data, scratch: Path) -> tuple[Images, Tables, list[str]]:
    """Decode the images of `data.folder`.

    Parameters
    ----------
    data : Data
    scratch : Path
        A folder for arrays that are larger than the memory; they are mapped, and no longer needed when the images are
        saved.

    Returns
    -------
    images : Images
    tables : pair of DataFrame
        `file_name`, `label`, and where there are `group` and `fold`, of each training and test image.
    notes : list of str
        What was passed over, and what was done to the pixels.

    Raises
    ------
    FoldwiseError
        If the folder or a file of it cannot be used.
    """
    folder = Path(data.folder)
    listed, notes = listing(folder)
    decoded = pictures.decode(folder, listed["file_name"].tolist(), data, scratch / "decoded.npy")
    listed = listed.assign(row=np.arange(len(listed)))[decoded.whole]
    classes = sorted(listed["label"].unique())
    labels = np.searchsorted(classes, listed["label"].to_numpy(str))
    rows = listed["row"].to_numpy()
    train, test = (np.flatnonzero(listed["split"] == part) for part in ("train", "test"))
    if data.subset or (data.test_share and not len(test)):
        together = connected(groups_of(listed), copies_of(decoded.pixels)[rows])
        if data.test_share and not len(test):
            chosen = draw(labels, together, len(labels) - round(data.test_share * len(labels)))
            train, test = chosen, np.setdiff1d(train, chosen)
            if abs(len(test) / len(labels) - data.test_share) > 0.02:
                notes.append(f"whole groups make {len(test) / len(labels):.0%} of the images the test set")
            if len(test) == 0:
                notes.append("too few images or groups to set some aside: there is no test set")
        if data.subset:
            check_size(labels[train], data.subset)
            train = train[draw(labels[train], together[train], data.subset)]
    if len(left := np.unique(labels[train])) < 2:
        what = f"training images of one class, {printable(classes[left[0]])}" if len(left) else "no training images"
        raise FoldwiseError(f"{folder} has {what}, after what is left out: it takes two classes or more")
    looks = decoded.looks
    images = Images.measured(
        data.name,
        tuple(classes),
        (copied_rows(decoded.pixels, rows[train], scratch / "train.npy"), labels[train]),
        (copied_rows(decoded.pixels, rows[test], scratch / "test.npy"), labels[test]),
        Pictures(
            heights=(int(looks["height"].min()), int(looks["height"].max())),
            widths=(int(looks["width"].min()), int(looks["width"].max())),
            grey=bool(looks["grey"].any()),
            coloured=not looks["grey"].all(),
            highest=decoded.form.highest,
        ),
    )
    if 0 in images.std:
        channel = "" if len(images.std) == 1 else f"in {('red', 'green', 'blue')[images.std.index(0)]} "
        raise FoldwiseError(
            f"{folder}: all training images have one value {channel}in all pixels: look at them"
            f"{', or set data.channels to 1' if channel else ''}"
        )
    kept = listed[[column for column in ("file_name", "label", "group", "fold") if column in listed]]
    return images, (kept.iloc[train], kept.iloc[test]), [*notes, *decoded.notes]
