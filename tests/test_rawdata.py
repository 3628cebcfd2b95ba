import gzip
import hashlib
from dataclasses import replace

import numpy as np
import pytest

from foldwise import datasets, formats, rawdata
from foldwise.errors import FoldwiseError
from foldwise.originals import Original, Remote

FILES = {
    "train-images-idx3-ubyte": formats.encode_idx(bytes(range(24)), (6, 2, 2)),
    "train-labels-idx1-ubyte": formats.encode_idx(bytes([0, 1, 2, 0, 1, 2]), (6,)),
    "t10k-images-idx3-ubyte": formats.encode_idx(bytes(8), (2, 2, 2)),
    "t10k-labels-idx1-ubyte": formats.encode_idx(bytes([2, 1]), (2,)),
}


def like_mnist(files=FILES, proved=True):
    """A data set of MNIST's form; with `proved`, its originals have digests."""
    remotes = []
    for name, content in files.items():
        digest = "md5:" + hashlib.md5(content).hexdigest() if proved else ""
        remotes.append(Remote(f"{name}.gz", (Original(name, len(content), digest),)))
    return replace(datasets.find("mnist"), name="tiny", classes=("a", "b", "c"), remotes=tuple(remotes), sources=())


@pytest.fixture
def mirror(tmp_path):
    return filled(tmp_path / "mirror")


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "data" / "raw"


def filled(folder, files=FILES):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


ORIGINALS = {f"tiny/{name}": content for name, content in FILES.items()}


def test_the_originals_are_written_and_no_others(mirror, raw):
    (mirror / "README").write_text("not an original")
    rawdata.fetch(like_mnist(), str(mirror), raw)
    assert tree(raw) == ORIGINALS


def test_a_packed_mirror_gives_the_same_files(tmp_path, raw):
    packed = {f"{name}.gz": gzip.compress(content) for name, content in FILES.items()}
    rawdata.fetch(like_mnist(), str(filled(tmp_path / "packed", packed)), raw)
    assert tree(raw) == ORIGINALS


def test_the_files_may_lie_in_a_subfolder_of_the_data_sets_name(tmp_path, raw):
    filled(tmp_path / "mirror" / "tiny")
    filled(tmp_path / "mirror" / "other", dict.fromkeys(FILES, b"other"))
    rawdata.fetch(like_mnist(), str(tmp_path / "mirror"), raw)
    assert tree(raw) == ORIGINALS


def test_the_environment_names_a_mirror(mirror, raw, monkeypatch):
    monkeypatch.setenv("FOLDWISE_MIRROR", str(mirror))
    rawdata.fetch(like_mnist(), None, raw)
    assert tree(raw) == ORIGINALS


def test_the_mirror_of_the_parameters_is_asked_before_that_of_the_environment(mirror, raw, monkeypatch, capsys):
    monkeypatch.setenv("FOLDWISE_MIRROR", "/nowhere")
    rawdata.fetch(like_mnist(), str(mirror), raw)
    assert "/nowhere" not in capsys.readouterr().err


def test_the_users_mirror_is_asked_before_the_public_ones(mirror, raw, capsys):
    rawdata.fetch(replace(like_mnist(), sources=("/nowhere",)), str(mirror), raw)
    assert "/nowhere" not in capsys.readouterr().err


OTHER = {"train-images-idx3-ubyte": formats.encode_idx(bytes(24), (6, 2, 2))}


@pytest.mark.parametrize("files", [None, {}, FILES | OTHER], ids=["no folder", "no files", "other bytes"])
def test_a_mirror_of_the_parameters_is_not_passed_over(tmp_path, raw, files):
    public = filled(tmp_path / "public")
    if files is not None:
        filled(tmp_path / "own", files)
    with pytest.raises(FoldwiseError, match=r"cannot be had .*own.*data.mirror or FOLDWISE_MIRROR"):
        rawdata.fetch(replace(like_mnist(), sources=(str(public),)), str(tmp_path / "own"), raw)
    assert not raw.exists()


@pytest.mark.parametrize("files", [None, FILES | OTHER], ids=["no folder", "other bytes"])
def test_a_mirror_of_the_environment_with_other_files_is_not_passed_over(tmp_path, raw, files, monkeypatch):
    public = filled(tmp_path / "public")
    if files is not None:
        filled(tmp_path / "own", files)
    monkeypatch.setenv("FOLDWISE_MIRROR", str(tmp_path / "own"))
    with pytest.raises(FoldwiseError, match=r"cannot be had from .*own, which data.mirror or FOLDWISE_MIRROR names"):
        rawdata.fetch(replace(like_mnist(), sources=(str(public),)), None, raw)


def test_a_mirror_of_the_environment_may_lack_the_data_set(mirror, tmp_path, raw, monkeypatch):
    monkeypatch.setenv("FOLDWISE_MIRROR", str(filled(tmp_path / "empty", {})))
    rawdata.fetch(replace(like_mnist(), sources=(str(mirror),)), None, raw)
    assert tree(raw) == ORIGINALS


def test_a_relative_mirror_is_found_from_dvcs_copy_of_the_repository(mirror, tmp_path, raw, monkeypatch):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    rawdata.fetch(like_mnist(), "mirror", raw)
    assert tree(raw) == ORIGINALS


def test_originals_may_lie_in_subfolders(tmp_path, raw):
    content = b"pixels"
    original = Original("cats/1.png", len(content), "md5:" + hashlib.md5(content).hexdigest())
    (tmp_path / "own" / "cats").mkdir(parents=True)
    (tmp_path / "own" / "cats" / "1.png").write_bytes(content)
    remotes = (Remote("cats/1.png", (original,)),)
    rawdata.fetch(replace(like_mnist(), remotes=remotes), str(tmp_path / "own"), raw)
    assert tree(raw) == {"tiny/cats/1.png": content}


@pytest.mark.parametrize("place", ["~nobody-of-this-name", "a" * 5000], ids=["unknown user", "long"])
def test_a_mirror_that_cannot_be_is_told(raw, place):
    with pytest.raises(FoldwiseError, match="cannot be had"):
        rawdata.fetch(like_mnist(), place, raw)


def test_another_data_sets_folder_does_not_remain(mirror, raw):
    filled(raw / "mnist")
    rawdata.fetch(like_mnist(), str(mirror), raw)
    assert tree(raw) == ORIGINALS


def test_an_earlier_folder_is_whole_after_a_failure(raw):
    filled(raw / "mnist")
    with pytest.raises(FoldwiseError):
        rawdata.fetch(like_mnist(), "/nowhere", raw)
    assert set(tree(raw)) == {f"mnist/{name}" for name in FILES}


def test_nothing_half_written_is_left_after_a_failure(mirror, raw):
    (mirror / "t10k-labels-idx1-ubyte").write_bytes(b"other")
    with pytest.raises(FoldwiseError):
        rawdata.fetch(like_mnist(), str(mirror), raw)
    assert list(raw.parent.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(mirror, tmp_path):
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(FoldwiseError, match=r"data/raw cannot be written: File exists"):
        rawdata.fetch(like_mnist(), str(mirror), tmp_path / "data" / "raw")


def test_what_was_fetched_is_decoded(mirror, raw):
    rawdata.fetch(like_mnist(), str(mirror), raw)
    (images, labels), (test_images, test_labels) = rawdata.decode(like_mnist(), raw)
    assert np.array_equal(images, np.arange(24).reshape(6, 1, 2, 2))
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert test_images.shape == (2, 1, 2, 2)
    assert test_labels.tolist() == [2, 1]


NAME = "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (FILES[NAME][:-1], "other bytes than the original's"),
        (FILES[NAME][:-1] + b"\1", "other bytes than the original's"),
        (FILES[NAME] + b"\0", "more than the 14 bytes of train-labels-idx1-ubyte"),
        (FILES["train-images-idx3-ubyte"], "more than the 14 bytes of train-labels-idx1-ubyte"),
        (FILES["t10k-labels-idx1-ubyte"], "other bytes than the original's"),
    ],
    ids=["truncated", "changed", "trailing", "images for labels", "test for training"],
)
def test_a_file_that_is_not_the_original_is_told(raw, content, reason):
    filled(raw / "tiny", FILES | {NAME: content})
    with pytest.raises(FoldwiseError) as caught:
        rawdata.decode(like_mnist(), raw)
    path = raw / "tiny" / NAME
    assert str(caught.value) == f"{path} is not the original file ({reason}): delete it and run `dvc repro`"


def test_a_missing_file_is_told(raw):
    filled(raw / "tiny")
    (raw / "tiny" / NAME).unlink()
    with pytest.raises(FoldwiseError) as caught:
        rawdata.decode(like_mnist(), raw)
    path = raw / "tiny" / NAME
    assert str(caught.value) == f"{path} cannot be read (No such file or directory): delete it and run `dvc repro`"


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({NAME: formats.encode_idx(bytes(5), (5,))}, "holds 6 training images but 5 labels"),
        ({"t10k-labels-idx1-ubyte": formats.encode_idx(bytes(3), (3,))}, "holds 2 test images but 3 labels"),
        ({NAME: formats.encode_idx(bytes([0, 1, 2, 3, 0, 1]), (6,))}, "holds a training label outside 0 to 2"),
        (
            {"t10k-images-idx3-ubyte": formats.encode_idx(bytes(8), (2, 1, 4))},
            "holds training and test images of different shapes",
        ),
    ],
    ids=["fewer labels", "more labels", "label out of range", "shapes"],
)
def test_files_that_do_not_agree_are_told(raw, changed, what):
    files = FILES | changed
    filled(raw / "tiny", files)
    with pytest.raises(FoldwiseError) as caught:
        rawdata.decode(like_mnist(files, proved=False), raw)
    assert str(caught.value) == (
        f"{raw / 'tiny'} {what}: these are the original files, so mend the entry of tiny in src/foldwise/datasets.py"
    )


def test_the_folder_of_another_data_set_is_not_taken_for_this_one(raw):
    filled(raw / "mnist")
    with pytest.raises(FoldwiseError, match=r"raw/tiny/.* cannot be read \(No such file or directory\)"):
        rawdata.decode(like_mnist(), raw)


def test_a_relative_mirror_is_looked_for_where_the_command_runs(mirror, raw, monkeypatch):
    monkeypatch.chdir(mirror.parent)
    rawdata.fetch(like_mnist(), "mirror", raw)
    assert tree(raw) == ORIGINALS
