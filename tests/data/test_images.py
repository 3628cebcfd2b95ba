import json
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest

from foldwise.base.errors import FoldwiseError
from foldwise.data import images

REMEDY = "delete the folder and run `dvc repro`"
ENTRY = "correct the entry of tiny in src/foldwise/sources/catalogue.py"


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    train = random.integers(0, 256, (12, 2, 4, 3), np.uint8), np.arange(12) % 3
    test = random.integers(0, 256, (5, 2, 4, 3), np.uint8), np.arange(5) % 3
    return images.Images.measured("tiny", ("a", "b", "c"), train, test)


@pytest.fixture
def saved(data, tmp_path):
    images.save(data, tmp_path / "normalized")
    return tmp_path / "normalized"


def change_meta(saved, **changes):
    path = saved / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["train_images", "train_labels", "test_images", "test_labels"])
def test_arrays_come_back(data, saved, name):
    assert np.array_equal(getattr(images.load(saved), name), getattr(data, name))


@pytest.mark.parametrize("name", ["name", "classes", "mean", "std", "shape"])
def test_what_describes_them_comes_back(data, saved, name):
    assert getattr(images.load(saved), name) == getattr(data, name)


def test_the_shape_is_that_of_one_image(data):
    assert data.shape == (2, 4, 3)


def test_the_folder_holds_the_five_files_and_no_others(data, saved):
    (saved / "stale.npy").touch()
    images.save(data, saved)
    names = {"train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy", "meta.json"}
    assert {path.name for path in saved.iterdir()} == names


def test_meta_json_says_what_the_arrays_hold(data, saved):
    assert json.loads((saved / "meta.json").read_text()) == {
        "name": "tiny",
        "classes": ["a", "b", "c"],
        "shape": [2, 4, 3],
        "n_train": 12,
        "n_test": 5,
        "mean": list(data.mean),
        "std": list(data.std),
        "pictures": {"heights": [4, 4], "widths": [3, 3], "grey": False, "coloured": True, "highest": 255},
    }


def test_equal_data_gives_equal_bytes(data, saved, tmp_path):
    images.save(data, tmp_path / "again")
    for path in saved.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_arrays_are_mapped_into_memory(saved):
    assert isinstance(images.load(saved).train_images, np.memmap)


def test_what_is_written_to_the_arrays_does_not_reach_the_files(saved):
    before = (saved / "train_images.npy").read_bytes()
    images.load(saved).train_images[:] = 0
    assert (saved / "train_images.npy").read_bytes() == before


def test_images_without_contrast_are_told(data, tmp_path):
    flat = data.train_images.copy()
    flat[:, 1] = 7
    dull = images.Images.measured("tiny", data.classes, (flat, data.train_labels), (flat, data.train_labels))
    with pytest.raises(FoldwiseError) as caught:
        images.save(dull, tmp_path / "normalized")
    assert str(caught.value) == (
        f"tiny: channel 1 has one value in all training images: {ENTRY}, which is to leave such a channel out, "
        "or raise data.subset where it is set"
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_images_of_any_number_of_channels_come_back(channels, tmp_path):
    pixels, labels = np.random.default_rng(0).integers(0, 256, (6, channels, 3, 2), np.uint8), np.arange(6) % 2
    images.save(images.Images.measured("tiny", ("a", "b"), (pixels, labels), (pixels, labels)), tmp_path / "normalized")
    found = images.load(tmp_path / "normalized")
    assert (found.shape, len(found.mean)) == ((channels, 3, 2), channels)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"train_labels": np.zeros(11, np.int64)}, "12 train images but 11 labels"),
        ({"test_labels": np.zeros(6, np.int64)}, "5 test images but 6 labels"),
        ({"train_labels": np.full(12, 3)}, "a train label is 3, outside 0 to 2"),
        ({"test_labels": np.full(5, -1)}, "a test label is -1, outside 0 to 2"),
        ({"test_images": np.zeros((5, 2, 3, 4), np.uint8)}, "train and test images differ in shape"),
        ({"mean": (0.5,), "std": (0.5,)}, "mean and std are not one number per channel"),
        ({"train_labels": np.ones(12, np.int64)}, "all train labels are of one class"),
        ({"classes": (0, 1, 2)}, "the names of the classes are not text, each another"),
        ({"classes": ("a", "b", "a")}, "the names of the classes are not text, each another"),
    ],
    ids=["labels", "test labels", "high label", "negative label", "shapes", "channels", "one", "numbers", "twice"],
)
def test_parts_that_do_not_agree_are_not_saved(data, tmp_path, changes, what):
    with pytest.raises(FoldwiseError) as caught:
        images.save(replace(data, **changes), tmp_path / "normalized")
    assert str(caught.value) == f"tiny: {what}: {ENTRY}, or run `dvc repro` where data/raw was changed by hand"
    assert not (tmp_path / "normalized").exists()


@pytest.mark.parametrize(
    ("name", "array", "what"),
    [
        ("train_labels", np.zeros(11, np.int64), "12 train images but 11 labels"),
        ("test_images", np.zeros((4, 2, 4, 3), np.uint8), "4 test images but 5 labels"),
        ("test_labels", np.full(5, 3), "a test label is 3, outside 0 to 2"),
        ("test_images", np.zeros((5, 1, 4, 3), np.uint8), "train and test images differ in shape"),
        ("train_labels", np.ones(12, np.int64), "all train labels are of one class"),
    ],
    ids=["labels", "images", "label out of range", "shapes", "one class"],
)
def test_files_that_do_not_agree_are_told(saved, name, array, what):
    np.save(saved / f"{name}.npy", array)
    with pytest.raises(FoldwiseError) as caught:
        images.load(saved)
    assert str(caught.value) == f"{saved}: {what}: {REMEDY}"


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("train_images", np.zeros((12, 2, 4, 3))),
        ("train_images", np.zeros((12, 24), np.uint8)),
        ("train_labels", np.zeros(12, np.uint8)),
        ("train_labels", np.zeros((12, 1), np.int64)),
    ],
    ids=["floats", "flat images", "bytes", "two-dimensional labels"],
)
def test_an_array_of_another_form_is_told(saved, name, array):
    np.save(saved / f"{name}.npy", array)
    with pytest.raises(FoldwiseError, match=rf"{name}.npy holds"):
        images.load(saved)


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "meta.json"])
def test_a_missing_file_is_told(saved, name):
    (saved / name).unlink()
    with pytest.raises(FoldwiseError, match=rf"{name} is missing"):
        images.load(saved)


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "meta.json"])
def test_a_truncated_file_is_told(saved, name):
    path = saved / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FoldwiseError, match=rf"{name} cannot be read"):
        images.load(saved)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"n_train": "12"}, "meta.json: n_train is not as `normalize` writes it"),
        ({"classes": ["a"]}, "meta.json: classes is not as `normalize` writes it"),
        ({"mean": ["x", 0.5]}, "meta.json: mean.0 is not as `normalize` writes it"),
        ({"date": 1}, "meta.json: date is not as `normalize` writes it"),
        ({"n_train": 13}, "meta.json does not describe the images beside it"),
        ({"shape": [2, 3, 4]}, "meta.json does not describe the images beside it"),
    ],
    ids=["type", "one class", "mean", "unknown", "count", "shape"],
)
def test_a_meta_json_that_is_wrong_is_told(saved, changes, what):
    change_meta(saved, **changes)
    with pytest.raises(FoldwiseError) as caught:
        images.load(saved)
    assert str(caught.value) == f"{saved}/{what}: {REMEDY}"


@pytest.mark.parametrize(("mean", "std"), [([-0.1, 0.5], [0.3, 0.3]), ([0.5, 0.5], [0.3, 0.0])])
def test_statistics_out_of_range_are_told(saved, mean, std):
    change_meta(saved, mean=mean, std=std)
    with pytest.raises(FoldwiseError, match="is out of range"):
        images.load(saved)


def test_a_meta_json_that_is_no_object_is_told(saved):
    (saved / "meta.json").write_text("[]")
    with pytest.raises(FoldwiseError, match="content is not as `normalize` writes it"):
        images.load(saved)


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["train_images", "train_labels", "test_images", "test_labels"])
@pytest.mark.parametrize("plain", [True, False], ids=["plain pickle", "array of objects"])
def test_a_malicious_pickle_in_place_of_an_array_does_not_run(saved, tmp_path, name, plain):
    malice = Malice(tmp_path / "run")
    path = saved / f"{name}.npy"
    if plain:
        path.write_bytes(pickle.dumps(malice))
    else:
        np.save(path, np.array([malice], object), allow_pickle=True)
    with pytest.raises(FoldwiseError):
        images.load(saved)
    assert not (tmp_path / "run").exists()
