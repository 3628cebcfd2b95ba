"""Random changes of training images that leave their class as it is."""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

# Shares of the height and of the width: a pixel of 28, and two of them. Two of 28 cost clothes 1.6 points.
MAX_SHIFT = 1 / 28
MAX_AFFINE_SHIFT = 1 / 14
MAX_ROTATION = math.radians(10)
MAX_SCALING = 0.1  # share of the size


def augment(images: Tensor, kind: Literal["none", "shift", "affine"], random: np.random.Generator) -> Tensor:
    """Change each image of a batch on its own; digits are never flipped.

    Parameters
    ----------
    images : (B, C, H, W) uint8
        Raw pixels.
    kind : {"none", "shift", "affine"}
        `shift` moves by whole pixels, about a 28th of the side each way at most, and so leaves images under 15 pixels
        as they are; `affine` moves by up to a 14th, rotates by up to 10 degrees and scales by up to 10 %, between
        pixels. What comes in at the border is 0.
    random : numpy.random.Generator
        Draws the changes, on the CPU whatever the device.

    Returns
    -------
    (B, C, H, W) uint8, or float32 on the same 0-255 scale after `affine`
    """
    if kind == "shift":
        return _shift(images, random)
    if kind == "affine":
        return _affine(images, random)
    return images


def max_shift(side: int) -> int:
    """Pixels by which `shift` moves images of a height or width at most."""
    return round(MAX_SHIFT * side)


def _shift(images: Tensor, random: np.random.Generator) -> Tensor:
    n, _, height, width = images.shape
    rows, columns = max_shift(height), max_shift(width)
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
