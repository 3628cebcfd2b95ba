"""Optimisers by name, and the learning rate of each step."""

import math

import torch
from torch import nn

from foldwise.params import Train

WARM_UP = 0.25  # share of one_cycle's steps on which the learning rate rises


def learning_rate(step: int, steps: int, schedule: str, peak: float) -> float:
    """Learning rate of one step.

    Parameters
    ----------
    step : int
        Counted from 0 to `steps` - 1.
    steps : int
        Steps of the whole training.
    schedule : {"constant", "one_cycle", "cosine"}
        `one_cycle` rises from peak / 25 over the first quarter and falls to peak / 250,000, both along half a cosine
        (Smith and Topin 2018, as in PyTorch's OneCycleLR); `cosine` falls from the peak towards 0 (Loshchilov and
        Hutter 2017).
    peak : float
        The highest learning rate.
    """
    if schedule == "constant":
        return peak
    if schedule == "cosine":
        return peak * (1 + math.cos(math.pi * step / steps)) / 2
    start, end, turn = peak / 25, peak / 25e4, WARM_UP * steps - 1
    if step < turn:
        return peak + (start - peak) * (1 + math.cos(math.pi * step / turn)) / 2
    return end + (peak - end) * (1 + math.cos(math.pi * (step - turn) / (steps - 1 - turn))) / 2


def make_optimizer(model: nn.Module, train: Train) -> torch.optim.Optimizer:
    """Make the optimiser of all trainable weights; weight decay is decoupled in adamw, L2 in sgd and adam."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if train.optimizer == "sgd":
        return torch.optim.SGD(weights, train.lr, momentum=train.momentum, weight_decay=train.weight_decay, fused=True)
    adam = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
    return adam(weights, train.lr, weight_decay=train.weight_decay, fused=True)
