"""Training one fold's model.

PyTorch is loaded where a fold is trained, in the workers: it takes seconds, and a stage itself needs none of it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foldwise.base import libraries
from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays
from foldwise.base.params import Params, Train, is_own
from foldwise.data.folds import Fold, Folds
from foldwise.data.images import Images
from foldwise.data.pixels import pixel_statistics
from foldwise.learning import frozen, own_code
from foldwise.learning.selection import batch_size, images_by_epoch, steps_by_epoch

if TYPE_CHECKING:
    from torch import nn

    from foldwise.learning.randomness import Streams
    from foldwise.learning.training import Samples, Training

# The curves by epoch; losses are means in nats per image, without label smoothing, so that they can be compared.
# `kept` is 1 for the epoch whose weights became the model's: under early stopping the best one, else the last.
EPOCH_COLUMNS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "kept")

# The networks whose first layer is frozen early unless the recipe says otherwise: a hidden layer lost 1.5 points by it.
FROZEN_EARLY = ("compact", "wide")

# What an image costs while the first layer of `compact` is frozen, of what it costs before.
FROZEN_COST = 0.65

# In fewer steps hardly a network learns anything.
FEW_STEPS = 50


class Job(Protocol):
    """What a fold's training asks of whoever runs it."""

    @property
    def is_first(self) -> bool:
        """Whether it is the first of all folds, which tells what holds for all."""

    @property
    def until(self) -> int | None:
        """Epochs after which to stop, so that another worker goes on; None if the fold is to be ended."""

    def checkpoint(self) -> Arrays | None:
        """Give what was kept of the fold's last epoch."""

    def keep(self, checkpoint: Arrays) -> None:
        """Keep that of the epoch that ended."""

    def note(self, line: str) -> None:
        """Tell a line about the fold."""

    def end_epoch(self, number: int, line: str, checkpoint: Callable[[], Arrays]) -> None:
        """Tell that an epoch, counted from 1, has ended; from time to time its checkpoint is made and kept."""


@dataclass(frozen=True)
class TrainFold:
    """Train one fold's model.

    Attributes
    ----------
    images : Images
    folds : Folds
    params : Params
    weights : dict of arrays
        What the network starts from, under its own names; empty for fresh weights.
    features : (N + M, V, F) float32 array, optional
        What the frozen part of the network makes of the images; the last layer alone is then trained, on them.
    epochs : int, optional
        After how many of `train.epochs` the model is ready; by default after all, or where early stopping has it.
    """

    images: Images
    folds: Folds
    params: Params
    weights: Arrays
    features: NDArray[np.float32] | None = None
    epochs: int | None = None

    @property
    def train(self) -> Train:
        """The recipe, with what it leaves open for this network filled in."""
        train = self.params.train
        if self.epochs:
            train = train.model_copy(update={"patience": 0})
        if train.freeze_first_layer_after is not None:
            return train
        return train.model_copy(update={"freeze_first_layer_after": int(self.params.model.name in FROZEN_EARLY)})

    @property
    def depends_on(self) -> tuple[Any, ...]:
        """What decides how any fold is trained, besides its indices, its place, code, libraries and processor."""
        data, params = self.images, self.params
        recipe = (
            self.train,
            params.model.name,
            params.model.options,
            params.model.freeze,
            params.normalize,
            params.compute.rounding,
        )
        weights = [(name, array.dtype, array.shape, array) for name, array in sorted(self.weights.items())]
        device = _graphics() if params.compute.device != "cpu" else ()
        pixels = data.shape, data.mean, data.std, data.train_images, data.train_labels
        units = self.folds.units if self.train.patience else ()
        code = own_code.code() if any(map(is_own, (params.model.name, *self.train.augment))) else b""
        versions = libraries.optional("timm") if code or params.model.name.startswith("timm:") else ""
        features = None if self.features is None else self.features[: len(data.train_labels)]
        rest = code, versions, features, device, len(data.classes), units, self.epochs
        return recipe, *rest, *pixels, *(part for named in weights for part in named)

    @property
    def costs(self) -> list[float]:
        """Cost of each epoch, about, in units of one over all images."""
        train, n = self.train, len(self.folds.training(next(iter(self.folds))))
        frozen_from = train.freeze_first_layer_after or math.inf
        return [
            images / n * (FROZEN_COST if epoch >= frozen_from else 1.0)
            for epoch, images in enumerate(images_by_epoch(train, n)[: self.epochs])
        ]

    def __call__(self, fold: Fold, job: Job) -> Arrays | None:
        """Give the weights under their own names, and the curves, `epochs` (epochs, columns) and `losses` (steps,).

        After a part that does not end the fold, None: the next part goes on from the checkpoint.
        """
        from foldwise.learning import checkpoint
        from foldwise.learning.augmentation import VIEW
        from foldwise.learning.randomness import streams
        from foldwise.learning.training import Training, fit

        train = self.train
        random = streams(train.seed, fold)
        samples = self._samples(fold)
        model, last = self._network(fold, random)
        trained = model if self.features is None else frozen.on_features(model, last[0])
        if train.augment and self.features is not None:
            train = train.model_copy(update={"augment": (VIEW,)})
        training = Training.start(trained.to(samples.labels.device), train)
        if job.is_first:
            self._warn(samples, job)
        if arrays := job.checkpoint():
            checkpoint.restore(training, arrays)

        def end_epoch(training: "Training") -> None:
            number, line = len(training.epochs), _describe(training.epochs[-1], train.epochs)
            job.end_epoch(number, line, lambda: checkpoint.snapshot(training))

        try:
            fit(training, samples, train, random, end_epoch, job.until or self.epochs)
        except FoldwiseError as error:
            raise FoldwiseError(f"{fold}: {error}") from error
        if job.until is not None:
            job.keep(checkpoint.snapshot(training))
            return None
        weights = {name: tensor.cpu().contiguous().numpy() for name, tensor in model.state_dict().items()}
        kept = training.best_epoch if train.patience else len(training.epochs) - 1
        epochs = [[*row, float(number == kept)] for number, row in enumerate(training.epochs)]
        return weights | {"epochs": np.array(epochs), "losses": np.array(training.losses, dtype=np.float32)}

    def _samples(self, fold: Fold) -> "Samples":
        """The fold's images, on the device where they fit."""
        import torch

        from foldwise.learning.devices import fits, prepare
        from foldwise.learning.training import Samples

        device = prepare(self.params.compute)
        inputs = self.images.train_images if self.features is None else self.features
        images, labels = torch.from_numpy(inputs), torch.from_numpy(self.images.train_labels)
        if fits(images, device):
            images = images.to(device)
        indices = self.folds.training(fold), self.folds.held_out(fold)
        return Samples(images, labels.to(device), *indices, self.folds.units)

    def _network(self, fold: Fold, random: "Streams") -> "tuple[nn.Module, tuple[str, ...]]":
        """The network as it is before its first step, and its last layers' names."""
        from foldwise.learning import starting
        from foldwise.learning.randomness import seed_torch

        constants = None
        if self.params.normalize.scope == "fold":
            constants = pixel_statistics(self.images.train_images, self.folds.training(fold))
            if 0 in constants[1]:
                raise FoldwiseError(
                    f"{fold}: channel {constants[1].index(0)} of its training images is of one grey, which has no "
                    "deviation to normalise by: set normalize.scope to dataset in params.yaml"
                )
        seed_torch(random.weights)
        return starting.network(self.params, self.images, self.weights, constants)

    def _warn(self, samples: "Samples", job: Job) -> None:
        """Tell of what is probably not meant."""
        import torch

        if samples.labels.device.type == "cpu" and torch.cuda.is_available():
            job.note("a GPU is there and not used: `-S compute.device=cuda` would use it")
        n = len(samples.training)
        steps = sum(steps_by_epoch(self.train, n))
        if steps < FEW_STEPS:
            size = batch_size(self.train, n)
            job.note(
                f"{n} images make only {steps} steps in all: set train.batch_size below {size} or raise train.epochs"
            )
        if self.train.augment and self.train.clean_epochs >= self.train.epochs:
            job.note("no epoch is augmented: set train.clean_epochs below train.epochs, or train.augment to none")


def _graphics() -> tuple[Any, ...]:
    """What is known of the GPU and of what computes on it."""
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return names, torch.version.cuda, torch.backends.cudnn.version()  # type: ignore[no-untyped-call]


def _describe(row: list[float], epochs: int) -> str:
    """One row of the curves by epoch in words."""
    epoch, loss, accuracy, held_out_loss, held_out_accuracy = row
    held_out = f"  held out: loss {held_out_loss:.4f}  accuracy {held_out_accuracy:.4f}"
    training = f"epoch {epoch:.0f}/{epochs}  loss {loss:.4f}  accuracy {accuracy:.4f}"
    return training if math.isnan(held_out_loss) else training + held_out
