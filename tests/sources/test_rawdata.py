import gzip
import hashlib
from dataclasses import replace

import numpy as np
import pytest

from foldwise.base.errors import FoldwiseError
from foldwise.sources import catalogue, formats, rawdata
from foldwise.sources.archives import Original, Remote

FILES = {
    "train-images-idx3-ubyte": formats.encode_idx(bytes(range(24)), (6, 2, 2)),
    "train-labels-idx1-ubyte": formats.encode_idx(bytes([0, 1, 2, 0, 1, 2]), (6,)),
    "t10k-images-idx3-ubyte": formats.encode_idx(bytes(8), (2, 2, 2)),
    "t10k-labels-idx1-ubyte": formats.encode_idx(bytes([2, 1]), (2,)),
}
NAME = "train-labels-idx1-ubyte"


def like_mnist(files=FILES, proved=True):
    """A data set of MNIST's form; with `proved`, its originals have digests."""
    remotes = []
    for name, content in files.items():
        digest = "md5:" + hashlib.md5(content).hexdigest() if proved else ""
        remotes.append(Remote(f"{name}.gz", (Original(name, len(content), digest),)))
    return replace(catalogue.find("mnist"), name="tiny", classes=("a", "b", "c"), remotes=tuple(remotes), sources=())


@pytest.fixture(autouse=True)
def no_mirror_in_the_environment(monkeypatch):
    monkeypatch.delenv("FOLDWISE_MIRROR", raising=False)


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


def test_an_empty_folder_of_the_name_does_not_hide_the_files_beside_it(mirror, raw):
    (mirror / "tiny").mkdir()
    rawdata.fetch(like_mnist(), str(mirror), raw)
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


def other_bytes(folder):
    return filled(folder, FILES | {NAME: FILES[NAME][::-1]})


def wrong_mirrors(folder):
    """Places that give no original files, and what is told of them."""
    return {
        str(folder / "nowhere"): "no such folder",
        "~nobody-of-this-name": "no such folder",
        "a" * 5000: "File name too long",
        "http://127.0.0.1:9": "cannot be reached",
        str(other_bytes(folder / "other")): "other bytes than the original's",
    }


CORRECT_KNOB = (
    "correct data.mirror, or empty it to take the public mirrors "
    "(it is for original files: images of your own are a new data set, see CONTRIBUTING.md)"
)
SET_KNOB = "set data.mirror or FOLDWISE_MIRROR to a folder or address that holds the original files"
CORRECT_ENVIRONMENT = f"correct or unset FOLDWISE_MIRROR (a data set may lie in a subfolder of its name), or {SET_KNOB}"


@pytest.mark.parametrize(("parameter", "remedy"), [(True, CORRECT_KNOB), (False, CORRECT_ENVIRONMENT)])
def test_a_wrong_mirror_of_the_users_is_told_and_no_other_is_asked(
    mirror, raw, tmp_path, monkeypatch, capsys, parameter, remedy
):
    public = replace(like_mnist(), sources=(str(mirror),))
    for place, reason in wrong_mirrors(tmp_path).items():
        monkeypatch.setenv("FOLDWISE_MIRROR", str(mirror) if parameter else place)
        with pytest.raises(FoldwiseError) as caught:
            rawdata.fetch(public, place if parameter else None, raw)
        name = NAME if reason.startswith("other") else "train-images-idx3-ubyte"
        assert str(caught.value) == f"{name}.gz cannot be had ({place}: {reason}): {remedy}"
        assert not raw.exists()
    assert f"from {mirror}" not in capsys.readouterr().err


def test_a_file_that_the_mirror_of_the_parameters_lacks_is_told(mirror, raw, tmp_path):
    own = filled(tmp_path / "own", {})
    with pytest.raises(FoldwiseError) as caught:
        rawdata.fetch(replace(like_mnist(), sources=(str(mirror),)), str(own), raw)
    assert str(caught.value) == f"train-images-idx3-ubyte.gz cannot be had ({own}: not there): {CORRECT_KNOB}"


def test_what_the_mirror_of_the_environment_lacks_comes_from_the_public_ones(mirror, raw, tmp_path, monkeypatch):
    monkeypatch.setenv("FOLDWISE_MIRROR", str(filled(tmp_path / "site", {})))
    rawdata.fetch(replace(like_mnist(), sources=(str(mirror),)), None, raw)
    assert tree(raw) == ORIGINALS


def test_without_any_mirror_the_remedy_is_to_name_one(mirror, raw):
    with pytest.raises(FoldwiseError) as caught:
        rawdata.fetch(replace(like_mnist(), sources=("/nowhere",)), None, raw)
    assert str(caught.value) == f"train-images-idx3-ubyte.gz cannot be had (/nowhere: no such folder): {SET_KNOB}"
    rawdata.fetch(replace(like_mnist(), sources=("/nowhere",)), str(mirror), raw)
    assert tree(raw) == ORIGINALS


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


def test_a_relative_mirror_is_that_of_the_repository_in_dvcs_copies_too(mirror, raw, tmp_path, monkeypatch):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpx1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    (tmp_path / "sets").mkdir()
    mirror.rename(tmp_path / "sets" / "tiny")
    rawdata.fetch(like_mnist(), "sets", raw)
    assert tree(raw) == ORIGINALS


def test_what_was_fetched_is_decoded(mirror, raw):
    rawdata.fetch(like_mnist(), str(mirror), raw)
    (images, labels), (test_images, test_labels) = rawdata.decode(like_mnist(), raw)
    assert np.array_equal(images, np.arange(24).reshape(6, 1, 2, 2))
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert test_images.shape == (2, 1, 2, 2)
    assert test_labels.tolist() == [2, 1]


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


@pytest.mark.parametrize("proved", [True, False])
@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({NAME: formats.encode_idx(bytes(5), (5,))}, " holds 6 training images but 5 labels"),
        ({"t10k-labels-idx1-ubyte": formats.encode_idx(bytes(3), (3,))}, " holds 2 test images but 3 labels"),
        ({NAME: b"no IDX file"}, f"/{NAME} does not begin as an IDX file of 1 dimension does"),
    ],
    ids=["fewer labels", "more labels", "format"],
)
def test_files_that_the_entry_does_not_fit_are_told(raw, changed, what, proved):
    files = FILES | changed
    folder = filled(raw / "tiny", files)
    with pytest.raises(FoldwiseError) as caught:
        rawdata.decode(like_mnist(files, proved), raw)
    entry = "correct the entry of tiny in src/foldwise/sources/catalogue.py"
    remedy = (
        "these are the originals, so" if proved else f"delete {folder} and run `dvc repro`; where that brings the same,"
    )
    assert str(caught.value) == f"{folder}{what}: {remedy} {entry}"


NOT = "not uint8 of 4 dimensions and int64 of 1"


def fail(images, labels):
    raise KeyError("train.bin")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda images, labels: (images / 255, labels),
            f" gives training images and labels as float64 of 4 dimensions and int64 of 1, {NOT}",
        ),
        (
            lambda images, labels: (images[:, 0], labels),
            f" gives training images and labels as uint8 of 3 dimensions and int64 of 1, {NOT}",
        ),
        (
            lambda images, labels: (images, labels.astype(np.uint8)),
            f" gives training images and labels as uint8 of 4 dimensions and uint8 of 1, {NOT}",
        ),
        (fail, " is not what the entry decodes (KeyError: 'train.bin')"),
        (
            lambda images, labels: (images.tolist(), labels),
            " is not what the entry decodes (AttributeError: 'list' object has no attribute 'dtype')",
        ),
    ],
    ids=["floats", "no channel", "bytes", "error", "list"],
)
def test_an_entry_that_decodes_to_another_form_or_fails_is_told(mirror, raw, change, what):
    dataset = like_mnist()
    rawdata.fetch(dataset, str(mirror), raw)
    wrong = replace(dataset, decode=lambda *args: tuple(change(*part) for part in dataset.decode(*args)))
    with pytest.raises(FoldwiseError) as caught:
        rawdata.decode(wrong, raw)
    assert str(caught.value) == (
        f"{raw / 'tiny'}{what}: these are the originals, so "
        "correct the entry of tiny in src/foldwise/sources/catalogue.py"
    )


def test_no_images_are_told(mirror, raw):
    dataset = like_mnist()
    rawdata.fetch(dataset, str(mirror), raw)
    empty = replace(
        dataset, decode=lambda *args: (dataset.decode(*args)[0], tuple(part[:0] for part in dataset.decode(*args)[1]))
    )
    with pytest.raises(FoldwiseError, match="holds 0 test images but 0 labels: these are the originals, so correct"):
        rawdata.decode(empty, raw)


def test_the_folder_of_another_data_set_is_not_taken_for_this_one(raw):
    filled(raw / "mnist")
    with pytest.raises(FoldwiseError, match=r"raw/tiny/.* cannot be read \(No such file or directory\)"):
        rawdata.decode(like_mnist(), raw)


def test_a_relative_mirror_is_looked_for_where_the_command_runs(mirror, raw, monkeypatch):
    monkeypatch.chdir(mirror.parent)
    rawdata.fetch(like_mnist(), "mirror", raw)
    assert tree(raw) == ORIGINALS
