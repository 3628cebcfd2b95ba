"""The scores of one set of predictions."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import rankdata
from sklearn import metrics

from foldwise.data.folds import Fold

LogProbabilities = NDArray[np.floating]
Labels = NDArray[np.int64]

HEADLINE = ("accuracy", "f1_micro", "f1_macro", "log_loss", "roc_auc_macro")


def probabilities(log_probabilities: LogProbabilities) -> NDArray[np.float64]:
    """Turn float32 log-probabilities (n, classes) into float64 probabilities that add up to 1."""
    exact = log_probabilities.astype(np.float64)
    return np.asarray(np.exp(exact - logsumexp(exact, axis=1, keepdims=True)))


def log_odds(log_probabilities: LogProbabilities) -> NDArray[np.float64]:
    """Give each class's log-odds against all others, (n, classes): the score by which one class is ranked.

    A network's float32 log-probability is exactly 0 near probability 1, so the surest images would tie; those of the
    other classes still tell them apart.
    """
    exact = log_probabilities.astype(np.float64)
    none = np.full((len(exact), 1), -np.inf)
    before = np.logaddexp.accumulate(np.hstack([none, exact[:, :-1]]), axis=1)
    after = np.logaddexp.accumulate(np.hstack([none, exact[:, :0:-1]]), axis=1)[:, ::-1]
    return np.asarray(exact - np.logaddexp(before, after))


def area_under_curve(score: NDArray[np.floating], positive: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve of a score (n,), None where all images are positive or none is.

    The share of pairs, one positive and one not, that the score puts in order, ties as half: Mann and Whitney's U,
    from ranks. Turning score and `positive` round gives exactly the same. Source: Hanley and McNeil (1982), Radiology
    143.
    """
    count = int(positive.sum())
    pairs = count * (len(positive) - count)
    return float(rankdata(score)[positive].sum() - count * (count + 1) / 2) / pairs if pairs else None


def ensemble(log_probabilities: LogProbabilities) -> NDArray[np.float32]:
    """Average models' probabilities.

    Parameters
    ----------
    log_probabilities : (models, n, classes) float

    Returns
    -------
    (n, classes) float32
        Logarithm of the mean probability.
    """
    mean = logsumexp(log_probabilities.astype(np.float64), axis=0) - np.log(len(log_probabilities))
    return np.asarray(mean, dtype=np.float32)


def headline(log_probabilities: LogProbabilities, labels: Labels) -> dict[str, float | None]:
    """Score one set of predictions.

    Parameters
    ----------
    log_probabilities : (n, classes) float
        Natural logarithms.
    labels : (n,) int64

    Returns
    -------
    dict
        `n`, `errors`, and the `HEADLINE` scores: fractions, log loss in nats, and the mean one-vs-rest area under the
        ROC curve of those classes that have one, None where no class has.
    """
    predicted = log_probabilities.argmax(axis=1)
    areas = by_class(log_probabilities, labels).roc_auc.dropna()
    return {
        "n": len(labels),
        "errors": int((predicted != labels).sum()),
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "f1_micro": float(metrics.f1_score(labels, predicted, average="micro")),
        "f1_macro": float(metrics.f1_score(labels, predicted, average="macro", zero_division=0)),
        "log_loss": float(
            metrics.log_loss(labels, probabilities(log_probabilities), labels=np.arange(log_probabilities.shape[1]))
        ),
        "roc_auc_macro": float(areas.mean()) if len(areas) else None,
    }


def by_class(log_probabilities: LogProbabilities, labels: Labels) -> pd.DataFrame:
    """Score each class against the rest.

    Returns
    -------
    DataFrame
        One row per class: `class`, `support` (its images), `precision`, `recall`, `f1`, `roc_auc`; a score that cannot
        be had, for a class without images or predictions, is missing.
    """
    classes = np.arange(log_probabilities.shape[1])
    predicted = log_probabilities.argmax(axis=1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=np.nan
    )
    areas = [area_under_curve(odds, labels == label) for label, odds in enumerate(log_odds(log_probabilities).T)]
    return pd.DataFrame(
        {
            "class": classes,
            "support": support,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "roc_auc": np.array(areas, dtype=float),
        }
    )


def confusion(log_probabilities: LogProbabilities, labels: Labels) -> NDArray[np.int64]:
    """Count images by given class (row) and predicted class (column): (classes, classes)."""
    classes = log_probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + log_probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def of_model(
    fold: Fold,
    held_out: tuple[LogProbabilities, Labels],
    test: tuple[LogProbabilities, Labels],
) -> dict[str, pd.DataFrame]:
    """Score one fold's model.

    Parameters
    ----------
    fold : Fold
    held_out, test : log-probabilities (n, classes), labels (n,)

    Returns
    -------
    dict of DataFrame
        `folds`: one row, the scores on the held-out images, then those on the test images with `test_` before them;
        `classes`: one row per part and class; `confusion`: one row per part, given and predicted class.
    """
    place = fold._asdict()
    on_held_out, on_test = headline(*held_out), headline(*test)
    row = place | on_held_out | {f"test_{name}": on_test[name] for name in HEADLINE}
    parts = {"held_out": held_out, "test": test}
    classes = [by_class(*predicted).assign(images=part, **place) for part, predicted in parts.items()]
    counts = [
        {**place, "images": part, "actual": actual, "predicted": predicted, "count": count}
        for part, predictions in parts.items()
        for (actual, predicted), count in np.ndenumerate(confusion(*predictions))
    ]
    by_classes = pd.concat(classes)
    return {
        "folds": pd.DataFrame([row]).astype({"roc_auc_macro": float, "test_roc_auc_macro": float}),
        "classes": by_classes[["repeat", "fold", "images", *by_classes.columns.drop(["repeat", "fold", "images"])]],
        "confusion": pd.DataFrame(counts),
    }
