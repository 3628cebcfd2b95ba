import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from foldwise.base.errors import FoldwiseError
from foldwise.sources.subsets import part, subset

LABELS = np.repeat(np.arange(3), [50, 30, 20])[np.random.default_rng(0).permutation(100)]
IMAGES = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)


def test_no_size_keeps_all():
    images, labels = subset((IMAGES, LABELS), None)
    assert images is IMAGES
    assert labels is LABELS


def test_the_size_of_the_whole_keeps_all():
    images, _ = subset((IMAGES, LABELS), 100)
    assert np.array_equal(images, IMAGES)


@given(size=st.integers(3, 100))
def test_a_subset_has_its_size(size):
    assert len(subset((IMAGES, LABELS), size)[0]) == size


@given(size=st.integers(3, 97))
def test_a_subset_has_the_classes_shares_to_within_one_image(size):
    _, labels = subset((IMAGES, LABELS), size)
    assert np.abs(np.bincount(labels, minlength=3) - np.array([0.5, 0.3, 0.2]) * size).max() <= 1


def test_a_subset_keeps_each_image_with_its_label():
    images, labels = subset((IMAGES, LABELS), 40)
    assert np.array_equal(LABELS[images.ravel()], labels)


@given(size=st.integers(3, 99))
def test_a_subset_keeps_the_original_order(size):
    images, _ = subset((IMAGES, LABELS), size)
    assert (np.diff(images.ravel().astype(int)) > 0).all()


def test_a_subset_is_always_the_same():
    assert part(LABELS, 10).tolist() == [3, 19, 21, 43, 51, 77, 82, 89, 91, 92]


@st.composite
def draws(draw):
    """Labels of some classes, and a size from one image per class to all."""
    counts = np.array(draw(st.lists(st.integers(1, 60) | st.integers(1, 3), min_size=1, max_size=8)))
    labels = np.random.default_rng(draw(st.integers(0, 9))).permutation(np.repeat(np.arange(len(counts)), counts))
    return counts, labels, draw(st.integers(len(counts), len(labels)))


@given(draw=draws())
def test_a_part_has_its_size_and_its_order_and_every_class(draw):
    counts, labels, size = draw
    drawn = part(labels, size)
    assert len(drawn) == size
    assert (np.diff(drawn) > 0).all()
    assert set(labels[drawn]) == set(range(len(counts)))


@given(draw=draws())
def test_classes_of_more_than_one_image_share_the_places_by_their_largest_remainders(draw):
    counts, labels, size = draw
    found = np.bincount(labels[part(labels, size)])
    large = found > 1
    shares = found[large].sum() * counts[large] / counts[large].sum()
    assert (np.abs(found[large] - shares) < 1).all()
    up = found[large] > shares
    remainders = shares % 1
    assert not up.any() or up.all() or remainders[up].min() >= remainders[~up].max() - 1e-9


@pytest.mark.parametrize(
    ("counts", "size", "kept"),
    [
        ([4000, 900, 15], 100, [81, 18, 1]),
        ([4000, 900, 1], 100, [81, 18, 1]),
        ([4, 1], 2, [1, 1]),
        ([50, 30, 20], 98, [49, 29, 20]),
        ([800, 150, *[1] * 50], 100, [42, 8, *[1] * 50]),
    ],
)
def test_no_class_is_dropped_and_the_others_stay_proportional(counts, size, kept):
    labels = np.repeat(np.arange(len(counts)), counts)
    assert np.bincount(labels[part(labels, size)]).tolist() == kept


@given(size=st.integers(5, 97))
def test_where_every_class_has_a_share_the_part_is_scikit_learns(size):
    expected, _ = train_test_split(np.arange(100), train_size=size, stratify=LABELS, random_state=0)
    assert np.array_equal(part(LABELS, size), np.sort(expected))


@pytest.mark.parametrize("size", [1, 2, 101])
def test_a_size_that_cannot_be_had_is_told(size):
    with pytest.raises(FoldwiseError) as caught:
        subset((IMAGES, LABELS), size)
    assert str(caught.value) == (
        f"data.subset is {size} but must be from 3, one image per class, to 100, all training images: "
        "change it, or leave it empty to keep all"
    )
