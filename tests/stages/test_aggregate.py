import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.random import default_rng
from scipy.special import log_softmax

from foldwise.base import files
from foldwise.base.errors import FoldwiseError
from foldwise.data import folds, images
from foldwise.evaluation import plots, scores

ROOT = Path(__file__).parents[2]
stage = runpy.run_path(str(ROOT / "stages" / "aggregate.py"))["aggregate"]


@pytest.fixture(scope="module")
def left_behind(digits, parameters, tmp_path_factory):
    """Make up what the stages before leave behind."""
    folder, cv, random = tmp_path_factory.mktemp("left"), parameters({"cv.k": 2, "cv.repeats": 2}).cv, default_rng(0)
    images.save(digits, folder / "normalized")
    folds.save(folder / "folds", folds.assign(digits.train_labels, cv), cv)
    files.write_json(folder / "folds" / "audit.json", {"images": 100, "findings": []})
    dealt = folds.load(folder / "folds", 80)

    def predict(labels):
        logits = random.normal(size=(len(labels), 10)) + 3 * np.eye(10)[labels]
        return log_softmax(logits, axis=1).astype(np.float32)

    out_of_fold = np.stack([predict(digits.train_labels) for _ in range(2)])
    test = np.stack([predict(digits.test_labels) for _ in range(4)])
    rows, epochs, steps = [], [], []
    for fold, on_test in zip(dealt, test, strict=True):
        held_out = dealt.held_out(fold)
        on_held_out = out_of_fold[fold.repeat, held_out], digits.train_labels[held_out]
        rows.append(scores.of_model(fold, on_held_out, (on_test, digits.test_labels))["folds"])
        epochs += [(*fold, epoch, 1 / epoch, 0.5, 1 / epoch, 0.5) for epoch in (1, 2)]
        steps += [(*fold, step, 1 / step) for step in range(1, 7)]
    names = ["repeat", "fold", "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    files.write_csv(folder / "scores" / "folds.csv", pd.concat(rows))
    files.write_csv(folder / "curves" / "epochs.csv", pd.DataFrame(epochs, columns=names))
    files.write_csv(folder / "curves" / "steps.csv", pd.DataFrame(steps, columns=["repeat", "fold", "step", "loss"]))
    files.write_array(folder / "predictions" / "out_of_fold.npy", out_of_fold)
    files.write_array(folder / "predictions" / "test.npy", test)
    return folder


def aggregate(folder, params):
    inputs = {name: folder / name for name in ("normalized", "folds", "curves", "predictions", "scores")}
    stage(params, **inputs, metrics=folder / "metrics" / "summary.json", plots=folder / "plots")


@pytest.fixture(scope="module")
def aggregated(left_behind, parameters, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aggregated")
    shutil.copytree(left_behind, folder, dirs_exist_ok=True)
    files.write_bytes(folder / "plots" / "README.md", b"of my own")
    aggregate(folder, parameters())
    return folder


@pytest.fixture
def run(left_behind, parameters, tmp_path, monkeypatch):
    """Run the stage, without the pictures, which take seconds, on a copy in `tmp_path` that a test may spoil."""
    shutil.copytree(left_behind, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(plots, "figures", lambda *_: {})
    return lambda changes=None: aggregate(tmp_path, parameters(changes))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_the_summary_is_of_these_predictions(aggregated, digits):
    summary = json.loads((aggregated / "metrics" / "summary.json").read_text())
    predicted = np.load(aggregated / "predictions" / "out_of_fold.npy").argmax(axis=2)
    errors = int((predicted != digits.train_labels).sum())
    assert (summary["out_of_fold"]["n"], summary["out_of_fold"]["errors"]) == (160, errors)


def test_the_tables_are_written_beside_the_pictures(aggregated):
    names = contents(aggregated / "plots").keys()
    assert {"roc.csv", "confusion.csv", "fold_scores.csv", "accuracy_by_epoch.csv"} < names
    assert any(name.startswith("images/") and name.endswith(".png") for name in names)


def test_a_second_run_gives_the_same_bytes(aggregated, left_behind, parameters, tmp_path):
    shutil.copytree(left_behind, tmp_path, dirs_exist_ok=True)
    files.write_bytes(tmp_path / "plots" / "README.md", b"of my own")
    aggregate(tmp_path, parameters())
    assert contents(tmp_path) == contents(aggregated)


def test_files_of_the_users_own_stay_in_the_folder(aggregated):
    assert contents(aggregated / "plots")["README.md"] == b"of my own"


def test_the_console_gets_the_summary(run, capsys):
    run()
    assert capsys.readouterr().err.startswith("accuracy over folds  0.")


@pytest.mark.parametrize("primary", ["balanced_accuracy", "f1_macro", "log_loss", "roc_auc_macro"])
def test_the_primary_score_is_in_the_summary_and_on_the_console(primary, run, tmp_path, capsys):
    run({"evaluate.primary": primary})
    score = json.loads((tmp_path / "metrics" / "summary.json").read_text())["cv"][primary]
    column = pd.read_csv(tmp_path / "scores" / "folds.csv")[primary]
    assert (score["mean"], score["ci95_low"] < score["mean"]) == (pytest.approx(column.mean()), True)
    line = capsys.readouterr().err.splitlines()[1]
    assert line.startswith(f"{primary.replace('_', ' ')} over folds  {column.mean():.4f}, 95 % interval ")


def test_rescaled_predictions_are_reported_where_wanted(run, tmp_path):
    run({"evaluate.temperature": True})
    assert "rescaled" in json.loads((tmp_path / "metrics" / "summary.json").read_text())["out_of_fold"]


def spoil_array(path, change):
    files.write_array(path, change(np.load(path)))


def nan_first(array):
    array[0, 0, 0] = np.nan
    return array


REFUSED = {
    "fewer images": (
        "predictions/out_of_fold.npy",
        lambda array: array[:, 1:],
        "the predictions are not of this data and these folds: run `dvc repro -f -s evaluate`",
    ),
    "fewer classes": (
        "predictions/out_of_fold.npy",
        lambda array: array[:, :, 1:],
        "the predictions are not of this data and these folds: run `dvc repro -f -s evaluate`",
    ),
    "fewer models": (
        "predictions/test.npy",
        lambda array: array[1:],
        "the predictions are not of this data and these folds: run `dvc repro -f -s evaluate`",
    ),
    "not a number": (
        "predictions/test.npy",
        nan_first,
        "the predictions are not all finite: run `dvc repro -f -s evaluate`",
    ),
}


@pytest.mark.parametrize(("name", "change", "message"), REFUSED.values(), ids=REFUSED)
def test_predictions_that_do_not_belong_to_the_data_are_told(name, change, message, run, tmp_path):
    spoil_array(tmp_path / name, change)
    with pytest.raises(FoldwiseError) as caught:
        run()
    assert str(caught.value) == message


def test_predictions_of_another_type_are_told(run, tmp_path):
    spoil_array(tmp_path / "predictions" / "test.npy", lambda array: array.astype(np.float64))
    with pytest.raises(FoldwiseError, match="holds float64 of 3 dimensions where float32 of 3 is expected"):
        run()


def test_scores_of_other_folds_are_told(run, tmp_path):
    path = tmp_path / "scores" / "folds.csv"
    files.write_csv(path, pd.read_csv(path).iloc[1:])
    with pytest.raises(FoldwiseError) as caught:
        run()
    assert str(caught.value) == "the scores are not of these folds: run `dvc repro -f -s evaluate`"


@pytest.mark.parametrize("column", ["accuracy", "roc_auc_macro", "test_accuracy", "n"])
def test_scores_without_a_column_are_told(column, run, tmp_path):
    path = tmp_path / "scores" / "folds.csv"
    files.write_csv(path, pd.read_csv(path).drop(columns=column))
    with pytest.raises(FoldwiseError, match=rf"scores/folds.csv has no column {column} of numbers: delete it"):
        run()


def test_a_mistake_leaves_the_earlier_summary_and_plots_whole(run, tmp_path):
    files.write_bytes(tmp_path / "metrics" / "summary.json", b"{}")
    files.write_bytes(tmp_path / "plots" / "roc.csv", b"earlier")
    (tmp_path / "curves" / "steps.csv").write_text("")
    before = contents(tmp_path)
    with pytest.raises(FoldwiseError, match=r"curves/steps.csv cannot be read \(not a whole CSV file\)"):
        run()
    assert contents(tmp_path) == before
