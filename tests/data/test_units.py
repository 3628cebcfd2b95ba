from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from foldwise.base.errors import FoldwiseError
from foldwise.base.params import CV
from foldwise.data import folds
from foldwise.data.draws import draw
from foldwise.data.units import commonest_classes, connected, copies_of, effective_number, groups_of
from foldwise.evaluation.inference import wilson
from foldwise.sources.subsets import part


@st.composite
def images(draw, most=30):
    """Classes, groups and copies of some images; -1 where one is of no group."""
    n = draw(st.integers(2, most))
    kinds = st.integers(0, 2), st.integers(-1, 8), st.integers(0, 20)
    return [np.array(draw(st.lists(kind, min_size=n, max_size=n)), np.int64) for kind in kinds]


def torn(values, sides):
    """Whether images of one value are on several sides."""
    shared = values >= 0
    pairs = {(value, side) for value, side in zip(values[shared].tolist(), sides[shared].tolist(), strict=True)}
    return len(pairs) > len(np.unique(values[shared]))


@given(
    data=images(),
    k=st.integers(2, 4),
    strategy=st.sampled_from(["stratified", "kfold"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_group_and_no_copy_is_in_two_folds_of_a_repeat(data, k, strategy, seed):
    labels, groups, copies = data
    cv = CV(k=k, strategy=strategy, repeats=2, seed=seed, groups="together", copies="together")
    try:
        assignments = folds.assign(labels, cv, connected(groups, copies))
    except FoldwiseError:
        assume(False)
    for row in assignments:
        assert not torn(groups, row)
        assert not torn(copies, row)
        assert np.array_equal(np.unique(row), np.arange(k))


@given(data=images(), share=st.floats(0, 1))
def test_no_group_and_no_copy_is_on_both_sides_of_a_draw(data, share):
    labels, groups, copies = data
    drawn = draw(labels, connected(groups, copies), max(1, round(share * len(labels))))
    sides = np.isin(np.arange(len(labels)), drawn)
    assert not torn(groups, sides)
    assert not torn(copies, sides)
    assert (np.diff(drawn) > 0).all()


@given(data=images(), share=st.floats(0, 1))
def test_a_draw_has_of_each_commonest_class_a_unit_at_least(data, share):
    labels, groups, copies = data
    units = connected(groups, copies)
    drawn = draw(labels, units, max(1, round(share * len(labels))))
    assert set(commonest_classes(labels[drawn], units[drawn])[1]) == set(commonest_classes(labels, units)[1])


@given(data=images())
def test_a_draw_of_all_is_all_and_is_always_the_same(data):
    labels, groups, copies = data
    units = connected(groups, copies)
    assert np.array_equal(draw(labels, units, len(labels)), np.arange(len(labels)))
    half = max(1, len(labels) // 2)
    assert np.array_equal(draw(labels, units, half), draw(labels, units, half))


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=4), share=st.floats(0, 1))
def test_where_all_are_alone_a_draw_is_the_part_of_a_data_set(counts, share):
    labels = np.repeat(np.arange(len(counts)), counts)
    size = max(len(counts), round(share * len(labels)))
    drawn = draw(labels, np.arange(len(labels)), size)
    assert (len(drawn), drawn.tolist()) == (size, part(labels, size).tolist())


def test_a_draw_is_of_about_as_many_images_as_asked_for():
    units = np.repeat(np.arange(200), 5)
    drawn = draw(units % 2, units, 300)
    assert (len(drawn), np.bincount(drawn % 5).tolist()) == (300, [60] * 5)


@given(n=st.integers(1, 20))
def test_where_all_are_alone_units_are_numbered_as_they_come(n):
    assert np.array_equal(connected(np.full(n, -1)), np.arange(n))
    assert np.array_equal(connected(np.arange(n)[::-1]), np.arange(n))


@given(data=images())
def test_the_order_of_kinds_changes_no_unit(data):
    kinds = *data[1:], data[0] - 1
    expected = connected(*kinds)
    assert all(np.array_equal(connected(*some), expected) for some in permutations(kinds))


def test_a_chain_of_group_and_copy_is_one_unit():
    groups = np.array([0, -1, 1, 0, -1, 2])
    copies = np.array([0, 1, 2, 3, 2, 1])
    assert connected(groups, copies).tolist() == [0, 1, 2, 0, 2, 1]
    assert connected(groups, np.array([0, 1, 2, 2, 4, 5])).tolist() == [0, 1, 0, 0, 2, 3]
    assert connected(groups, np.array([0, 1, 2, 2, 0, 0])).tolist() == [0, 1, 0, 0, 0, 0]


@given(data=images())
def test_a_unit_is_all_that_can_be_reached_numbered_as_they_come(data):
    _, groups, copies = data
    reached = (copies[:, None] == copies) | ((groups[:, None] == groups) & (groups >= 0))
    for _ in range(5):  # paths twice as long, each time
        reached = reached @ reached
    found = connected(groups, copies)
    assert np.array_equal(found[:, None] == found, reached)
    first = np.unique(found, return_index=True)[1]
    assert (np.diff(first) > 0).all()


@given(data=images())
def test_the_commonest_class_is_that_of_a_plain_count_the_lowest_of_equals(data):
    labels, _, units = data
    numbers, classes = commonest_classes(labels, units)
    assert numbers.tolist() == sorted(set(units.tolist()))
    for number, commonest in zip(numbers, classes, strict=True):
        counts = [int((labels[units == number] == label).sum()) for label in range(3)]
        assert commonest == counts.index(max(counts))


def test_classes_may_have_any_numbers():
    numbers, classes = commonest_classes(np.array([7, 40, 40, 7, 3]), np.array([9, 9, 9, 2, 2]))
    assert (numbers.tolist(), classes.tolist()) == ([2, 9], [3, 40])


@given(values=st.lists(st.integers(0, 2**12 - 1), min_size=1, max_size=40))
def test_copies_are_equal_where_all_pixels_are_and_blank_images_are_none(values):
    pixels = (np.array(values)[:, None] >> np.arange(12) & 1).astype(np.uint8).reshape(-1, 3, 2, 2)
    found = copies_of(pixels[:7], pixels[7:])
    blank = np.isin(values, [0, 2**12 - 1])
    assert np.array_equal(found == -1, blank)
    assert np.array_equal((found[:, None] == found)[~blank], np.equal.outer(values, values)[~blank])


def test_copies_are_the_same_in_any_layout(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 5), np.uint8)
    expected = copies_of(pixels)
    np.save(tmp_path / "pixels.npy", pixels)
    spaced = np.zeros((40, 3, 4, 10), np.uint8)
    spaced[::2, :, :, ::2] = pixels
    layouts = [
        np.asfortranarray(pixels),
        np.ascontiguousarray(np.moveaxis(pixels, 1, 3)).transpose(0, 3, 1, 2),
        spaced[::2, :, :, ::2],
        np.load(tmp_path / "pixels.npy", mmap_mode="r"),
        np.load(tmp_path / "pixels.npy", mmap_mode="c"),
    ]
    for layout in layouts:
        assert np.array_equal(copies_of(layout), expected)


def test_no_images_have_no_copies():
    assert copies_of(np.empty((0, 1, 4, 4), np.uint8)).shape == (0,)


@pytest.mark.parametrize(
    ("units", "expected"), [([3, 1, 2], 3), ([5, 5, 5, 5], 1), ([0, 0, 1, 1], 2), ([0, 0, 0, 1], 1.6)]
)
def test_the_effective_number_is_that_of_kish(units, expected):
    assert effective_number(np.array(units)) == pytest.approx(expected)


@pytest.mark.parametrize("spread", [0.8, 1.8])
def test_intervals_that_count_the_effective_number_hold_where_groups_are_unequal(spread):
    """Images of a group are all right or all wrong, the extreme; by the number of groups 83 and 49 % would hold."""
    random, held = np.random.default_rng(0), []
    for _ in range(400):
        units = np.repeat(np.arange(40), np.maximum(1, random.lognormal(2, spread, 40)).astype(int))
        right = (random.random(40) < 0.8)[units]
        n = round(effective_number(units))
        interval = wilson(round(right.mean() * n), n)
        held.append(interval.low <= 0.8 <= interval.high)
    assert np.mean(held) > 0.9


def test_groups_are_numbered_over_the_tables_and_an_empty_one_is_none():
    train, test = pd.DataFrame({"group": ["b", "", "a"]}), pd.DataFrame({"group": ["a", "c", ""]})
    assert groups_of(train, test).tolist() == [0, -1, 1, 1, 2, -1]


@pytest.mark.parametrize("first", [True, False])
def test_a_table_without_groups_has_none(first):
    tables = [pd.DataFrame({"file_name": ["x", "y"]}), pd.DataFrame({"file_name": ["z"], "group": ["a"]})]
    found = groups_of(*(tables if first else tables[::-1]))
    assert found.tolist() == ([-1, -1, 0] if first else [0, -1, -1])
    assert groups_of(tables[0]).tolist() == [-1, -1]
