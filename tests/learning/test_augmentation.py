import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from foldwise.base.errors import FoldwiseError
from foldwise.base.params import AUGMENTATIONS
from foldwise.learning import augmentation
from foldwise.learning.augmentation import chained

pytestmark = pytest.mark.usefixtures("one_thread")


KINDS = ["shift", "affine", "flip", "crop", "color", "trivial", "own/augmentations.py:erase"]


def pixels(n=50, channels=3, height=48, width=21):
    return torch.from_numpy(np.random.default_rng(0).integers(1, 256, (n, channels, height, width), np.uint8))


def seeded(seed=0):
    return np.random.default_rng(seed)


def augment(images, kind, random):
    return chained([kind])(images, random)


def moved(image, down, right):
    """Move an image by hand; what comes in is 0."""
    result = np.zeros_like(image)
    height, width = image.shape[1:]
    rows, columns = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    came_from = slice(max(-down, 0), height + min(-down, 0)), slice(max(-right, 0), width + min(-right, 0))
    result[:, rows, columns] = image[:, came_from[0], came_from[1]]
    return result


def test_the_kinds_are_those_that_params_yaml_may_name():
    assert {*AUGMENTATIONS, augmentation.VIEW} == augmentation._KINDS.keys()


def test_none_changes_nothing():
    assert torch.equal(chained(())(pixels(), seeded()), pixels())


def test_every_shifted_image_is_the_original_moved_by_a_28th_of_its_sides_at_most():
    for before, after in zip(pixels().numpy(), augment(pixels(), "shift", seeded()).numpy(), strict=True):
        moves = [moved(before, down, right) for down in range(-2, 3) for right in range(-1, 2)]
        assert sum(np.array_equal(after, move) for move in moves) == 1


@pytest.mark.parametrize(("height", "width", "moves"), [(48, 21, 15), (28, 28, 9), (8, 8, 1), (14, 15, 3), (70, 9, 5)])
def test_every_move_in_proportion_to_the_side_happens(height, width, moves):
    image = pixels(1, 1, height, width).expand(2000, -1, -1, -1)
    assert len({after.numpy().tobytes() for after in augment(image, "shift", seeded())}) == moves


def test_shifts_are_the_same_where_another_device_gathers_them(monkeypatch):
    by_numpy = augment(pixels(), "shift", seeded())
    monkeypatch.setattr(augmentation, "_gather_by_numpy", augmentation._gather_by_torch)
    assert torch.equal(augment(pixels(), "shift", seeded()), by_numpy)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "affine"])
def test_pixels_stay_bytes(kind):
    assert augment(pixels(), kind, seeded()).dtype == torch.uint8


def test_flips_turn_half_of_the_images_left_to_right():
    before, after = pixels(1000, 1, 4, 4), augment(pixels(1000, 1, 4, 4), "flip", seeded())
    same, turned = ((after == image).flatten(1).all(dim=1) for image in (before, before.flip(3)))
    assert (same | turned).all()
    assert 430 < turned.sum() < 570


def test_crops_are_moved_by_an_eighth_and_flipped_by_half():
    image = pixels(1, 1, 16, 8)
    found = {after.numpy().tobytes() for after in augment(image.expand(5000, -1, -1, -1), "crop", seeded())}
    moves = [moved(image[0].numpy(), down, right) for down in range(-2, 3) for right in range(-1, 2)]
    assert found == {change.tobytes() for move in moves for change in (move, move[..., ::-1])}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["color", "trivial"])
def test_torchvisions_changes_take_grey_and_colour(kind, channels):
    images = pixels(20, channels, 12, 9)
    after = augment(images, kind, seeded())
    assert (after.shape, after.dtype) == (images.shape, torch.uint8)
    assert not torch.equal(after, images)


@pytest.mark.parametrize("kind", KINDS)
def test_pytorchs_own_generator_goes_on_as_if_nothing_had_been(kind):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    augment(pixels(3, 3), kind, seeded())
    assert torch.equal(torch.rand(3), expected)


def test_some_in_a_row_are_made_one_after_another():
    random, images = seeded(), pixels(20, 3, 12, 12)
    expected = images
    for kind in ("affine", "color", "flip"):
        expected = augment(expected, kind, random)
    assert torch.equal(chained(["affine", "color", "flip"])(images, seeded()), expected)


def test_an_erased_rectangle_is_a_quarter_of_the_sides():
    erased = augment(pixels(40, 3, 32, 20), "own/augmentations.py:erase", seeded()) == 0
    assert set(erased.sum(dim=(1, 2, 3)).tolist()) == {3 * 8 * 5}


WRONG = {
    "raises": ("raise ValueError('odd')", r"fails \(ValueError: odd \(own/mine.py, line 3\)\): mend it$"),
    "another shape": (
        "return images[:, :1]",
        r"gives \(4, 1, 6, 6\) uint8, where a torch.Tensor \(4, 2, 6, 6\) of",
    ),
    "another type": ("return images == 0", r"gives \(4, 2, 6, 6\) bool, where a torch.Tensor \(4, 2, 6, 6\) of"),
    "NumPy's": ("return images.numpy()", r"gives a ndarray, where a torch.Tensor \(4, 2, 6, 6\) of"),
    "nothing": ("pass", r"gives a NoneType, where a torch.Tensor \(4, 2, 6, 6\) of"),
}


@pytest.mark.parametrize(("line", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_an_own_augmentation_is_told_in_a_line(line, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text(f"import torch\ndef change(images, random):\n    {line}\n")
    with pytest.raises(FoldwiseError, match=rf"^train.augment: own/mine.py:change {told}"):
        augment(pixels(4, 2, 6, 6), "own/mine.py:change", seeded())


def test_an_own_augmentation_that_is_not_there_is_told():
    with pytest.raises(FoldwiseError, match=r"train.augment is own/augmentations.py:erasee, but .*mean erase\?$"):
        chained(["own/augmentations.py:erasee"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_shape_stays(kind):
    assert augment(pixels(), kind, seeded()).shape == pixels().shape


@pytest.mark.parametrize("kind", KINDS)
def test_the_originals_stay_as_they_are(kind):
    images = pixels()
    augment(images, kind, seeded())
    assert torch.equal(images, pixels())


@pytest.mark.parametrize("kind", KINDS)
def test_equal_generators_give_equal_changes(kind):
    assert torch.equal(augment(pixels(), kind, seeded()), augment(pixels(), kind, seeded()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_that_goes_on_gives_other_changes(kind):
    random = seeded()
    assert not torch.equal(augment(pixels(), kind, random), augment(pixels(), kind, random))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "flip"])
def test_each_image_of_a_batch_is_changed_on_its_own(kind):
    after = augment(pixels(1).expand(20, -1, -1, -1), kind, seeded())
    assert len({image.numpy().tobytes() for image in after}) > 5


def test_affine_pixels_stay_between_black_and_white():
    after = augment(pixels(), "affine", seeded())
    assert (after.dtype, bool(after.min() >= 0), bool(after.max() <= 255)) == (torch.float32, True, True)


def test_affine_without_any_change_gives_the_original():
    class Middle:
        def uniform(self, low, high, size):
            return np.zeros(size)

    assert torch.allclose(augment(pixels(), "affine", Middle()), pixels().float(), atol=1e-3)


@pytest.mark.parametrize("extreme", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (-1, -1, 1, -1)])
def test_affine_agrees_with_scipys_transform_at_its_limits(extreme):
    class Extreme:
        def uniform(self, low, high, size):
            return np.repeat(np.array(extreme, float)[:, None], size[1], axis=1)

    # Smooth images of unequal sides, black at the border, where the two libraries differ.
    rows, columns = np.mgrid[:21, :15]
    image = (255 * np.exp(-((rows - 9) ** 2) / 12 - ((columns - 8) ** 2) / 6)).astype(np.uint8)
    angle, scale, down, right = np.array(extreme) * [
        augmentation.MAX_ROTATION,
        augmentation.MAX_SCALING,
        21 / 14,
        15 / 14,
    ]
    cosine, sine = np.cos(angle) / (1 + scale), np.sin(angle) / (1 + scale)
    matrix, middle = np.array([[cosine, sine], [-sine, cosine]]), np.array([10, 7])
    expected = affine_transform(image.astype(float), matrix, middle - matrix @ middle + [down, right], order=1)
    found = augment(torch.from_numpy(image)[None, None], "affine", Extreme())[0, 0].numpy()
    assert np.abs(found - expected).max() < 0.5
