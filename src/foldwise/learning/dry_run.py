"""What keeps a network from being trained, kept and used, found before the first step."""

from copy import deepcopy
from itertools import chain
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from foldwise.base.errors import FoldwiseError

# What NumPy and the files of weights both have.
KEPT = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
KEPT |= {torch.float16, torch.float32, torch.float64}


def dry_run(model: nn.Module, shape: tuple[int, int, int], classes: int) -> FoldwiseError | None:
    """Try a model on two images and on one, and a copy of it in training mode.

    Parameters
    ----------
    model : nn.Module
        Maps raw pixels to logits; its lazy layers get their weights, and it is left in evaluation mode.
    shape : tuple of int
        Channels, height and width of an image.
    classes : int

    Returns
    -------
    FoldwiseError or None
        What is wrong with it, if anything is; leaves to the caller to say what to do.
    """
    # Not of one grey: a network may divide by an image's contrast.
    images = torch.arange(2 * prod(shape)).remainder(251).to(torch.uint8).view(2, *shape)
    with torch.no_grad():
        tries = [("evaluation", batch, model.eval()(batch)) for batch in (images, images[:1])]
    if any(is_lazy(weight) for weight in chain(model.parameters(), model.buffers())):
        return FoldwiseError("has a lazy layer that no image passes in evaluation")
    copy = deepcopy(model).train()
    tries.append(("training", images, copy(images)))
    for mode, batch, logits in tries:
        wanted = f"in {mode}, where {(len(batch), classes)} floats are wanted of {len(batch)} images"
        if not isinstance(logits, Tensor):
            return FoldwiseError(f"gives a {type(logits).__name__} {wanted}")
        if logits.shape != (len(batch), classes) or not logits.is_floating_point():
            return FoldwiseError(f"gives {tuple(logits.shape)} {str(logits.dtype).removeprefix('torch.')} {wanted}")
        if not logits.isfinite().all():
            return FoldwiseError(f"gives logits that are not finite in {mode}")
    if not logits.requires_grad:
        return FoldwiseError("gives logits that depend on no weight that is trained")
    logits.float().sum().backward()
    for name, weight in copy.named_parameters():
        if weight.grad is not None and weight.grad.is_sparse:
            return FoldwiseError(f"has sparse gradients of {name.partition('.')[2]}, which no optimiser takes")
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor) or value.dtype not in KEPT:
            kind = getattr(value, "dtype", type(value))
            return FoldwiseError(f"keeps {name.partition('.')[2]} as {kind}, which no file takes")
    return None
