"""Bring any data set to one form, and measure its pixels."""

from pathlib import Path

from foldwise.base import console, files
from foldwise.base.params import Params
from foldwise.data import images
from foldwise.sources import catalogue, rawdata, subsets


def normalize(params: Params, *, raw: Path, normalized: Path) -> None:
    """Write images and labels as arrays, and what describes them."""
    with files.writing(normalized) as temporary:
        if params.data.name == catalogue.FOLDER:
            from foldwise.data import own_images  # slow to load

            data, tables, notes = own_images.read(params.data, temporary.parent)
        else:
            dataset = catalogue.find(params.data.name)
            train, test = rawdata.decode(dataset, raw)
            train = subsets.subset(train, params.data.subset)
            data, tables, notes = images.Images.measured(dataset.name, dataset.classes, train, test), None, []
        images.save(data, temporary, tables)
    for note in notes:
        console.say(f"normalize: {note}")
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (data.mean, data.std))
    counts = f"{len(data.train_labels)} training and {len(data.test_labels)} test images"
    console.say(f"normalize: {counts}, mean {mean}, std {std}")
