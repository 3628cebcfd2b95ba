"""One fold: arrays and indices in, a trained model and its curves out; no files, no printing."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from foldwise.base.errors import FoldwiseError
from foldwise.base.params import Train
from foldwise.data.units import commonest_classes
from foldwise.learning.augmentation import Augmentation, chained
from foldwise.learning.models import fill
from foldwise.learning.optimization import Muon, diverged, first_layer, learning_rate, make_optimizer
from foldwise.learning.prediction import laid_out, log_probabilities
from foldwise.learning.randomness import Streams, generator, seed_torch
from foldwise.learning.selection import balanced, by_importance, hardest, images_by_epoch, steps_by_epoch

# Held-out images that are predicted after an epoch: a curve needs no more, and all would take a sixth of the time.
WATCHED = 4000


@dataclass(frozen=True)
class Samples:
    """Images, their labels, and which of them one fold trains on and holds out.

    Attributes
    ----------
    images : (N, C, H, W) uint8 tensor, or (N, V, F) float32 features of V views
        On the device of the labels, or in the machine's memory where they do not fit on it.
    labels : (N,) int64 tensor
        On the device that is computed on.
    training, held_out : (n,) int64 arrays
        Indices.
    units : (N,) int64 array
        Images of one number stay on one side of the inner split.
    """

    images: Tensor
    labels: Tensor
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    units: NDArray[np.int64]

    def batch(self, chosen: Tensor) -> Tensor:
        """Gather some images on the device that is computed on."""
        return self.images[chosen.to(self.images.device)].to(self.labels.device)


@dataclass
class Training:
    """All that changes while one fold is trained, so that it can go on at any epoch.

    Attributes
    ----------
    model : nn.Module
        Maps raw pixels, or features, to logits; on the device of the images.
    optimizer : torch.optim.Optimizer or Muon
    epochs : list of list of float
        For each finished epoch its number from 1, then loss and accuracy in training and on the held-out images.
    losses : list of float
        Loss of each finished step, weighed as its images are.
    seen : (3, N) float32 tensor
        Of each image when it was last trained on: its loss without label smoothing, whether it was classified
        correctly, and the norm of the gradient, with smoothing, in its logits.
    best : dict
        Under early stopping, the weights of the best epoch so far.
    best_epoch : int
    best_loss : float
        Its loss on the inner split.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | Muon
    epochs: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seen: Tensor = field(default_factory=lambda: torch.empty(0))
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_loss: float = math.inf

    @classmethod
    def start(cls, model: nn.Module, train: Train) -> "Training":
        """Make the optimiser for a model with fresh weights."""
        model = model.to(memory_format=torch.channels_last)
        return cls(model, make_optimizer(model, train))


def fit(
    training: Training,
    samples: Samples,
    train: Train,
    streams: Streams,
    end_epoch: Callable[[Training], None],
    until: int | None = None,
) -> None:
    """Train a model in place, from wherever `training` stands.

    Parameters
    ----------
    training : Training
        Fresh, or brought back to the end of an epoch.
    samples : Samples
        The held-out images are predicted for the curves alone: after each epoch at most `WATCHED` of them, evenly
        spread, and all after the last of `train.epochs`. Nothing is selected on them.
    train : Train
        The recipe.
    streams : Streams
        The fold's randomness.
    end_epoch : callable
        Called after each epoch.
    until : int, optional
        Epochs after which to stop, in order to go on elsewhere; without it the training is brought to its end.

    Raises
    ------
    FoldwiseError
        If the loss is not finite, or batches or the inner split of early stopping cannot be made.
    """
    indices, inner = samples.training, None
    if train.patience:
        indices, inner = _set_aside(samples, train.inner_fraction, streams.inner)
    _check_batches(training.model, train, len(indices))
    augment = chained(train.augment)
    if train.freeze_first_layer_after:  # told before any training, where it cannot be
        first_layer(training.model, samples.batch(torch.from_numpy(indices[:2])))
    for epoch in range(len(training.epochs), until or train.epochs):
        if inner is not None and epoch - training.best_epoch > train.patience:
            break
        is_clean = epoch >= train.epochs - train.clean_epochs
        recipe = train.model_copy(update={"label_smoothing": 0.0}) if is_clean else train
        _train_epoch(training, samples, indices, recipe, streams, epoch, chained(()) if is_clean else augment)
        seen = training.seen[:2, torch.from_numpy(indices).to(training.seen.device)].mean(dim=1).tolist()
        stride = 1 if epoch + 1 == train.epochs else max(1, math.ceil(len(samples.held_out) / WATCHED))
        training.epochs.append([epoch + 1, *seen, *_score(training, samples, samples.held_out[::stride], train)])
        if inner is not None:
            loss, _ = _score(training, samples, inner, train)
            if loss < training.best_loss:
                training.best = {name: weight.clone() for name, weight in training.model.state_dict().items()}
                training.best_epoch, training.best_loss = epoch, loss
        end_epoch(training)
    if training.best and until is None:
        fill(training.model, training.best)


def _check_batches(model: nn.Module, train: Train, n: int) -> None:
    """Refuse batches of one image where they are normalised; from three images a batch on, only one image makes one."""
    _train_mode(model)
    normalised = any(isinstance(layer, _BatchNorm) and layer.training for layer in model.modules())
    epochs = zip(images_by_epoch(train, n), steps_by_epoch(train, n), strict=True)
    if normalised and any(images < 2 * steps for images, steps in epochs):
        raise _too_small_batches(train, n)


def _too_small_batches(train: Train, n: int) -> FoldwiseError:
    what = f"train.batch_size is {train.batch_size}: raise it to 3 or more"
    if n == 1:
        what = "one image is all there is: raise data.subset or cv.k, or set model.name to a network without it"
    elif images_by_epoch(train, n)[-1] == 1:
        enough = math.ceil(200 / n) / 100
        what = f"train.selective_backprop leaves one of {n} images: raise it to {enough:g} or more"
    return FoldwiseError(f"batches of one image are too few for batch normalisation, and {what}")


def _train_epoch(
    training: Training,
    samples: Samples,
    indices: NDArray[np.int64],
    train: Train,
    streams: Streams,
    epoch: int,
    augment: Augmentation,
) -> None:
    """Take every image once; after the first epoch, those that the recipe selects."""
    model, optimizer, device = training.model, training.optimizer, samples.labels.device
    steps = steps_by_epoch(train, len(indices))
    first_step = len(training.losses)
    if epoch == 0:
        training.seen = torch.zeros((3, len(samples.labels)), device=device)
    indices, weights = _selected(training, indices, samples.labels, train, streams, epoch)
    order = generator(streams.order, epoch).permutation(len(indices))
    # Of nearly equal size: no image is left out, and none makes a batch alone.
    batches, counts = (
        torch.from_numpy(values[order]).to(device).tensor_split(steps[epoch]) for values in (indices, weights)
    )
    random = generator(streams.augmentation, epoch)
    seed_torch(streams.dropout, epoch)
    losses = torch.empty(steps[epoch], device=device)
    if train.freeze_first_layer_after and epoch >= train.freeze_first_layer_after:
        for weight in first_layer(model, samples.batch(torch.from_numpy(indices[:2]))):
            weight.requires_grad_(False)
    _train_mode(model)

    for step, (batch, count) in enumerate(zip(batches, counts, strict=True)):
        rate = learning_rate(first_step + step, sum(steps), train.schedule, train.lr, sum(steps[: train.warmup]))
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, labels = augment(samples.batch(batch), random), samples.labels[batch]
        with torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bfloat16"):
            logits = model(laid_out(images))
            each = functional.cross_entropy(logits, labels, label_smoothing=train.label_smoothing, reduction="none")
            loss = (each * count).mean()
        losses[step] = loss.detach()
        if device.type == "cpu":  # on another device a look at each step would make it wait
            _check_finite(losses[step : step + 1], first_step + step, training, train)
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if train.gradient_clip:
            nn.utils.clip_grad_norm_(model.parameters(), train.gradient_clip)
        optimizer.step()
        _note(training.seen, batch, logits.detach().float(), labels, train.label_smoothing)

    _check_finite(losses, first_step, training, train)
    training.losses += losses.tolist()


def _selected(
    training: Training,
    indices: NDArray[np.int64],
    labels: Tensor,
    train: Train,
    streams: Streams,
    epoch: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which of the training images an epoch takes, and how much each of them counts."""
    count = images_by_epoch(train, len(indices))[epoch]
    counts = np.ones(len(indices), dtype=np.float32)
    if train.class_weights == "balanced":
        counts = balanced(labels.cpu().numpy()[indices])
    if count == len(indices):
        return indices, counts
    losses, _, gradients = training.seen.cpu().numpy()[:, indices]
    if train.selective_backprop < 1:
        places = hardest(losses, count)
        return indices[places], counts[places]
    places, weights = by_importance(counts * gradients, count, generator(streams.selection, epoch))
    return indices[places], counts[places] * weights


def _note(seen: Tensor, batch: Tensor, logits: Tensor, labels: Tensor, smoothing: float) -> None:
    """Note of each image of a batch what its loss, its class and its gradient have been."""
    losses = functional.cross_entropy(logits, labels, reduction="none")
    targets = functional.one_hot(labels, logits.shape[1]) * (1 - smoothing) + smoothing / logits.shape[1]
    gradients = (torch.softmax(logits, dim=1) - targets).norm(dim=1)
    seen[:, batch] = torch.stack([losses, (logits.argmax(dim=1) == labels).float(), gradients])


def _check_finite(losses: Tensor, first_step: int, training: Training, train: Train) -> None:
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = first_step + int(bad[0]) + 1
        raise diverged(training.optimizer, train, float(losses[bad[0]]), step, f"at step {step}")


def _score(training: Training, samples: Samples, indices: NDArray[np.int64], train: Train) -> tuple[float, float]:
    """Mean log loss in nats and accuracy on some images, NaN where there are none."""
    if not len(indices):
        return math.nan, math.nan
    model = training.model
    chosen = torch.from_numpy(indices)
    predicted = log_probabilities(model, samples.images, chosen=chosen.to(samples.images.device))
    labels = samples.labels[chosen.to(samples.labels.device)]
    loss = float(functional.nll_loss(predicted, labels))
    if not math.isfinite(loss):
        raise diverged(training.optimizer, train, loss, len(training.losses) + 1, "after an epoch")
    return loss, float((predicted.argmax(dim=1) == labels).float().mean())


def _set_aside(
    samples: Samples, fraction: float, stream: np.random.SeedSequence
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from sklearn.model_selection import train_test_split  # takes a second to load, and most runs do without

    seed = int(stream.generate_state(1)[0])
    labels = samples.labels[torch.from_numpy(samples.training).to(samples.labels.device)].cpu().numpy()
    units = samples.units[samples.training]
    numbers, labels = commonest_classes(labels, units)
    what = "image" if len(numbers) == len(units) else "group"
    present, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise FoldwiseError(
            f"class {present[counts.argmin()]} has one training {what}, too few for the split of early stopping: "
            "set train.patience to 0"
        )
    # Each side needs as many images as there are classes; two of each class leave a fraction that does.
    few, many = len(present), len(labels) - len(present)
    n, count = len(labels), math.ceil(fraction * len(labels))
    if not few <= count <= many:
        nearest = few if count < few else many
        rounded = (round((nearest - 0.5) / n, digits) for digits in itertools.count(1))
        fitting = next(share for share in rounded if few <= math.ceil(share * n) <= many)
        raise FoldwiseError(
            f"train.inner_fraction is {fraction}, which of {n} training {what}s leaves too few of {few} classes to "
            f"{'stop' if count < few else 'train'} on: set it to {fitting}, or train.patience to 0"
        )
    _, aside = train_test_split(numbers, test_size=fraction, random_state=seed, stratify=labels)
    is_inner = np.isin(units, aside)
    return samples.training[~is_inner], samples.training[is_inner]


def _train_mode(model: nn.Module) -> None:
    """Training mode, except for frozen layers, whose running statistics are frozen too."""
    model.train()
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()
