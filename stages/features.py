"""Compute once what the frozen part of a network makes of each image, where all folds and epochs share it."""

from pathlib import Path

import numpy as np

from foldwise.base import console, files
from foldwise.base.params import Params
from foldwise.data.images import load
from foldwise.execution import engine
from foldwise.learning import frozen


def features(params: Params, *, normalized: Path, weights: Path, features: Path) -> None:
    """Write the features of training and then of test images, (N + M, V, F); none where folds do not share them."""
    with files.writing(features) as temporary:
        if not (frozen.are_shared(params) and compute(params, normalized, weights, temporary)):
            files.write_array(temporary, np.empty((0, 0, 0), np.float32))


def compute(params: Params, normalized: Path, weights: Path, features: Path) -> bool:
    """Write them, if the network ends in its last layer."""
    data = load(normalized)
    views, n = frozen.views_of(params), len(data.train_labels) + len(data.test_labels)
    parts = dict(frozen.chunks(data, views))
    console.say(f"features: {params.model.name}, {n} images, once")
    task, found = frozen.Freeze(data, params, files.read_arrays(weights)), None
    for part, arrays in engine.run(task, list(parts), params.compute):
        if not arrays:
            console.say(f"features: {params.model.name} does not end in its last layer: folds compute all of it")
            return False
        if found is None:
            found = files.mapped(features, (n, views, arrays["features"].shape[2]), np.float32)
        computed = arrays["features"]
        found[parts[part], : computed.shape[1]] = computed
    return True
