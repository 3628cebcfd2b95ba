"""The weights that a network starts from, out of torchvision's own file format."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from foldwise.base.copies import named_by_user
from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays
from foldwise.base.params import Model
from foldwise.sources.archives import Original, Remote
from foldwise.sources.mirrors import bring

# Torchvision's `ResNet18_Weights.IMAGENET1K_V1`; its file's name ends in the beginning of its SHA-256.
_RESNET18 = Original(
    "resnet18-f37072fd.pth", 46_830_571, "sha256:f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"
)
_ADDRESS = "https://download.pytorch.org/models/"


def weights(model: Model) -> Arrays:
    """Give the weights to start from by name, float32 or int64; none where the network starts from fresh ones.

    Raises
    ------
    FoldwiseError
        If the network has none, or the file cannot be fetched or is not a plain file of weights.
    """
    if not (model.pretrained or model.weights_file):
        return {}
    if model.name != "resnet18":
        name, off = ("pretrained", "to false") if model.pretrained else ("weights_file", "to nothing")
        raise FoldwiseError(
            f"params.yaml: model.{name} is for resnet18, but model.name is {model.name}: set model.name to resnet18, "
            f"or model.{name} {off}{' and model.freeze to false' if model.freeze else ''}"
        )
    if model.weights_file:
        return _read(named_by_user(model.weights_file))
    try:
        with TemporaryDirectory() as folder:
            bring([Remote(_RESNET18.name, (_RESNET18,))], [_ADDRESS], Path(folder))
            return _read(Path(folder) / _RESNET18.name)
    except FoldwiseError as error:
        raise FoldwiseError(
            f"{error}: fetch {_ADDRESS}{_RESNET18.name} elsewhere, set model.weights_file to its path and "
            "model.pretrained to false"
        ) from error
    except OSError as error:
        raise FoldwiseError(
            f"{_RESNET18.name} cannot be written to the temporary folder: {error.strerror}: make room there, or set "
            "TMPDIR to another one"
        ) from error


def _read(path: Path) -> Arrays:
    """Read a file of tensors by name, as `torch.save` writes it; nothing but tensors is ever unpickled."""
    import torch

    if not os.path.isfile(path):  # noqa: PTH113 -- pathlib's may raise
        raise FoldwiseError(f"params.yaml: model.weights_file is {path}, which is not there: correct the path")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not content:
            raise ValueError("empty")
        arrays = {str(name): tensor.detach().contiguous().numpy() for name, tensor in content.items()}
    except PermissionError as error:
        raise FoldwiseError(
            f"params.yaml: model.weights_file is {path}, which you may not read: `chmod u+r` it"
        ) from error
    except Exception as error:  # the formats that it reads raise errors of many types
        raise FoldwiseError(
            f"{path} is not a whole file of weights in torchvision's format: fetch it anew, or write it with "
            "`torch.save(network.float().state_dict(), path)`"
        ) from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FoldwiseError(
                f"{path} holds NaN or infinite values in {name}: set model.weights_file to weights that hold none"
            )
    return arrays
