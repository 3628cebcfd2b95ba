"""The scores of one set of predictions, and what there is to know of each score: one table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import rankdata
from sklearn import metrics

from foldwise.data.folds import Fold

LogProbabilities = NDArray[np.floating]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """One way to score predictions.

    Attributes
    ----------
    name : str
        Its column in `scores/folds.csv`.
    title : str
        Its name in plots and tables.
    function : callable
        Takes log-probabilities (n, classes) and labels (n,); gives None where the score is undefined.
    greater_is_better : bool
    bounds : tuple of float
        Lowest and highest possible value.
    counts_answers : bool
        Whether it only depends on which answers are right: then one image of n is its smallest step.
    scale : int
        What a value is multiplied by to be shown: 100 for per cent.
    unit : str
        Of a difference as it is shown.
    decimals : int
        How many are shown.
    always_shown : bool
        Whether plots and tables show it also where it is not the primary score.
    of_image : callable, optional
        Takes what `function` takes, gives (n,) float64 whose mean is the score; of none that is no mean over images.
    """

    name: str
    title: str
    function: Callable[[LogProbabilities, Labels], float | None]
    greater_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    counts_answers: bool = True
    scale: int = 100
    unit: str = "points"
    decimals: int = 2
    always_shown: bool = True
    of_image: Callable[[LogProbabilities, Labels], NDArray[np.float64]] | None = None

    @property
    def heading(self) -> str:
        """The title, with the direction where lower is better."""
        return self.title if self.greater_is_better else f"{self.title} (lower is better)"

    @property
    def sign(self) -> int:
        """What a difference is multiplied by so that an improvement is positive."""
        return 1 if self.greater_is_better else -1

    def step(self, n: int) -> float:
        """Smallest difference between two values on n images; 0 where there is none."""
        return 1 / n if self.counts_answers else 0.0


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


def _areas(log_probabilities: LogProbabilities, labels: Labels) -> list[float | None]:
    return [area_under_curve(odds, labels == label) for label, odds in enumerate(log_odds(log_probabilities).T)]


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
    areas = np.array(_areas(log_probabilities, labels), dtype=float)
    columns = {"support": support, "precision": precision, "recall": recall, "f1": f1, "roc_auc": areas}
    return pd.DataFrame({"class": classes, **columns})


def confusion(log_probabilities: LogProbabilities, labels: Labels) -> NDArray[np.int64]:
    """Count images by given class (row) and predicted class (column): (classes, classes)."""
    classes = log_probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + log_probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _from_answers(metric: Callable[..., float], **options: object) -> Callable[[LogProbabilities, Labels], float]:
    return lambda log_probabilities, labels: float(metric(labels, log_probabilities.argmax(axis=1), **options))


def _right(log_probabilities: LogProbabilities, labels: Labels) -> NDArray[np.float64]:
    return np.asarray(log_probabilities.argmax(axis=1) == labels, dtype=np.float64)


def _loss(log_probabilities: LogProbabilities, labels: Labels) -> NDArray[np.float64]:
    of_label = probabilities(log_probabilities)[np.arange(len(labels)), labels]
    return -np.log(np.maximum(of_label, np.finfo(np.float64).eps))  # as scikit-learn has it


def _balanced_accuracy(labels: Labels, predicted: NDArray[np.int64]) -> float:
    # scikit-learn's own warns where a class is predicted that has no images.
    return float(metrics.recall_score(labels, predicted, labels=np.unique(labels), average="macro"))


def _log_loss(log_probabilities: LogProbabilities, labels: Labels) -> float:
    classes = np.arange(log_probabilities.shape[1])
    return float(metrics.log_loss(labels, probabilities(log_probabilities), labels=classes))


def _roc_auc_macro(log_probabilities: LogProbabilities, labels: Labels) -> float | None:
    """Mean one-vs-rest area of those classes that have one."""
    known = [area for area in _areas(log_probabilities, labels) if area is not None]
    return float(np.mean(known)) if known else None


SCORES = {
    score.name: score
    for score in (
        Score("accuracy", "accuracy", _from_answers(metrics.accuracy_score), of_image=_right),
        Score("balanced_accuracy", "balanced accuracy", _from_answers(_balanced_accuracy), always_shown=False),
        Score(
            "f1_micro",
            "micro F1",
            _from_answers(metrics.f1_score, average="micro"),
            always_shown=False,
            of_image=_right,
        ),
        Score("f1_macro", "macro F1", _from_answers(metrics.f1_score, average="macro", zero_division=0)),
        Score(
            "log_loss",
            "log loss",
            _log_loss,
            greater_is_better=False,
            bounds=(0.0, math.inf),
            counts_answers=False,
            scale=1,
            unit="nats",
            decimals=4,
            of_image=_loss,
        ),
        Score("roc_auc_macro", "macro ROC AUC", _roc_auc_macro, counts_answers=False, decimals=3),
    )
}


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
        `n`, `errors`, and all `SCORES`: fractions, log loss in nats; None where a score is undefined.
    """
    errors = int((log_probabilities.argmax(axis=1) != labels).sum())
    values = {name: score.function(log_probabilities, labels) for name, score in SCORES.items()}
    return {"n": len(labels), "errors": errors, **values}


def of_model(
    fold: Fold,
    held_out: tuple[LogProbabilities, Labels],
    test: tuple[LogProbabilities, Labels] | None,
) -> dict[str, pd.DataFrame]:
    """Score one fold's model.

    Parameters
    ----------
    fold : Fold
    held_out, test : log-probabilities (n, classes), labels (n,)
        None without a test set.

    Returns
    -------
    dict of DataFrame
        `folds`: one row, the scores on the held-out images, then those on the test images with `test_` before them;
        `classes`: one row per part and class; `confusion`: one row per part, given and predicted class.
    """
    place = fold._asdict()
    row, parts = place | headline(*held_out), {"held_out": held_out}
    if test:
        row |= {f"test_{name}": score for name, score in headline(*test).items() if name in SCORES}
        parts["test"] = test
    classes = [by_class(*predicted).assign(images=part, **place) for part, predicted in parts.items()]
    counts = [
        {**place, "images": part, "actual": actual, "predicted": predicted, "count": count}
        for part, predictions in parts.items()
        for (actual, predicted), count in np.ndenumerate(confusion(*predictions))
    ]
    by_classes = pd.concat(classes)
    return {
        "folds": pd.DataFrame([row]).astype({name: float for name in row if name.removeprefix("test_") in SCORES}),
        "classes": by_classes[["repeat", "fold", "images", *by_classes.columns.drop(["repeat", "fold", "images"])]],
        "confusion": pd.DataFrame(counts),
    }


def by_image(
    out_of_fold: NDArray[np.float32],
    labels: Labels,
    classes: Sequence[str],
    assignments: NDArray[np.int32],
    known: pd.DataFrame | None,
) -> pd.DataFrame:
    """Say of each training image what the model said that did not see it.

    Parameters
    ----------
    out_of_fold : (repeats, N, classes) float32
        Log-probabilities.
    labels : (N,) int64
    classes : sequence of str
    assignments : (repeats, N) int32
    known : DataFrame or None
        `file_name`, and `group` where there are groups, of each image.

    Returns
    -------
    DataFrame
        A row for each repeat and image: `repeat`, `index`, what is known, `label`, `fold`, `predicted`, its
        `probability`, and the label's, `label_probability`.
    """
    names, images, parts = np.array(classes), np.arange(len(labels)), []
    about = {} if known is None else {name: known[name] for name in ("file_name", "group") if name in known}
    for repeat, log_probabilities in enumerate(out_of_fold):
        predicted = log_probabilities.argmax(axis=1)
        columns = {
            "label": names[labels],
            "fold": assignments[repeat],
            "predicted": names[predicted],
            "probability": np.exp(log_probabilities[images, predicted]),
            "label_probability": np.exp(log_probabilities[images, labels]),
        }
        parts.append(pd.DataFrame({"repeat": repeat, "index": images, **about, **columns}))
    return pd.concat(parts)
