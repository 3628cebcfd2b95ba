"""A network behind the normalisation that belongs to its weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from foldwise.base.errors import FoldwiseError, chosen, first_line
from foldwise.base.files import Arrays
from foldwise.data.images import Images
from foldwise.learning.dry_run import dry_run
from foldwise.learning.networks import NETWORKS, ImageForm


class Normalize(nn.Module):
    """Bring raw pixels (0-255, uint8 or float) to zero mean and unit deviation per channel, as float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (B, C, H, W) raw pixels to (B, C, H, W) float32; `mean` and `std` are on the 0-1 scale."""
        return (pixels.float() - 255 * self.mean) / (255 * self.std)


def build(name: str, form: ImageForm, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Make a network with fresh weights from PyTorch's generator, behind its normalisation.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`.
    form : ImageForm
        Form of the images and number of classes.
    mean, std : sequence of float, one per channel
        Constants on the 0-1 scale of the pixels.

    Returns
    -------
    nn.Module
        Maps (B, C, H, W) raw pixels to (B, classes) logits.

    Raises
    ------
    FoldwiseError
        If the name is unknown, or the network cannot be trained on such images.
    """
    network = chosen("model.name", name, NETWORKS)
    try:
        model = nn.Sequential(Normalize(mean, std), network(form))
        fault = dry_run(model, form[:3], form.classes)
    except Exception as error:  # a network is anybody's code
        shape = " x ".join(map(str, form[:3]))
        raise _broken(name, f"fails on images of {shape} ({type(error).__name__}: {first_line(error)})") from error
    if fault:
        raise _broken(name, str(fault))
    return model.train()


def _broken(name: str, fault: str) -> FoldwiseError:
    return FoldwiseError(
        f"the network {name} {fault}: mend it in src/foldwise/learning/networks.py, or set another model.name"
    )


_NORMALIZATION, _NETWORK = "0", "1"  # their names in what `build` gives
_OTHERS = "they are of another one; make model.weights_file and model.name agree"


def form_of(data: Images) -> ImageForm:
    """Form of a data set's images."""
    return ImageForm(*data.shape, len(data.classes))


def start_from(model: nn.Module, weights: Arrays) -> None:
    """Give a model of `build` the weights of another data set, all but those of its last layer.

    Raises
    ------
    FoldwiseError
        If the weights are not those of this network.
    """
    own = model.state_dict()
    last = _last_layer(model)
    for name, tensor in own.items():
        part, _, key = name.partition(".")
        counter = key.endswith(".num_batches_tracked") and key not in weights  # files of old have none, nor need it
        if part == _NORMALIZATION or name.startswith(f"{last}.") or counter:
            continue
        if key not in weights or weights[key].shape != tensor.shape:
            raise FoldwiseError(f"the weights to start from lack {key} of this network's shape: {_OTHERS}")
        own[name] = torch.from_numpy(weights[key])
    beyond = [key for key in weights if f"{_NETWORK}.{key}" not in own]
    if beyond or last == _NETWORK:
        held = f"hold {beyond[0]}, which this network has not" if beyond else "have no place in a network of one layer"
        raise FoldwiseError(f"the weights to start from {held}: {_OTHERS}")
    model.load_state_dict(own)


def freeze_all_but_last(model: nn.Module) -> None:
    """Leave the last layer alone to be trained."""
    last = _last_layer(model)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith(f"{last}."))


def load_weights(model: nn.Module, weights: Arrays) -> None:
    """Fill a model of `build` with trained weights, normalisation constants included.

    Raises
    ------
    FoldwiseError
        If the weights are not those of this network; leaves to the caller to say which they are.
    """
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise FoldwiseError("holds the weights of another network") from error


def _last_layer(model: nn.Module) -> str:
    named = dict(model.named_parameters())
    return list(named)[-1].rpartition(".")[0]
