import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from foldwise.base import files
from foldwise.base.errors import FoldwiseError
from foldwise.data import folds, images
from foldwise.data.folds import Fold
from foldwise.evaluation.scores import headline
from foldwise.learning import models

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
stage = runpy.run_path(str(ROOT / "stages" / "evaluate.py"))["evaluate"]


def evaluate(folder, params, data, network="simple_cnn", spoil=lambda: None):
    """Write models with fresh weights, one for each fold, and run the stage."""
    images.save(data, folder / "normalized")
    folds.save(folder / "folds", folds.assign(data.train_labels, params.cv), params.cv)
    for number, fold in enumerate(folds.load(folder / "folds", len(data.train_labels))):
        torch.manual_seed(number)
        model = models.build(network, models.form_of(data), data.mean, data.std)
        weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        files.write_arrays(fold.within(folder / "models"), weights)
    files.write_array(folder / "features", np.empty((0, 0, 0), np.float32))
    spoil()
    paths = ("normalized", "folds", "features", "models", "predictions", "scores")
    stage(params, **{name: folder / name for name in paths})


TWICE_TWO = {"cv.k": 2, "cv.repeats": 2}


@pytest.fixture(scope="module")
def evaluated(digits, parameters, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(folder, parameters(TWICE_TWO), digits)
    return folder


def test_predictions_are_of_every_repeat_image_and_class(evaluated):
    out_of_fold = files.read_array(evaluated / "predictions" / "out_of_fold.npy", np.float32, 3)
    test = files.read_array(evaluated / "predictions" / "test.npy", np.float32, 3)
    assert (out_of_fold.shape, test.shape) == ((2, 80, 10), (4, 20, 10))


def test_predictions_are_normalised_log_probabilities(evaluated):
    for name in ("out_of_fold", "test"):
        predicted = np.load(evaluated / "predictions" / f"{name}.npy").astype(np.float64)
        assert np.exp(predicted).sum(axis=2) == pytest.approx(1, abs=1e-5)


def predict(evaluated, digits, fold, pixels):
    model = models.build("simple_cnn", models.form_of(digits), (0.5,), (0.5,))
    path = fold.within(evaluated / "models")
    models.load_weights(model, files.read_arrays(path))
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
    names = ["n", "errors", "accuracy", "balanced_accuracy", "f1_micro", "f1_macro", "log_loss", "roc_auc_macro"]
    assert table.columns.tolist() == ["repeat", "fold", *names, *(f"test_{name}" for name in names[2:])]
    assert table[["repeat", "fold"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_scores_are_those_of_the_predictions(evaluated, digits):
    held_out = folds.load(evaluated / "folds", 80).held_out(Fold(1, 0))
    predicted, labels = np.load(evaluated / "predictions" / "out_of_fold.npy")[1], digits.train_labels
    expected = headline(predicted[held_out], labels[held_out])
    table = pd.read_csv(evaluated / "scores" / "folds.csv")
    assert table.loc[2, list(expected)].to_dict() == pytest.approx(expected, rel=1e-8)


def test_there_are_scores_by_class_and_counts_of_pairs_of_classes(evaluated):
    classes = pd.read_csv(evaluated / "scores" / "classes.csv")
    confusion = pd.read_csv(evaluated / "scores" / "confusion.csv")
    assert (len(classes), len(confusion)) == (4 * 2 * 10, 4 * 2 * 100)
    assert confusion[confusion.images == "held_out"]["count"].sum() == 2 * 80


def test_the_console_tells_what_is_predicted(digits, parameters, tmp_path, capsys):
    evaluate(tmp_path, parameters(TWICE_TWO), digits)
    assert capsys.readouterr().err == "evaluate: 4 models on their held-out images and 20 test images\n"


@pytest.mark.filterwarnings("error")
def test_leaving_one_out_leaves_the_area_under_the_curve_empty(digits, parameters, tmp_path):
    few = replace(digits, train_images=digits.train_images[::8], train_labels=digits.train_labels[::8])
    evaluate(tmp_path, parameters({"cv.strategy": "kfold", "cv.k": 10}), few)
    table = pd.read_csv(tmp_path / "scores" / "folds.csv")
    assert (table.n.tolist(), table.roc_auc_macro.isna().all()) == ([1] * 10, True)


def test_a_missing_model_is_told_and_nothing_is_written(digits, parameters, tmp_path):
    path = Fold(1, 0).within(tmp_path / "models")
    with pytest.raises(FoldwiseError) as caught:
        evaluate(tmp_path, parameters(TWICE_TWO), digits, spoil=path.unlink)
    told = f"{path} is missing: run `dvc repro`, or `dvc pull` where a remote holds it"
    assert (str(caught.value), (tmp_path / "predictions").exists()) == (told, False)


def test_models_of_another_network_are_told(digits, parameters, tmp_path):
    with pytest.raises(FoldwiseError, match=r"holds the weights of another network: run `dvc repro -f -s train`$"):
        evaluate(tmp_path, parameters(TWICE_TWO), digits, network="cnn")
