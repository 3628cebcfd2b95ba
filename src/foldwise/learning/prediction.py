"""Log-probabilities of a model on images."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foldwise.learning.augmentation import max_shift

# Large enough to keep the vector units busy, small enough that a batch's activations stay in a core's cache.
BATCH_SIZE = 256

# Where `augment="shift"` looks, in its largest shifts: in place, up, down, left and right of it.
MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


def laid_out(images: Tensor) -> Tensor:
    """Lay a batch out in memory as convolutions like it."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images.contiguous()


def mean_logits(model: nn.Module, images: Tensor, augment: Literal["none", "shift"]) -> Tensor:
    """Give the logits of a batch, (B, classes), on the model's device; `augment` is that of `log_probabilities`."""
    if augment == "none":
        output: Tensor = model(laid_out(images))
        return output
    height, width = images.shape[2:]
    rows, columns = max_shift(height), max_shift(width)
    padded = functional.pad(images, (columns, columns, rows, rows))
    # Small images are moved by no pixel, and need to be looked at once.
    corners = dict.fromkeys(((1 + down) * rows, (1 + right) * columns) for down, right in MOVES)
    moved = [padded[:, :, down : down + height, right : right + width] for down, right in corners]
    return torch.stack([mean_logits(model, each, "none") for each in moved]).mean(dim=0)


@torch.inference_mode()
def log_probabilities(
    model: nn.Module, images: Tensor, augment: Literal["none", "shift"] = "none", chosen: Tensor | None = None
) -> Tensor:
    """Predict images, in order.

    Parameters
    ----------
    model : nn.Module
        Maps raw pixels, or features, to logits; it is put into evaluation mode and stays there.
    images : (N, C, H, W) uint8, or (N, V, F) float32
        Raw pixels, or features; a batch at a time is brought to the device of the model, as they may be more than
        it holds.
    augment : {"none", "shift"}
        `shift` takes the mean of the logits of each image as it is and moved as far as in training each way; what
        comes in at the border is 0.
    chosen : (n,) int64, optional
        Indices of the images to predict, on their device; all by default.

    Returns
    -------
    (N, classes) float32
        Log-probabilities.
    """
    model.eval()
    device = next(model.parameters()).device
    chosen = torch.arange(len(images), device=images.device) if chosen is None else chosen
    predicted = torch.empty(0)
    for start in range(0, len(chosen), BATCH_SIZE):
        output = mean_logits(model, images[chosen[start : start + BATCH_SIZE]].to(device), augment).float()
        if start == 0:  # a small tensor kept of each batch would keep apart what is freed between them, gigabytes of it
            predicted = output.new_empty((len(chosen), output.shape[1]))
        predicted[start : start + BATCH_SIZE] = output
    return torch.log_softmax(predicted, dim=1)
