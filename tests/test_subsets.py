import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldwise.errors import FoldwiseError
from foldwise.subsets import part, subset

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
    assert part(LABELS, 10).tolist() == [23, 29, 44, 52, 70, 73, 74, 84, 87, 93]


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=8), data=st.data())
def test_no_class_is_lost_and_all_are_as_near_to_their_shares_as_can_be(counts, data):
    labels = np.repeat(np.arange(len(counts)), counts)
    size = data.draw(st.integers(len(counts), len(labels)))
    kept = np.bincount(labels[part(labels, size)], minlength=len(counts))
    shares = np.array(counts) * size / len(labels)
    assert kept.sum() == size
    assert (kept <= counts).all()
    assert (kept >= np.maximum(np.floor(shares) - (shares < 1).sum(), 1)).all()
    assert (kept <= np.maximum(np.ceil(shares), 1)).all()


def test_a_rare_class_keeps_an_image():
    labels = np.repeat([0, 1, 2], [4000, 900, 15])
    assert np.bincount(labels[part(labels, 100)]).tolist() == [81, 18, 1]


def test_a_class_of_one_image_leaves_the_others_stratified():
    labels = np.repeat([0, 1, 2], [600, 300, 1])
    assert np.bincount(labels[part(labels, 91)]).tolist() == [60, 30, 1]


@pytest.mark.parametrize("size", [1, 2, 101])
def test_a_size_that_cannot_be_had_is_told(size):
    with pytest.raises(FoldwiseError) as caught:
        subset((IMAGES, LABELS), size)
    assert str(caught.value) == (
        f"data.subset is {size} but must be from 3, one image per class, to 100, all training images: "
        "change it, or leave it empty to keep all"
    )
