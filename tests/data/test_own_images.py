from itertools import product

import numpy as np
import pytest
from PIL import Image
from small_folders import fill, noise, save, write_table

from foldwise.data import images, own_images


@pytest.fixture
def read(parameters, tmp_path):
    """Read a folder `images`; changes are of the section data."""

    def read(**changes):
        changes = {"name": "folder", "folder": str(tmp_path / "images"), "test_share": 0} | changes
        data = parameters({f"data.{name}": value for name, value in changes.items()}).data
        (tmp_path / "scratch").mkdir(exist_ok=True)
        return own_images.read(data, tmp_path / "scratch")

    return read


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "images"


def names_of(tables):
    return [table["file_name"].tolist() for table in tables]


def test_classes_are_numbered_by_their_names_in_order(read, folder):
    fill(folder, {"b": 1, "a": 2, "C": 1, "ä": 1, "10": 1, "9": 1})
    data, (train, _), _ = read()
    assert data.classes == ("10", "9", "C", "a", "b", "ä")
    assert [data.classes[label] for label in data.train_labels] == train["label"].tolist()
    assert data.train_labels.dtype == np.int64


def test_each_image_is_beside_its_label_and_its_row(read, folder):
    names = fill(folder, {"cat": 3, "dog": 3})
    data, tables, notes = read()
    assert names_of(tables) == [names, []]
    assert np.array_equal(data.train_images[:, 0], [noise(seed) for seed in range(6)])
    assert data.test_images.shape == (0, 1, 8, 8)
    assert notes == ["6 images, all 8 x 8, grey"]


def test_the_folders_own_test_set_is_the_test_set(read, folder):
    fill(folder, {"train/cat": 2, "train/dog": 2, "test/dog": 1})
    data, tables, _ = read(test_share=0.5)
    assert names_of(tables)[1] == ["test/dog/0.png"]
    assert (data.test_labels.tolist(), len(data.train_labels)) == ([1], 4)


def test_what_the_table_knows_stays_beside_the_images(read, folder):
    fill(folder)
    write_table(folder, "file_name,label,group,fold,split", "dog/1.png,b,x,1,train", "cat/0.png,a,,0,test", *ROWS)
    _, (train, test), notes = read()
    assert train.columns.tolist() == ["file_name", "label", "group", "fold"]
    assert train.iloc[0].tolist() == ["dog/1.png", "b", "x", "1"]
    assert test.iloc[0].tolist() == ["cat/0.png", "a", "", "0"]
    assert "are not in metadata.csv, and left out" in notes[0]


ROWS = ["cat/1.png,a,x,0,train", "dog/2.png,b,,1,train"]


def test_files_that_are_skipped_leave_the_others_in_place(read, folder):
    names = fill(folder, {"cat": 3, "dog": 3})
    (folder / names[1]).write_bytes(b"")
    data, tables, notes = read(broken="skip")
    assert names_of(tables)[0] == [names[i] for i in (0, 2, 3, 4, 5)]
    assert np.array_equal(data.train_images[:, 0], [noise(seed) for seed in (0, 2, 3, 4, 5)])
    assert data.train_labels.tolist() == [0, 0, 1, 1, 1]
    assert notes[-1] == "1 of 6 files cannot be used: cat/1.png is empty; left out"


def test_a_test_set_is_set_aside_by_the_classes_shares(read, folder):
    fill(folder, {"cat": 40, "dog": 20})
    data, tables, _ = read(test_share=0.2)
    assert np.bincount(data.train_labels).tolist() == [32, 16]
    assert np.bincount(data.test_labels).tolist() == [8, 4]
    assert not set(names_of(tables)[0]) & set(names_of(tables)[1])


def test_the_same_is_set_aside_each_time(read, folder):
    fill(folder, {"cat": 20, "dog": 20})
    assert names_of(read(test_share=0.3)[1]) == names_of(read(test_share=0.3)[1])


def grouped(folder, kinds=("cat", "dog"), groups=5, size=3):
    """Write groups of images; each in a folder of its own, which the table names."""
    lines = ["file_name,label,group"]
    for place, (kind, group) in enumerate(product(kinds, range(groups))):
        where = f"{kind}/{group}"
        lines += [f"{name},{kind},{where}" for name in fill(folder, {where: size}, 100 * place)]
    write_table(folder, *lines)


def test_groups_are_set_aside_whole(read, folder):
    grouped(folder)
    _, (train, test), _ = read(test_share=0.2)
    assert (len(train), len(test)) == (24, 6)
    assert not set(train["group"]) & set(test["group"])
    assert test["label"].tolist() == ["cat"] * 3 + ["dog"] * 3


def test_copies_are_set_aside_together(read, folder):
    fill(folder, {"cat": 10, "dog": 10})
    for kind, first in (("cat", 0), ("dog", 10)):
        for i in range(10):
            save(folder / kind / f"copy of {i}.bmp", noise(first + i))
    _, (train, test), _ = read(test_share=0.3)
    assert (len(train), len(test)) == (28, 12)
    originals = [{name.replace("copy of ", "")[:5] for name in table["file_name"]} for table in (train, test)]
    assert not originals[0] & originals[1]


def test_a_subset_is_drawn_by_the_classes_shares_from_training_images_alone(read, folder):
    fill(folder, {"cat": 20, "dog": 10})
    whole, (_, test), _ = read(test_share=0.2)
    data, (_, still), _ = read(test_share=0.2, subset=12)
    assert np.bincount(data.train_labels).tolist() == [8, 4]
    assert test["file_name"].tolist() == still["file_name"].tolist()
    assert data.mean != whole.mean


def test_a_subset_keeps_groups_whole(read, folder):
    grouped(folder)
    _, (train, _), _ = read(subset=12)
    assert len(train) == 12
    assert train["group"].value_counts().tolist() == [3] * 4


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_where_nothing_can_be_set_aside_that_is_told(read, folder, share):
    fill(folder, {"cat": 1, "dog": 1})
    data, _, notes = read(test_share=share)
    assert len(data.test_labels) == 0
    assert "too few images or groups to set some aside: there is no test set" in notes


def test_a_share_of_nearly_all_leaves_an_image_of_each_class_to_train_on(read, folder):
    fill(folder, {"cat": 5, "dog": 5})
    assert read(test_share=0.99)[0].train_labels.tolist() == [0, 1]


def test_mnist_as_pictures_is_mnist(read, folder, tmp_path):
    random = np.random.default_rng(0)
    train, test = (random.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8) for count in (50, 10))
    labels = random.permutation(np.arange(50) % 10), np.arange(10)
    lines = ["file_name,label,split"]
    for split, pixels, kinds in (("train", train, labels[0]), ("test", test, labels[1])):
        for i, (image, kind) in enumerate(zip(pixels, kinds, strict=True)):
            save(folder / f"{split}-{i}.png", image[0])
            lines.append(f"{split}-{i}.png,{kind},{split}")
    write_table(folder, *lines)
    data, tables, _ = read()
    images.save(data, tmp_path / "pictures", tables)
    arrays = images.Images.measured("mnist", tuple("0123456789"), (train, labels[0]), (test, labels[1]))
    images.save(arrays, tmp_path / "arrays")
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert (tmp_path / "pictures" / f"{name}.npy").read_bytes() == (
            tmp_path / "arrays" / f"{name}.npy"
        ).read_bytes()
    assert (data.classes, data.mean, data.std) == (arrays.classes, arrays.mean, arrays.std)


def test_odd_names_come_back_from_disk_as_they_were(read, folder, tmp_path):
    odd = ['a, "b"\n.png', " c .png", "d;e\t.png", "f\rg.png", "ü.png", "'=1+1.png"]
    for place, name in enumerate(odd):
        for kind in ("NA", "new\nline, \x1b[1m"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(place, 8, 8)).rotate(90 * (kind == "NA")).save(folder / kind / name, format="PNG")
    data, tables, _ = read()
    images.save(data, tmp_path / "saved", tables)
    back = images.load(tmp_path / "saved")
    train, _ = images.load_tables(tmp_path / "saved", back)
    assert back.classes == ("NA", "new\nline, \x1b[1m")
    assert names_of((train,)) == names_of(tables[:1])
    assert set(train["label"]) == set(back.classes)
