"""The headline numbers of a run."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise import scores
from foldwise.results import ENSEMBLE, OUT_OF_FOLD, Predictions, Results
from foldwise.statistics import apply_temperature, cross_fit_temperature, fit_temperature, mean_interval, reliability

RESCALED = ", one temperature"  # behind the name of predictions that were rescaled


def summarize(results: Results, rescaled: Predictions) -> dict[str, Any]:
    """Put a run into the nested numbers of `metrics/summary.json`.

    Parameters
    ----------
    results : Results
    rescaled : mapping
        What `recalibrate` gave, or empty.

    Returns
    -------
    dict
        `cv`: mean and standard deviation over the folds, with the corrected 95 % interval of the mean accuracy;
        `out_of_fold`: all held-out predictions pooled, those of every repeat; `test`: each fold's model, and their
        ensemble. Fractions, log loss in nats, to nine decimals; None where a score cannot be had.
    """
    k = int(results.assignments.max()) + 1
    accuracies = results.scores["accuracy"].to_numpy()
    interval = mean_interval(accuracies, 1 / (k - 1), resolution=1 / int(results.scores["n"].min()), clip=True)
    accuracy = {"mean": interval.mean, "std": interval.std, "ci95_low": interval.low, "ci95_high": interval.high}
    names = ("n", "errors", "accuracy", "f1_macro", "f1_micro", "log_loss")
    return {
        "cv": {"accuracy": _rounded(accuracy), **{name: _spread(results, name) for name in scores.HEADLINE[2:]}},
        "out_of_fold": _pooled(*_pool(results), names) | _calibration(rescaled, OUT_OF_FOLD),
        "test": {
            "accuracy": _spread(results, "test_accuracy"),
            "ensemble": _pooled(*results.predictions()[ENSEMBLE], ("accuracy", "errors", "log_loss"))
            | _calibration(rescaled, ENSEMBLE),
        },
    }


def recalibrate(results: Results) -> Predictions:
    """Rescale both sets of predictions by a temperature, fitted out of fold so that no label is fitted to itself."""
    rescaled, _ = cross_fit_temperature(results.out_of_fold, results.labels, results.assignments)
    temperature = fit_temperature(*_pool(results))
    return {
        OUT_OF_FOLD + RESCALED: (scores.ensemble(rescaled), results.labels),
        # Each model is rescaled, as it was fitted, before they are averaged.
        ENSEMBLE + RESCALED: (scores.ensemble(apply_temperature(results.test, temperature)), results.test_labels),
    }


def _pool(results: Results) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All held-out predictions of all repeats, (repeats * N, classes), and their labels."""
    repeats = len(results.out_of_fold)
    return results.out_of_fold.reshape(-1, len(results.classes)), np.tile(results.labels, repeats)


def _spread(results: Results, column: str) -> dict[str, Any]:
    """Mean and sample standard deviation of one column of the folds' scores, over the folds that have it."""
    known = results.scores[column].dropna()
    mean, std = known.mean() if len(known) else None, known.std() if len(known) > 1 else None
    return _rounded({"mean": mean, "std": std})


def _pooled(predictions: NDArray[Any], labels: NDArray[np.int64], names: tuple[str, ...]) -> dict[str, Any]:
    found = scores.headline(predictions, labels)
    error = reliability(predictions, labels).calibration_error
    return _rounded({name: found[name] for name in names} | {"calibration_error": error})


def _calibration(rescaled: Predictions, name: str) -> dict[str, Any]:
    found = rescaled.get(name + RESCALED)
    return {"rescaled": _pooled(*found, ("log_loss",))} if found else {}


def _rounded(numbers: dict[str, Any]) -> dict[str, Any]:
    # Nine decimals are far below any noise, and spare the reader 0.12473111299999999.
    return {name: value if value is None else round(value, 9) for name, value in numbers.items()}
