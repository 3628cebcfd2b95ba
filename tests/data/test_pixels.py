import numpy as np
import pytest

from foldwise.data.pixels import pixel_statistics


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
