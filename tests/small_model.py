"""A model's folder as the stage `final` makes it."""

from pathlib import Path

import numpy as np
import torch

from foldwise.data.folds import WHOLE, Description, Fold, Folds, digest
from foldwise.delivery import making
from foldwise.evaluation import scores
from foldwise.execution.jobs import Job
from foldwise.execution.schedule import deal
from foldwise.learning import models, prediction, starting
from foldwise.learning.train_fold import TrainFold


def write(folder: Path, params, data, members=("",), *, is_trained=False) -> Path:
    """Make a model of one network, or of several that are averaged, by the recipe of `params` or with fresh weights."""
    labels, classes, k = data.train_labels, len(data.classes), max(2, len(members))
    assignments = np.arange(len(labels), dtype=np.int32)[np.newaxis] % k
    folds = Folds(assignments, Description(strategy="kfold", k=k, repeats=1, seed=0, sha256=digest(assignments)))
    task = TrainFold(data, folds, params, {})
    weights, test = {}, []
    for number, member in enumerate(members):
        torch.manual_seed(number)
        model = starting.fresh(params, data)
        if is_trained:
            fold = WHOLE if len(members) == 1 else Fold(0, number)
            trained = task(fold, Job(fold, deal(1, 1)[0], 1, task.costs))
            models.load_weights(model, {name: trained[name] for name in model.state_dict()})
        weights[member] = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        images = torch.from_numpy(np.array(data.test_images))
        test.append(prediction.log_probabilities(model, images, params.evaluate.augment).numpy())
    logits = np.random.default_rng(0).normal(size=(1, len(labels), classes)).astype(np.float32)
    known = making.Known(
        out_of_fold=torch.log_softmax(torch.from_numpy(logits), dim=2).numpy(),
        test=scores.ensemble(np.stack(test)),
        accuracy={"mean": 0.1, "std": 0.01, "ci95_low": 0.05, "ci95_high": 0.15},
        audit=["pairs of images that look alike: 2"],
        epochs=params.train.epochs,
    )
    kind = "refit" if len(members) == 1 else "ensemble"
    params = params.model_copy(update={"final": params.final.model_copy(update={"model": kind})})
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in making.make(params, data, folds, weights, known).items():
        (folder / name).write_bytes(content)
    return folder
