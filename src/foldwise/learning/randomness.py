"""A fold's sources of randomness, each explicit and of one use."""

from typing import NamedTuple

import numpy as np
import torch

from foldwise.data.folds import Fold


class Streams(NamedTuple):
    """One stream for each use: children of `numpy.random.SeedSequence(seed, spawn_key=(repeat, fold))`."""

    weights: np.random.SeedSequence
    inner: np.random.SeedSequence
    order: np.random.SeedSequence
    augmentation: np.random.SeedSequence
    dropout: np.random.SeedSequence
    selection: np.random.SeedSequence


def streams(seed: int, fold: Fold) -> Streams:
    """Derive the streams of one fold from `train.seed`."""
    return Streams(*np.random.SeedSequence(seed, spawn_key=fold).spawn(len(Streams._fields)))


def _of_epoch(stream: np.random.SeedSequence, epoch: int) -> np.random.SeedSequence:
    # Each epoch has a child of its own, so that training can go on at any epoch without a saved state.
    return np.random.SeedSequence(stream.entropy, spawn_key=(*stream.spawn_key, epoch))


def generator(stream: np.random.SeedSequence, epoch: int) -> np.random.Generator:
    """Make a stream's generator for one epoch, counted from 0."""
    return np.random.default_rng(_of_epoch(stream, epoch))


def seed_torch(stream: np.random.SeedSequence, epoch: int = 0) -> None:
    """Seed PyTorch's own generators, from which layers take fresh weights and dropout."""
    torch.manual_seed(int(_of_epoch(stream, epoch).generate_state(1, np.uint64)[0]))
