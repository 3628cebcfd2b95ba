"""Networks of your own: `model.name: own/networks.py:FUNCTION`. Change this one, or add others."""

from torch import nn


def mlp(channels: int, height: int, width: int, classes: int, hidden: int = 128) -> nn.Module:
    """One hidden layer. It is given the form of the images, the number of classes, and `model.options`.

    What it gives maps normalised images, (B, channels, height, width) float32, to logits, (B, classes).
    """
    pixels = channels * height * width
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, classes))
