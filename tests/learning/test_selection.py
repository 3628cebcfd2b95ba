import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.utils.class_weight import compute_sample_weight

from foldwise.learning.selection import balanced, batch_size, by_importance, hardest, images_by_epoch, steps_by_epoch


@pytest.mark.parametrize(("n", "size"), [(1, 32), (2047, 32), (2112, 33), (16383, 255), (16384, 256), (10**6, 256)])
def test_batches_are_a_64th_of_the_images_where_the_recipe_leaves_them_open(n, size, parameters):
    assert batch_size(parameters({"train.batch_size": None}).train, n) == size
    assert batch_size(parameters({"train.batch_size": 7}).train, n) == 7


@pytest.mark.parametrize(
    ("recipe", "n", "later"),
    [
        ({}, 48_000, 48_000),
        ({"train.importance_sampling": 0.3}, 48_000, 14_400),
        ({"train.importance_sampling": 0.3}, 24_000, 10_000),
        ({"train.importance_sampling": 0.3}, 2400, 2400),
        ({"train.selective_backprop": 0.3}, 48_000, 14_400),
        ({"train.selective_backprop": 0.3}, 2401, 721),
    ],
)
def test_all_epochs_but_the_first_take_a_share_of_the_images(recipe, n, later, parameters):
    train = parameters(recipe | {"train.epochs": 3, "train.batch_size": 100}).train
    assert images_by_epoch(train, n) == [n, later, later]
    assert steps_by_epoch(train, n) == [math.ceil(images / 100) for images in (n, later, later)]


def test_the_hardest_are_those_of_highest_loss_the_first_of_equal_ones():
    assert hardest(np.array([1, 5, 2, 5, 1, 1], np.float32), 4).tolist() == [0, 1, 2, 3]


@given(
    arrays.arrays(np.float32, st.integers(2, 60), elements=st.floats(0, 1.5, width=32)), st.data(), st.integers(0, 99)
)
def test_exactly_as_many_as_asked_are_drawn_each_once(gradients, data, seed):
    count = data.draw(st.integers(1, len(gradients) - 1))
    places, weights = by_importance(gradients, count, np.random.default_rng(seed))
    assert len(places) == len(weights) == count
    assert (np.diff(places) > 0).all()
    assert weights.dtype == np.float32
    assert weights.min() > 0
    # The weights of what is certain are count / n, the smallest.
    assert weights.min() >= np.float32(count / len(gradients)) * 0.999


def test_the_larger_the_gradient_the_more_often_and_whatever_it_is_the_weighted_mean_is_that_of_all():
    random = np.random.default_rng(0)
    gradients = random.exponential(0.2, 400).astype(np.float32)
    values, count, draws = random.normal(gradients, 1), 120, 4000
    drawn, estimates = np.zeros(400), []
    for _ in range(draws):
        places, weights = by_importance(gradients, count, random)
        drawn[places] += 1
        estimates.append((values[places] * weights).mean())
    scores = gradients + 0.05
    sampled = drawn < draws  # the others are certain
    ratio = drawn[sampled] / scores[sampled]
    assert drawn[~sampled].size == 0 or scores[~sampled].min() >= scores[sampled].max()
    assert ratio.std() / ratio.mean() < 0.06
    assert np.mean(estimates) == pytest.approx(values.mean(), abs=4 * np.std(estimates) / math.sqrt(draws))


def test_of_few_images_too_the_weighted_mean_is_that_of_all():
    random, values = np.random.default_rng(0), np.array([1.0, 0.0, 0.0, 0.5])
    draws = [by_importance(np.array([1, 0.1, 0.1, 0.4], np.float32), 2, random) for _ in range(20_000)]
    assert np.mean([(values[places] * weights).mean() for places, weights in draws]) == pytest.approx(0.375, abs=0.004)


def test_an_image_of_far_larger_gradient_than_all_others_is_always_drawn():
    gradients = np.full(50, 1e-3, np.float32)
    gradients[7] = 1.4
    for seed in range(50):
        places, weights = by_importance(gradients, 5, np.random.default_rng(seed))
        assert 7 in places
        assert weights[places == 7] == weights.min()


def test_equal_generators_draw_the_same():
    gradients = np.linspace(0, 1, 30, dtype=np.float32)
    one, two = (by_importance(gradients, 9, np.random.default_rng(3)) for _ in range(2))
    assert all(map(np.array_equal, one, two))


@given(labels=arrays.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 5)))
def test_balanced_classes_are_weighed_as_by_scikit_learn(labels):
    assert balanced(labels) == pytest.approx(compute_sample_weight("balanced", labels), rel=1e-6)
