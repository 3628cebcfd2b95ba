import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from foldwise.data.folds import Fold
from foldwise.execution import scratch
from foldwise.execution.scratch import Scratch

FOLD = Fold(0, 1)
ARRAYS = {"weight": np.arange(6.0).reshape(2, 3), "step": np.array(3)}
PARTS = (np.arange(4), b"bytes", "text", {"lr": 0.1}, ("a", 1, None))


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def kept(tmp_path):
    found = Scratch.of(tmp_path / "scratch", *PARTS)
    found.write(FOLD, "finished", ARRAYS)
    return found


def test_arrays_come_back(kept):
    found = kept.read(FOLD, "finished")
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in ARRAYS.items()
    }


def test_equal_parts_find_what_was_kept(kept, tmp_path):
    assert Scratch.of(tmp_path / "scratch", *PARTS).read(FOLD, "finished") is not None


@pytest.mark.parametrize(
    "parts",
    [
        (np.array([0, 1, 2, 4]), *PARTS[1:]),
        (PARTS[0], b"other bytes", *PARTS[2:]),
        (*PARTS[:2], "other text", *PARTS[3:]),
        (*PARTS[:3], {"lr": 0.2}, PARTS[4]),
        PARTS[:-1],
        (*PARTS, None),
        PARTS[::-1],
    ],
    ids=["array", "bytes", "text", "parameter", "fewer", "more", "order"],
)
def test_a_change_of_anything_that_counts_finds_nothing(parts, kept, tmp_path):
    assert Scratch.of(tmp_path / "scratch", *parts).read(FOLD, "finished") is None


def test_a_change_of_the_code_finds_nothing(kept, tmp_path, monkeypatch):
    package = tmp_path / "package"
    shutil.copytree(Path(scratch.__file__).parents[1], package)
    monkeypatch.setattr(scratch, "__file__", str(package / "execution" / "scratch.py"))
    assert Scratch.of(tmp_path / "scratch", *PARTS) == kept
    (package / "learning" / "training.py").write_text("# another way to train\n")
    assert Scratch.of(tmp_path / "scratch", *PARTS) != kept


@pytest.mark.parametrize("library", ["torch", "torchvision", "numpy", "scikit-learn"])
def test_another_version_of_a_library_finds_nothing(library, kept, tmp_path, monkeypatch):
    version = scratch.version
    monkeypatch.setattr(scratch, "version", lambda name: "0.0" if name == library else version(name))
    assert Scratch.of(tmp_path / "scratch", *PARTS) != kept


def test_another_kind_of_machine_finds_nothing(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.platform, "machine", lambda: "vax")
    assert Scratch.of(tmp_path / "scratch", *PARTS) != kept


def test_what_was_kept_for_something_else_is_removed(kept, tmp_path):
    Scratch.of(tmp_path / "scratch", "something else")
    assert not kept.directory.exists()


@pytest.mark.parametrize(
    ("fold", "kind"), [(Fold(0, 0), "finished"), (Fold(1, 1), "finished"), (FOLD, "epoch")], ids=str
)
def test_nothing_is_found_of_another_fold_or_kind(fold, kind, kept):
    assert kept.read(fold, kind) is None


def damage(kept, content):
    (path,) = kept.directory.iterdir()
    path.write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"\0" * 100], ids=["empty", "zeros"])
def test_a_file_that_is_not_whole_counts_as_none(content, kept):
    damage(kept, content)
    assert kept.read(FOLD, "finished") is None


def test_half_a_file_counts_as_none(kept):
    (path,) = kept.directory.iterdir()
    damage(kept, path.read_bytes()[:-1])
    assert kept.read(FOLD, "finished") is None


def test_a_malicious_pickle_runs_nothing(kept, tmp_path):
    damage(kept, pickle.dumps(Malicious(tmp_path / "ran")))
    assert kept.read(FOLD, "finished") is None
    assert not (tmp_path / "ran").exists()


def test_clearing_leaves_nothing(kept, tmp_path):
    kept.clear()
    assert list(tmp_path.iterdir()) == []


def test_clearing_nothing_is_no_mistake(tmp_path):
    Scratch.of(tmp_path / "scratch").clear()
    assert list(tmp_path.iterdir()) == []


def record(tmp_path, kept, seconds):
    """Write what DVC records so many seconds after the end of the stage."""
    path, ended = tmp_path / "dvc.lock", (kept.directory / "ended").stat()
    path.touch()
    os.utime(path, ns=(0, ended.st_mtime_ns + int(seconds * 1e9)))


def test_a_run_that_ended_and_was_recorded_trains_again(kept, tmp_path):
    kept.end()
    record(tmp_path, kept, seconds=1)
    kept.clear_if_recorded()
    assert kept.read(FOLD, "finished") is None


def test_a_run_that_was_killed_between_its_end_and_the_record_is_not_lost(kept, tmp_path):
    kept.end()
    record(tmp_path, kept, seconds=-1)
    kept.clear_if_recorded()
    assert kept.read(FOLD, "finished") is not None


def test_the_first_run_that_was_killed_before_any_record_is_not_lost(kept):
    kept.end()
    kept.clear_if_recorded()
    assert kept.read(FOLD, "finished") is not None


def test_a_run_that_did_not_end_is_not_lost(kept, tmp_path):
    (tmp_path / "dvc.lock").touch()
    kept.clear_if_recorded()
    assert kept.read(FOLD, "finished") is not None


def test_a_relative_folder_keeps_what_is_of_the_same_digest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Scratch.of(Path("scratch"), "a part").write(Fold(0, 0), "finished", {"a": np.ones(2)})
    assert Scratch.of(Path("scratch"), "a part").read(Fold(0, 0), "finished") is not None
