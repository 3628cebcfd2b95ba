"""The weights that a network starts from, out of torchvision's own file format."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from foldwise.copies import from_repository
from foldwise.errors import FoldwiseError
from foldwise.files import Arrays
from foldwise.mirrors import bring
from foldwise.originals import Original, Remote
from foldwise.params import Model

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
        knob = "model.pretrained" if model.pretrained else "model.weights_file"
        raise FoldwiseError(f"params.yaml: {knob} is for resnet18, but model.name is {model.name}: change one of them")
    if model.weights_file:
        return _read(from_repository(Path(model.weights_file).expanduser()))
    with TemporaryDirectory() as folder:
        try:
            bring([Remote(_RESNET18.name, (_RESNET18,))], [_ADDRESS], Path(folder))
        except FoldwiseError as error:
            reason = str(error).rpartition(": set data.mirror")[0]
            raise FoldwiseError(
                f"{reason}: fetch {_ADDRESS}{_RESNET18.name} elsewhere, set model.weights_file to its path and "
                "model.pretrained to false"
            ) from error
        except OSError as error:
            raise FoldwiseError(
                f"{_RESNET18.name} cannot be written to {folder}: {error.strerror}: make room there, or set TMPDIR"
            ) from error
        return _read(Path(folder) / _RESNET18.name)


def _read(path: Path) -> Arrays:
    """Read a file of tensors by name, as `torch.save` writes it; nothing but tensors is ever unpickled."""
    import torch

    if not path.is_file():
        raise FoldwiseError(f"params.yaml: model.weights_file is {path}, which is not there: correct the path")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not content:
            raise ValueError("empty")
        arrays = {str(name): tensor.detach().contiguous().numpy() for name, tensor in content.items()}
    except Exception as error:  # the formats that it reads raise errors of many types
        raise FoldwiseError(f"{path} is not a whole file of weights in torchvision's format: fetch it anew") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FoldwiseError(f"{path} holds weights that are not finite, in {name}: set another model.weights_file")
    return arrays
