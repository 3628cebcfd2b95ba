"""What in a run's results is probably not meant, each in one line with what to do about it."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2_contingency

from foldwise.data.folds import Fold
from foldwise.data.units import effective_number
from foldwise.evaluation.results import OUT_OF_FOLD, Results
from foldwise.evaluation.scores import Labels, LogProbabilities

Units = NDArray[np.int64]

# Probability of a test's false alarm.
RARE = 1e-3
# A chi-square test of counts needs so many in each cell.
FEWEST = 5
# Errors of the worst fold, in those of the median one: less is what models differ by from seed to seed.
UNLIKE = 1.5
# Share that images are worth at least where hardly one depends on another.
ALONE = 0.95
# The calibration error is biased upwards; of fewer images it says little.
ENOUGH = 500
UNCALIBRATED = 0.1
# Errors that the surest answers may have, and have where most errors are the labels', in those of all answers.
WRONG_LABELS, EVENNESS = 0.03, 0.6


def findings(results: Results, summary: dict[str, Any]) -> list[str]:
    """Give a line for each thing that is probably not meant; none where all is well.

    Parameters
    ----------
    results : Results
    summary : dict
        As `summarize` gives it.
    """
    predictions, labels = results.predictions()[OUT_OF_FOLD]
    units = results.folds.units
    useless = list(_useless(predictions, labels, results.classes, units))
    found = [*useless, *_rising(results.epochs)]
    if effective_number(units) > ALONE * len(units):  # groups differ by more than what chance does to images
        found += _unlike(results.scores)
    if not useless:
        found += _contradicted(predictions, labels, units)
    if len(labels) >= ENOUGH:
        found += _uncalibrated(summary["out_of_fold"])
    return found


def _useless(predictions: LogProbabilities, labels: Labels, classes: Sequence[str], units: Units) -> Iterator[str]:
    counts = np.bincount(labels)
    commonest = int(counts.argmax())
    right, share = predictions.argmax(axis=1) == labels, counts[commonest] / len(labels)
    if binomtest(*_counted(right, units), share, alternative="greater").pvalue > RARE:
        yield (
            f"the accuracy out of fold, {right.mean():.4f}, is not clearly above that of always saying "
            f"{classes[commonest]}, the commonest class, {share:.4f}: raise train.epochs, or lower train.lr or "
            "train.weight_decay"
        )


def _rising(epochs: pd.DataFrame) -> Iterator[str]:
    """Folds whose loss on the images that they train on is higher in the end than after the first epoch."""
    by_fold = epochs.sort_values("epoch").groupby(["repeat", "fold"])["train_loss"]
    first, last = by_fold.first(), by_fold.last()
    if count := int((last > first).sum()):
        worst = int((last - first).to_numpy().argmax())
        fold = Fold(*first.index[worst])
        yield (
            f"the training loss of {count} of {len(first)} folds rose, of {fold} from {first.iloc[worst]:.4f} to "
            f"{last.iloc[worst]:.4f}: lower train.lr"
        )


def _unlike(folds: pd.DataFrame) -> Iterator[str]:
    """The first repeat in which the worst fold errs far more than others, and more than chance explains."""
    for _, rows in folds.groupby("repeat"):
        right = (rows["n"] * rows["accuracy"]).round()
        table = np.array([right, rows["n"] - right])
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
        errors = 1 - rows["accuracy"]
        if expected.min() < FEWEST or errors.max() < UNLIKE * errors.median():
            continue
        p = chi2_contingency(table, correction=False).pvalue
        if p < RARE / folds["repeat"].nunique():
            low, middle = rows["accuracy"].min(), rows["accuracy"].median()
            yield (
                f"the worst fold's accuracy, {low:.4f}, is further below the median, {middle:.4f}, than chance "
                "explains: training does not always succeed (lower train.lr), or that fold holds a kind of its own"
            )
            return


def _contradicted(predictions: LogProbabilities, labels: Labels, units: Units) -> Iterator[str]:
    """Labels that are wrong at random: unlike hard images, they meet the surest answers nearly as often as others."""
    wrong = predictions.argmax(axis=1) != labels
    surest = np.argsort(-predictions.max(axis=1), kind="stable")[: max(1, len(labels) // 10)]
    share = wrong[surest].mean()
    test = binomtest(*_counted(wrong[surest], units[surest]), WRONG_LABELS, alternative="greater")
    if test.pvalue < RARE and share > EVENNESS * wrong.mean():
        yield (
            f"{share:.1%} of the labels contradict even the tenth of the answers that the models are surest of, so "
            "about as many may be wrong: plots/images/label_suspicion.png shows the likeliest"
        )


def _counted(hits: NDArray[np.bool_], units: Units) -> tuple[int, int]:
    """Give hits and trials of a binomial test: images, or as many as they are worth where they depend on each other."""
    trials = max(1, round(effective_number(units)))
    return round(float(hits.mean()) * trials), trials


def _uncalibrated(out_of_fold: dict[str, Any]) -> Iterator[str]:
    if (error := out_of_fold["calibration_error"]) > UNCALIBRATED and "rescaled" not in out_of_fold:
        yield (
            f"the calibration error is {error:.3f}, so probabilities mean little as they are: "
            "`-S evaluate.temperature=true` reports them rescaled too"
        )
