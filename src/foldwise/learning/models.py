"""A network behind the normalisation that belongs to its weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays
from foldwise.base.params import is_own
from foldwise.data.images import Images
from foldwise.data.pixels import empty_border
from foldwise.learning.dry_run import dry_run
from foldwise.learning.elsewhere import AUXILIARY, Make, find
from foldwise.learning.networks import ImageForm
from foldwise.learning.own_code import told


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


def build(
    name: str,
    form: ImageForm,
    mean: Sequence[float],
    std: Sequence[float],
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Make a network with fresh weights from PyTorch's generator, behind its normalisation.

    Parameters
    ----------
    name : str
        As in `model.name`.
    form : ImageForm
        Form of the images and number of classes.
    mean, std : sequence of float, one per channel
        Constants on the 0-1 scale of the pixels; with three of them grey images are given to the network as coloured.
    options : mapping, optional
        What else the network is made with.

    Returns
    -------
    nn.Module
        Maps (B, C, H, W) raw pixels to (B, classes) logits.

    Raises
    ------
    FoldwiseError
        If the name is unknown, or the network cannot be trained on such images.
    """
    network = find(name, options or {})
    try:
        # Grey images become coloured ones where they are normalised by three constants.
        made = network(form._replace(channels=len(mean)))
        if not isinstance(made, nn.Module):
            raise TypeError(f"it gives a {type(made).__name__}, where a torch.nn.Module is wanted")
        model = nn.Sequential(Normalize(mean, std), made)
        fault = dry_run(model, form[:3], form.classes)
    except Exception as error:  # a network is anybody's code
        shape = " x ".join(map(str, form[:3]))
        raise _broken(name, f"fails on images of {shape} ({told(error)})") from error
    if fault:
        raise _broken(name, str(fault))
    return model.train()


def _broken(name: str, fault: str) -> FoldwiseError:
    remedy = "mend it in src/foldwise/learning/networks.py"
    if ":" in name:
        remedy = "mend it" if is_own(name) else "correct model.options, set data.image_size to larger images"
    return FoldwiseError(f"the network {name} {fault}: {remedy}, or set another model.name")


_NORMALIZATION, _NETWORK = "0", "1"  # their names in what `build` gives
_OTHERS = "they are of another one; make model.weights_file and model.name agree"


def form_of(data: Images) -> ImageForm:
    """Form of a data set's images."""
    return ImageForm(*data.shape, len(data.classes), empty_border(data.train_images))


def last_layers(name: str, form: ImageForm, options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Give the names, in a model of `build`, of the layers whose weights are others with one class more.

    Raises
    ------
    FoldwiseError
        If there is none that is a layer of its own, so that nothing tells which is the last.
    """
    network = find(name, options or {})
    try:
        one, other = (_shapes(network, form._replace(classes=classes)) for classes in (form.classes, form.classes + 1))
    except Exception as error:  # a network is anybody's code
        raise FoldwiseError(
            f"the network {name} cannot be made for {form.classes + 1} classes ({told(error)}), by which its last "
            "layer is found: mend it, or set model.freeze to false and start from fresh weights"
        ) from error
    layers = dict.fromkeys(weight.rpartition(".")[0] for weight in one if one[weight] != other.get(weight))
    if not layers or "" in layers:
        raise FoldwiseError(
            f"which layer of {name} is its last cannot be known, as its weights for the classes are in no layer of "
            "their own: set model.freeze to false, and start from fresh weights"
        )
    return tuple(f"{_NETWORK}.{layer}" for layer in layers)


def _shapes(network: Make, form: ImageForm) -> dict[str, torch.Size]:
    """The shapes of a network's weights, made where they take no memory and no random numbers."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            with torch.device("meta"):
                made = network(form)
        except Exception:  # what looks at the values of its weights has to have some
            made = network(form)
        if any(map(is_lazy, made.parameters())):
            made = network(form).eval()
            made(torch.zeros(2, *form[:3]))
    return {name: tensor.shape for name, tensor in made.state_dict().items()}


def start_from(model: nn.Module, weights: Arrays, last: Sequence[str]) -> None:
    """Give a model of `build` the weights of another data set, all but those of its last layers.

    Raises
    ------
    FoldwiseError
        If the weights are not those of this network.
    """
    own, own_to_data = model.state_dict(), tuple(f"{layer}." for layer in last)
    for name, tensor in own.items():
        part, _, key = name.partition(".")
        counter = key.endswith(".num_batches_tracked") and key not in weights  # files of old have none, nor need it
        if part == _NORMALIZATION or name.startswith(own_to_data) or counter:
            continue
        if key not in weights or weights[key].shape != tensor.shape:
            raise FoldwiseError(f"the weights to start from lack {key} of this network's shape: {_OTHERS}")
        own[name] = torch.from_numpy(weights[key].copy())  # a file's mapped bytes may not be written to
    beyond = [key for key in weights if f"{_NETWORK}.{key}" not in own and not key.startswith(AUXILIARY)]
    if beyond:
        raise FoldwiseError(f"the weights to start from hold {beyond[0]}, which this network has not: {_OTHERS}")
    model.load_state_dict(own)


def freeze_all_but(model: nn.Module, last: Sequence[str]) -> None:
    """Leave the last layers alone to be trained; the others stay in evaluation mode, dropout and all."""
    within = tuple(f"{layer}." for layer in last)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith(within))

    def train(mode: bool = True) -> nn.Module:
        for name, module in model.named_modules():
            module.training = mode and f"{name}.".startswith(within)
        return model

    model.train = train  # type: ignore[method-assign]


def load_weights(model: nn.Module, weights: Arrays) -> None:
    """Fill a model of `build` with trained weights, normalisation constants included.

    Raises
    ------
    FoldwiseError
        If the weights are not those of this network; leaves to the caller to say which they are.
    """
    try:
        fill(model, {name: torch.from_numpy(array) for name, array in weights.items()})
    except RuntimeError as error:
        raise FoldwiseError("holds the weights of another network") from error


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a model with all of its weights; RuntimeError if they are others than its own.

    Versions of layers, which MNASNet asks for, are the model's.
    """
    state = model.state_dict()
    if state.keys() != tensors.keys():
        raise RuntimeError(f"of one of them alone: {sorted(state.keys() ^ tensors.keys())[0]}")
    state.update(tensors)
    model.load_state_dict(state)
