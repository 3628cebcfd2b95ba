"""Bring the weights that a network starts from, where it does not start from fresh ones."""

from foldwise import startup

if __name__ == "__main__":
    startup.begin()

from pathlib import Path

from foldwise import console, files, pretrained
from foldwise.params import Params


def weights(params: Params, *, weights: Path) -> None:
    """Write the weights as safetensors; without any for fresh ones."""
    files.write_arrays(weights, pretrained.weights(params.model))


if __name__ == "__main__":
    console.run(weights)
