"""Networks and weights from elsewhere, in real runs: what is trained again, and to which bytes."""

import pytest
import torch
from clones import trained
from torch import nn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # on a busy machine

FOLDS = ["0.0", "0.1", "0.2", "0.3", "0.4"]
OWN = {
    "model.name": "own/networks.py:mlp",
    "model.options": "{hidden: 16}",
    "train.augment": "own/augmentations.py:erase",
}
FROZEN = {
    "model.name": "own/networks.py:mlp",
    "model.options": "{hidden: 16}",
    "model.weights_file": "own/weights/mlp.pth",
    "model.freeze": "true",
    "model.views": 2,
    "normalize.scope": "dataset",
    "train.augment": "[flip, shift]",
}
NAMED = {"model.name": "torchvision:squeezenet1_1", "train.epochs": 1, "train.optimizer": "sgd"}
MADE = ("data/features.npy", "models")
MANY_THREADS = {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}


def repro(clone, changes, *options, **env):
    """Change parameters and train; give the folds that were trained."""
    clone.turn(changes)
    return sorted(trained(clone.dvc("repro", "--no-run-cache", *options, "train", **env)))


def trained_twice(clone, changes):
    """Change parameters and train, then once more by one worker that is told of more threads; give what both make."""
    assert repro(clone, changes) == FOLDS
    before = clone.content(*MADE)
    alone = {"compute.n_jobs": 1, "compute.reuse_folds": "false"}
    assert repro(clone, alone, "--force", "--single-item", **MANY_THREADS) == FOLDS
    clone.turn({"compute.reuse_folds": "true"})
    assert clone.content(*MADE) == before
    return before


def write_weights(clone, seed):
    """Write weights for 8 x 8 images and ten classes."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    torch.save(network.state_dict(), clone.root / "own" / "weights" / "mlp.pth")


def test_a_network_of_torchvisions_is_trained_to_equal_bytes_whatever_the_workers_and_threads(repeated):
    trained_twice(repeated, NAMED)


def test_a_network_of_ones_own_is_trained_again_after_an_edit_to_equal_bytes_whatever_the_workers(repeated):
    before = trained_twice(repeated, OWN)
    path = repeated.root / "own" / "networks.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("nn.ReLU()", "nn.SiLU()"), encoding="utf-8")
    assert repro(repeated, {}) == FOLDS
    path.write_text(text, encoding="utf-8")
    assert repro(repeated, {}) == []
    assert repeated.content(*MADE) == before


def test_other_weights_under_the_same_name_are_trained_from_to_equal_bytes_whatever_the_workers(repeated):
    write_weights(repeated, seed=0)
    before = trained_twice(repeated, FROZEN)
    write_weights(repeated, seed=1)
    assert repro(repeated, {}) == FOLDS
    assert repeated.content("models") != {path: before[path] for path in before if path.startswith("models")}
