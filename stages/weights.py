"""Bring the weights that a network starts from, where it does not start from fresh ones."""

from pathlib import Path

from foldwise.base import console, files
from foldwise.base.params import Params
from foldwise.sources import pretrained


def weights(params: Params, *, weights: Path) -> None:
    """Write the weights as safetensors; without any for fresh ones."""
    if (path := params.model.weights_file) and not Path(path).resolve().is_relative_to(Path("own/weights").resolve()):
        console.say(f"weights: DVC knows {path} by its name alone: in own/weights/ its content would be tracked")
    files.write_arrays(weights, pretrained.weights(params.model))
