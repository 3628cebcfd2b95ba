"""Bring any data set to one form, and measure its pixels."""

from pathlib import Path

from foldwise.base import console
from foldwise.base.params import Params
from foldwise.data import images
from foldwise.sources import catalogue, rawdata, subsets


def normalize(params: Params, *, raw: Path, normalized: Path) -> None:
    """Write images and labels as arrays, and what describes them."""
    dataset = catalogue.find(params.data.name)
    train, test = rawdata.decode(dataset, raw)
    train = subsets.subset(train, params.data.subset)
    data = images.Images.measured(dataset.name, dataset.classes, train, test)
    images.save(data, normalized)
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (data.mean, data.std))
    console.say(f"normalize: {len(train[0])} training and {len(test[0])} test images, mean {mean}, std {std}")
