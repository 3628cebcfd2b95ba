"""A model's folder as the stage `final` makes it, of networks that nobody has trained."""

from pathlib import Path

import numpy as np
import torch

from foldwise.data.folds import Description, Folds, digest
from foldwise.delivery import making
from foldwise.evaluation import scores
from foldwise.learning import prediction, starting


def write(folder: Path, params, data, members=("",)) -> Path:
    """Make a model of one network, or of several that are averaged, by the recipe of `params`."""
    weights, test = {}, []
    for number, member in enumerate(members):
        torch.manual_seed(number)
        model = starting.fresh(params, data).eval()
        weights[member] = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        images = torch.from_numpy(np.array(data.test_images))
        test.append(prediction.log_probabilities(model, images, params.evaluate.augment).numpy())
    labels, classes = data.train_labels, len(data.classes)
    assignments = np.arange(len(labels), dtype=np.int32)[np.newaxis] % 2
    description = Description(strategy="kfold", k=2, repeats=1, seed=0, sha256=digest(assignments))
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
    for name, content in making.make(params, data, Folds(assignments, description), weights, known).items():
        (folder / name).write_bytes(content)
    return folder
