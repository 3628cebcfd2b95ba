import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.models import resnet18

from foldwise.data.folds import Fold
from foldwise.execution.jobs import Job
from foldwise.execution.schedule import Part
from foldwise.learning import frozen
from foldwise.learning.frozen import Freeze
from foldwise.learning.predict_fold import PredictFold
from foldwise.learning.train_fold import TrainFold

pytestmark = pytest.mark.usefixtures("one_thread")

FOLD = Fold(0, 1)
FROZEN = {
    "model.name": "resnet18",
    "model.weights_file": "a.pth",
    "model.freeze": True,
    "normalize.scope": "weights",
    "train.augment": "none",
    "train.epochs": 3,
}


@pytest.fixture
def weights():
    torch.manual_seed(0)
    return {name: tensor.numpy() for name, tensor in resnet18().state_dict().items()}


def own(folder, text):
    (folder / "own").mkdir()
    (folder / "own" / "nets.py").write_text("import torch\nfrom torch import nn\n" + textwrap.dedent(text))


def job():
    return Job(FOLD, Part(place=0, start=0, begin=0.0, span=1.0, until=None), 1, (1.0,) * 3)


def test_folds_on_shared_features_learn_what_they_would_have_learnt(digits, deal, parameters, weights, monkeypatch):
    params = parameters(FROZEN)
    folds = deal(digits.train_labels, params.cv)
    monkeypatch.setattr(frozen, "CHUNK", 50)
    freeze = Freeze(digits, params, weights)
    found = np.concatenate([freeze(part, None)["features"] for part, _ in frozen.chunks(digits, 1)])
    assert found.shape == (len(digits.train_labels) + len(digits.test_labels), 1, 512)
    plain = TrainFold(digits, folds, params, weights)
    shared = replace(plain, features=found)
    predicted = []
    for train, features in ((plain, None), (shared, found)):
        arrays = train(FOLD, job())
        model = {name: array for name, array in arrays.items() if name not in ("epochs", "losses")}
        predicted.append(PredictFold(digits, folds, params, features)(FOLD, None, model))
    for name in ("held_out", "test"):
        assert np.abs(predicted[0][name] - predicted[1][name]).max() < 1e-3


def test_views_are_the_image_as_it_is_and_changed(digits, parameters, weights):
    params = parameters(FROZEN | {"model.views": 3, "train.augment": "flip"})
    part = Fold(0, 0)
    views = Freeze(digits, params, weights)(part, None)["features"]
    (plain,) = Freeze(digits, parameters(FROZEN), weights)(part, None).values()
    flipped = replace(digits, train_images=digits.train_images[..., ::-1].copy())
    (turned,) = Freeze(flipped, parameters(FROZEN), weights)(part, None).values()
    assert np.array_equal(views[:, 0], plain[:, 0])
    same, other = (np.abs(views[:, 1:] - of).max(axis=2) < 1e-4 for of in (plain, turned))
    assert (same | other).all()
    assert 0.3 < other.mean() < 0.7


@pytest.mark.parametrize(("clean_epochs", "epochs_with_other_views"), [(0, [1, 2, 3]), (2, [1]), (3, [])])
def test_folds_choose_among_the_views_until_the_clean_epochs(
    clean_epochs, epochs_with_other_views, digits, deal, parameters, weights
):
    params = parameters(FROZEN | {"model.views": 2, "train.augment": "flip", "train.clean_epochs": clean_epochs})
    folds = deal(digits.train_labels, params.cv)
    seen = np.zeros((len(digits.train_labels) + len(digits.test_labels), 2, 512), dtype=np.float32)
    seen[:, 1] = 100  # of which no class can be told: the loss is far above that of guessing
    arrays = TrainFold(digits, folds, params, weights, seen)(FOLD, job())
    number, loss = arrays["epochs"][:, :2].T
    assert list(number[loss > 10]) == epochs_with_other_views


OTHERS = {
    "in bfloat16": {"train.precision": "bfloat16"},
    "by constants of folds": {"normalize.scope": "fold"},
    "on images that change": {"train.augment": "flip"},
    "predicted as moved": {"evaluate.augment": "shift"},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_features_are_shared_only_where_they_are_those_of_the_plain_way(changes, parameters):
    assert frozen.are_shared(parameters(FROZEN))
    assert not frozen.are_shared(parameters(FROZEN | changes))


def test_training_and_test_images_are_never_in_one_chunk(digits, monkeypatch):
    monkeypatch.setattr(frozen, "CHUNK", 60)
    found = [where for _, where in frozen.chunks(digits, 2)]
    assert [(where.start, where.stop) for where in found] == [(0, 30), (30, 60), (60, 80), (80, 100)]


@pytest.mark.parametrize("after", ["", ".mul_(0.1)", " * 1.0", ".softmax(1)"])
def test_what_follows_the_last_layer_is_seen(after, digits, parameters, tmp_path, monkeypatch):
    """Where anything does, the layer alone does not decide what the network gives."""
    monkeypatch.chdir(tmp_path)
    own(
        tmp_path,
        f"""
        class Net(nn.Module):
            def __init__(self, classes):
                super().__init__()
                self.first, self.last = nn.Linear(64, 3), nn.Linear(3, classes)
            def forward(self, images):
                return self.last(self.first(images.flatten(1))){after}
        def net(channels, height, width, classes):
            return Net(classes)
        """,
    )
    params = parameters(FROZEN | {"model.name": "own/nets.py:net", "normalize.scope": "dataset"})
    weights = {"first.weight": np.ones((3, 64), np.float32), "first.bias": np.ones(3, np.float32)}
    found = Freeze(digits, params, weights)(Fold(0, 0), None)
    # A factor of one gives the same numbers.
    assert ("features" in found) == (after in ("", " * 1.0"))
