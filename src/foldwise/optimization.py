"""Optimisers by name, and the learning rate of each step."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from foldwise.params import Train

WARM_UP = 0.2  # share of one_cycle's steps on which the learning rate rises


def learning_rate(step: int, steps: int, schedule: str, peak: float) -> float:
    """Learning rate of one step.

    Parameters
    ----------
    step : int
        Counted from 0 to `steps` - 1.
    steps : int
        Steps of the whole training.
    schedule : {"constant", "one_cycle", "cosine"}
        `one_cycle` rises from peak / 25 over the first fifth and falls to peak / 250,000, both along a straight line
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
        return start + (peak - start) * step / turn
    return peak + (end - peak) * (step - turn) / (steps - 1 - turn)


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are made orthogonal, for weights of two or more dimensions.

    Each step of a matrix (m, n) is brought to the root mean square of an Adam step, by 0.2 sqrt(max(m, n)), so that
    both go by one learning rate. The same as `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, but for
    convolutions too and in float32: bfloat16 is slow where a processor does not have it.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with its coefficients of
    the Newton-Schulz iteration; the scale from Liu et al., "Muon is scalable for LLM training" (2025), section 2.2.
    """

    def __init__(self, weights: Sequence[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for weight in group["params"]:
                gradient = weight.grad.flatten(1)
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                average = state["momentum_buffer"]
                average.lerp_(gradient, 1 - group["momentum"])
                direction = _orthogonalized(gradient.lerp(average, group["momentum"]))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                scale = 0.2 * math.sqrt(max(direction.shape))
                weight.add_(direction.view(weight.shape), alpha=-group["lr"] * scale)


def _orthogonalized(matrix: Tensor) -> Tensor:
    """Bring all singular values of a matrix near 1, by five Newton-Schulz iterations."""
    wide: Tensor = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    found: Tensor = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        square = found @ found.T
        found = torch.addmm(found, torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315), found, beta=3.4445)
    return found.T.contiguous() if matrix.shape[0] > matrix.shape[1] else found


def make_optimizers(model: nn.Module, train: Train) -> list[torch.optim.Optimizer]:
    """Make the optimisers of all trainable weights.

    Weight decay is decoupled in adamw, L2 in sgd and adam. `muon` takes the matrices of the inner layers, with its
    weight decay decoupled; the last layer's weights, biases and normalisation layers go by AdamW beside it, without.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    lr, momentum, weight_decay = train.lr, train.momentum, train.weight_decay
    if train.optimizer == "sgd":
        return [torch.optim.SGD(weights, lr, momentum, weight_decay=weight_decay, fused=True)]
    if train.optimizer == "adam":
        return [torch.optim.Adam(weights, lr, weight_decay=weight_decay, fused=True)]
    if train.optimizer == "adamw":
        return [torch.optim.AdamW(weights, lr, weight_decay=weight_decay, fused=True)]
    inner = [weight for weight in weights if weight.ndim > 1][:-1]
    # Compared by identity: == on tensors is another thing.
    rest = [weight for weight in weights if not any(weight is other for other in inner)]
    muon = [Muon(inner, lr, momentum, weight_decay)] if inner else []
    return [*muon, torch.optim.AdamW(rest, lr, weight_decay=0, fused=True)]
