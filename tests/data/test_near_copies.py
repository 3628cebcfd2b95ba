import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from foldwise.data import near_copies as module
from foldwise.data.near_copies import near_copies

NONE = np.empty((0, 1, 20, 20), np.uint8)


def alone(n):
    return np.arange(n)


def scenes(n, shape=(1, 20, 20), seed=0):
    """Images of smooth shapes, all unlike each other."""
    channels, height, width = shape
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = random.uniform(2, 12, (n, channels, 3, 2)), random.uniform(0, 7, (n, channels, 3))
    made = sum(
        np.sin(
            waves[0][:, :, i, 0, None, None] * x + waves[0][:, :, i, 1, None, None] * y + waves[1][:, :, i, None, None]
        )
        for i in range(3)
    )
    return (128 + 25 * made).astype(np.uint8)


def compressed(image):
    """The image as JPEG keeps it."""
    buffer = io.BytesIO()
    Image.fromarray(np.moveaxis(image, 0, 2).squeeze()).save(buffer, "jpeg", quality=90, subsampling=0)
    pixels = np.asarray(Image.open(buffer))
    return np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), 2, 0)


CHANGES = {
    "brighter": lambda image: image + 20,
    "less contrast": lambda image: 30 + image // 2,
    "noisy": lambda image: image + np.random.default_rng(0).integers(0, 4, image.shape, np.uint8),
    "compressed": compressed,
    "one pixel": lambda image: np.where(np.arange(image.size).reshape(image.shape) == 7, image + 30, image),
}


def found(train, test=None, copies=None):
    test = train[:0] if test is None else test
    copies = alone(len(train) + len(test)) if copies is None else copies
    pairs = near_copies(train, test, copies)
    assert pairs.dtype == np.int64
    return pairs.tolist()


def by_all_pairs(images, copies):
    """Compare each image with each, in double precision, from the means of pixels that a loop takes."""
    n, _, height, width = images.shape
    rows, columns = (np.linspace(0, side, min(16, side) + 1).astype(int) for side in (height, width))
    cells = [
        [images[:, :, top:bottom, left:right].mean(axis=(1, 2, 3)) for left, right in pairwise(columns)]
        for top, bottom in pairwise(rows)
    ]
    flat = np.moveaxis(np.array(cells), 2, 0).reshape(n, -1)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1)
    kept = [i for i in range(n) if length[i] > 16 and i == copies.tolist().index(copies[i])]
    apart = {(i, j): np.linalg.norm(flat[i] / length[i] - flat[j] / length[j]) for i in kept for j in kept if i < j}
    return apart


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("shape", [(1, 20, 20), (3, 32, 24), (1, 14, 12)], ids=str)
def test_an_image_that_was_changed_a_little_is_a_near_copy(change, shape):
    images = scenes(30, shape)
    images[17] = change(images[4])
    assert found(images) == [[4, 17]]
    assert found(images[:10], images[10:]) == [[4, 17]]


@pytest.mark.parametrize("seed", range(6))
def test_pairs_are_those_of_a_comparison_of_each_with_each(seed, monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 7)
    monkeypatch.setattr(module, "_COLUMNS", 11)
    random = np.random.default_rng(seed)
    kinds = scenes(12, seed=seed)
    images = kinds[random.integers(0, 12, 90)].astype(float)
    images += random.normal(0, random.uniform(0, 8, (90, 1, 1, 1)), images.shape)
    images = images.clip(0, 255).astype(np.uint8)
    images[random.integers(0, 90, 5)] = 40
    images[50:53] = images[3]
    _, copies = np.unique(images.reshape(90, -1), axis=0, return_inverse=True)
    apart = by_all_pairs(images, copies)
    pairs = found(images[:60], images[60:], copies)
    distances = [apart[i, j] for i, j in pairs]
    assert len(pairs) > 20
    assert sorted(map(tuple, pairs)) == sorted(pair for pair, distance in apart.items() if distance < 0.1)
    assert (np.diff(distances) > -1e-6).all()


def test_more_blocks_than_one_miss_none():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (5000, 1, 8, 8), np.uint8)
    first, second = random.permutation(5000)[:400].reshape(2, 200)
    images[second] = images[first] // 2 + 9
    expected = {(min(pair), max(pair)) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    assert set(map(tuple, found(images))) == expected


def test_unlike_images_give_none():
    assert found(scenes(50)) == []


@pytest.mark.parametrize("noise", [0, 2])
def test_blank_images_never_look_alike(noise):
    images = np.full((20, 1, 20, 20), 90, np.uint8)
    images += np.random.default_rng(0).integers(0, noise + 1, images.shape, np.uint8)
    assert found(images) == []


def test_of_equal_images_the_first_alone_is_compared():
    images = scenes(6)
    images[3] = images[1]
    images[5] = images[1] + 3
    copies = np.array([0, 1, 2, 1, 3, 4])
    assert found(images, copies=copies) == [[1, 5]]
    assert found(images[:5], copies=copies[:5]) == []


@pytest.mark.parametrize("n", [1, 2])
def test_hardly_any_images_are_no_matter(n):
    assert found(scenes(n)) == []
    assert found(scenes(n), scenes(n)[:0]) == []


def test_many_images_are_not_compared(monkeypatch):
    monkeypatch.setattr(module, "MOST", 29)
    assert near_copies(scenes(30), NONE, alone(30)) is None
    assert near_copies(scenes(29), NONE, alone(29)) is not None


def test_many_pairs_end_the_search(monkeypatch):
    monkeypatch.setattr(module, "ENOUGH", 100)
    monkeypatch.setattr(module, "_ROWS", 4)
    images = np.repeat(scenes(1), 60, axis=0) + np.random.default_rng(0).integers(0, 3, (60, 1, 20, 20), np.uint8)
    pairs = found(images)
    assert 100 < len(pairs) < 60 * 59 / 2
    assert len(set(map(tuple, pairs))) == len(pairs)


def test_images_that_are_mapped_give_the_same(tmp_path):
    images = scenes(30, (3, 20, 20))
    images[9] = images[8] - 5
    np.save(tmp_path / "images.npy", images)
    assert found(np.load(tmp_path / "images.npy", mmap_mode="r")) == found(images) == [[8, 9]]


def test_images_that_are_known_to_belong_together_are_no_pair():
    images = scenes(6)
    images[4], images[5] = images[1] + 3, images[2] + 3
    pairs = near_copies(images, images[:0], alone(6), np.array([0, 1, 2, 3, 1, 5]))
    assert pairs.tolist() == [[2, 5]]
