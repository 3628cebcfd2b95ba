"""The headline numbers of a run."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.evaluation import scores
from foldwise.evaluation.calibration import (
    apply_temperature,
    cross_fit_temperature,
    fit_temperature,
    reliability,
)
from foldwise.evaluation.inference import mean_interval
from foldwise.evaluation.results import Results


def summarize(results: Results, rescaled: Results | None = None) -> dict[str, Any]:
    """Put a run into the nested numbers of `metrics/summary.json`.

    Parameters
    ----------
    results : Results
    rescaled : Results, optional
        The same as `recalibrate` gave them, whose calibration and temperature are then reported beside.

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
    out_of_fold, ensemble = _pooled(_pool(results), names), _ensemble(results, ("accuracy", "errors", "log_loss"))
    if rescaled:
        temperature = _rounded({"temperature": rescaled.temperature})
        out_of_fold["rescaled"] = _pooled(_pool(rescaled), ("log_loss",)) | temperature
        ensemble["rescaled"] = _ensemble(rescaled, ("log_loss",))
    return {
        "cv": {"accuracy": _rounded(accuracy), **{name: _spread(results, name) for name in scores.HEADLINE[2:]}},
        "out_of_fold": out_of_fold,
        "test": {"accuracy": _spread(results, "test_accuracy"), "ensemble": ensemble},
    }


def recalibrate(results: Results) -> Results:
    """Rescale each model's predictions by a temperature, fitted out of fold so that no label is fitted to itself."""
    rescaled, _ = cross_fit_temperature(results.out_of_fold, results.labels, results.assignments)
    temperature = fit_temperature(*_pool(results))
    test = apply_temperature(results.test, temperature)  # each model's, as it was fitted, before they are averaged
    return replace(
        results, out_of_fold=rescaled.astype(np.float32), test=test.astype(np.float32), temperature=temperature
    )


def _pool(results: Results) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All held-out predictions of all repeats, (repeats * N, classes), and their labels."""
    repeats = len(results.out_of_fold)
    return results.out_of_fold.reshape(-1, len(results.classes)), np.tile(results.labels, repeats)


def _spread(results: Results, column: str) -> dict[str, Any]:
    """Mean and sample standard deviation of one column of the folds' scores, over the folds that have it."""
    known = results.scores[column].dropna()
    mean, std = known.mean() if len(known) else None, known.std() if len(known) > 1 else None
    return _rounded({"mean": mean, "std": std})


def _ensemble(results: Results, names: tuple[str, ...]) -> dict[str, Any]:
    return _pooled((scores.ensemble(results.test), results.test_labels), names)


def _pooled(answered: tuple[NDArray[Any], NDArray[np.int64]], names: tuple[str, ...]) -> dict[str, Any]:
    found = scores.headline(*answered)
    error = reliability(*answered).calibration_error
    return _rounded({name: found[name] for name in names} | {"calibration_error": error})


def _rounded(numbers: dict[str, Any]) -> dict[str, Any]:
    # Nine decimals are far below any noise, and spare the reader 0.12473111299999999.
    return {name: value if value is None else round(value, 9) for name, value in numbers.items()}
