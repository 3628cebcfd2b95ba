"""Log-probabilities of a model on images."""

import torch
from torch import Tensor, nn

# Large enough to keep the vector units busy, small enough that a batch's activations stay in a core's cache.
BATCH_SIZE = 256


@torch.inference_mode()
def log_probabilities(model: nn.Module, images: Tensor) -> Tensor:
    """Predict every image, in order.

    Parameters
    ----------
    model : nn.Module
        Maps raw pixels to logits; it is put into evaluation mode and stays there.
    images : (N, C, H, W) uint8
        Raw pixels, on the device of the model.

    Returns
    -------
    (N, classes) float32
        Log-probabilities.
    """
    model.eval()
    logits = [model(batch.contiguous(memory_format=torch.channels_last)) for batch in torch.split(images, BATCH_SIZE)]
    return torch.log_softmax(torch.cat(logits).float(), dim=1)
