"""The networks by name, each behind the normalisation that belongs to its weights."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from foldwise.base.errors import FoldwiseError, chosen, first_line
from foldwise.base.files import Arrays
from foldwise.data.images import Images
from foldwise.learning.dry_run import dry_run


class ImageForm(NamedTuple):
    """What a network must fit: the form of its images and its number of classes."""

    channels: int
    height: int
    width: int
    classes: int


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


def simple_cnn(form: ImageForm) -> nn.Module:
    """One 3x3 convolution, ReLU, 2x2 pooling and a linear layer: 54,410 parameters on MNIST."""
    height, width = (form.height - 2) // 2, (form.width - 2) // 2
    return nn.Sequential(
        nn.Conv2d(form.channels, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * height * width, form.classes),
    )


def cnn(form: ImageForm) -> nn.Module:
    """The classic LeNet-like network: 5x5x20, 5x5x50, 500, classes; 431,080 parameters on MNIST.

    Images too small for two unpadded 5x5 convolutions are padded by two pixels.
    """
    padding = 0 if min(form.height, form.width) >= 16 else 2
    height, width = (((side - 4 + 2 * padding) // 2 - 4 + 2 * padding) // 2 for side in (form.height, form.width))
    return nn.Sequential(
        nn.Conv2d(form.channels, 20, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * height * width, 500),
        nn.ReLU(),
        nn.Linear(500, form.classes),
    )


class CutBorder(nn.Module):
    """Leave out the outermost pixels on each side."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H - 2 pixels, W - 2 pixels)."""
        height, width = images.shape[2:]
        return images[:, :, self.pixels : height - self.pixels, self.pixels : width - self.pixels]


def compact(form: ImageForm) -> nn.Module:
    """The default: four convolutions, each with batch normalisation and SiLU, and a linear layer.

    What costs most is kept small: a border of a fourteenth, which MNIST's digits leave empty, is cut off; pooling comes
    before normalisation and activation; widths fill vector registers. Images under 22 pixels keep border and size.
    """
    return _four_convolutions(form, widths=(16, 32, 64, 64), paddings=(0, 0, 1, 0))


def wide(form: ImageForm) -> nn.Module:
    """Like `compact`, but wider, for when accuracy counts more than time."""
    return _four_convolutions(form, widths=(32, 64, 96, 96), paddings=(0, 1, 1, 0))


def _four_convolutions(form: ImageForm, widths: Sequence[int], paddings: Sequence[int]) -> nn.Module:
    small = min(form.height, form.width) < 22
    border = 0 if small else min(form.height, form.width) // 14
    layers: list[nn.Module] = [CutBorder(border)]
    channels, height, width = form.channels, form.height - 2 * border, form.width - 2 * border
    for outputs, kernel, padding, pool in zip(widths, (5, 3, 3, 3), paddings, (2, 2, 1, 1), strict=True):
        padding = kernel // 2 if small else padding
        layers.append(nn.Conv2d(channels, outputs, kernel, padding=padding, bias=False))
        layers += [nn.MaxPool2d(pool)] * (pool > 1)
        layers += [nn.BatchNorm2d(outputs), nn.SiLU(inplace=True)]
        height, width = ((side + 2 * padding - kernel + 1) // pool for side in (height, width))
        channels = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, form.classes))


def _three_channels(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    images = inputs[0]
    return (images.expand(-1, 3, -1, -1),)


def resnet18(form: ImageForm) -> nn.Module:
    """Torchvision's ResNet-18 with a last layer of its own; grey images are repeated in three channels."""
    from torchvision.models import resnet18 as torchvision_resnet18

    network = cast(nn.Module, torchvision_resnet18(weights=None))
    network.fc = nn.Linear(512, form.classes)
    if form.channels == 1:
        network.register_forward_pre_hook(_three_channels)
    return network


# A new network is a function above and a name here.
NETWORKS: dict[str, Callable[[ImageForm], nn.Module]] = {
    "compact": compact,
    "wide": wide,
    "cnn": cnn,
    "simple_cnn": simple_cnn,
    "resnet18": resnet18,
}


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
        f"the network {name} {fault}: mend it in src/foldwise/learning/models.py, or set another model.name"
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
