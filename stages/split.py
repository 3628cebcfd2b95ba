"""Decide, for each repeat, in which fold each training image is held out."""

from pathlib import Path

from foldwise.base import console
from foldwise.base.params import Params
from foldwise.data import images
from foldwise.data.folds import assign, save


def split(params: Params, *, normalized: Path, folds: Path) -> None:
    """Deal the training images to folds."""
    labels = images.load(normalized).train_labels
    save(folds, assign(labels, params.cv), params.cv)
    cv = params.cv
    console.say(f"split: {len(labels)} training images into {cv.repeats} x {cv.k} folds, {cv.strategy}, seed {cv.seed}")
