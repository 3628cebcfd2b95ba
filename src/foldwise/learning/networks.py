"""The built-in networks, by name."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn


class ImageForm(NamedTuple):
    """What a network must fit: form, classes and empty border (pixels) of its images."""

    channels: int
    height: int
    width: int
    classes: int
    border: int = 0


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

    What costs most is kept small: a border that is empty is cut off; pooling comes before normalisation and activation;
    widths fill vector registers. Images under 22 pixels keep border and size.
    """
    return _four_convolutions(form, widths=(16, 32, 64, 64), paddings=(0, 0, 1, 0))


def wide(form: ImageForm) -> nn.Module:
    """Like `compact`, but wider, for when accuracy counts more than time."""
    return _four_convolutions(form, widths=(32, 64, 96, 96), paddings=(0, 1, 1, 0))


def _four_convolutions(form: ImageForm, widths: Sequence[int], paddings: Sequence[int]) -> nn.Module:
    small = min(form.height, form.width) < 22
    border = 0 if small else form.border
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


def three_channels(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Repeat grey images, before a network that takes coloured ones."""
    images = inputs[0]
    return (images.expand(-1, 3, -1, -1),)


def resnet18(form: ImageForm) -> nn.Module:
    """Torchvision's ResNet-18 with a last layer of its own; grey images are repeated in three channels."""
    from torchvision.models import resnet18 as torchvision_resnet18

    network = cast(nn.Module, torchvision_resnet18(weights=None))
    network.fc = nn.Linear(512, form.classes)
    if form.channels == 1:
        network.register_forward_pre_hook(three_channels)
    return network


# A new network is a function above and a name here.
NETWORKS: dict[str, Callable[[ImageForm], nn.Module]] = {
    "compact": compact,
    "wide": wide,
    "cnn": cnn,
    "simple_cnn": simple_cnn,
    "resnet18": resnet18,
}
