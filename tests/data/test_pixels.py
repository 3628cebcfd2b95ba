import numpy as np
import pytest

from foldwise.data.pixels import empty_border, pixel_statistics


def test_pixel_statistics_are_numpys():
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 3, 4, 5), np.uint8)
    mean, std = pixel_statistics(pixels)
    assert mean == pytest.approx((pixels / 255).mean((0, 2, 3)), rel=1e-12)
    assert std == pytest.approx((pixels / 255).std((0, 2, 3)), rel=1e-12)


def test_pixel_statistics_do_not_depend_on_the_order_of_the_images():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (5000, 1, 4, 5), np.uint8)
    assert pixel_statistics(pixels) == pixel_statistics(random.permutation(pixels))


def test_pixel_statistics_of_chosen_images_are_those_of_a_copy():
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (40, 2, 5, 6), dtype=np.uint8)
    chosen = random.permutation(40)[:17]
    assert pixel_statistics(pixels, chosen) == pixel_statistics(pixels[chosen])


def test_pixel_statistics_of_black_and_white_are_a_half():
    pixels = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    assert pixel_statistics(pixels) == ((0.5,), (0.5,))


def framed(border, value=0, n=50, height=42, width=30):
    """Make noise within a border of one grey."""
    images = np.full((n, 3, height, width), value, np.uint8)
    shape = n, 3, height - 2 * border, width - 2 * border
    images[:, :, border : height - border, border : width - border] = np.random.default_rng(0).integers(0, 256, shape)
    return images


@pytest.mark.parametrize("value", [0, 130, 255])
def test_a_border_of_any_one_grey_is_empty_as_far_as_a_14th_of_the_shorter_side(value):
    assert [empty_border(framed(border, value)) for border in (0, 1, 2, 9)] == [0, 0, 2, 2]


def test_a_border_in_which_pixels_stray_is_empty_and_one_that_is_drawn_upon_is_not():
    images = framed(2)
    images[0, :, 0] = 255
    assert empty_border(images) == 2
    images[::2, :, 0] = 255
    assert empty_border(images) == 0


@pytest.mark.parametrize("side", [4, 13])
def test_small_images_have_no_border(side):
    assert empty_border(np.zeros((3, 1, side, side), np.uint8)) == 0


def test_images_of_one_grey_have_no_border():
    assert empty_border(np.full((3, 1, 28, 28), 7, np.uint8)) == 0
