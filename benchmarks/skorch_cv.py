"""Foldwise's network and recipe in skorch's NeuralNetClassifier, under scikit-learn's cross_validate."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import arguments, folds, load, needed, report
from sklearn.model_selection import cross_validate
from torch import Tensor, nn
from torch.utils.data import default_collate

from foldwise.base import params
from foldwise.learning import models, networks
from foldwise.learning.augmentation import Augmentation, chained
from foldwise.learning.optimization import learning_rate, make_optimizer

with needed():
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Callback


class Network(nn.Module):
    def __init__(self, precision: str, **kwargs: Any) -> None:
        super().__init__()
        self.layers = models.build(**kwargs)
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = self.layers(images)
        return logits.float()


class Classifier(NeuralNetClassifier):
    def __init__(self, *args: Any, recipe: params.Train, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recipe = recipe

    def initialize_optimizer(self, *_: Any) -> "Classifier":
        self.optimizer_ = make_optimizer(self.module_, self.recipe)
        return self

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        self.module_.zero_grad()
        step = self.train_step_single(batch, **fit_params)
        self.optimizer_.step()
        return step


class Schedule(Callback):
    def __init__(self, recipe: params.Train, steps: int) -> None:
        self.recipe = recipe
        self.steps = steps

    def on_train_begin(self, net: Classifier, **_: Any) -> None:
        self.step = 0

    def on_batch_begin(self, net: Classifier, training: bool, **_: Any) -> None:
        if training:
            rate = learning_rate(self.step, self.steps, self.recipe.schedule, self.recipe.lr)
            for group in net.optimizer_.param_groups:
                group["lr"] = rate
            self.step += 1


def augmented(samples: list[Any], augment: Augmentation, random: np.random.Generator) -> list[Tensor]:
    images, labels = default_collate(samples)
    return [augment(images, random), labels]


def main() -> None:
    parser = arguments()
    parser.add_argument("--n-jobs", type=int, default=1)
    options = parser.parse_args()
    configured = params.load(Path("params.yaml"))
    train = configured.train
    epochs = options.epochs or train.epochs
    images, labels = load()
    splits = folds(labels)[: options.folds]
    steps = math.ceil(len(splits[0][0]) / train.batch_size) * epochs
    torch.manual_seed(0)
    net = Classifier(
        Network,
        recipe=train,
        module__name=configured.model.name,
        module__form=networks.ImageForm(1, 28, 28, 10, 2),
        module__mean=(0.1307,),
        module__std=(0.3081,),
        module__precision=train.precision,
        criterion=nn.CrossEntropyLoss,
        criterion__label_smoothing=train.label_smoothing,
        max_epochs=epochs,
        batch_size=train.batch_size,
        iterator_train__shuffle=True,
        iterator_train__collate_fn=partial(augmented, augment=chained(train.augment), random=np.random.default_rng(0)),
        callbacks=[Schedule(train, steps)],
        train_split=None,
        verbose=0,
    )
    scores = cross_validate(net, images, labels, cv=splits, scoring="accuracy", n_jobs=options.n_jobs)
    report(scores["test_score"])


if __name__ == "__main__":
    main()
