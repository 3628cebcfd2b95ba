"""What in a run's results is probably not meant, each in one line with what to do about it."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency

from foldwise.data.folds import Fold
from foldwise.evaluation import calibration, scores
from foldwise.evaluation.results import OUT_OF_FOLD, Results
from foldwise.evaluation.scores import Labels, LogProbabilities

# Chance gives a false alarm in one of so many runs.
RARE = 1e-3
# A chi-square test of counts needs so many in each cell.
FEWEST = 5
UNCALIBRATED = 0.1
CONTRADICTED = 0.05


def findings(results: Results, is_rescaled: bool) -> list[str]:
    """Give a line for each thing that is probably not meant; none where all is well.

    Parameters
    ----------
    results : Results
    is_rescaled : bool
        Whether calibration is reported after a temperature too.
    """
    predictions, labels = results.predictions()[OUT_OF_FOLD]
    found = [
        *_useless(predictions, labels, results),
        *_rising(results.epochs),
        *_unlike(results.scores),
        *_contradicted(predictions, labels),
    ]
    error = calibration.reliability(predictions, labels).calibration_error
    if error > UNCALIBRATED and not is_rescaled:
        found.append(
            f"the calibration error is {error:.3f}, so probabilities mean little as they are: "
            "`-S evaluate.temperature=true` reports them rescaled too"
        )
    return found


def _useless(predictions: LogProbabilities, labels: Labels, results: Results) -> Iterator[str]:
    counts = np.bincount(labels)
    commonest = int(counts.argmax())
    accuracy, share = float((predictions.argmax(axis=1) == labels).mean()), counts[commonest] / len(labels)
    if accuracy <= share:
        yield (
            f"the accuracy out of fold, {accuracy:.4f}, is no better than that of always saying "
            f"{results.classes[commonest]}, the commonest class, {share:.4f}: lower train.lr or train.weight_decay, or "
            "set train.selective_backprop to 1"
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
    """Repeats in which the numbers of errors of the folds differ by more than chance, by a chi-square test."""
    for _, rows in folds.groupby("repeat"):
        right = (rows["n"] * rows["accuracy"]).round()
        table = np.array([right, rows["n"] - right])
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
        if expected.min() < FEWEST:
            continue
        p = chi2_contingency(table, correction=False).pvalue
        if p < RARE / folds["repeat"].nunique():
            low, high = rows["accuracy"].min(), rows["accuracy"].max()
            yield (
                f"the accuracies of the folds, {low:.4f} to {high:.4f}, differ by more than chance (p {p:.0e}): training "
                "does not always succeed, then lower train.lr; or a fold holds images of a kind that others lack"
            )
            return


def _contradicted(predictions: LogProbabilities, labels: Labels) -> Iterator[str]:
    """Images whose label models that did not see them contradict with more confidence than they have in right ones.

    Source: the thresholds of confident learning, Northcutt, Jiang and Chuang (2021), section 3.1.
    """
    probabilities = scores.probabilities(predictions)
    confidence = [probabilities[labels == label, label].mean() for label in np.unique(labels)]
    thresholds = np.ones(probabilities.shape[1])
    thresholds[np.unique(labels)] = confidence
    top = probabilities.argmax(axis=1)
    share = ((top != labels) & (probabilities.max(axis=1) >= thresholds[top])).mean()
    if share > CONTRADICTED:
        yield (
            f"the models contradict {share:.1%} of the labels with confidence: some may be wrong; "
            "plots/images/label_suspicion.png shows the likeliest"
        )
