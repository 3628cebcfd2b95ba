"""Bring the data set's original files, each proved by its digest."""

from pathlib import Path

from foldwise.base import console, files
from foldwise.base.params import Params
from foldwise.sources import catalogue, rawdata


def download(params: Params, *, raw: Path) -> None:
    """Write the original files into a folder of the data set's name in `raw`, and no others."""
    if params.data.name == catalogue.FOLDER:
        with files.writing(raw) as temporary:
            temporary.mkdir()
        return
    dataset = catalogue.find(params.data.name)
    rawdata.fetch(dataset, params.data.mirror, raw)
    console.say(f"download: {dataset.name} is whole")
