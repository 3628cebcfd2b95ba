import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_results import small_results

from foldwise.base.files import write_json
from foldwise.evaluation.calibration import fit_temperature, reliability
from foldwise.evaluation.scores import SCORES, ensemble, headline, of_model
from foldwise.evaluation.summary import recalibrate, summarize

pytestmark = pytest.mark.filterwarnings("error")


def scored(**settings):
    """Make up a run, and score its folds."""
    results = small_results(**settings)
    rows = []
    for fold, on_test in zip(results.folds, results.test, strict=True):
        held_out = results.folds.held_out(fold)
        on_held_out = results.out_of_fold[fold.repeat, held_out], results.labels[held_out]
        rows.append(of_model(fold, on_held_out, (on_test, results.test_labels) if len(on_test) else None)["folds"])
    return replace(results, scores=pd.concat(rows))


@pytest.fixture(scope="module")
def results():
    return scored(k=5, repeats=2)


@pytest.fixture(scope="module")
def leave_one_out():
    return scored(n=6, k=6, n_test=6)


def keys(nested):
    return {name: keys(value) if isinstance(value, dict) else None for name, value in nested.items()}


def names(text):
    return dict.fromkeys(text.split())


BOTH = names("mean std")


def test_the_keys_are_those_of_the_design(results):
    assert keys(summarize(results)) == {
        "cv": {
            "accuracy": names("mean std ci95_low ci95_high"),
            "f1_macro": BOTH,
            "log_loss": BOTH,
            "roc_auc_macro": BOTH,
        },
        "out_of_fold": names("n errors accuracy f1_macro f1_micro log_loss calibration_error"),
        "test": {"accuracy": BOTH, "ensemble": names("accuracy errors log_loss calibration_error")},
    }


def test_without_a_test_set_there_is_nothing_of_one(results):
    without = scored(k=5, repeats=2, n_test=0)
    for rescaled in (None, recalibrate(without)):
        assert summarize(without, rescaled).keys() == {"cv", "out_of_fold"}
    assert keys(summarize(without)["cv"]) == keys(summarize(results)["cv"])


def test_test_images_apart_from_training_are_scored_by_themselves():
    units = np.concatenate([np.arange(120), np.arange(0, 120, 10), np.arange(120, 168)])
    results = scored(units=units)
    found = summarize(results, recalibrate(results))["test"]
    predicted, labels = ensemble(results.test)[12:], results.test_labels[12:]
    errors = int((predicted.argmax(axis=1) != labels).sum())
    assert found["apart"] == {
        "n": 48,
        "errors": errors,
        "accuracy": pytest.approx(1 - errors / 48, abs=1e-9),
        "calibration_error": pytest.approx(reliability(predicted, labels).calibration_error, abs=1e-9),
    }
    assert 0 < errors < found["ensemble"]["errors"]


@pytest.mark.parametrize("units", [None, np.arange(180), np.arange(180) % 120], ids=["unknown", "all", "none"])
def test_where_all_test_images_are_apart_or_none_is_nothing_more_is_said(units):
    assert summarize(scored(units=units))["test"].keys() == {"accuracy", "ensemble"}


@pytest.mark.parametrize("name", ["accuracy", "f1_macro", "log_loss", "roc_auc_macro"])
def test_mean_and_deviation_are_over_the_folds(name, results):
    found, column = summarize(results)["cv"][name], results.scores[name]
    expected = np.mean(column), np.std(column, ddof=1)
    assert (found["mean"], found["std"]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "f1_macro", "log_loss", "roc_auc_macro"])
def test_the_accuracy_and_the_primary_score_have_the_interval_of_their_estimate_within_bounds(results, name):
    judged = replace(results, primary=SCORES[name])
    found = summarize(judged)["cv"]
    assert {score for score, numbers in found.items() if "ci95_low" in numbers} == {"accuracy", name}
    expected = judged.estimate(SCORES[name]).interval(bounds=(0, math.inf) if name == "log_loss" else (0, 1))
    assert (found[name]["ci95_low"], found[name]["ci95_high"]) == pytest.approx(expected, abs=1e-9)
    assert found["accuracy"] == summarize(results)["cv"]["accuracy"]


def test_a_primary_score_that_no_fold_has_has_no_interval(leave_one_out):
    found = summarize(replace(leave_one_out, primary=SCORES["roc_auc_macro"]))["cv"]["roc_auc_macro"]
    assert found == {"mean": None, "std": None, "ci95_low": None, "ci95_high": None}


def test_out_of_fold_scores_pool_the_predictions_of_all_repeats(results):
    found = summarize(results)["out_of_fold"]
    pooled, labels = np.concatenate(results.out_of_fold), np.concatenate([results.labels] * 2)
    expected = headline(pooled, labels) | {"calibration_error": reliability(pooled, labels).calibration_error}
    assert found == {name: pytest.approx(expected[name], abs=1e-9) for name in found}


def test_test_scores_are_those_of_the_ensemble_of_all_models(results):
    found = summarize(results)["test"]["ensemble"]
    expected = headline(ensemble(results.test), results.test_labels)
    assert found["errors"] == expected["errors"]
    assert found["log_loss"] == pytest.approx(expected["log_loss"], abs=1e-9)


def test_the_models_own_test_accuracy_is_over_the_folds(results):
    column = results.scores["test_accuracy"]
    found = summarize(results)["test"]["accuracy"]
    assert found == {"mean": pytest.approx(column.mean(), abs=1e-9), "std": pytest.approx(column.std(), abs=1e-9)}


def test_a_summary_can_be_written_as_json(results, tmp_path):
    summary = summarize(results, recalibrate(results))
    write_json(tmp_path / "summary.json", summary)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_leaving_one_out_has_no_area_under_the_curve(leave_one_out):
    assert summarize(leave_one_out)["cv"]["roc_auc_macro"] == {"mean": None, "std": None}


def test_a_score_that_one_fold_has_has_no_deviation(leave_one_out):
    areas = np.full(6, np.nan)
    areas[3] = 0.75
    results = replace(leave_one_out, scores=leave_one_out.scores.assign(roc_auc_macro=areas))
    assert summarize(results)["cv"]["roc_auc_macro"] == {"mean": 0.75, "std": None}


@pytest.mark.parametrize("mistakes", [0, 0.3, 1])
def test_leaving_one_out_keeps_the_interval_within_0_and_1(mistakes):
    found = summarize(scored(n=6, k=6, n_test=6, mistakes=mistakes))["cv"]["accuracy"]
    assert 0 <= found["ci95_low"] <= found["mean"] <= found["ci95_high"] <= 1


def test_folds_that_agree_by_chance_leave_the_mean_uncertain():
    found = summarize(scored(n=6, k=6, n_test=6, mistakes=0))["cv"]["accuracy"]
    assert (found["mean"], found["ci95_low"] < 1) == (1, True)


def test_leaving_one_out_is_written_without_a_nan(leave_one_out, tmp_path):
    write_json(tmp_path / "summary.json", summarize(leave_one_out, recalibrate(leave_one_out)))
    assert "NaN" not in (tmp_path / "summary.json").read_text()


def test_two_folds_are_enough():
    assert math.isfinite(summarize(scored(n=12, k=2))["cv"]["accuracy"]["ci95_low"])


def test_rescaled_predictions_bring_their_own_calibration(results):
    found = summarize(results, recalibrate(results))
    assert keys(found["out_of_fold"]["rescaled"]) == names("log_loss calibration_error temperature")
    assert keys(found["test"]["ensemble"]["rescaled"]) == names("log_loss calibration_error")


def test_the_temperature_is_the_one_fitted_to_all_held_out_predictions(results):
    pooled = np.concatenate(results.out_of_fold), np.tile(results.labels, 2)
    found = summarize(results, recalibrate(results))["out_of_fold"]["rescaled"]["temperature"]
    assert found == pytest.approx(fit_temperature(*pooled), abs=1e-9)


def test_rescaling_mends_predictions_that_are_far_too_certain(results):
    certain = replace(results, out_of_fold=results.out_of_fold * 9)
    found = summarize(certain, recalibrate(certain))["out_of_fold"]
    assert found["rescaled"]["log_loss"] < found["log_loss"] / 2


@pytest.mark.parametrize("errors", [0, 1, 5])
def test_rescaling_does_no_harm_where_one_fold_holds_all_errors(errors):
    results = scored(n=600, k=5, mistakes=0)
    certain = replace(results, folds=replace(results.folds, assignments=np.sort(results.folds.assignments)))
    certain.labels[:errors] = (certain.labels[:errors] + 1) % 3
    found = summarize(certain, recalibrate(certain))["out_of_fold"]
    assert found["rescaled"]["log_loss"] < found["log_loss"]


def test_rescaling_changes_no_answer():
    results = small_results()
    after = recalibrate(results)
    assert np.array_equal(results.out_of_fold.argmax(axis=2), after.out_of_fold.argmax(axis=2))
    assert np.array_equal(results.test.argmax(axis=2), after.test.argmax(axis=2))


def test_rescaled_predictions_are_pooled_as_the_original_ones_are(results):
    rescaled = recalibrate(results)
    pooled = rescaled.out_of_fold.reshape(-1, len(results.classes)), np.tile(results.labels, 2)
    expected = pytest.approx(headline(*pooled)["log_loss"], abs=1e-9)
    assert summarize(results, rescaled)["out_of_fold"]["rescaled"]["log_loss"] == expected
