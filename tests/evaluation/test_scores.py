import json
import math
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import log_softmax, logsumexp
from sklearn import metrics
from sklearn.metrics import roc_auc_score

from foldwise.base.files import write_csv
from foldwise.base.params import Evaluate
from foldwise.data.folds import Fold
from foldwise.evaluation import scores

# Any warning of scikit-learn's is one of a score that cannot be had, which must be missing instead.
pytestmark = pytest.mark.filterwarnings("error")


def log(*rows):
    return np.log(np.array(rows, dtype=np.float32))


PREDICTED = log([0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3])
LABELS = np.array([0, 1, 1, 2])

BY_HAND = {
    "n": 4,
    "errors": 2,
    "accuracy": 1 / 2,
    "balanced_accuracy": (1 + 1 / 2 + 0) / 3,
    "f1_micro": 1 / 2,
    "f1_macro": (2 / 3 + 1 / 2 + 0) / 3,
    "log_loss": -math.log(0.7 * 0.3 * 0.8 * 0.3) / 4,
    "roc_auc_macro": (1 + 3 / 4 + 1) / 3,
}


@pytest.mark.parametrize(("name", "value"), BY_HAND.items())
def test_a_score_is_that_done_by_hand(name, value):
    assert scores.headline(PREDICTED, LABELS)[name] == pytest.approx(value, rel=1e-6)


def test_the_scores_are_those_named_and_plain_numbers():
    found = scores.headline(PREDICTED, LABELS)
    assert tuple(found) == ("n", "errors", *scores.SCORES)
    assert {type(value) for value in found.values()} == {int, float}


# scikit-learn's own function of each score: takes labels, answers and probabilities.
ELSEWHERE = {
    "accuracy": lambda labels, answers, _: metrics.accuracy_score(labels, answers),
    "balanced_accuracy": lambda labels, answers, _: metrics.balanced_accuracy_score(labels, answers),
    "f1_micro": lambda labels, answers, _: metrics.f1_score(labels, answers, average="micro"),
    "f1_macro": lambda labels, answers, _: metrics.f1_score(labels, answers, average="macro"),
    "log_loss": lambda labels, _, chance: -stats.multinomial.logpmf(np.eye(4)[labels], 1, chance).mean(),
    "roc_auc_macro": lambda labels, _, chance: metrics.roc_auc_score(
        labels, chance, multi_class="ovr", average="macro"
    ),
}


@pytest.mark.parametrize("name", scores.SCORES)
def test_a_score_is_that_of_scikit_learn_or_scipy_on_unbalanced_classes(name):
    random = np.random.default_rng(0)
    labels = random.choice(4, 400, p=[0.6, 0.25, 0.1, 0.05])
    predicted = log_softmax(random.normal(size=(400, 4)) + 1.5 * np.eye(4)[labels], axis=1).astype(np.float32)
    chance = scores.probabilities(predicted)
    expected = ELSEWHERE[name](labels, predicted.argmax(axis=1), chance)
    assert scores.SCORES[name].function(predicted, labels) == pytest.approx(expected, rel=1e-6)


def test_every_primary_score_that_can_be_set_is_in_the_table():
    names = get_args(Evaluate.model_fields["primary"].annotation)
    assert set(names) == scores.SCORES.keys() - {"f1_micro"}


def test_balanced_accuracy_leaves_out_classes_without_images():
    found = scores.headline(PREDICTED, LABELS.clip(max=1))
    assert found["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("name", scores.SCORES)
def test_better_predictions_score_better_within_the_bounds(name):
    score, right = scores.SCORES[name], log([0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6])
    good, bad = (score.function(right, np.array(labels)) for labels in ([0, 1, 2], [2, 0, 1]))
    assert score.sign * (good - bad) > 0
    low, high = score.bounds
    assert low <= min(good, bad) <= max(good, bad) <= high


def test_one_answer_changes_a_score_that_counts_answers_by_its_smallest_step():
    labels = np.arange(9) % 3
    right = np.log(np.full((9, 3), 0.1) + 0.7 * np.eye(3)[labels]).astype(np.float32)
    one_wrong = right.copy()
    one_wrong[0] = right[1]
    steps = {
        score.name: (score.step(9), abs(score.function(right, labels) - score.function(one_wrong, labels)))
        for score in scores.SCORES.values()
        if score.counts_answers
    }
    assert steps.keys() == {"accuracy", "balanced_accuracy", "f1_micro", "f1_macro"}
    assert all(change == pytest.approx(step, rel=0.05) for step, change in steps.values())


def test_scores_of_probabilities_and_ranks_have_no_smallest_step():
    assert [scores.SCORES[name].step(9) for name in ("log_loss", "roc_auc_macro")] == [0, 0]


CLASSES_BY_HAND = {
    "class": [0, 1, 2],
    "support": [1, 2, 1],
    "precision": [1 / 2, 1 / 2, math.nan],
    "recall": [1, 1 / 2, 0],
    "f1": [2 / 3, 1 / 2, 0],
    "roc_auc": [1, 3 / 4, 1],
}


@pytest.mark.parametrize(("name", "values"), CLASSES_BY_HAND.items())
def test_a_classs_score_is_that_done_by_hand(name, values):
    assert scores.by_class(PREDICTED, LABELS)[name].tolist() == pytest.approx(values, nan_ok=True)


def test_a_class_without_images_has_no_recall_and_no_curve():
    row = scores.by_class(PREDICTED, np.array([0, 1, 1, 1])).loc[2]
    assert (row.support, math.isnan(row.recall), math.isnan(row.roc_auc)) == (0, True, True)


def test_the_mean_area_is_that_of_the_classes_that_have_one():
    labels = np.array([0, 1, 1, 1])
    areas = scores.by_class(PREDICTED, labels).roc_auc
    assert scores.headline(PREDICTED, labels)["roc_auc_macro"] == pytest.approx((areas[0] + areas[1]) / 2)


def test_one_image_has_no_area_under_the_curve():
    assert scores.headline(PREDICTED[:1], LABELS[:1]) == {
        "n": 1,
        "errors": 0,
        "accuracy": 1.0,
        "balanced_accuracy": 1.0,
        "f1_micro": 1.0,
        "f1_macro": 1.0,
        "log_loss": pytest.approx(-math.log(0.7), rel=1e-6),
        "roc_auc_macro": None,
    }


def test_one_mistaken_image_scores_nothing():
    found = scores.headline(PREDICTED[1:2], LABELS[1:2])
    assert (found["errors"], found["accuracy"], found["f1_macro"], found["roc_auc_macro"]) == (1, 0.0, 0.0, None)


def test_one_class_alone_has_no_area_under_the_curve():
    assert scores.headline(PREDICTED[1:3], LABELS[1:3])["roc_auc_macro"] is None


def test_the_loss_of_a_certain_mistake_is_finite():
    found = scores.headline(np.array([[0, -2000], [-1e30, 0]], np.float32), np.array([1, 0]))
    assert 30 < found["log_loss"] < math.inf


def test_a_constant_predictor_is_scored_without_a_warning():
    found = scores.headline(np.repeat(PREDICTED[:1], 4, axis=0), LABELS)
    assert (found["accuracy"], found["roc_auc_macro"]) == (0.25, 0.5)


def test_given_classes_are_rows_and_predicted_ones_columns():
    assert scores.confusion(PREDICTED, LABELS).tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]


def test_all_classes_are_counted_where_some_have_no_images():
    assert scores.confusion(PREDICTED[:1], LABELS[:1]).shape == (3, 3)


def test_probabilities_add_up_to_one():
    rounded = np.log(np.full((2, 7), 1 / 7, np.float32))
    assert np.abs(scores.probabilities(rounded).sum(axis=1) - 1).max() < 1e-15


def test_the_ensemble_averages_probabilities():
    found = scores.ensemble(np.stack([log([0.9, 0.1], [0.2, 0.8]), log([0.5, 0.5], [0.4, 0.6])]))
    assert (found.dtype, np.exp(found).tolist()) == (
        np.float32,
        [pytest.approx([0.7, 0.3]), pytest.approx([0.3, 0.7])],
    )


def test_the_ensemble_of_one_model_is_that_model():
    assert np.array_equal(scores.ensemble(PREDICTED[np.newaxis]), PREDICTED)


def sure(classes, n=3000):
    """Give float32 logits so far apart that the top class's log-probability is mostly 0, and labels, some wrong."""
    random = np.random.default_rng(classes)
    labels = random.integers(0, classes, n)
    logits = (random.normal(size=(n, classes)) * 4 + 22 * np.eye(classes)[labels]).astype(np.float32)
    return logits, np.where(random.random(n) < 0.02, (labels + 1) % classes, labels)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_areas_of_very_sure_predictions_are_those_of_the_exact_order(classes):
    logits, labels = sure(classes)
    stored = log_softmax(logits, axis=1)
    assert (stored.max(axis=1) == 0).mean() > 0.4
    logits = logits.astype(np.float64)
    exact = [logits[:, label] - logsumexp(np.delete(logits, label, 1), axis=1) for label in range(classes)]
    expected = [roc_auc_score(labels == label, odds) for label, odds in enumerate(exact)]
    assert scores.by_class(stored, labels).roc_auc.tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("spread", [1, 22])
def test_two_classes_have_exactly_the_same_area(spread):
    logits, labels = sure(2)
    first, second = scores.by_class(log_softmax(logits / np.float32(spread), axis=1), labels).roc_auc
    assert first == second < 1


def test_an_area_is_that_of_scikit_learn_where_scores_tie():
    random = np.random.default_rng(0)
    score, positive = random.integers(0, 9, 500), random.random(500) < 0.3
    assert scores.area_under_curve(score, positive) == pytest.approx(roc_auc_score(positive, score), abs=1e-12)


def test_log_odds_are_those_of_the_probabilities():
    chance = np.exp(PREDICTED.astype(float))
    assert scores.log_odds(PREDICTED) == pytest.approx(np.log(chance / (1 - chance)), abs=1e-6)


def test_the_ensemble_of_sure_models_still_tells_images_apart():
    logits, _ = sure(10)
    stored = scores.ensemble(np.stack([log_softmax(logits, axis=1)] * 2))
    exact = scores.log_odds(log_softmax(logits.astype(np.float64), axis=1))
    assert scores.log_odds(stored) == pytest.approx(exact, abs=1e-5)


@pytest.fixture
def tables():
    return scores.of_model(Fold(1, 2), (PREDICTED[:1], LABELS[:1]), (PREDICTED, LABELS))


def test_a_folds_row_says_where_it_is_and_holds_both_sets_of_scores(tables):
    names = ["n", "errors", *scores.SCORES]
    test_names = [f"test_{name}" for name in names[2:]]
    assert tables["folds"].columns.tolist() == ["repeat", "fold", *names, *test_names]
    assert tables["folds"].loc[0, ["repeat", "fold", "n", "accuracy", "test_accuracy"]].tolist() == [1, 2, 1, 1.0, 0.5]


def test_a_score_that_cannot_be_had_is_an_empty_cell(tables, tmp_path):
    write_csv(tmp_path / "folds.csv", tables["folds"][["fold", "roc_auc_macro", "test_accuracy"]])
    assert (tmp_path / "folds.csv").read_text() == "fold,roc_auc_macro,test_accuracy\n2,,0.5\n"


def test_each_class_has_a_row_in_each_part(tables):
    rows = tables["classes"][["repeat", "fold", "images", "class"]].to_numpy().tolist()
    assert rows == [[1, 2, part, label] for part in ("held_out", "test") for label in range(3)]


def test_counts_of_the_parts_add_up_to_their_images(tables):
    counts = tables["confusion"].groupby("images")["count"].sum()
    assert counts.to_dict() == {"held_out": 1, "test": 4}


def test_no_score_is_a_nan_in_json():
    assert "NaN" not in json.dumps(scores.headline(PREDICTED[:1], LABELS[:1]))


def test_each_image_has_a_row_in_each_repeat_with_what_the_model_said_that_did_not_see_it():
    out_of_fold = np.stack([PREDICTED, PREDICTED[:, ::-1]])
    known = pd.DataFrame(
        {"file_name": ["a.png", "b.png", "c.png", "d.png"], "label": "x", "group": ["", "p", "p", "q"]}
    )
    table = scores.by_image(out_of_fold, LABELS, ("x", "y", "z"), np.array([[0, 1, 0, 1], [1, 1, 0, 0]]), known)
    assert len(table) == 8
    row = table.iloc[1].to_dict()
    assert row | {name: round(float(row[name]), 6) for name in ("probability", "label_probability")} == {
        "repeat": 0,
        "index": 1,
        "file_name": "b.png",
        "group": "p",
        "label": "y",
        "fold": 1,
        "predicted": "x",
        "probability": 0.6,
        "label_probability": 0.3,
    }
    assert table.iloc[5][["repeat", "index", "predicted"]].tolist() == [1, 1, "z"]


def test_images_without_files_have_their_index_alone():
    table = scores.by_image(PREDICTED[None], LABELS, ("x", "y", "z"), np.zeros((1, 4), int), None)
    assert table.columns.tolist() == [
        *("repeat", "index", "label", "fold", "predicted", "probability", "label_probability")
    ]


def test_without_a_test_set_a_model_is_scored_on_held_out_images_alone():
    tables = scores.of_model(Fold(0, 0), (PREDICTED, LABELS), None)
    assert not [column for column in tables["folds"] if column.startswith("test")]
    assert {part for name in ("classes", "confusion") for part in tables[name]["images"]} == {"held_out"}
