import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foldwise import files, folds, images, scores
from foldwise.errors import FoldwiseError

ROOT = Path(__file__).parents[2]
stage = runpy.run_path(str(ROOT / "stages" / "aggregate.py"))["aggregate"]


@pytest.fixture
def run(digits, parameters, tmp_path):
    """Make up what the stages before leave behind, and give the function that runs this one."""
    params = parameters({"cv.k": 2, "cv.repeats": 2})
    images.save(digits, tmp_path / "normalized")
    folds.save(tmp_path / "folds", folds.assign(digits.train_labels, params.cv), params.cv)
    dealt, random = folds.load(tmp_path / "folds", 80), np.random.default_rng(0)

    def predict(labels):
        logits = random.normal(size=(len(labels), 10)) + 3 * np.eye(10)[labels]
        return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)

    out_of_fold = np.stack([predict(digits.train_labels) for _ in range(2)])
    test = np.stack([predict(digits.test_labels) for _ in range(4)])
    rows, epochs, steps = [], [], []
    for fold, on_test in zip(dealt, test, strict=True):
        held_out = dealt.held_out(fold)
        on_held_out = out_of_fold[fold.repeat, held_out], digits.train_labels[held_out]
        rows.append(scores.of_model(fold, on_held_out, (on_test, digits.test_labels))["folds"])
        epochs += [(*fold, epoch, 1 / epoch, 0.5, 1 / epoch, 0.5) for epoch in (1, 2)]
        steps += [(*fold, step, 1 / step) for step in range(1, 7)]
    names = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    files.write_csv(tmp_path / "scores" / "folds.csv", pd.concat(rows))
    files.write_csv(
        tmp_path / "curves" / "epochs.csv", pd.DataFrame(epochs, columns=["repeat", "fold", "epoch", *names])
    )
    files.write_csv(tmp_path / "curves" / "steps.csv", pd.DataFrame(steps, columns=["repeat", "fold", "step", "loss"]))
    files.write_array(tmp_path / "predictions" / "out_of_fold.npy", out_of_fold)
    files.write_array(tmp_path / "predictions" / "test.npy", test)

    def run(changes=None, out="out"):
        inputs = {name: tmp_path / name for name in ("normalized", "folds", "curves", "predictions", "scores")}
        outputs = {"metrics": tmp_path / out / "metrics" / "summary.json", "plots": tmp_path / out / "plots"}
        stage(parameters(changes), **inputs, **outputs)
        return tmp_path / out

    return run


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_the_summary_is_of_these_predictions(run, tmp_path, digits):
    summary = json.loads((run() / "metrics" / "summary.json").read_text())
    predicted = np.load(tmp_path / "predictions" / "out_of_fold.npy").argmax(axis=2)
    errors = int((predicted != digits.train_labels).sum())
    assert (summary["out_of_fold"]["n"], summary["out_of_fold"]["errors"]) == (160, errors)


def test_the_tables_are_written_beside_the_pictures(run):
    names = contents(run() / "plots").keys()
    assert {"roc.csv", "confusion.csv", "fold_scores.csv", "accuracy_by_epoch.csv", "images/mistakes.png"} <= names


def test_a_second_run_gives_the_same_bytes(run):
    assert contents(run(out="one")) == contents(run(out="other"))


def test_pictures_of_an_earlier_run_do_not_linger(run, tmp_path):
    files.write_bytes(tmp_path / "out" / "plots" / "stale.csv", b"")
    assert "stale.csv" not in contents(run() / "plots")


def test_the_console_gets_the_summary(run, capsys):
    run()
    assert capsys.readouterr().err.startswith("accuracy over folds  0.")


def test_rescaled_predictions_are_reported_where_wanted(run):
    summary = json.loads((run({"evaluate.temperature": True}) / "metrics" / "summary.json").read_text())
    assert "rescaled" in summary["out_of_fold"]


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
        "the predictions are not all finite: lower train.lr, then run `dvc repro`",
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
    before = contents(run())
    (tmp_path / "curves" / "steps.csv").write_text("")
    with pytest.raises(FoldwiseError, match=r"curves/steps.csv cannot be read \(not a whole CSV file\)"):
        run()
    assert contents(tmp_path / "out") == before
