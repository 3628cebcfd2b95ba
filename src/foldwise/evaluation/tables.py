"""The tables behind the plots: small and tidy, never one row per image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from foldwise.evaluation import calibration, scores
from foldwise.evaluation.inference import wilson
from foldwise.evaluation.results import OUT_OF_FOLD, HeldOut, Predictions, Results
from foldwise.evaluation.scores import Labels, LogProbabilities

FOLDS_DRAWN = 60
POINTS = 100
ROWS = 1500
GALLERY = 24
# The smallest rates that the stretched axes, here and in .dvc/plots, tell from none.
SMALLEST_ERROR = 1e-3
SMALLEST_FALSE_POSITIVE = 1e-4


def tables(results: Results, rescaled: Results | None = None) -> dict[str, pd.DataFrame]:
    """Make every table that a plot shows, by file name without suffix.

    Parameters
    ----------
    results : Results
    rescaled : Results, optional
        The same after temperature scaling, for the reliability diagram.

    Returns
    -------
    dict of str to DataFrame
        Floats are rounded to six decimals. No table is empty.
    """
    predictions = results.predictions()
    recalibrated = {}
    if rescaled:
        recalibrated = {f"{name}, one temperature": one for name, one in rescaled.predictions().items()}
    units = results.units()
    units |= {f"{name}, one temperature": of for name, of in units.items()}
    tables_by_name = {
        "loss_by_batch": loss_by_batch(results.steps),
        "loss_by_epoch": by_epoch(results.epochs, "loss"),
        "accuracy_by_epoch": by_epoch(results.epochs, "accuracy"),
        "fold_scores": fold_scores(results),
        "class_scores": class_scores(predictions, results.classes),
        "confusion": confusion(predictions, results.classes),
        "roc": roc(predictions, results.classes),
        "reliability": reliability_curves({**predictions, **recalibrated}, units),
        "label_suspicion": label_issues(*predictions[OUT_OF_FOLD], results.classes, results.name),
        "audit": audit(results.audit),
    }
    return {name: table.round(6) for name, table in tables_by_name.items()}


def loss_by_batch(steps: pd.DataFrame) -> pd.DataFrame:
    """Thin the training loss to a running mean: fold, step, loss.

    Each fold's steps are cut into at most `POINTS` equal stretches (fewer where there are many folds); a row is the
    mean loss of a stretch, at its last step.
    """
    steps = _named_folds(steps)
    stretches = _points(steps["fold"].nunique())
    length = -(-int(steps["step"].max()) // stretches)
    groups = steps.groupby(["fold", (steps["step"] - 1) // length], sort=False)
    means = groups.agg(step=("step", "last"), loss=("loss", "mean")).reset_index("fold")
    return means.assign(images="training")


def by_epoch(epochs: pd.DataFrame, score: str) -> pd.DataFrame:
    """Arrange `score` ("loss" or "accuracy") of every epoch in rows: fold, images (training or validation), epoch."""
    epochs = _named_folds(epochs)
    last = int(epochs["epoch"].max())
    shown = np.unique(np.linspace(1, last, min(last, _points(epochs["fold"].nunique()))).round())
    epochs = epochs[epochs["epoch"].isin(shown)]
    parts = {"validation": f"validation_{score}", "training": f"train_{score}"}
    return pd.concat(
        [epochs[["fold", "epoch"]].assign(images=part, **{score: epochs[column]}) for part, column in parts.items()]
    )


def fold_scores(results: HeldOut) -> pd.DataFrame:
    """Arrange the held-out scores in rows: fold, measure, score; every row has the mean and its 95 % interval.

    A score that fewer than two folds have is left out.
    """
    folds = _named_folds(results.scores)
    rows = []
    for score in results.shown:
        if estimate := results.estimate(score):
            low, high = estimate.interval(bounds=score.bounds)
            known = folds.loc[folds[score.name].notna(), ["fold", score.name]].rename(columns={score.name: "score"})
            known.insert(1, "measure", score.heading)
            rows.append(known.assign(mean=estimate.mean, low=low, high=high))
    return pd.concat(rows)


def class_scores(predictions: Predictions, classes: Sequence[str]) -> pd.DataFrame:
    """Score every class: predictions, measure (precision, recall, F1, ROC AUC), class, score (missing if undefined)."""
    measures = {"precision": "precision", "recall": "recall", "f1": "F1", "roc_auc": "ROC AUC"}
    rows = []
    for name, (log_probabilities, labels) in predictions.items():
        by_class = scores.by_class(log_probabilities, labels)
        for column, measure in measures.items():
            row = {"predictions": name, "measure": measure, "class": classes, "score": by_class[column]}
            rows.append(pd.DataFrame(row))
    return pd.concat(rows)


def confusion(predictions: Predictions, classes: Sequence[str]) -> pd.DataFrame:
    """Count the images of every pair of classes: predictions, actual, predicted, images.

    Where there are more than `ROWS` pairs, those without images are left out, but for the diagonal, which comes first.
    """
    rows = []
    for name, (log_probabilities, labels) in predictions.items():
        cells = list(np.ndenumerate(scores.confusion(log_probabilities, labels)))
        if len(cells) > ROWS:
            cells = [cell for cell in cells if cell[0][0] == cell[0][1] or cell[1]]
            cells.sort(key=lambda cell: cell[0][0] != cell[0][1])
        rows += [(name, classes[i], classes[j], count) for (i, j), count in cells]
    return pd.DataFrame(rows, columns=["predictions", "actual", "predicted", "images"])


def roc(predictions: Predictions, classes: Sequence[str]) -> pd.DataFrame:
    """Trace each class against the rest, at most `POINTS` thresholds: predictions, class and the two rates.

    Points are kept at even distances along the curve as it is drawn, on logarithmic axes, fewer where there are many
    classes. A class that is absent, or the only one, has no curve; where none has one, chance stands in.
    """
    curves = []
    points = max(10, _points(len(classes)))
    for name, (log_probabilities, labels) in predictions.items():
        odds = scores.log_odds(log_probabilities)
        for number, title in enumerate(classes):
            if 0 < (labels == number).sum() < len(labels):
                false, true, _ = roc_curve(labels == number, odds[:, number])
                start = np.flatnonzero(false == 0).max()
                false, true = false[start:], true[start:]
                drawn = np.log1p(false / SMALLEST_FALSE_POSITIVE) - np.log1p((1 - true) / SMALLEST_ERROR)
                even = np.interp(np.linspace(drawn[0], drawn[-1], points), drawn, np.arange(len(drawn)))
                chosen = np.unique(even.round().astype(int))
                curve = {"false_positive_rate": false[chosen], "true_positive_rate": true[chosen]}
                curves.append(pd.DataFrame({"predictions": name, "class": title, **curve}))
        if len(np.unique(labels)) < 2:
            chance = {"false_positive_rate": [0.0, 1.0], "true_positive_rate": [0.0, 1.0]}
            curves.append(pd.DataFrame({"predictions": name, "class": "chance", **chance}))
    return pd.concat(curves)


def reliability_curves(predictions: Predictions, units: Mapping[str, NDArray[np.int64]] | None = None) -> pd.DataFrame:
    """Compare confidence with accuracy in bins of about equally many images.

    Columns: predictions, confidence, accuracy, low and high (Wilson's 95 % interval of the accuracy), images. Wilson's
    interval supposes that images are independent: where they are not, as `units` tells, they count as many as they are
    worth.
    """
    rows = []
    for name, (log_probabilities, labels) in predictions.items():
        bins = calibration.reliability(log_probabilities, labels, (units or {}).get(name))
        each = zip(bins.confidence, bins.accuracy, bins.count, bins.effective.round(), strict=True)
        for confidence, accuracy, count, independent in each:
            interval = wilson(round(accuracy * independent), int(independent))
            rows.append((name, confidence, accuracy, interval.low, interval.high, count))
    return pd.DataFrame(rows, columns=["predictions", "confidence", "accuracy", "low", "high", "images"])


def mistakes(log_probabilities: LogProbabilities, labels: Labels) -> pd.DataFrame:
    """Find the mistakes made with most confidence: index, actual, predicted (numbers) and probability; may be empty."""
    predicted, highest = log_probabilities.argmax(axis=1), np.exp(log_probabilities.max(axis=1))
    wrong = np.flatnonzero(predicted != labels)
    certainty = scores.log_odds(log_probabilities[wrong]).max(axis=1)
    worst = wrong[np.argsort(-certainty, kind="stable")][:GALLERY]
    return pd.DataFrame(
        {"index": worst, "actual": labels[worst], "predicted": predicted[worst], "probability": highest[worst]}
    )


def label_issues(
    log_probabilities: LogProbabilities, labels: Labels, classes: Sequence[str], name: Callable[[int], str] = str
) -> pd.DataFrame:
    """Find the images whose given label is contradicted by models that did not see them: all, up to `ROWS`.

    Ranked by the normalised margin of confident learning: the given label's probability less that of the most probable
    other class [1]_; margins that round to -1 by the given label's log-odds. Where none is contradicted, the image
    that comes nearest is given alone.

    Returns
    -------
    DataFrame
        rank (from 1), index, image (as `name` names it), given, suggested (class names), given_probability,
        suggested_probability.

    References
    ----------
    .. [1] Northcutt, Jiang and Chuang (2021), "Confident learning: estimating uncertainty in dataset labels",
       Journal of Artificial Intelligence Research 70, section 3.2.
    """
    images = np.arange(len(labels))
    probabilities = scores.probabilities(log_probabilities)
    given = probabilities[images, labels]
    others = probabilities.copy()
    others[images, labels] = -1
    suggested = others.argmax(axis=1)
    margin = given - others.max(axis=1)
    odds = scores.log_odds(log_probabilities)[images, labels]
    first = np.lexsort((odds, margin))[: max(1, min(ROWS, int((margin < 0).sum())))]
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(first) + 1),
            "index": first,
            "image": [name(index) for index in first],
            "given": [classes[number] for number in labels[first]],
            "suggested": [classes[number] for number in suggested[first]],
            "given_probability": given[first],
            "suggested_probability": probabilities[first, suggested[first]],
        }
    )


def audit(findings: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """List what the audit found: finding (its number), kind, count, says, and the first images; nothing in one row."""
    rows = [
        (one["number"], one["kind"], one["count"], one["says"], " = ".join(map(_image, (one["examples"] or [[]])[0])))
        for one in findings
    ] or [(0, "none", 0, "nothing was found", "")]
    return pd.DataFrame(rows, columns=["finding", "kind", "count", "says", "images"])


def _image(image: Mapping[str, Any]) -> str:
    return str(image.get("file_name", f"{image['images']} image {image['index']}"))


def _named_folds(table: pd.DataFrame) -> pd.DataFrame:
    # Leave-one-out has a fold for each image: more lines than these could not be told apart.
    names = "fold " + table["fold"].astype(str)
    if table["repeat"].nunique() > 1:
        names = "r" + table["repeat"].astype(str) + " f" + table["fold"].astype(str)
    named = table.assign(fold=names)
    distinct = names.unique()
    if len(distinct) > FOLDS_DRAWN:
        chosen = distinct[np.linspace(0, len(distinct) - 1, FOLDS_DRAWN).round().astype(int)]
        named = named[names.isin(chosen)]
    return named


def _points(lines: int) -> int:
    return min(POINTS, ROWS // lines)
