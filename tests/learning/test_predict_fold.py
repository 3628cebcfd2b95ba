import numpy as np
import pytest
import torch

from foldwise.base.errors import FoldwiseError
from foldwise.data.folds import Fold
from foldwise.execution.jobs import Job
from foldwise.execution.schedule import Part
from foldwise.learning import augmentation, models
from foldwise.learning.networks import NETWORKS
from foldwise.learning.predict_fold import PredictFold
from foldwise.learning.prediction import log_probabilities
from foldwise.learning.train_fold import TrainFold

pytestmark = pytest.mark.usefixtures("one_thread")

FOLD = Fold(0, 1)


@pytest.fixture
def train(digits, deal, parameters):
    """Train one fold, and give its weights: train({"train.lr": 0.1})."""

    def train(changes=None):
        params = parameters(changes)
        task = TrainFold(digits, deal(digits.train_labels, params.cv), params, {})
        arrays = task(FOLD, Job(FOLD, Part(0, 0, None, 0, 4), 4, task.costs))
        return {name: array for name, array in arrays.items() if name not in {"epochs", "losses"}}

    return train


@pytest.fixture
def predict(digits, deal, parameters):
    """Predict with one fold's model: predict(weights, {"evaluate.augment": "shift"})."""

    def predict(weights, changes=None):
        params = parameters(changes)
        return PredictFold(digits, deal(digits.train_labels, params.cv), params)(FOLD, None, weights)

    return predict


@pytest.fixture
def trained(train):
    return train()


def same(one, other):
    return {name for name in one if one[name].tobytes() == other[name].tobytes()}


@pytest.mark.parametrize("part", ["held_out", "test"])
def test_predictions_are_those_of_the_folds_model(part, trained, predict, digits, deal, parameters):
    model = models.build("simple_cnn", models.form_of(digits), (0.5,), (0.5,))
    models.load_weights(model, trained)
    held_out = deal(digits.train_labels, parameters().cv).held_out(FOLD)
    pixels = digits.train_images[held_out] if part == "held_out" else digits.test_images
    expected = log_probabilities(model, torch.from_numpy(pixels)).numpy()
    predicted = predict(trained)[part]
    assert predicted.dtype == np.float32
    assert np.allclose(predicted, expected, atol=1e-5)


def test_predictions_may_be_means_over_shifts(trained, predict, monkeypatch):
    monkeypatch.setattr(augmentation, "MAX_SHIFT", 1 / 8)
    plain, shifted = predict(trained), predict(trained, {"evaluate.augment": "shift"})
    assert not same(plain, shifted)


def test_a_model_of_another_network_is_told(trained, predict):
    with pytest.raises(FoldwiseError) as caught:
        predict(trained, {"model.name": "cnn"})
    told = "the model of repeat 0 fold 1 holds the weights of another network: run `dvc repro -f -s train`"
    assert str(caught.value) == told


def test_a_model_whose_predictions_are_not_numbers_is_told(trained, predict):
    with pytest.raises(FoldwiseError) as caught:
        predict(trained | {"0.mean": np.full_like(trained["0.mean"], np.nan)})
    told = "the model of repeat 0 fold 1 gives predictions that are not finite: run `dvc repro -f -s train`"
    assert str(caught.value) == told


def test_a_whole_model_whose_predictions_are_not_numbers_is_not_to_be_trained_the_same_way_again(trained, predict):
    with pytest.raises(FoldwiseError) as caught:
        predict(trained | {"1.4.weight": np.full_like(trained["1.4.weight"], 3e38)})
    what = "lower train.lr, or mend the network"
    assert str(caught.value) == f"the model of repeat 0 fold 1 gives predictions that are not finite: {what}"


def test_a_network_of_lazy_layers_is_trained_to_the_same_bytes_again_and_predicts(train, predict, monkeypatch):
    layers = torch.nn.LazyConv2d, torch.nn.LazyBatchNorm2d, torch.nn.Flatten, torch.nn.LazyLinear
    arguments = (4, 3), (), (), (10,)
    monkeypatch.setitem(
        NETWORKS,
        "lazy",
        lambda form: torch.nn.Sequential(*(layer(*given) for layer, given in zip(layers, arguments, strict=True))),
    )
    lazy = {"model.name": "lazy"}
    one, other = train(lazy), train(lazy)
    assert same(one, other) == one.keys()
    predicted = predict(one, lazy)
    assert np.isfinite(predicted["test"]).all()
    assert same(predicted, predict(one, lazy)) == predicted.keys()
