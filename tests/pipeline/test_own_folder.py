"""Own images through the whole pipeline, as a user types it."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from clones import ran
from sklearn.datasets import load_digits
from small_folders import save, write_table

from foldwise.base import files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Without it, DVC would take a change within the same second, of the same size, for none.
LATER = 10**9


def own(pristine, tmp_path, **changes):
    """Give a clone that takes `pictures`, beside it, for its images."""
    clone = pristine.copy(tmp_path / "foldwise")
    clone.turn({"data.name": "folder", "data.folder": tmp_path / "pictures", "data.subset": None, **changes})
    return clone


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Write four hundred of scikit-learn's digits, each ten in a row by one writer, in three sizes."""
    folder = tmp_path_factory.mktemp("own") / "pictures"
    digits, lines = load_digits(), ["file_name,label,group"]
    for i, (pixels, label) in enumerate(zip(digits.images[:400], digits.target[:400], strict=True)):
        name = f"Stöße, {i % 3}/{i}.PNG"
        save(folder / name, np.kron((pixels * 15).astype(np.uint8), np.ones((1 + i % 3,) * 2, np.uint8)))
        lines.append(f'"{name}",number {label},writer {i // 10}')
    write_table(folder, *lines)
    return folder


@pytest.fixture(scope="module")
def finished(pristine, pictures, tmp_path_factory):
    """Give a clone after two experiments on the pictures, and what the first told."""
    clone = pristine.copy(tmp_path_factory.mktemp("finished") / "foldwise")
    settings = ("data.name=folder", f"data.folder={pictures}", "data.subset=null", "data.image_size=8")
    told = clone.dvc("exp", "run", "-n", "whole", *(word for one in settings for word in ("-S", one)))
    clone.dvc("exp", "run", "-n", "torn", "-S", "cv.groups=ignore")
    clone.dvc("exp", "apply", "whole")
    return clone, told


def test_one_command_gives_the_summary_and_says_what_was_done_to_the_pixels(finished):
    _, told = finished
    assert "normalize: 400 images, all 8 x 8, grey: 266 made smaller" in told
    assert "accuracy over folds" in told
    assert "test set" in told


def test_groups_are_whole_in_folds_and_test_set(finished):
    clone, _ = finished
    answers = pd.read_csv(clone.root / "predictions" / "out_of_fold.csv")
    assert answers.groupby("group")["fold"].nunique().max() == 1
    test = pd.read_csv(clone.root / "data" / "normalized" / "test.csv")
    assert not set(test["group"]) & set(answers["group"])


def test_predictions_name_files_and_classes(finished):
    clone, _ = finished
    answers = pd.read_csv(clone.root / "predictions" / "out_of_fold.csv")
    assert answers["file_name"].str.fullmatch(r"Stöße, [012]/\d+\.PNG").all()
    right = (answers["predicted"] == answers["label"]).mean()
    assert right == json.loads((clone.root / "metrics" / "summary.json").read_text())["out_of_fold"]["accuracy"]


def test_compare_says_that_folds_differ_and_what_groups_change(finished):
    clone, _ = finished
    told = " ".join(clone.run("foldwise", "compare", "whole", "torn").split())
    assert "not paired: the folds differ" in told
    assert "A holds whole groups out" in told


def test_a_file_that_was_changed_added_or_removed_is_noticed(finished, pictures, tmp_path):
    clone = finished[0].copy(tmp_path / "foldwise")
    shutil.copytree(pictures, tmp_path / "pictures")
    clone.turn({"data.folder": tmp_path / "pictures"})
    clone.dvc("repro", "normalize")
    path = next((tmp_path / "pictures").rglob("*.PNG"))
    before = path.read_bytes()
    another = path.with_name("another.PNG")
    for number, change in enumerate((lambda: save(path, np.zeros((8, 8), np.uint8)), another.touch, path.unlink)):
        assert "normalize" not in clone.dvc("status", "normalize")
        change()
        if path.exists():
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + number * LATER + LATER))
        assert str(tmp_path / "pictures") in clone.dvc("status", "normalize")
        another.unlink(missing_ok=True)
        path.write_bytes(before)
        os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + number * LATER))


def test_images_that_dvc_tracks_are_there_in_its_own_copies_too(pristine, pictures, tmp_path):
    clone = pristine.copy(tmp_path / "foldwise")
    shutil.copytree(pictures, clone.root / "images" / "digits")
    clone.dvc("add", "images/digits")
    clone.commit()
    settings = ("data.name=folder", "data.folder=images/digits", "data.subset=null")
    words = [word for one in settings for word in ("-S", one)]
    assert "aggregate" in ran(clone.dvc("exp", "run", "--temp", *words))


def test_a_folder_that_is_not_there_is_told_before_anything_runs(pristine, tmp_path):
    clone = own(pristine, tmp_path)
    told = clone.dvc("repro", status=255)
    assert "check: params.yaml: data.folder is " in told
    assert "Traceback" not in told


def test_without_a_test_set_every_stage_does_without(pristine, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "pictures")
    clone = own(pristine, tmp_path, **{"data.test_share": 0})
    assert "test set" not in clone.dvc("repro")
    assert "test" not in json.loads((clone.root / "metrics" / "summary.json").read_text())
    assert files.read_array(clone.root / "predictions" / "test.npy", np.float32, 3, may_be_empty=True).shape[1] == 0


def test_copies_with_random_labels_end_near_chance_and_the_audit_says_why(pristine, tmp_path):
    random = np.random.default_rng(0)
    for i, label in enumerate(random.integers(0, 10, 300)):
        pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
        for copy in range(5):
            save(tmp_path / "pictures" / str(label) / f"{i}-{copy}.png", pixels)
    changes = {"data.test_share": 0, "train.epochs": 20, "model.name": "compact"}
    clone = own(pristine, tmp_path, **changes)
    told = clone.dvc("repro")
    assert "training images that are copies: 1,500, of 300 different ones; they are held out together" in told
    assert json.loads((clone.root / "metrics" / "summary.json").read_text())["out_of_fold"]["accuracy"] < 0.2
    clone.turn({"cv.copies": "ignore"})
    assert "as cv.copies is ignore" in clone.dvc("repro")
    assert json.loads((clone.root / "metrics" / "summary.json").read_text())["out_of_fold"]["accuracy"] > 0.8
