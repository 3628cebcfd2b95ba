from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import log_loss
from small_results import small_results

from foldwise.base.errors import FoldwiseError
from foldwise.evaluation.results import ENSEMBLE, OUT_OF_FOLD, HeldOut, Results
from foldwise.evaluation.scores import SCORES, ensemble

OF_OTHER_DATA = "the predictions are not of this data and these folds: do this"
OF_OTHER_FOLDS = "the scores are not of these folds: do this"


@pytest.fixture
def parts(digits, deal, parameters):
    dealt = deal(digits.train_labels, parameters({"cv.k": 2, "cv.repeats": 2}).cv)
    random = np.random.default_rng(0)
    return {
        "folds": dealt,
        "labels": digits.train_labels,
        "classes": digits.classes,
        "test_labels": digits.test_labels,
        "epochs": pd.DataFrame(),
        "steps": pd.DataFrame(),
        "scores": pd.DataFrame(list(dealt), columns=["repeat", "fold"]),
        "out_of_fold": random.normal(size=(2, 80, 10)).astype(np.float32),
        "test": random.normal(size=(4, 20, 10)).astype(np.float32),
    }


HELD_OUT = ("folds", "labels", "out_of_fold", "scores")


def refusal(parts):
    with pytest.raises(FoldwiseError) as caught:
        Results(**parts).check("do this")
    return str(caught.value)


def refusal_of_held_out(parts):
    with pytest.raises(FoldwiseError) as caught:
        HeldOut(**{name: parts[name] for name in HELD_OUT}).check("do this")
    return str(caught.value)


def test_parts_of_one_run_pass(parts):
    Results(**parts).check("do this")
    HeldOut(**{name: parts[name] for name in HELD_OUT}).check("do this")


def test_predictions_are_the_mean_of_the_repeats_and_of_all_models(parts, digits):
    found = Results(**parts).predictions()
    for name, key, labels in (
        (OUT_OF_FOLD, "out_of_fold", digits.train_labels),
        (ENSEMBLE, "test", digits.test_labels),
    ):
        assert np.array_equal(found[name][0], ensemble(parts[key]))
        assert found[name][1] is labels


@pytest.mark.parametrize("name", ["out_of_fold", "test"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_predictions_of_other_data_or_folds_are_told(name, axis, parts):
    parts[name] = np.delete(parts[name], 0, axis)
    assert refusal(parts) == OF_OTHER_DATA


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 1, 3, 2], [0, 1, 2, 3, 3]], ids=["fewer", "order", "more"])
def test_scores_of_other_folds_are_told(rows, parts):
    parts["scores"] = parts["scores"].iloc[rows]
    assert refusal(parts) == refusal_of_held_out(parts) == OF_OTHER_FOLDS


@pytest.mark.parametrize("name", ["out_of_fold", "test"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_no_numbers_are_told(name, value, parts):
    parts[name][0, 3, 2] = value
    assert refusal(parts) == "the predictions are not all finite: do this"


@pytest.mark.parametrize("axis", [0, 1])
def test_out_of_fold_predictions_of_other_folds_are_told_where_the_classes_are_not_known(axis, parts):
    parts["out_of_fold"] = np.delete(parts["out_of_fold"], 0, axis)
    assert refusal_of_held_out(parts) == OF_OTHER_DATA


def test_the_primary_score_is_shown_in_the_order_of_the_table(parts):
    shown = {name: [score.name for score in Results(**parts, primary=SCORES[name]).shown] for name in SCORES}
    assert shown["accuracy"] == shown["log_loss"] == ["accuracy", "f1_macro", "log_loss", "roc_auc_macro"]
    assert shown["balanced_accuracy"] == ["accuracy", "balanced_accuracy", "f1_macro", "log_loss", "roc_auc_macro"]


@pytest.mark.parametrize(("sizes", "ratio"), [([20] * 4, 1 / 3), ([20, 40, 15, 5], 1)])
def test_the_ratio_of_held_out_to_training_images_is_that_of_the_largest_fold(sizes, ratio, parts):
    assignments = np.stack([np.arange(80) % 4, np.repeat(np.arange(4), sizes)])
    parts["folds"] = replace(parts["folds"], assignments=assignments)
    assert Results(**parts).test_train_ratio == pytest.approx(ratio)


def test_test_images_whose_unit_is_in_training_are_not_apart(parts):
    units = np.concatenate([np.arange(80), [5, 80, 80, 79, 81], np.arange(90, 105)])
    parts["folds"] = replace(parts["folds"], all_units=units)
    assert np.flatnonzero(~Results(**parts).test_apart).tolist() == [0, 3]


def test_units_are_given_for_the_predictions_of_which_they_are_known(parts):
    units = np.arange(100) // 2
    parts["folds"] = replace(parts["folds"], all_units=units)
    found = Results(**parts).units()
    assert {name: of.tolist() for name, of in found.items()} == {
        OUT_OF_FOLD: units[:80].tolist(),
        ENSEMBLE: units[80:].tolist(),
    }
    parts["folds"] = replace(parts["folds"], all_units=None)
    assert {name: of.tolist() for name, of in Results(**parts).units().items()} == {OUT_OF_FOLD: list(range(80))}


def test_without_a_test_set_predictions_are_out_of_fold_alone(parts):
    parts["test"], parts["test_labels"] = parts["test"][:, :0], parts["test_labels"][:0]
    results = Results(**parts)
    results.check("do this")
    assert list(results.predictions()) == list(results.units()) == [OUT_OF_FOLD]


@pytest.mark.parametrize(("name", "step"), [("accuracy", 1 / 39), ("balanced_accuracy", 1 / 39), ("log_loss", 0)])
def test_the_step_is_that_of_the_smallest_fold_for_scores_that_count_answers(name, step, parts):
    parts["scores"]["n"] = [40, 41, 39, 40]
    assert Results(**parts).step(SCORES[name]) == step


def test_an_estimate_is_of_the_folds_that_have_the_score(parts):
    parts["scores"]["n"] = 40
    parts["scores"]["roc_auc_macro"] = [0.1, np.nan, 0.5, 0.1]
    found = Results(**parts).estimate(SCORES["roc_auc_macro"])
    half = stats.t.ppf(0.975, 2) * np.std([0.1, 0.5, 0.1], ddof=1) * np.sqrt(1 / 3 + 1)
    assert (found.mean, found.half()) == pytest.approx((0.7 / 3, half))


@pytest.mark.parametrize("values", [[np.nan] * 4, [0.1, *[np.nan] * 3]])
def test_there_is_no_estimate_of_a_score_of_fewer_than_two_folds(values, parts):
    parts["scores"]["n"] = 40
    parts["scores"]["roc_auc_macro"] = values
    assert Results(**parts).estimate(SCORES["roc_auc_macro"]) is None


def known(score, run):
    """What each image adds to a score, as SciPy and scikit-learn have it."""
    if score == "accuracy":
        return (run.out_of_fold[0].argmax(axis=1) == run.labels).astype(float)
    answers = softmax(run.out_of_fold[0].astype(float), axis=1)
    return np.array([log_loss([y], [p], labels=range(3)) for y, p in zip(run.labels, answers, strict=True)])


@pytest.mark.parametrize("less", [False, True])
@pytest.mark.parametrize("score", ["accuracy", "log_loss"])
def test_a_single_k_fold_is_estimated_by_its_images(score, less):
    run, other = small_results(mistakes=0.3), small_results(mistakes=0.1) if less else None
    values = known(score, run) - (known(score, other) if other else 0)
    found = run.estimate(SCORES[score], less=other)
    of_folds = [values[run.folds.assignments[0] == fold].mean() for fold in range(3)]
    by_images = stats.t.ppf(0.975, 119) * stats.sem(values) * np.sqrt(1 + 1 / 2 * 3)
    by_folds = stats.t.ppf(0.975, 2) * stats.sem(of_folds)
    assert (found.mean, found.half()) == pytest.approx((values.mean(), max(by_images, by_folds)), rel=1e-5)


def test_units_are_the_images_of_an_estimate_where_they_are_known():
    alone, units = small_results(), np.arange(180) // 3
    together = replace(alone, folds=replace(alone.folds, all_units=units))
    assert together.estimate(SCORES["accuracy"]).df == pytest.approx(39)
    assert alone.estimate(SCORES["accuracy"], less=together).df == pytest.approx(39)


def test_repeats_are_estimated_by_their_folds():
    found = small_results(repeats=2).estimate(SCORES["accuracy"])
    assert found.df == 5
