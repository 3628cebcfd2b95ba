"""A fold in training as named arrays, and back, to the same bits."""

import numpy as np
import torch
from torch import Tensor

from foldwise.base.files import Arrays
from foldwise.learning.models import fill
from foldwise.learning.training import Training


def snapshot(training: Training) -> Arrays:
    """Put all that changes while a fold is trained into arrays."""
    tensors: dict[str, Tensor] = {f"model.{name}": tensor for name, tensor in training.model.state_dict().items()}
    tensors["seen"] = training.seen
    tensors |= {f"best.{name}": tensor for name, tensor in training.best.items()}
    for index, weight in enumerate(_weights(training)):
        for name, value in training.optimizer.state[weight].items():
            if value is not None:
                tensors[f"optimizer.{index}.{name}"] = value
    return {name: tensor.cpu().contiguous().numpy() for name, tensor in tensors.items()} | {
        "epochs": np.array(training.epochs),
        "losses": np.array(training.losses),
        "best_epoch": np.array(training.best_epoch),
        "best_loss": np.array(training.best_loss),
    }


def restore(training: Training, arrays: Arrays) -> None:
    """Bring a fresh `Training` to where `snapshot` was taken."""
    weights = dict(training.model.state_dict())
    fill(training.model, {name: torch.from_numpy(arrays[f"model.{name}"]) for name in weights})
    if "best." + next(iter(weights)) in arrays:
        training.best = {name: torch.from_numpy(arrays[f"best.{name}"]).to(weights[name].device) for name in weights}
    optimized = _weights(training)
    for key in arrays:
        if key.startswith("optimizer."):
            index, name = key.split(".")[1:]
            weight, value = optimized[int(index)], torch.from_numpy(arrays[key])
            # Laid out in memory as the weight is, which the fused optimisers rely on.
            same = value.shape == weight.shape
            training.optimizer.state[weight][name] = (
                torch.empty_like(weight).copy_(value) if same else value.to(weight.device)
            )
    training.seen = torch.from_numpy(arrays["seen"]).to(next(iter(weights.values())).device)
    training.epochs = arrays["epochs"].tolist()
    training.losses = arrays["losses"].tolist()
    training.best_epoch, training.best_loss = int(arrays["best_epoch"]), float(arrays["best_loss"])


def _weights(training: Training) -> list[Tensor]:
    return [weight for group in training.optimizer.param_groups for weight in group["params"]]
