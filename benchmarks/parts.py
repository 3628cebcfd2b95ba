"""Parts of the train stage, each measured within one process; prints JSON.

The folder it runs in is a prepared copy of the checkout: `run.py` makes one.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from foldwise.base import params
from foldwise.base.files import Arrays
from foldwise.base.params import Params
from foldwise.data import images
from foldwise.data.folds import Fold, Folds, assign, load, save
from foldwise.data.images import Images
from foldwise.execution import engine
from foldwise.learning import models
from foldwise.learning.devices import prepare
from foldwise.learning.prediction import log_probabilities
from foldwise.learning.randomness import seed_torch, streams
from foldwise.learning.train_fold import TrainFold
from foldwise.learning.training import Samples, Training, fit


def _rate(images: int, work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return images / (time.perf_counter() - started)


@dataclass(frozen=True)
class Steps:
    """Images per second of one thread: the bare step, the training loop, prediction; in turn, so that drift cancels."""

    data: Images
    params: Params
    rounds: int
    steps: int

    def __call__(self, fold: Fold, job: object) -> Arrays:
        """Give one row per round: bare step, training loop, the same frozen and without augmentation, prediction."""
        prepare(self.params.compute)
        train = self.params.train.model_copy(
            update={
                "epochs": 2,
                "patience": 0,
                "importance_sampling": 1.0,
                "clean_epochs": 0,
                "freeze_first_layer_after": 1,
            }
        )
        plain = train.model_copy(update={"augment": ()})
        random = np.random.default_rng(0)
        n = self.steps * train.batch_size
        chosen = np.sort(random.choice(len(self.data.train_images), min(n, len(self.data.train_images)), replace=False))
        pixels = torch.from_numpy(self.data.train_images)
        labels = torch.from_numpy(self.data.train_labels)
        samples = Samples(pixels, labels, chosen, chosen[:16])
        batch = pixels[chosen[: train.batch_size]].contiguous(memory_format=torch.channels_last)
        targets = labels[chosen[: train.batch_size]]
        steps = math.ceil(len(chosen) / train.batch_size)

        def state() -> Training:
            seed_torch(streams(0, fold).weights)
            form, data = models.form_of(self.data), self.data
            return Training.start(models.build(self.params.model.name, form, data.mean, data.std), train)

        def bare(state: Training) -> None:
            state.model.train()
            for _ in range(steps):
                with torch.autocast("cpu", torch.bfloat16, enabled=train.precision == "bfloat16"):
                    logits = state.model(batch)
                    loss = functional.cross_entropy(logits, targets, label_smoothing=train.label_smoothing)
                state.model.zero_grad()
                loss.backward()
                state.optimizer.step()

        def loop(state: Training, recipe: params.Train) -> None:
            fit(state, samples, recipe, streams(0, fold), lambda _: None, until=len(state.epochs) + 1)

        rows = []
        for _ in range(self.rounds + 1):
            one, two, three = state(), state(), state()
            rows.append(
                [
                    _rate(steps * len(batch), lambda one=one: bare(one)),
                    _rate(len(chosen), lambda two=two: loop(two, train)),
                    _rate(len(chosen), lambda two=two: loop(two, train)),  # the second epoch
                    _rate(len(chosen), lambda three=three: loop(three, plain)),
                    _rate(len(chosen), lambda one=one: log_probabilities(one.model, pixels[chosen])),
                ]
            )
        return {"rates": np.array(rows[1:])}  # the first round warms up


def steps(chosen: Params, data: Images, rounds: int, steps: int) -> dict[str, float]:
    """Measure one thread's rates, in images per second; ratios are medians of the rounds' own."""
    task, compute = Steps(data, chosen, rounds, steps), chosen.compute.model_copy(update={"n_jobs": 1})
    ((_, arrays),) = engine.run(task, [Fold(0, 0)], compute)
    rates = arrays["rates"]
    bare, loop, frozen, plain, prediction = (float(rate) for rate in np.median(rates, axis=0))
    return {
        "bare": bare,
        "loop": loop,
        "loop_frozen": frozen,
        "loop_unaugmented": plain,
        "prediction": prediction,
        "loop_share": float(np.median(rates[:, 1] / rates[:, 0])),
    }


def workers(chosen: Params, data: Images, rounds: int) -> dict[str, float]:
    """Measure images per second of one epoch of four folds with one and with two workers, start-up aside."""
    cv = chosen.cv.model_copy(update={"k": 4})
    train = chosen.train.model_copy(update={"epochs": 1, "patience": 0})
    recipe = chosen.model_copy(update={"cv": cv, "train": train})
    few = replace(data, train_images=data.train_images[:400], train_labels=data.train_labels[:400])

    def seconds(data: Images, n_jobs: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            dealt = _deal(data, recipe, Path(folder))
            task = TrainFold(data, dealt, recipe, {})
            compute = chosen.compute.model_copy(update={"n_jobs": n_jobs})
            started = time.perf_counter()
            list(engine.run(task, list(dealt), compute, costs=task.costs))
            return time.perf_counter() - started

    def rate(n_jobs: int) -> float:
        # The few images take what starting the workers takes.
        images = (cv.k - 1) * (len(data.train_images) - len(few.train_images))
        return images / (seconds(data, n_jobs) - seconds(few, n_jobs))

    seconds(few, 1)  # loads PyTorch
    rates = [(rate(1), rate(2)) for _ in range(rounds)]
    return {
        "one_worker": statistics.median(one for one, _ in rates),
        "two_workers": statistics.median(two for _, two in rates),
        "two_to_one": statistics.median(two / one for one, two in rates),
    }


def _deal(data: Images, chosen: Params, folder: Path) -> Folds:
    save(folder, assign(np.asarray(data.train_labels), chosen.cv), chosen.cv)
    return load(folder, len(data.train_labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["steps", "workers"])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    chosen, data = params.load(Path("params.yaml")), images.load(Path("data/normalized"))
    if options.part == "steps":
        result = steps(chosen, data, *((3, 20) if options.quick else (15, 100)))
    else:
        if options.quick:
            data = replace(data, train_images=data.train_images[:8000], train_labels=data.train_labels[:8000])
        result = workers(chosen, data, 1 if options.quick else 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
