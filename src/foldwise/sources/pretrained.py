"""The weights that a network starts from, out of PyTorch's own file format, or as safetensors."""

import math
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from foldwise.base.copies import named_by_user
from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays, read_arrays
from foldwise.base.params import Model
from foldwise.sources.archives import Original, Remote
from foldwise.sources.mirrors import bring

_ADDRESS = "https://download.pytorch.org/models/"


def weights(model: Model) -> Arrays:
    """Give the weights to start from by name, float32 or int64; none where the network starts from fresh ones.

    Raises
    ------
    FoldwiseError
        If the network has none, or the file cannot be fetched or is not a plain file of weights.
    """
    if model.weights_file:
        return _read(named_by_user(model.weights_file))
    if not model.pretrained:
        return {}
    original = _published(model)
    try:
        with TemporaryDirectory() as folder:
            bring([Remote(original.name, (original,))], [_ADDRESS], Path(folder))
            return _read(Path(folder) / original.name)
    except FoldwiseError as error:
        raise FoldwiseError(
            f"{error}: fetch {_ADDRESS}{original.name} elsewhere, set model.weights_file to its path and "
            "model.pretrained to false"
        ) from error
    except OSError as error:
        raise FoldwiseError(
            f"{original.name} cannot be written to the temporary folder: {error.strerror}: make room there, or set "
            "TMPDIR to another one"
        ) from error


def _published(model: Model) -> Original:
    """The file of weights that torchvision takes for a network unless asked for another."""
    from torchvision import models  # takes seconds to load

    network = model.name.removeprefix("torchvision:")
    if network not in models.list_models(models) or network == model.name != "resnet18":
        raise FoldwiseError(
            f"params.yaml: model.pretrained is for torchvision's networks, but model.name is {model.name}: set that to "
            "torchvision:NAME, or model.pretrained to false and model.weights_file to the path of its weights"
        )
    found = models.get_model_weights(network).DEFAULT
    name = found.url.rpartition("/")[2]
    # The name ends in the beginning of the file's SHA-256; the size is told in MB, rounded.
    digest = re.fullmatch(r".+-([0-9a-f]{8,})\.pth", name)
    assert digest, name
    return Original(name, math.ceil((found.meta["_file_size"] + 0.01) * 2**20), f"sha256:{digest[1]}")


def _tensors(path: Path) -> Arrays:
    if path.suffix == ".safetensors":
        return read_arrays(path)
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    return {str(name): tensor.detach().contiguous().numpy() for name, tensor in content.items()}


def _read(path: Path) -> Arrays:
    """Read a file of tensors by name, as `torch.save` writes it; nothing but tensors is ever unpickled."""
    if not os.path.isfile(path):  # noqa: PTH113 -- pathlib's may raise
        raise FoldwiseError(f"params.yaml: model.weights_file is {path}, which is not there: correct the path")
    try:
        arrays = _tensors(path)
        if not arrays:
            raise ValueError("empty")
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
