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
    assert part(LABELS, 10).tolist() == [3, 19, 21, 43, 51, 77, 82, 89, 91, 92]


def test_a_class_of_one_image_does_not_stop_a_subset():
    assert len(part(np.array([0, 0, 0, 0, 1]), 2)) == 2


@pytest.mark.parametrize("size", [1, 2, 101])
def test_a_size_that_cannot_be_had_is_told(size):
    with pytest.raises(FoldwiseError) as caught:
        subset((IMAGES, LABELS), size)
    assert str(caught.value) == (
        f"data.subset is {size} but must be from 3, one image per class, to 100, all training images: "
        "change it, or leave it empty to keep all"
    )
