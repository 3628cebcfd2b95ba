"""Random changes of training images that leave their class as it is."""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

MAX_SHIFT = 2  # pixels
MAX_ROTATION = math.radians(10)
MAX_SCALING = 0.1  # share of the size


def augment(images: Tensor, kind: Literal["none", "shift", "affine"], random: np.random.Generator) -> Tensor:
    """Change each image of a batch on its own; digits are never flipped.

    Parameters
    ----------
    images : (B, C, H, W) uint8
        Raw pixels.
    kind : {"none", "shift", "affine"}
        `shift` moves by up to 2 whole pixels each way; `affine` also rotates by up to 10 degrees and scales by up to
        10 %, between pixels. What comes in at the border is 0.
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


def _shift(images: Tensor, random: np.random.Generator) -> Tensor:
    n, _, height, width = images.shape
    down, right = random.integers(0, 2 * MAX_SHIFT + 1, size=(2, n))
    windows = functional.pad(images, (MAX_SHIFT,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    if images.device.type == "cpu":  # where NumPy gathers twice as fast
        return torch.from_numpy(windows.numpy()[np.arange(n), :, down, right])
    rows, down, right = (torch.from_numpy(index).to(images.device) for index in (np.arange(n), down, right))
    return windows[rows, :, down, right]


def _affine(images: Tensor, random: np.random.Generator) -> Tensor:
    n, _, height, width = images.shape
    angle, scale, down, right = random.uniform(-1, 1, size=(4, n))
    angle, scale = MAX_ROTATION * angle, 1 + MAX_SCALING * scale
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    # affine_grid's unit is half the image's size; shapes other than square need the sides' ratio.
    theta = np.array(
        [
            [cosine, -sine * height / width, 2 * MAX_SHIFT * right / width],
            [sine * width / height, cosine, 2 * MAX_SHIFT * down / height],
        ],
        dtype=np.float32,
    ).transpose(2, 0, 1)
    grid = functional.affine_grid(
        torch.from_numpy(np.ascontiguousarray(theta)).to(images.device), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images.float(), grid, align_corners=False)
