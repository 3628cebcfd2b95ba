"""The headline numbers of a run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from foldwise.evaluation import calibration, scores
from foldwise.evaluation.results import ENSEMBLE, Results
from foldwise.evaluation.scores import Labels, LogProbabilities, Score


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
        `cv`: mean and standard deviation over the folds, for the accuracy and the primary score also the corrected
        95 % interval of the mean; `out_of_fold`: all held-out predictions pooled, those of every repeat; `test`, if
        there is one: each fold's model, their ensemble, and the ensemble `apart` from images whose copy or group is in
        training, if there are any. Fractions, log loss in nats, to nine decimals; None where a score cannot be
        had, and for the interval of one that fewer than two folds have.
    """
    names = ("n", "errors", "accuracy", "f1_macro", "f1_micro", "log_loss")
    out_of_fold = pooled(pool(results.out_of_fold, results.labels), names)
    if rescaled:
        temperature = rounded({"temperature": rescaled.temperature})
        out_of_fold["rescaled"] = pooled(pool(rescaled.out_of_fold, rescaled.labels), ("log_loss",)) | temperature
    over_folds = {score.name: _over_folds(results, score) for score in results.shown}
    summary = {"cv": over_folds, "out_of_fold": out_of_fold}
    return summary | ({"test": _on_test(results, rescaled)} if len(results.test_labels) else {})


def recalibrate(results: Results) -> Results:
    """Rescale each model's predictions by a temperature, fitted out of fold so that no label is fitted to itself."""
    rescaled, _ = calibration.cross_fit_temperature(results.out_of_fold, results.labels, results.folds.assignments)
    temperature = calibration.fit_temperature(*pool(results.out_of_fold, results.labels))
    test = calibration.apply_temperature(
        results.test, temperature
    )  # each model's, as it was fitted, before they are averaged
    return replace(
        results, out_of_fold=rescaled.astype(np.float32), test=test.astype(np.float32), temperature=temperature
    )


def pool(out_of_fold: LogProbabilities, labels: Labels) -> tuple[LogProbabilities, Labels]:
    """All held-out predictions of all repeats, (repeats * N, classes), and their labels."""
    return out_of_fold.reshape(-1, out_of_fold.shape[2]), np.tile(labels, len(out_of_fold))


def _over_folds(results: Results, score: Score) -> dict[str, Any]:
    """Mean and standard deviation of a score, with the interval where it is the accuracy or the primary score."""
    spread = _spread(results, score.name)
    if score.name != "accuracy" and score != results.primary:
        return spread
    estimate = results.estimate(score)
    low, high = estimate.interval(bounds=score.bounds) if estimate else (None, None)
    return spread | rounded({"ci95_low": low, "ci95_high": high})


def _spread(results: Results, column: str) -> dict[str, Any]:
    """Mean and sample standard deviation of one column of the folds' scores, over the folds that have it."""
    known = results.scores[column].dropna()
    mean, std = known.mean() if len(known) else None, known.std() if len(known) > 1 else None
    return rounded({"mean": mean, "std": std})


def _on_test(results: Results, rescaled: Results | None) -> dict[str, Any]:
    predictions, labels = results.predictions()[ENSEMBLE]
    ensemble = pooled((predictions, labels), ("accuracy", "errors", "log_loss"))
    if rescaled:
        ensemble["rescaled"] = pooled(rescaled.predictions()[ENSEMBLE], ("log_loss",))
    found = {"accuracy": _spread(results, "test_accuracy"), "ensemble": ensemble}
    apart = results.test_apart
    if 0 < apart.sum() < len(apart):
        found["apart"] = pooled((predictions[apart], labels[apart]), ("n", "errors", "accuracy"))
    return found


def pooled(predictions: tuple[LogProbabilities, Labels], names: tuple[str, ...]) -> dict[str, Any]:
    """Give some scores of log-probabilities (n, classes) and labels (n,), and the calibration error."""
    values = scores.headline(*predictions)
    error = calibration.reliability(*predictions).calibration_error
    return rounded({name: values[name] for name in names} | {"calibration_error": error})


def rounded(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Round to nine decimals, which are far below any noise, and spare the reader 0.12473111299999999."""
    return {name: value if value is None else round(value, 9) for name, value in numbers.items()}
