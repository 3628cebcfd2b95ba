"""Log-probabilities of a model on images, and what keeps a model from giving them."""

from copy import deepcopy
from itertools import chain
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy

# Large enough to keep the vector units busy, small enough that a batch's activations stay in a core's cache.
BATCH_SIZE = 256


# Where `augment="shift"` looks: in place, and a pixel up, down, left and right of it.
MOVES = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))


@torch.inference_mode()
def log_probabilities(model: nn.Module, images: Tensor, augment: Literal["none", "shift"] = "none") -> Tensor:
    """Predict every image, in order.

    Parameters
    ----------
    model : nn.Module
        Maps raw pixels to logits; it is put into evaluation mode and stays there.
    images : (N, C, H, W) uint8
        Raw pixels, on the device of the model.
    augment : {"none", "shift"}
        `shift` takes the mean of the logits of each image as it is and moved by one pixel each way; what comes in at
        the border is 0.

    Returns
    -------
    (N, classes) float32
        Log-probabilities.
    """
    model.eval()

    def logits(batch: Tensor) -> Tensor:
        found: Tensor = model(batch.contiguous(memory_format=torch.channels_last))
        return found

    def mean_logits(batch: Tensor) -> Tensor:
        height, width = batch.shape[2:]
        padded = functional.pad(batch, (1, 1, 1, 1))
        moved = [padded[:, :, down : down + height, right : right + width] for down, right in MOVES]
        return torch.stack([logits(images) for images in moved]).mean(dim=0)

    predict = mean_logits if augment == "shift" else logits
    return torch.log_softmax(torch.cat([predict(batch) for batch in torch.split(images, BATCH_SIZE)]).float(), dim=1)


# What NumPy and the files of weights both have.
KEPT = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
KEPT |= {torch.float16, torch.float32, torch.float64}


def fault(model: nn.Module, shape: tuple[int, int, int], classes: int) -> str:
    """Try a model on two images and on one, and on a copy in training mode.

    Parameters
    ----------
    model : nn.Module
        Maps raw pixels to logits; its lazy layers get their weights, and it is left in evaluation mode.
    shape : tuple of int
        Channels, height and width of an image.
    classes : int

    Returns
    -------
    str
        What keeps it from being trained, kept and used; empty if nothing does.
    """
    # Not of one grey: a network may divide by an image's contrast.
    images = torch.arange(2 * prod(shape)).remainder(251).to(torch.uint8).view(2, *shape)
    with torch.no_grad():
        tries = [("evaluation", batch, model.eval()(batch)) for batch in (images, images[:1])]
    if any(is_lazy(weight) for weight in chain(model.parameters(), model.buffers())):
        return "has a lazy layer that no image passes in evaluation"
    copy = deepcopy(model).train()
    tries.append(("training", images, copy(images)))
    for mode, batch, logits in tries:
        wanted = f"in {mode}, where {(len(batch), classes)} floats are wanted of {len(batch)} images"
        if not isinstance(logits, Tensor):
            return f"gives a {type(logits).__name__} {wanted}"
        if logits.shape != (len(batch), classes) or not logits.is_floating_point():
            return f"gives {tuple(logits.shape)} {str(logits.dtype).removeprefix('torch.')} {wanted}"
        if not logits.isfinite().all():
            return f"gives logits that are not finite in {mode}"
    if not logits.requires_grad:
        return "gives logits that depend on no weight that is trained"
    logits.float().sum().backward()
    for name, weight in copy.named_parameters():
        if weight.grad is not None and weight.grad.is_sparse:
            return f"has sparse gradients of {name.partition('.')[2]}, which no optimiser takes"
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor) or value.dtype not in KEPT:
            return f"keeps {name.partition('.')[2]} as {getattr(value, 'dtype', type(value))}, which no file takes"
    return ""
