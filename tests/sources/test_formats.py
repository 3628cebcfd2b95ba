import math
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from foldwise.base.errors import FoldwiseError
from foldwise.sources import formats

PATH = Path("raw/file")


def idx_file(array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def digits_file(rows):
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


def test_idx_gives_the_values_in_their_shape():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(formats.idx(idx_file(array), 3, PATH), array)


def test_idx_agrees_with_torchvisions_reader(tmp_path):
    from torchvision.datasets.mnist import read_image_file

    content = idx_file(np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8))
    path = tmp_path / "images"
    path.write_bytes(content)
    assert np.array_equal(formats.idx(content, 3, PATH), read_image_file(str(path)).numpy())


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "does not begin as an IDX file of 3 dimensions does"),
        (idx_file(np.zeros((2, 3, 4), np.uint8))[:15], "does not begin as an IDX file of 3 dimensions does"),
        (idx_file(np.zeros(60, np.uint8)), "does not begin as an IDX file of 3 dimensions does"),
        (b"\x1f\x8b" + bytes(20), "does not begin as an IDX file of 3 dimensions does"),
        (b"\0\0\x0d\x03" + bytes(12), "does not begin as an IDX file of 3 dimensions does"),
        (idx_file(np.zeros((2, 3, 4), np.uint8))[:-1], "says that it holds 2 x 3 x 4 values but holds 23"),
        (idx_file(np.zeros((2, 3, 4), np.uint8)) + b"\0", "says that it holds 2 x 3 x 4 values but holds 25"),
        (idx_file(np.zeros((0, 3, 4), np.uint8)), "says that it holds 0 x 3 x 4 values but holds 0"),
        (
            b"\0\0\x08\x03" + b"\xff" * 12,
            "says that it holds 4294967295 x 4294967295 x 4294967295 values but holds 0",
        ),
    ],
    ids=["empty", "half a header", "labels", "packed", "floats", "truncated", "trailing", "no images", "absurd"],
)
def test_idx_refuses_malformed_files(content, what):
    with pytest.raises(FoldwiseError) as caught:
        formats.idx(content, 3, PATH)
    assert str(caught.value) == f"raw/file {what}"


headers = st.tuples(st.just(b"\0\0\x08"), st.integers(0, 4).map(lambda n: bytes([n]))).map(b"".join)
dimensions = st.lists(st.integers(0, 5) | st.integers(0, 2**32 - 1), max_size=4)
idx_like = st.builds(
    lambda head, shape, values: head + struct.pack(f">{len(shape)}I", *shape) + values,
    headers,
    dimensions,
    st.binary(max_size=150),
)


@given(content=st.binary(max_size=200) | idx_like, ndim=st.sampled_from([1, 3]))
def test_idx_gives_all_values_or_the_projects_error_whatever_the_bytes(content, ndim):
    try:
        array = formats.idx(content, ndim, PATH)
    except FoldwiseError:
        return
    assert array.ndim == ndim
    assert math.prod(array.shape) == len(content) - 4 - 4 * ndim > 0


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), fill=st.integers(0, 255))
def test_encode_idx_is_the_inverse_of_idx(shape, fill):
    array = np.full(shape, fill, np.uint8)
    assert np.array_equal(formats.idx(formats.encode_idx(array.tobytes(), array.shape), array.ndim, PATH), array)


def test_cifar10_gives_planes_of_red_green_and_blue():
    planes = b"".join(bytes([colour]) * 1024 for colour in (10, 20, 30))
    images, _ = formats.cifar10(b"\x07" + planes, PATH)
    assert images.shape == (1, 3, 32, 32)
    assert [set(plane.ravel()) for plane in images[0]] == [{10}, {20}, {30}]


def test_cifar10_gives_rows_before_columns():
    images, _ = formats.cifar10(b"\x00" + bytes(range(32)) * 96, PATH)
    assert np.array_equal(images[0, 0, 5], np.arange(32))


def test_cifar10_gives_the_label_of_each_record():
    _, labels = formats.cifar10(b"\x07" + bytes(3072) + b"\x02" + bytes(3072), PATH)
    assert labels.tolist() == [7, 2]


@pytest.mark.parametrize("size", [0, 3072, 3074])
def test_cifar10_refuses_parts_of_records(size):
    with pytest.raises(FoldwiseError) as caught:
        formats.cifar10(bytes(size), PATH)
    assert str(caught.value) == (f"raw/file has {size} bytes, not whole records of 3073")


def test_digits_gives_scikit_learns_own_images_brought_to_255():
    bunch = load_digits()
    rows = np.column_stack([bunch.data, bunch.target]).astype(int)
    images, _ = formats.digits(digits_file(rows), PATH)
    assert np.array_equal(images[:, 0], np.floor(bunch.images * 255 / 16 + 0.5))


def test_digits_gives_the_labels():
    _, labels = formats.digits(digits_file([[0] * 64 + [3], [16] * 64 + [9]]), PATH)
    assert labels.tolist() == [3, 9]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is not a table of whole numbers, 65 to a line"),
        (digits_file([[0] * 64]), "is not a table of whole numbers, 65 to a line"),
        (digits_file([[0] * 65, [0] * 64]), "is not a table of whole numbers, 65 to a line"),
        (digits_file([[0.5] * 65]), "is not a table of whole numbers, 65 to a line"),
        (digits_file([[10**30] * 65]), "is not a table of whole numbers, 65 to a line"),
        (digits_file([[17] + [0] * 64]), "holds a grey value outside 0 to 16"),
        (digits_file([[-1] + [0] * 64]), "holds a grey value outside 0 to 16"),
    ],
    ids=["empty", "short line", "ragged", "fraction", "huge", "too bright", "negative"],
)
def test_digits_refuses_malformed_tables(content, what):
    with pytest.raises(FoldwiseError) as caught:
        formats.digits(content, PATH)
    assert str(caught.value) == f"raw/file {what}"


@given(content=st.binary(max_size=200) | st.text("0123456789,.-\n", max_size=400).map(str.encode))
def test_digits_raises_nothing_but_the_projects_error(content):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            formats.digits(content, PATH)
        except FoldwiseError:
            return
    assert content.count(b",") >= 64
