import numpy as np
import pandas as pd
import pytest

from foldwise.base.errors import FoldwiseError
from foldwise.evaluation.results import ENSEMBLE, OUT_OF_FOLD, Results
from foldwise.evaluation.scores import ensemble

OF_OTHER_DATA = "the predictions are not of this data and these folds: run `dvc repro -f -s evaluate`"
OF_OTHER_FOLDS = "the scores are not of these folds: run `dvc repro -f -s evaluate`"


@pytest.fixture
def parts(digits, deal, parameters):
    dealt = deal(digits.train_labels, parameters({"cv.k": 2, "cv.repeats": 2}).cv)
    random = np.random.default_rng(0)
    return {
        "data": digits,
        "folds": dealt,
        "epochs": pd.DataFrame(),
        "steps": pd.DataFrame(),
        "fold_scores": pd.DataFrame(list(dealt), columns=["repeat", "fold"]),
        "out_of_fold": random.normal(size=(2, 80, 10)).astype(np.float32),
        "test": random.normal(size=(4, 20, 10)).astype(np.float32),
    }


def test_parts_of_one_run_are_joined(parts, digits):
    found = Results.of(**parts)
    assert found.assignments is parts["folds"].assignments
    assert (found.labels is digits.train_labels, found.test_labels is digits.test_labels) == (True, True)


def test_predictions_are_the_mean_of_the_repeats_and_of_all_models(parts, digits):
    found = Results.of(**parts).predictions()
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
    with pytest.raises(FoldwiseError) as caught:
        Results.of(**parts)
    assert str(caught.value) == OF_OTHER_DATA


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 1, 3, 2], [0, 1, 2, 3, 3]], ids=["fewer", "order", "more"])
def test_scores_of_other_folds_are_told(rows, parts):
    parts["fold_scores"] = parts["fold_scores"].iloc[rows]
    with pytest.raises(FoldwiseError) as caught:
        Results.of(**parts)
    assert str(caught.value) == OF_OTHER_FOLDS


@pytest.mark.parametrize("name", ["out_of_fold", "test"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_no_numbers_are_told(name, value, parts):
    parts[name][0, 3, 2] = value
    with pytest.raises(FoldwiseError) as caught:
        Results.of(**parts)
    assert str(caught.value) == "the predictions are not all finite: run `dvc repro -f -s evaluate`"
