"""What is done to one fold: a model is trained on the others, then predicts it.

PyTorch is loaded where a fold is run, in the workers: it takes seconds, and a stage itself needs none of it.
"""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays, read_arrays
from foldwise.base.params import Compute, Params
from foldwise.data.folds import Fold, Folds
from foldwise.data.images import Images, pixel_statistics
from foldwise.execution.engine import Progress
from foldwise.execution.schedule import done_after
from foldwise.execution.scratch import Scratch

if TYPE_CHECKING:
    import torch

    from foldwise.learning.training import Training

# The curves by epoch; losses are means in nats per image, the training loss with its label smoothing.
EPOCH_COLUMNS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")

# What an image costs while the first layer of `compact` is frozen, of what it costs before.
FROZEN_COST = 0.65

# In fewer steps hardly a network learns anything.
FEW_STEPS = 50

# A fold that takes longer than this also goes on within itself, at its last epoch.
CHECKPOINT_SECONDS = 30


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
    scratch : Scratch
        Where a long fold keeps its last epoch.
    """

    images: Images
    folds: Folds
    params: Params
    weights: Arrays
    scratch: Scratch

    @property
    def sizes(self) -> list[float]:
        """Share of the images that each epoch takes."""
        return [1.0] + [self.params.train.selective_backprop] * (self.params.train.epochs - 1)

    @property
    def costs(self) -> list[float]:
        """Cost of each epoch, about, in units of one over all images."""
        frozen_from = self.params.train.freeze_first_layer_after or math.inf
        return [size * (FROZEN_COST if epoch >= frozen_from else 1.0) for epoch, size in enumerate(self.sizes)]

    def __call__(self, fold: Fold, progress: Progress) -> Arrays | None:
        """Give the weights under their own names, and the curves, `epochs` (epochs, columns) and `losses` (steps,).

        After a part that does not end the fold, None: the next part finds in the scratch where to go on.
        """
        import torch

        from foldwise.learning import checkpoint, models, training
        from foldwise.learning.randomness import seed_torch, streams

        device = prepare(self.params.compute)
        fold_streams, train = streams(self.params.train.seed, fold), self.params.train
        indices, data = self.folds.training(fold), self.images
        scope = pixel_statistics(data.train_images, indices) if self.params.normalize.scope == "fold" else None
        if scope and 0 in scope[1]:
            raise FoldwiseError(
                f"{fold}: channel {scope[1].index(0)} of its training images is of one grey, which has no deviation to "
                "normalise by: set normalize.scope to dataset in params.yaml"
            )
        seed_torch(fold_streams.weights)
        model = models.build(self.params.model.name, models.form_of(data), *(scope or (data.mean, data.std)))
        if self.weights:
            models.start_from(model, self.weights)
        if self.params.model.freeze:
            models.freeze_all_but_last(model)
        if device.type == "cpu" and torch.cuda.is_available() and progress.part.place == 0:
            progress.note("a GPU is there and not used: `-S compute.device=cuda` would use it")
        steps = sum(math.ceil(size * len(indices) / train.batch_size) for size in self.sizes)
        if steps < FEW_STEPS and progress.part.place == 0:
            progress.note(
                f"{len(indices)} images make only {steps} steps in all: lower train.batch_size or raise train.epochs"
            )
        state = training.Training.start(model.to(device), train)
        kept = self.scratch.read(fold, "epoch")
        if kept:
            checkpoint.restore(state, kept)
            progress.note(f"goes on after epoch {len(state.epochs)}")
        shares = done_after(self.costs)
        progress.begun = float(shares[len(state.epochs)])
        written = time.monotonic()

        def report(state: "Training") -> None:
            nonlocal written
            epoch, loss, accuracy, held_out_loss, held_out_accuracy = state.epochs[-1]
            progress.say(
                float(shares[len(state.epochs)]),
                f"epoch {epoch:.0f}/{train.epochs}  loss {loss:.4f}  accuracy {accuracy:.4f}  "
                f"held out: loss {held_out_loss:.4f}  accuracy {held_out_accuracy:.4f}",
            )
            long = time.monotonic() - written > CHECKPOINT_SECONDS
            if long and epoch < train.epochs and self.scratch.within_reach:
                self.scratch.write(fold, "epoch", checkpoint.snapshot(state))
                written = time.monotonic()

        samples = training.Samples(
            torch.from_numpy(data.train_images).to(device),
            torch.from_numpy(data.train_labels).to(device),
            indices,
            self.folds.held_out(fold),
        )
        try:
            training.fit(state, samples, train, fold_streams, report, progress.part.until)
        except FoldwiseError as error:
            raise FoldwiseError(f"{fold}: {error}") from error
        if progress.part.until is not None:
            self.scratch.write(fold, "epoch", checkpoint.snapshot(state))
            return None
        weights = {name: tensor.cpu().contiguous().numpy() for name, tensor in model.state_dict().items()}
        return weights | {"epochs": np.array(state.epochs), "losses": np.array(state.losses, dtype=np.float32)}


@dataclass(frozen=True)
class PredictFold:
    """Predict one fold's held-out images and the test images.

    Attributes
    ----------
    images : Images
    folds : Folds
    params : Params
    models : Path
        Folder of the trained models.
    """

    images: Images
    folds: Folds
    params: Params
    models: Path

    def read(self, fold: Fold) -> Arrays:
        """Read the fold's model, where the stage runs: a cluster's node need not have the folder."""
        return read_arrays(model_path(self.models, fold))

    def __call__(self, fold: Fold, progress: Progress, weights: Arrays | None = None) -> Arrays:
        """Give float32 log-probabilities: `held_out` (n, classes) in ascending order of index, `test` (N, classes)."""
        import torch

        from foldwise.learning import models
        from foldwise.learning.prediction import log_probabilities

        device = prepare(self.params.compute)
        path = model_path(self.models, fold)
        model = models.build(self.params.model.name, models.form_of(self.images), self.images.mean, self.images.std)
        models.load_weights(model, weights or self.read(fold), path)
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        held_out = self.images.train_images[self.folds.held_out(fold)]
        augment = self.params.evaluate.augment
        predicted = {
            name: log_probabilities(model, torch.from_numpy(images).to(device), augment).cpu().numpy()
            for name, images in (("held_out", held_out), ("test", self.images.test_images))
        }
        if not all(np.isfinite(values).all() for values in predicted.values()):
            whole = all(weight.isfinite().all() for weight in model.state_dict().values())
            # Training writes no weights that are not finite, so such a file was damaged later.
            damaged = "run `dvc repro -f -s train`"
            what = "lower train.lr, or mend the network in src/foldwise/learning/models.py" if whole else damaged
            raise FoldwiseError(f"{path} gives predictions that are not finite: {what}")
        return predicted


def model_path(directory: Path, fold: Fold) -> Path:
    """Where a fold's model is kept."""
    return directory / f"repeat-{fold.repeat}" / f"fold-{fold.fold}.safetensors"


def prepare(compute: Compute) -> "torch.device":
    """Set this process up to compute a fold to the same bytes each time, and give the device to do it on.

    Raises
    ------
    FoldwiseError
        If PyTorch does not see the device.
    """
    import torch

    torch.set_num_threads(compute.threads_per_fold)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which CUDA's deterministic matrix products ask for
    # The same as use_deterministic_algorithms(True), which would load PyTorch's compiler as well.
    torch.set_deterministic_debug_mode("error")
    # Filling fresh memory costs a fifteenth of the time, and nothing reads it before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[compute.device]:
        raise FoldwiseError(
            f"params.yaml: compute.device is {compute.device}, which PyTorch does not see here: set it to cpu"
        )
    return torch.device(compute.device)
