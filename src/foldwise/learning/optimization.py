"""Optimisers by name, the learning rate of each step, and what to do where they fail."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.adamw import adamw

from foldwise.base.errors import FoldwiseError
from foldwise.base.params import Train

WARM_UP = 0.2  # share of one_cycle's steps on which the learning rate rises
FIRST_SHARE = 0.01  # of the peak, where a warm-up of the other schedules begins, as in torchvision's references


def learning_rate(step: int, steps: int, schedule: str, peak: float, warmup: int = 0) -> float:
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
    warmup : int
        Steps before those of the schedule, not of `one_cycle`, in which it rises from a hundredth of the peak along a
        straight line (Goyal et al. 2017, as in torchvision's references).
    """
    if step < warmup:
        return peak * (FIRST_SHARE + (1 - FIRST_SHARE) * step / warmup)
    step, steps = step - warmup, steps - warmup
    if schedule == "constant":
        return peak
    if schedule == "cosine":
        return peak * (1 + math.cos(math.pi * step / steps)) / 2
    start, end, turn = peak / 25, peak / 25e4, WARM_UP * steps - 1
    if step < turn:
        return start + (peak - start) * step / turn
    return peak + (end - peak) * (step - turn) / (steps - 1 - turn)


class Muon:
    """Momentum whose steps are made orthogonal, for weights of two or more dimensions; AdamW for all others.

    Each step of a matrix (m, n) is brought to the root mean square of an Adam step, by 0.2 sqrt(max(m, n)), so that
    both go by one learning rate. The same as `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, but for
    convolutions too and in float32: bfloat16 is slow where a processor does not have it. It has the `param_groups`,
    `state` and `step` of a `torch.optim.Optimizer` but is none: to make one loads PyTorch's compiler, which takes each
    worker as long again as PyTorch itself.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with its coefficients of
    the Newton-Schulz iteration; the scale from Liu et al., "Muon is scalable for LLM training" (2025), section 2.2.

    Parameters
    ----------
    matrices, others : sequence of Tensor
        Weights that go by Muon and by AdamW.
    lr, momentum : float
    weight_decay : float
        Decoupled; of the matrices alone.
    """

    def __init__(
        self, matrices: Sequence[Tensor], others: Sequence[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        muon = {"params": list(matrices), "lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        self.param_groups: list[dict[str, Any]] = [muon, {"params": list(others), "lr": lr}]
        self.state: dict[Tensor, dict[str, Tensor]] = {
            weight: {"momentum_buffer": torch.zeros_like(weight.flatten(1))} for weight in matrices
        }
        for weight in others:
            averages = {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
            self.state[weight] = averages | {"step": torch.zeros((), device=weight.device)}

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        group, others = self.param_groups
        for weight in group["params"]:
            if weight.grad is None:
                continue
            gradient = weight.grad.flatten(1)
            average = self.state[weight]["momentum_buffer"]
            average.lerp_(gradient, 1 - group["momentum"])
            direction = _orthogonalized(gradient.lerp(average, group["momentum"]))
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            scale = 0.2 * math.sqrt(max(direction.shape))
            weight.add_(direction.view(weight.shape), alpha=-group["lr"] * scale)
        weights = [weight for weight in others["params"] if weight.grad is not None]
        means, squares, steps = (
            [self.state[weight][name] for weight in weights] for name in ("exp_avg", "exp_avg_sq", "step")
        )
        gradients = [weight.grad for weight in weights]
        adamw(
            weights,
            gradients,
            means,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=others["lr"],
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def _orthogonalized(matrix: Tensor) -> Tensor:
    """Bring all singular values of a matrix near 1, by five Newton-Schulz iterations."""
    wide: Tensor = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    result: Tensor = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        square = result @ result.T
        polynomial = torch.addmm(square, square, square, beta=-4.7750, alpha=2.0315)
        result = torch.addmm(result, polynomial, result, beta=3.4445)
    return result.T.contiguous() if matrix.shape[0] > matrix.shape[1] else result


def make_optimizer(model: nn.Module, train: Train) -> torch.optim.Optimizer | Muon:
    """Make the optimiser of all trainable weights.

    Weight decay is decoupled in adamw, L2 in sgd and adam. `muon` takes the matrices of the inner layers, with its
    weight decay decoupled; the last layer's weights, biases and normalisation layers go by AdamW beside it, without.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    lr, momentum, weight_decay = train.lr, train.momentum, train.weight_decay
    if train.optimizer == "sgd":
        return torch.optim.SGD(weights, lr, momentum, weight_decay=weight_decay, fused=True)
    if train.optimizer == "adam":
        return torch.optim.Adam(weights, lr, weight_decay=weight_decay, fused=True)
    if train.optimizer == "adamw":
        return torch.optim.AdamW(weights, lr, weight_decay=weight_decay, fused=True)
    inner = [weight for weight in weights if weight.ndim > 1][:-1]
    # Compared by identity: == on tensors is another thing.
    rest = [weight for weight in weights if not any(weight is other for other in inner)]
    return Muon(inner, rest, lr, momentum, weight_decay)


def first_layer(model: nn.Module, images: Tensor) -> list[nn.Parameter]:
    """Weights of the layer that images pass first, and of its batch normalisation; none where nothing else is trained.

    It learns first and costs most, being the largest in pixels: Brock et al., "FreezeOut: Accelerate training by
    progressively freezing layers" (2017). Which it is, a pass of some images tells: the order of a model's weights need
    not be that of its layers. The model is left in evaluation mode.
    """
    passed: list[tuple[nn.Module, list[Tensor]]] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], _: Any) -> None:
        passed.append((layer, [value for value in (*inputs, *named.values()) if isinstance(value, Tensor)]))

    layers = [module for module in model.modules() if not list(module.children()) and list(module.parameters())]
    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    model.eval()(images)
    for hook in hooks:
        hook.remove()
    if not passed or not passed[0][1] or any(given.requires_grad for given in passed[0][1]):
        raise FoldwiseError(
            "which layer of the network is its first cannot be known: set train.freeze_first_layer_after to 0"
        )
    is_normalised = len(passed) > 1 and isinstance(passed[1][0], _BatchNorm)
    weights = [weight for layer, _ in passed[: 1 + is_normalised] for weight in layer.parameters()]
    ours = set(map(id, weights))
    others = (weight for weight in model.parameters() if id(weight) not in ours)
    return weights if any(weight.requires_grad for weight in others) else []


def diverged(optimizer: torch.optim.Optimizer | Muon, train: Train, loss: float, step: int, when: str) -> FoldwiseError:
    """Say what to do about a loss that is not finite at a step, counted from 1; `when` says where it was seen.

    A step multiplies weights by 1 - lr * weight_decay, decoupled or as SGD's L2, and so throws them further than they
    were where the product is above 2; above 1 each turns its sign.
    """
    if step == 1:
        network = "mend the network, or set another model.name"
        return FoldwiseError(f"the loss is {loss} {when}: no step was taken before, so {network}")
    decayed = any(group["params"] and group.get("weight_decay") for group in optimizer.param_groups)
    if decayed and train.lr * train.weight_decay > 1 and train.weight_decay > train.lr:
        return FoldwiseError(
            f"the loss is {loss} {when}: train.weight_decay {train.weight_decay:g} times train.lr {train.lr:g} is "
            f"above 1: lower train.weight_decay to {1e-3 / train.lr:.1g} or less in params.yaml"
        )
    norms = [weight.detach().norm() for group in optimizer.param_groups for weight in group["params"]]
    is_small = float(torch.stack(norms).max()) < 1e3
    network = ", or, as its weights are still small, mend the network"
    return FoldwiseError(f"the loss is {loss} {when}: lower train.lr in params.yaml{network if is_small else ''}")
