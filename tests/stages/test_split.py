import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from foldwise.base.errors import FoldwiseError
from foldwise.data import folds, images

ROOT = Path(__file__).parents[2]
split = runpy.run_path(str(ROOT / "stages" / "split.py"))["split"]


@pytest.fixture
def normalized(digits, tmp_path):
    images.save(digits, tmp_path / "normalized")
    return tmp_path / "normalized"


def test_training_images_are_dealt_as_scikit_learn_deals_them(normalized, digits, parameters, tmp_path):
    split(parameters(), normalized=normalized, folds=tmp_path / "folds")
    expected = StratifiedKFold(4, shuffle=True, random_state=42).split(digits.train_labels, digits.train_labels)
    found = folds.load(tmp_path / "folds", 80)
    assert [found.held_out(fold).tolist() for fold in found] == [held_out.tolist() for _, held_out in expected]


def test_the_settings_stand_beside_the_assignments(normalized, parameters, tmp_path):
    split(parameters({"cv.repeats": 2, "cv.seed": 7}), normalized=normalized, folds=tmp_path / "folds")
    content = json.loads((tmp_path / "folds" / "folds.json").read_text())
    assert [content[name] for name in ("strategy", "k", "repeats", "seed")] == ["stratified", 4, 2, 7]


def test_the_folder_holds_folds_units_and_the_audit(normalized, parameters, tmp_path):
    split(parameters(), normalized=normalized, folds=tmp_path / "folds")
    assert sorted(path.name for path in (tmp_path / "folds").iterdir()) == [
        "assignments.npy",
        "audit.json",
        "folds.json",
        "units.npy",
    ]


def test_equal_seeds_give_equal_bytes(normalized, parameters, tmp_path):
    for name in ("one", "other"):
        split(parameters(), normalized=normalized, folds=tmp_path / name)
    for name in ("assignments.npy", "audit.json", "folds.json", "units.npy"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_the_training_seed_changes_no_fold(normalized, parameters, tmp_path):
    for seed in (0, 1):
        split(parameters({"train.seed": seed}), normalized=normalized, folds=tmp_path / str(seed))
    assert np.array_equal(*(np.load(tmp_path / str(seed) / "assignments.npy") for seed in (0, 1)))


def test_the_console_tells_the_settings(normalized, parameters, tmp_path, capsys):
    split(parameters({"cv.repeats": 2}), normalized=normalized, folds=tmp_path / "folds")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "split: 80 training images into 2 x 4 folds, stratified, seed 42"
    assert lines[1].startswith("split: audit of 100 images (copies, labels, classes, blank images, near copies): ")


def test_more_folds_than_images_of_a_class_leave_nothing_behind(normalized, parameters, tmp_path):
    with pytest.raises(FoldwiseError, match=r"^cv.k is 9 but the rarest class has 8 training images"):
        split(parameters({"cv.k": 9}), normalized=normalized, folds=tmp_path / "folds")
    assert not (tmp_path / "folds").exists()
