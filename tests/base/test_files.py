import errno
import io
import json
import os
import pickle
import re
import resource
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager, nullcontext, suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldwise.base import files
from foldwise.base.errors import FoldwiseError

REMEDY = "delete it and run `dvc checkout` or `dvc repro`"


class Malicious:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def npy(header, content=b""):
    header = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def safetensors(header, content=b""):
    header = json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + content


@pytest.fixture
def nobody():
    """Run as a user to whom the tests' folder does not belong, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@contextmanager
def no_space():
    """Let no file grow beyond a kilobyte, which fails as a full disk does."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


WRITERS = {
    "bytes": lambda path: files.write_bytes(path, bytes(4096)),
    "json": lambda path: files.write_json(path, list(range(4096))),
    "array": lambda path: files.write_array(path, np.zeros(4096)),
    "arrays": lambda path: files.write_arrays(path, {"x": np.zeros(4096)}),
    "csv": lambda path: files.write_csv(path, pd.DataFrame({"x": range(4096)})),
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@writers
def test_a_full_disk_is_told(write, tmp_path):
    with no_space(), pytest.raises(FoldwiseError) as caught:
        write(tmp_path / "file")
    reason = r"(File too large|is the disk full\? 4096 requested and \d+ written)"
    assert re.fullmatch(f"{re.escape(str(tmp_path / 'file'))} cannot be written: {reason}", str(caught.value))


@writers
def test_a_full_disk_leaves_the_earlier_file_whole(write, tmp_path):
    (tmp_path / "file").write_text("earlier")
    with no_space(), pytest.raises(FoldwiseError):
        write(tmp_path / "file")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "earlier"}


@writers
def test_folders_on_the_way_are_made(write, tmp_path):
    write(tmp_path / "a" / "b" / "file")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


@writers
def test_a_file_in_the_place_of_a_folder_is_told(write, tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(FoldwiseError, match=r"a/file cannot be written: (Not a directory|File exists)$"):
        write(tmp_path / "a" / "file")


@writers
def test_a_folder_in_the_place_of_the_file_is_told_and_kept(write, tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(FoldwiseError, match=r"file cannot be written: Is a directory$"):
        write(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@writers
def test_a_folder_that_belongs_to_another_is_told(write, tmp_path, request):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    request.getfixturevalue("nobody")
    with pytest.raises(FoldwiseError, match=r"file cannot be written: Permission denied$"):
        write(tmp_path / "file")


def test_a_folder_is_written_whole(tmp_path):
    with files.writing(tmp_path / "folder") as temporary:
        files.write_bytes(temporary / "one", b"1")
        files.write_bytes(temporary / "deeper" / "two", b"2")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "folder",
        "folder/deeper",
        "folder/deeper/two",
        "folder/one",
    ]


def test_a_folder_replaces_the_earlier_one(tmp_path):
    files.write_bytes(tmp_path / "folder" / "stale", b"")
    with files.writing(tmp_path / "folder") as temporary:
        files.write_bytes(temporary / "fresh", b"")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["fresh"]


def test_a_folder_that_is_not_finished_leaves_the_earlier_one_whole(tmp_path):
    files.write_bytes(tmp_path / "folder" / "earlier", b"")
    with pytest.raises(ZeroDivisionError), files.writing(tmp_path / "folder") as temporary:
        [files.write_bytes(temporary / str(1 // number), b"") for number in (1, 0)]
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["folder", "folder/earlier"]


def test_a_file_that_is_not_finished_is_removed(tmp_path):
    with pytest.raises(ZeroDivisionError), files.writing(tmp_path / "file") as temporary:
        temporary.write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=["temporary.write_bytes(b'other')", "files.write_bytes(temporary / 'one', b'other')"])
def other(request, tmp_path):
    """Let another process write a file, or a folder, until it is told to end."""
    code = (
        "import sys; from pathlib import Path; from foldwise.base import files\n"
        f"with files.writing(Path(sys.argv[1])) as temporary: {request.param}; print(flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "\n"
        yield process


def test_what_a_killed_process_left_is_removed(other, tmp_path):
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # its number is still taken
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    files.write_bytes(tmp_path / "file", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_another_process_is_writing_is_left_to_it(other, tmp_path):
    files.write_bytes(tmp_path / "file", b"")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".part"]
    (tmp_path / "file").unlink()
    other.communicate("\n")
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [b"other"]


def test_what_was_killed_before_it_wrote_anything_is_removed(tmp_path):
    (tmp_path / ".file.abc.part").mkdir()
    files.write_bytes(tmp_path / "file", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture(params=["ENOSYS", "EOPNOTSUPP", "ENOLCK"])
def no_locks(request, monkeypatch):
    """Be on a file system that has no `flock`, as Lustre and some of NFS and FUSE are."""

    def flock(file, how):
        raise OSError(getattr(errno, request.param), "not on this file system")

    monkeypatch.setattr(files.fcntl, "flock", flock)


def test_where_there_are_no_locks_files_are_written(no_locks, tmp_path):
    files.write_bytes(tmp_path / "file", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_where_there_are_no_locks_nothing_is_removed_that_may_be_anothers(no_locks, tmp_path):
    (tmp_path / ".file.abc.part").mkdir()
    files.write_bytes(tmp_path / "file", b"")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".part"]


def test_where_files_cannot_be_mapped_arrays_are_read(tmp_path, monkeypatch):
    def mmap(*_, **__):
        raise OSError(errno.ENODEV, "No such device")

    files.write_array(tmp_path / "file", np.arange(3))
    monkeypatch.setattr("mmap.mmap", mmap)
    assert files.read_array(tmp_path / "file", np.int64, 1).tolist() == [0, 1, 2]


def test_json_comes_back_in_its_order(tmp_path):
    content = {"b": [1, 2.5, None], "a": {"x": "é"}}
    files.write_json(tmp_path / "file", content)
    assert json.dumps(files.read_json(tmp_path / "file")) == json.dumps(content)


def test_json_ends_with_a_newline(tmp_path):
    files.write_json(tmp_path / "file", [])
    assert (tmp_path / "file").read_bytes() == b"[]\n"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_what_is_not_a_number(number, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "file", [number])


def test_an_array_comes_back(tmp_path):
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    files.write_array(tmp_path / "file", array)
    assert np.array_equal(files.read_array(tmp_path / "file", np.int32, 2), array)


def test_what_is_written_to_a_mapped_array_stays_in_this_process(tmp_path):
    files.write_array(tmp_path / "file", np.zeros(3))
    files.read_array(tmp_path / "file", np.float64, 1)[:] = 1
    assert np.array_equal(np.load(tmp_path / "file"), np.zeros(3))


def test_an_array_of_objects_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle=False"):
        files.write_array(tmp_path / "file", np.array([{}]))


@pytest.mark.parametrize(
    ("dtype", "ndim"), [(np.int64, 2), (np.int32, 1), (">i4", 2)], ids=["type", "dimensions", "byte order"]
)
def test_an_array_of_another_kind_is_refused(dtype, ndim, tmp_path):
    files.write_array(tmp_path / "file", np.zeros((2, 3), np.int32))
    with pytest.raises(FoldwiseError) as caught:
        files.read_array(tmp_path / "file", dtype, ndim)
    expected = f"{np.dtype(dtype)} of {ndim} is expected"
    assert str(caught.value) == f"{tmp_path / 'file'} holds int32 of 2 dimensions where {expected}: {REMEDY}"


def whole_array():
    file = io.BytesIO()
    np.save(file, np.arange(100))
    return file.getvalue()


def zipped_array():
    file = io.BytesIO()
    np.savez(file, np.arange(100))
    return file.getvalue()


SHAPE = "{{'descr': '<i8', 'fortran_order': False, 'shape': ({}), }}"
DAMAGED_ARRAYS = {
    "empty": b"",
    "half a header": whole_array()[:20],
    "truncated": whole_array()[:-1],
    "text": b"hello",
    "an archive": zipped_array(),
    "half an archive": b"PK\x03\x04",
    "pickle": pickle.dumps([1]),
    "no values": npy(SHAPE.format("0,")),
    "negative size": npy(SHAPE.format("-1,"), bytes(8)),
    "absurd size": npy(SHAPE.format("9" * 30 + ","), bytes(8)),
    "huge size": npy(SHAPE.format(f"{2**40}, {2**30}"), bytes(8)),
    "size of true": npy(SHAPE.format("True,"), bytes(8)),
    "open bracket": npy("{'descr': (" + " " * 40),
    "unhashable key": npy("{[]: 1}"),
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("content", DAMAGED_ARRAYS.values(), ids=DAMAGED_ARRAYS)
def test_a_damaged_array_is_told(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FoldwiseError) as caught:
        files.read_array(tmp_path / "file", np.int64, 1)
    assert str(caught.value) == f"{tmp_path / 'file'} cannot be read (not a whole NumPy array file): {REMEDY}"


def test_a_malicious_array_runs_nothing(tmp_path):
    np.save(tmp_path / "file.npy", np.array([Malicious(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(FoldwiseError, match="not a whole NumPy array file"):
        files.read_array(tmp_path / "file.npy", np.int64, 1)
    assert not (tmp_path / "ran").exists()


def test_a_malicious_pickle_in_the_place_of_an_array_runs_nothing(tmp_path):
    (tmp_path / "file").write_bytes(pickle.dumps(Malicious(tmp_path / "ran")))
    with pytest.raises(FoldwiseError, match="not a whole NumPy array file"):
        files.read_array(tmp_path / "file", np.int64, 1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3).T, np.array(3), np.array(2.5, np.float32), np.zeros((0, 2))],
    ids=["transposed", "integer without dimensions", "float without dimensions", "no values"],
)
def test_named_arrays_come_back(array, tmp_path):
    files.write_arrays(tmp_path / "file", {"x": array})
    found = files.read_arrays(tmp_path / "file")["x"]
    assert (found.dtype, found.shape, found.tolist()) == (array.dtype, array.shape, array.tolist())


def test_no_arrays_come_back_as_none(tmp_path):
    files.write_arrays(tmp_path / "file", {})
    assert files.read_arrays(tmp_path / "file") == {}


DAMAGED_TENSORS = {
    "empty": b"",
    "pickle": pickle.dumps({"x": 1}),
    "truncated": safetensors({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(15)),
    "trailing": safetensors({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(17)),
    "shape": safetensors({"x": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}}, bytes(16)),
    "offsets": safetensors({"x": {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]}}, bytes(32)),
    "type": safetensors({"x": {"dtype": "text", "shape": [16], "data_offsets": [0, 16]}}, bytes(16)),
    "type that NumPy lacks": safetensors({"x": {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}}, bytes(16)),
    "absurd header": b"\xff" * 8 + b"{}",
    "not JSON": (5).to_bytes(8, "little") + b"hello",
}


@pytest.mark.parametrize("content", DAMAGED_TENSORS.values(), ids=DAMAGED_TENSORS)
def test_damaged_safetensors_are_told(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FoldwiseError) as caught:
        files.read_arrays(tmp_path / "file")
    assert str(caught.value) == f"{tmp_path / 'file'} cannot be read (not a whole safetensors file): {REMEDY}"


def test_a_table_comes_back_to_the_bit_of_float32(tmp_path):
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    files.write_csv(tmp_path / "file", pd.DataFrame({"x": values}))
    assert np.array_equal(files.read_csv(tmp_path / "file", ["x"]).x.to_numpy(np.float32), values)


def test_a_missing_value_is_an_empty_cell(tmp_path):
    files.write_csv(tmp_path / "file", pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan]}))
    assert (tmp_path / "file").read_bytes() == b"a,b\n1,0.5\n2,\n"


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "a,b,c\n1,2,high\n"], ids=["absent", "text"])
def test_a_table_without_a_column_of_numbers_is_told(content, tmp_path):
    (tmp_path / "file").write_text(content)
    with pytest.raises(FoldwiseError) as caught:
        files.read_csv(tmp_path / "file", ["b", "c"])
    assert str(caught.value) == f"{tmp_path / 'file'} has no column c of numbers: {REMEDY}"


def test_a_column_without_any_value_is_one_of_numbers(tmp_path):
    (tmp_path / "file").write_text("a,b\n1,\n2,\n")
    assert files.read_csv(tmp_path / "file", ["b"]).b.isna().all()


@pytest.mark.parametrize(
    "content", [b"", b"a\n1,2\n1,2,3\n", b"\xff\xfe\n", b'"'], ids=["empty", "ragged", "bytes", "open quote"]
)
def test_a_damaged_table_is_told(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FoldwiseError) as caught:
        files.read_csv(tmp_path / "file", ["a"])
    assert str(caught.value) == f"{tmp_path / 'file'} cannot be read (not a whole CSV file): {REMEDY}"


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff", b"[" * 100_000], ids=["empty", "half", "bytes", "deep"])
def test_damaged_json_is_told(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FoldwiseError) as caught:
        files.read_json(tmp_path / "file")
    assert str(caught.value) == f"{tmp_path / 'file'} cannot be read (not a whole JSON file): {REMEDY}"


READERS = {
    "json": files.read_json,
    "array": lambda path: files.read_array(path, np.int64, 1),
    "arrays": files.read_arrays,
    "csv": lambda path: files.read_csv(path, ["a"]),
}
readers = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


@readers
def test_a_missing_file_is_told(read, tmp_path):
    with pytest.raises(FoldwiseError) as caught:
        read(tmp_path / "file")
    told = f"{tmp_path / 'file'} is missing: run `dvc repro`, or `dvc pull` where a remote holds it"
    assert str(caught.value) == told


@readers
def test_a_folder_in_the_place_of_a_file_is_told(read, tmp_path):
    with pytest.raises(FoldwiseError) as caught:
        read(tmp_path)
    assert str(caught.value) == f"{tmp_path} cannot be read (Is a directory): {REMEDY}"


@readers
def test_a_file_that_may_not_be_read_is_told(read, tmp_path, request):
    (tmp_path / "file").touch(mode=0)
    request.getfixturevalue("nobody")
    with pytest.raises(FoldwiseError) as caught:
        read(tmp_path / "file")
    assert str(caught.value) == f"{tmp_path / 'file'} cannot be read (Permission denied): {REMEDY}"


@pytest.fixture(scope="module")
def scribbled(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


@pytest.mark.filterwarnings("ignore:overflow")
@readers
@given(start=st.sampled_from([b"", npy(SHAPE.format("4,")), safetensors({}), b"a,b\n"]), rest=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(read, scribbled, start, rest):
    scribbled.write_bytes(start + rest)
    with suppress(FoldwiseError):
        read(scribbled)


def test_mapped_are_on_the_disk(tmp_path):
    made = files.mapped(tmp_path / "a.npy", (3, 2))
    made[1] = 7
    assert np.load(tmp_path / "a.npy").tolist() == [[0, 0], [7, 7], [0, 0]]
    assert (tmp_path / "a.npy").stat().st_blocks > 0


@pytest.mark.parametrize(
    ("number", "refused"), [(errno.EINVAL, False), (errno.EOPNOTSUPP, False), (errno.ENOSPC, True)]
)
def test_only_a_full_disk_refuses_mapped(tmp_path, monkeypatch, number, refused):
    def allocate(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(os, "posix_fallocate", allocate, raising=False)
    with pytest.raises(OSError, match="no") if refused else nullcontext():
        files.mapped(tmp_path / "a.npy", (3, 2))
