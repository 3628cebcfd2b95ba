"""The headline numbers of a run."""

from typing import Any

import numpy as np

from foldwise import scores
from foldwise.statistics import mean_interval, reliability
from foldwise.tables import Results


def summarize(results: Results) -> dict[str, Any]:
    """Put a run into the nested numbers of `metrics/summary.json`.

    Returns
    -------
    dict
        `cv`: mean and standard deviation over the folds, with the corrected 95 % interval of the mean accuracy;
        `out_of_fold`: all held-out predictions pooled, those of every repeat; `test`: each fold's model, and their
        ensemble. Fractions, log loss in nats; None where a score cannot be had.
    """
    return {
        "cv": {"accuracy": _accuracy(results), **{name: _spread(results, name) for name in scores.HEADLINE[2:]}},
        "out_of_fold": _pooled(
            results.out_of_fold.reshape(-1, len(results.classes)),
            np.tile(results.labels, len(results.out_of_fold)),
            ("n", "errors", "accuracy", "f1_macro", "f1_micro", "log_loss"),
        ),
        "test": {
            "accuracy": _spread(results, "test_accuracy"),
            "ensemble": _pooled(scores.ensemble(results.test), results.test_labels, ("accuracy", "errors", "log_loss")),
        },
    }


def _spread(results: Results, column: str) -> dict[str, float | None]:
    """Mean and sample standard deviation of one column of the folds' scores, over the folds that have it."""
    known = results.scores[column].dropna()
    return {
        "mean": float(known.mean()) if len(known) else None,
        "std": float(known.std()) if len(known) > 1 else None,
    }


def _accuracy(results: Results) -> dict[str, float | None]:
    k = int(results.assignments.max()) + 1
    known = results.scores["accuracy"].to_numpy()
    smallest = int(results.scores["n"].min())
    interval = mean_interval(known, 1 / (k - 1), resolution=1 / smallest, clip=True)
    return {"mean": interval.mean, "std": interval.std, "ci95_low": interval.low, "ci95_high": interval.high}


def _pooled(predictions: Any, labels: Any, names: tuple[str, ...]) -> dict[str, float | None]:
    found = scores.headline(predictions, labels)
    return {name: found[name] for name in names} | {
        "calibration_error": reliability(predictions, labels).calibration_error
    }


def describe(summary: dict[str, Any]) -> str:
    """Put the headline numbers in a few lines for the console."""
    cv, pooled, test = summary["cv"]["accuracy"], summary["out_of_fold"], summary["test"]
    return "\n".join(
        (
            f"accuracy over folds  {cv['mean']:.4f}, 95 % interval {cv['ci95_low']:.4f} to {cv['ci95_high']:.4f}",
            f"out of fold          {pooled['accuracy']:.4f}, {pooled['errors']} errors in {pooled['n']} images, "
            f"log loss {pooled['log_loss']:.4f}",
            f"test set             {test['accuracy']['mean']:.4f} a model, {test['ensemble']['accuracy']:.4f} averaged "
            f"({test['ensemble']['errors']} errors)",
        )
    )
