import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from foldwise import files, folds, images, models
from foldwise.crossvalidation import model_path
from foldwise.errors import FoldwiseError
from foldwise.folds import Fold
from foldwise.scores import headline

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
stage = runpy.run_path(str(ROOT / "stages" / "evaluate.py"))["evaluate"]


@pytest.fixture
def evaluate(digits, parameters, tmp_path):
    """Write models with fresh weights, one for each fold, and run the stage: evaluate({"cv.k": 3}, labels, data)."""

    def run(changes=None, break_it=lambda: None):
        params = parameters({"cv.k": 2, "cv.repeats": 2, "model.name": "cnn"} | (changes or {}))
        images.save(digits, tmp_path / "normalized")
        folds.save(tmp_path / "folds", folds.assign(digits.train_labels, params.cv), params.cv)
        for number, fold in enumerate(folds.load(tmp_path / "folds", len(digits.train_labels))):
            torch.manual_seed(number)
            model = models.build("cnn", models.form_of(digits), digits.mean, digits.std)
            weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
            files.write_arrays(model_path(tmp_path / "models", fold), weights)
        break_it()
        places = ("normalized", "folds", "models", "predictions", "scores")
        stage(params, **{name: tmp_path / name for name in places})
        return tmp_path

    return run


@pytest.fixture
def evaluated(evaluate):
    return evaluate()


def test_predictions_are_of_every_repeat_image_and_class(evaluated):
    out_of_fold = files.read_array(evaluated / "predictions" / "out_of_fold.npy", np.float32, 3)
    test = files.read_array(evaluated / "predictions" / "test.npy", np.float32, 3)
    assert (out_of_fold.shape, test.shape) == ((2, 80, 10), (4, 20, 10))


def test_predictions_are_normalised_log_probabilities(evaluated):
    for name in ("out_of_fold", "test"):
        predicted = np.load(evaluated / "predictions" / f"{name}.npy").astype(np.float64)
        assert np.exp(predicted).sum(axis=2) == pytest.approx(1, abs=1e-5)


def predict(evaluated, digits, fold, pixels):
    model = models.build("cnn", models.form_of(digits), (0.5,), (0.5,))
    path = model_path(evaluated / "models", fold)
    models.load_weights(model, files.read_arrays(path), path)
    with torch.no_grad():
        return torch.log_softmax(model(torch.from_numpy(pixels)), dim=1).numpy()


def test_each_training_image_is_predicted_by_the_model_that_did_not_see_it(evaluated, digits):
    dealt = folds.load(evaluated / "folds", 80)
    out_of_fold = np.load(evaluated / "predictions" / "out_of_fold.npy")
    for fold in dealt:
        held_out = dealt.held_out(fold)
        expected = predict(evaluated, digits, fold, digits.train_images[held_out])
        assert np.allclose(out_of_fold[fold.repeat, held_out], expected, atol=1e-5)


def test_test_images_are_predicted_by_each_model_in_the_order_of_the_folds(evaluated, digits):
    test = np.load(evaluated / "predictions" / "test.npy")
    for found, fold in zip(test, folds.load(evaluated / "folds", 80), strict=True):
        assert np.allclose(found, predict(evaluated, digits, fold, digits.test_images), atol=1e-5)


def test_there_is_a_row_of_scores_for_each_fold(evaluated):
    table = pd.read_csv(evaluated / "scores" / "folds.csv")
    names = ["n", "errors", "accuracy", "f1_micro", "f1_macro", "log_loss", "roc_auc_macro"]
    assert table.columns.tolist() == ["repeat", "fold", *names, *(f"test_{name}" for name in names[2:])]
    assert table[["repeat", "fold"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_scores_are_those_of_the_predictions(evaluated, digits):
    dealt, table = folds.load(evaluated / "folds", 80), pd.read_csv(evaluated / "scores" / "folds.csv")
    held_out = dealt.held_out(Fold(1, 0))
    expected = headline(
        np.load(evaluated / "predictions" / "out_of_fold.npy")[1, held_out], digits.train_labels[held_out]
    )
    assert table.loc[2, list(expected)].to_dict() == pytest.approx(expected, rel=1e-8)


def test_there_are_scores_by_class_and_counts_of_pairs_of_classes(evaluated):
    classes = pd.read_csv(evaluated / "scores" / "classes.csv")
    confusion = pd.read_csv(evaluated / "scores" / "confusion.csv")
    assert (len(classes), len(confusion)) == (4 * 2 * 10, 4 * 2 * 100)
    assert confusion[confusion.images == "held_out"]["count"].sum() == 2 * 80


def test_the_console_tells_what_is_predicted(evaluate, capsys):
    evaluate()
    assert capsys.readouterr().err == "evaluate: 4 models on their held-out images and 20 test images\n"


@pytest.mark.filterwarnings("error")
def test_leaving_one_out_leaves_the_area_under_the_curve_empty(evaluate):
    out = evaluate({"cv.strategy": "kfold", "cv.k": 80, "cv.repeats": 1})
    table = pd.read_csv(out / "scores" / "folds.csv")
    assert (table.n.tolist(), table.roc_auc_macro.isna().all(), table.accuracy.isin([0, 1]).all()) == (
        [1] * 80,
        True,
        True,
    )


def test_a_missing_model_is_told_and_nothing_is_written(evaluate, tmp_path):
    with pytest.raises(FoldwiseError, match=r"repeat-1/fold-0.safetensors is missing: run `dvc repro`"):
        evaluate(break_it=lambda: model_path(tmp_path / "models", Fold(1, 0)).unlink())
    assert not (tmp_path / "predictions").exists()


def test_models_of_another_network_are_told(evaluate):
    with pytest.raises(FoldwiseError, match="holds the weights of another network: run `dvc repro -f -s train`"):
        evaluate({"model.name": "compact"})
