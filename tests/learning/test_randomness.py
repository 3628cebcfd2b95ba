import numpy as np
import pytest
import torch

from foldwise.data.folds import Fold
from foldwise.learning import randomness

FOLD = Fold(1, 2)


def numbers(stream, epoch=0):
    return tuple(randomness.generator(stream, epoch).integers(0, 2**63, 4))


def test_a_folds_streams_are_children_of_its_seed_sequence():
    children = np.random.SeedSequence(7, spawn_key=(1, 2)).spawn(6)
    found = randomness.streams(7, FOLD)
    assert [stream.spawn_key for stream in found] == [child.spawn_key for child in children]
    assert {stream.entropy for stream in found} == {7}


def test_seeds_folds_repeats_uses_and_epochs_have_streams_of_their_own():
    found = [
        numbers(stream, epoch)
        for seed in (0, 1)
        for fold in (Fold(0, 0), Fold(0, 1), Fold(1, 0), Fold(1, 1))
        for stream in randomness.streams(seed, fold)
        for epoch in (0, 1, 2)
    ]
    assert len(set(found)) == len(found) == 2 * 4 * 6 * 3


def test_a_stream_can_be_taken_again_from_any_epoch():
    stream = randomness.streams(0, FOLD).order
    first = [numbers(stream, epoch) for epoch in range(3)]
    assert [numbers(stream, epoch) for epoch in (2, 1, 0)] == first[::-1]


@pytest.mark.parametrize("epoch", [0, 1])
def test_pytorch_is_seeded_to_the_same_numbers(epoch):
    found = []
    for _ in range(2):
        randomness.seed_torch(randomness.streams(0, FOLD).weights, epoch)
        found.append(torch.rand(4))
    assert torch.equal(*found)


def test_pytorch_is_seeded_to_other_numbers_in_another_epoch():
    found = []
    for epoch in (0, 1):
        randomness.seed_torch(randomness.streams(0, FOLD).dropout, epoch)
        found.append(torch.rand(4))
    assert not torch.equal(*found)


def test_the_largest_seed_is_taken():
    randomness.seed_torch(randomness.streams(2**32 - 1, FOLD).weights)
