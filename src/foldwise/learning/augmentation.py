"""Random changes of training images that leave their class as it is."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from foldwise.base.errors import FoldwiseError
from foldwise.base.params import is_own
from foldwise.learning import own_code

# Shares of the height and of the width: a pixel of 28, and two of them. Two of 28 cost clothes 1.6 points.
MAX_SHIFT = 1 / 28
MAX_AFFINE_SHIFT = 1 / 14
MAX_ROTATION = math.radians(10)
MAX_SCALING = 0.1  # share of the size
MAX_CROP = 1 / 8  # four pixels of CIFAR's 32, as it is usually trained
COLORS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}

# Of features that were computed once, the augmentation is a choice.
VIEW = "view"

# Changes each image of a batch on its own; draws from the generator on the CPU, whatever the device.
Augmentation = Callable[[Tensor, np.random.Generator], Tensor]


def chained(kinds: Iterable[str]) -> Augmentation:
    """Give the augmentation that makes one change after another.

    Parameters
    ----------
    kinds : iterable of str
        As in `train.augment`: `shift` moves by whole pixels, about a 28th of the side each way at most, and so leaves
        images under 15 pixels as they are; `affine` moves by up to a 14th, rotates by up to 10 degrees and scales by up
        to 10 %, between pixels; `flip` turns half of the images left to right; `crop` moves by up to an eighth, and
        flips; what comes in at the border is 0. `color` changes brightness, contrast, saturation and hue; `trivial`
        makes one change of fourteen kinds (Müller and Hutter, "TrivialAugment", 2021). `own/FILE.py:FUNCTION` is the
        user's own.

    Returns
    -------
    callable
        Takes (B, C, H, W) uint8 raw pixels and a generator, and gives (B, C, H, W) uint8, or float32 on the same 0-255
        scale. FoldwiseError if a function of the user's own fails, or gives no such batch.
    """
    changes = [_own(kind) if is_own(kind) else _KINDS[kind] for kind in kinds]

    def change(images: Tensor, random: np.random.Generator) -> Tensor:
        for one in changes:
            images = one(images, random)
        return images

    return change


def max_shift(side: int) -> int:
    """Pixels by which `shift` moves images of a height or width at most."""
    return round(MAX_SHIFT * side)


def _shift(images: Tensor, random: np.random.Generator) -> Tensor:
    return _moved(images, MAX_SHIFT, random)


def _crop(images: Tensor, random: np.random.Generator) -> Tensor:
    return _flip(_moved(images, MAX_CROP, random), random)


def _moved(images: Tensor, share: float, random: np.random.Generator) -> Tensor:
    n, _, height, width = images.shape
    rows, columns = round(share * height), round(share * width)
    down, right = random.integers(0, [[2 * rows + 1], [2 * columns + 1]], size=(2, n))
    windows = functional.pad(images, (columns, columns, rows, rows)).unfold(2, height, 1).unfold(3, width, 1)
    # On the CPU NumPy gathers twice as fast; from another device it would have to fetch the images first.
    gather = _gather_by_numpy if images.device.type == "cpu" else _gather_by_torch
    return gather(windows, down, right)


def _gather_by_numpy(windows: Tensor, down: NDArray[np.int64], right: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(windows.numpy()[np.arange(len(windows)), :, down, right])


def _gather_by_torch(windows: Tensor, down: NDArray[np.int64], right: NDArray[np.int64]) -> Tensor:
    rows, columns = (torch.from_numpy(index).to(windows.device) for index in (down, right))
    return windows[torch.arange(len(windows), device=windows.device), :, rows, columns]


def _flip(images: Tensor, random: np.random.Generator) -> Tensor:
    turned = torch.from_numpy(random.random(len(images)) < 0.5).to(images.device)
    return torch.where(turned.view(-1, 1, 1, 1), images.flip(3), images)


def _affine(images: Tensor, random: np.random.Generator) -> Tensor:
    n, _, height, width = images.shape
    angle, scale, down, right = random.uniform(-1, 1, size=(4, n))
    angle, scale = MAX_ROTATION * angle, 1 + MAX_SCALING * scale
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    # affine_grid's unit is half the image's size; shapes other than square need the sides' ratio.
    theta = np.array(
        [
            [cosine, -sine * height / width, 2 * MAX_AFFINE_SHIFT * right],
            [sine * width / height, cosine, 2 * MAX_AFFINE_SHIFT * down],
        ],
        dtype=np.float32,
    ).transpose(2, 0, 1)
    grid = functional.affine_grid(
        torch.from_numpy(np.ascontiguousarray(theta)).to(images.device), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images.float(), grid, align_corners=False)


def _color(images: Tensor, random: np.random.Generator) -> Tensor:
    from torchvision.transforms import v2  # takes seconds to load

    return _one_by_one(v2.ColorJitter(**COLORS), images, random)


def _trivial(images: Tensor, random: np.random.Generator) -> Tensor:
    from torchvision.transforms import v2

    return _one_by_one(v2.TrivialAugmentWide(), images, random)


def _one_by_one(transform: nn.Module, images: Tensor, random: np.random.Generator) -> Tensor:
    """Change images by a transform of torchvision's, which draws once for a whole batch."""
    whole = images.round().clamp(0, 255).to(torch.uint8) if images.is_floating_point() else images
    with _seeded(random):
        return torch.stack([transform(image) for image in whole])


@contextmanager
def _seeded(random: np.random.Generator) -> Iterator[None]:
    """Let PyTorch's generator on the CPU follow a stream for a while, and then go on with what it had."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(random.integers(2**63)))
        yield


def _view(features: Tensor, random: np.random.Generator) -> Tensor:
    """Choose one view of each image, (B, F) of (B, V, F)."""
    n, views, _ = features.shape
    chosen = torch.from_numpy(random.integers(views, size=n)).to(features.device)
    return features[torch.arange(n, device=features.device), chosen]


def _own(name: str) -> Augmentation:
    function = own_code.function("train.augment", name)

    def change(images: Tensor, random: np.random.Generator) -> Tensor:
        try:
            with _seeded(random):
                changed = function(images, random)
        except Exception as error:  # it is anybody's code
            raise FoldwiseError(f"train.augment: {name} fails ({own_code.told(error)}): mend it") from error
        found = f"a {type(changed).__name__}"
        if isinstance(changed, Tensor):
            found = f"{tuple(changed.shape)} {str(changed.dtype).removeprefix('torch.')}"
            if changed.shape == images.shape and (changed.is_floating_point() or changed.dtype == torch.uint8):
                return changed
        wanted = f"a torch.Tensor {tuple(images.shape)} of uint8 or float"
        raise FoldwiseError(f"train.augment: {name} gives {found}, where {wanted} is wanted: mend it")

    return change


_KINDS: dict[str, Augmentation] = {
    "shift": _shift,
    "affine": _affine,
    "flip": _flip,
    "crop": _crop,
    "color": _color,
    "trivial": _trivial,
    VIEW: _view,
}
