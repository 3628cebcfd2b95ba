"""Results of a run as `train` and `evaluate` leave them, made up: for tests of what is made of them."""

import numpy as np
import pandas as pd

from foldwise.data.folds import Description, Folds, digest
from foldwise.evaluation.results import Results


def small_results(
    *, n=120, n_test=60, classes=("a", "b", "c"), k=3, repeats=1, epochs=4, steps=40, mistakes=0.2, seed=0, units=None
) -> Results:
    """Make up a run in which about `mistakes` of the answers are wrong.

    `units` (n + n_test,) are those of training and test images; without them each is on its own.
    """
    random = np.random.default_rng(seed)

    def predict(labels):
        answers = np.where(random.random(len(labels)) < mistakes, (labels + 1) % len(classes), labels)
        certainty = random.uniform(0.6, 0.999, len(labels))
        probabilities = np.repeat((1 - certainty)[:, None] / (len(classes) - 1), len(classes), axis=1)
        probabilities[np.arange(len(labels)), answers] = certainty
        return np.log(probabilities).astype(np.float32)

    labels, test_labels = (np.arange(count) % len(classes) for count in (n, n_test))
    assignments = np.stack([random.permutation(np.arange(n) % k) for _ in range(repeats)]).astype(np.int32)
    described = Description(strategy="kfold", k=k, repeats=repeats, seed=seed, sha256=digest(assignments))
    out_of_fold = np.stack([predict(labels) for _ in range(repeats)])
    test = np.stack([predict(test_labels) for _ in range(repeats * k)])
    order = [(repeat, fold) for repeat in range(repeats) for fold in range(k)]
    rows = []
    for repeat, fold in order:
        held_out = assignments[repeat] == fold
        count, answers = int(held_out.sum()), out_of_fold[repeat][held_out]
        accuracy = float((answers.argmax(axis=1) == labels[held_out]).mean())
        log_loss = float(-answers[np.arange(count), labels[held_out]].mean())
        area = 1 - (1 - accuracy) / 10 if count > 1 else np.nan
        rows.append((repeat, fold, count, accuracy, accuracy, log_loss, area))
    curves = [(r, f, e, 0.5 / e, 1 - 0.2 / e, 0.6 / e, 1 - 0.3 / e) for r, f in order for e in range(1, epochs + 1)]
    losses = [(r, f, step, 2 / step + 0.01 * f) for r, f in order for step in range(1, steps + 1)]
    names = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    return Results(
        epochs=pd.DataFrame(curves, columns=["repeat", "fold", "epoch", *names]),
        steps=pd.DataFrame(losses, columns=["repeat", "fold", "step", "loss"]),
        scores=pd.DataFrame(rows, columns=["repeat", "fold", "n", "accuracy", "f1_macro", "log_loss", "roc_auc_macro"]),
        folds=Folds(assignments, described, units),
        labels=labels,
        classes=list(classes),
        out_of_fold=out_of_fold,
        test=test,
        test_labels=test_labels,
    )
