"""What many tests share: parameters with some parameters changed, small images, and the folds of them."""

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import settings
from sklearn.datasets import load_digits

from foldwise.base import interrupts
from foldwise.base.params import Params
from foldwise.data import folds, images

ROOT = Path(__file__).parents[1]

# A shell's background job ignores Ctrl-C, and so would everything that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline, which a busy machine would miss; the same examples each time, so that what passed passes again.
settings.register_profile("foldwise", deadline=None, derandomize=True, database=None)
settings.load_profile("foldwise")

# A recipe of the tests' own, so that tuning the default one breaks none; what it does not name stays as it is.
RECIPE = {
    "data.name": "digits",
    "cv.k": 4,
    "cv.strategy": "stratified",
    "cv.repeats": 1,
    "cv.seed": 42,
    "cv.groups": "together",
    "cv.copies": "together",
    "normalize.scope": "fold",
    "model.name": "simple_cnn",
    "model.options": None,
    "model.pretrained": False,
    "model.freeze": False,
    "model.views": 1,
    "model.weights_file": None,
    "train.seed": 0,
    "train.epochs": 2,
    "train.batch_size": 16,
    "train.optimizer": "sgd",
    "train.lr": 0.05,
    "train.momentum": 0.9,
    "train.weight_decay": 0.0,
    "train.schedule": "constant",
    "train.warmup": 0,
    "train.gradient_clip": 0.0,
    "train.class_weights": "none",
    "train.label_smoothing": 0.0,
    "train.augment": "none",
    "train.clean_epochs": 0,
    "train.precision": "float32",
    "train.importance_sampling": 1.0,
    "train.selective_backprop": 1.0,
    "train.freeze_first_layer_after": 0,
    "train.patience": 0,
    "train.inner_fraction": 0.25,
    "evaluate.primary": "accuracy",
    "evaluate.augment": "none",
    "evaluate.temperature": False,
    "final.model": "none",
    "compute.device": "cpu",
    "compute.threads_per_fold": 1,
    "compute.portable": False,
    "compute.backend": "loky",
    "compute.n_jobs": 1,
    "compute.reuse_folds": True,
}


@pytest.fixture
def signals_of_a_new_process(monkeypatch):
    """Listen to Ctrl-C as a new process does; then give the tests' own process back what it had."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(interrupts, "_heard", None)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="session")
def parameters():
    """Make validated parameters from the tests' recipe: parameters({"train.lr": 0.1})."""

    def make(changes=None) -> Params:
        content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for parameter, value in (RECIPE | (changes or {})).items():
            section, _, name = parameter.partition(".")
            content[section][name] = value
        return Params.model_validate(content)

    return make


@pytest.fixture(scope="session")
def digits():
    """Give 80 training and 20 test images of scikit-learn's digits, 1 x 8 x 8; each class has eight and two."""
    found = load_digits()
    chosen = np.concatenate([np.flatnonzero(found.target == label)[:10] for label in range(10)])
    pixels = (found.images[chosen] * 255 / 16).astype(np.uint8)[:, None]
    labels = found.target[chosen].astype(np.int64)
    test = np.arange(100) % 10 < 2
    classes = tuple("0123456789")
    return images.Images.measured("digits", classes, (pixels[~test], labels[~test]), (pixels[test], labels[test]))


@pytest.fixture(scope="session")
def deal(tmp_path_factory):
    """Deal labels to folds through the files on disk: deal(labels, cv)."""

    def dealt(labels, cv):
        directory = tmp_path_factory.mktemp("folds")
        folds.save(directory, folds.assign(labels, cv), cv)
        return folds.load(directory, len(labels))

    return dealt


@pytest.fixture
def one_thread():
    """Keep PyTorch to one thread, as a fold's worker does."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
