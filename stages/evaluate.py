"""Let each fold's model predict its held-out fold and the test set, and score both."""

from pathlib import Path

import numpy as np
import pandas as pd

from foldwise.base import console, files
from foldwise.base.params import Params
from foldwise.data.folds import load as load_folds
from foldwise.data.images import load as load_images
from foldwise.data.images import load_tables
from foldwise.evaluation.scores import by_image, of_model
from foldwise.execution import engine
from foldwise.learning import frozen
from foldwise.learning.predict_fold import PredictFold


def evaluate(
    params: Params, *, normalized: Path, folds: Path, features: Path, models: Path, predictions: Path, scores: Path
) -> None:
    """Write all predictions, and the scores of each fold's model."""
    data = load_images(normalized)
    splits = load_folds(folds, len(data.train_labels))
    order = list(splits)
    n_train, n_test, classes = len(data.train_labels), len(data.test_labels), len(data.classes)
    console.say(f"evaluate: {len(order)} models on their held-out images and {n_test} test images")
    out_of_fold = np.empty((splits.description.repeats, n_train, classes), dtype=np.float32)
    test = np.empty((len(order), n_test, classes), dtype=np.float32)
    task = PredictFold(data, splits, params, frozen.read(features))
    for fold, arrays in engine.run(
        task, order, params.compute, inputs=lambda fold: (files.read_arrays(fold.within(models)),)
    ):
        out_of_fold[fold.repeat, splits.held_out(fold)] = arrays["held_out"]
        if n_test:
            test[order.index(fold)] = arrays["test"]
    tables = []
    for fold, on_test in zip(order, test, strict=True):
        held_out = splits.held_out(fold)
        on_held_out = out_of_fold[fold.repeat, held_out], data.train_labels[held_out]
        tables.append(of_model(fold, on_held_out, (on_test, data.test_labels) if n_test else None))
    files.write_array(predictions / "out_of_fold.npy", out_of_fold)
    known = load_tables(normalized, data)
    files.write_csv(
        predictions / "out_of_fold.csv",
        by_image(out_of_fold, data.train_labels, data.classes, splits.assignments, known[0] if known else None),
    )
    files.write_array(predictions / "test.npy", test)
    for name in tables[0]:
        files.write_csv(scores / f"{name}.csv", pd.concat([of_fold[name] for of_fold in tables]))
