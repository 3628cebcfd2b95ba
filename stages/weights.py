"""Bring the weights that a network starts from, where it does not start from fresh ones."""

from pathlib import Path

from foldwise.base import files
from foldwise.base.params import Params
from foldwise.sources import pretrained


def weights(params: Params, *, weights: Path) -> None:
    """Write the weights as safetensors; without any for fresh ones."""
    files.write_arrays(weights, pretrained.weights(params.model))
