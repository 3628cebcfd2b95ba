import numpy as np
import pytest
import torch
from torch import nn

from foldwise.base.files import read_arrays, write_arrays
from foldwise.base.params import Train
from foldwise.data.folds import Fold
from foldwise.learning import checkpoint
from foldwise.learning.randomness import streams
from foldwise.learning.training import Samples, Training, fit

pytestmark = pytest.mark.usefixtures("one_thread")

FOLD = Fold(0, 1)
OPTIMIZERS = Train.model_fields["optimizer"].annotation.__args__


class Scale(nn.Module):
    def forward(self, pixels):
        return pixels.float() / 255 - 0.5


def network(seed):
    torch.manual_seed(seed)
    # The last convolution's weights, 1 x 1, are laid out alike in any memory format.
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Flatten(), nn.Dropout(0.2))
    return nn.Sequential(Scale(), *layers, nn.Linear(108, 10))


@pytest.fixture
def samples(digits):
    images, labels = torch.from_numpy(digits.train_images), torch.from_numpy(digits.train_labels)
    return Samples(images, labels, np.arange(0, 80, 2), np.arange(1, 80, 2), np.arange(80))


def train_and_keep(samples, train, path):
    """Train without a break, and write a snapshot after each epoch."""
    state = Training.start(network(0), train)

    def keep(state):
        write_arrays(path / str(len(state.epochs)), checkpoint.snapshot(state))

    fit(state, samples, train, streams(train.seed, FOLD), keep)
    return state


def go_on(samples, train, path):
    """Train from a snapshot on, with a network of other fresh weights."""
    state = Training.start(network(1), train)
    checkpoint.restore(state, read_arrays(path))
    fit(state, samples, train, streams(train.seed, FOLD), lambda state: None)
    return state


def outcome(state):
    weights = {name: tensor.numpy().tobytes() for name, tensor in state.model.state_dict().items()}
    return weights, state.epochs, state.losses, state.best_epoch, state.best_loss


@pytest.mark.parametrize("patience", [0, 2])
@pytest.mark.parametrize("selection", ["importance_sampling", "selective_backprop"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_from_any_epoch_to_the_same_bits(
    optimizer, selection, patience, samples, parameters, tmp_path, monkeypatch
):
    monkeypatch.setattr("foldwise.learning.selection.FEWEST", 10)
    changes = {"train.optimizer": optimizer, "train.patience": patience, "train.epochs": 5, "train.inner_fraction": 0.4}
    changes |= {"train.lr": 0.3 if optimizer == "sgd" else 0.03, "train.weight_decay": 0.01, "train.augment": "affine"}
    train = parameters(
        changes | {"train.schedule": "one_cycle", f"train.{selection}": 0.5, "train.freeze_first_layer_after": 2}
    ).train
    state = train_and_keep(samples, train, tmp_path)
    expected = outcome(state)
    for epoch in range(1, len(state.epochs) + 1):
        assert outcome(go_on(samples, train, tmp_path / str(epoch))) == expected


def test_early_stopping_is_at_work_in_what_goes_on(samples, parameters, tmp_path):
    train = parameters({"train.patience": 1, "train.epochs": 20, "train.inner_fraction": 0.4, "train.lr": 0.3}).train
    state = train_and_keep(samples, train, tmp_path)
    stopped = len(state.epochs)
    assert 1 < stopped < 20
    assert outcome(go_on(samples, train, tmp_path / str(stopped - 1))) == outcome(state)


@pytest.mark.filterwarnings("ignore:.*to a meta parameter")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_comes_back_is_on_the_device_of_the_weights(optimizer, samples, parameters, tmp_path):
    train = parameters({"train.optimizer": optimizer, "train.epochs": 1}).train
    train_and_keep(samples, train, tmp_path)
    state = Training.start(network(1).to("meta"), train)  # a device without numbers stands for a GPU
    checkpoint.restore(state, read_arrays(tmp_path / "1"))
    kept = [value for values in state.optimizer.state.values() for value in values.values()]
    assert kept
    assert {value.device.type for value in (*kept, state.seen)} == {"meta"}


@pytest.mark.parametrize("name", ["epochs", "losses", "seen", "best_epoch", "best_loss", "best", "optimizer", "model"])
def test_all_that_changes_is_in_a_snapshot(name, samples, parameters, tmp_path):
    train = parameters({"train.patience": 2, "train.inner_fraction": 0.4}).train
    train_and_keep(samples, train, tmp_path)
    assert any(key.split(".")[0] == name for key in read_arrays(tmp_path / "1"))
