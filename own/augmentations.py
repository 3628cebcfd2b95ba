"""Augmentations of your own: `train.augment: own/augmentations.py:FUNCTION`. Change this one, or add others."""

import numpy as np
import torch
from torch import Tensor


def erase(images: Tensor, random: np.random.Generator) -> Tensor:
    """Blacken a rectangle of each image, of a quarter of its sides (Zhong et al., "Random erasing", 2017).

    It is given a batch of a fold's training images, (B, channels, height, width), 0 to 255, uint8, or float32 after
    `affine`, and the fold's own stream, which seeds PyTorch's generator too. What it gives has the same shape.
    """
    n, _, height, width = images.shape
    top, left = random.integers(0, [[height - height // 4], [width - width // 4]], size=(2, n), endpoint=True)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    down, right = rows - top[:, None, None], columns - left[:, None, None]
    within = (down >= 0) & (down < height // 4) & (right >= 0) & (right < width // 4)
    return images.masked_fill(torch.from_numpy(within[:, None]).to(images.device), 0)
