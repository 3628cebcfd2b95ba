import runpy
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.models import resnet18

from foldwise.base import files
from foldwise.base.errors import FoldwiseError
from foldwise.data import folds, images
from foldwise.data.folds import Fold
from foldwise.learning.train_fold import TrainFold

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
stage = runpy.run_path(str(ROOT / "stages" / "train.py"))["train"]


@pytest.fixture
def train(digits, parameters, tmp_path):
    """Run the stage: train({"train.lr": 0.1}); what it writes is in the folder it gives."""

    def run(changes=None, out="out", requirements=""):
        params = parameters({"cv.k": 2, "cv.repeats": 2} | (changes or {}))
        images.save(digits, tmp_path / "normalized")
        folds.save(tmp_path / "folds", folds.assign(digits.train_labels, params.cv), params.cv)
        if not (tmp_path / "weights.safetensors").exists():
            files.write_arrays(tmp_path / "weights.safetensors", {})
        files.write_array(tmp_path / "features", np.empty((0, 0, 0), np.float32))
        inputs = {name: tmp_path / name for name in ("normalized", "folds", "features", "store")}
        outputs = {name: tmp_path / out / name for name in ("models", "curves")}
        (tmp_path / "requirements.lock").write_text(requirements)
        weights, lock = tmp_path / "weights.safetensors", tmp_path / "requirements.lock"
        stage(params, **inputs, weights=weights, requirements=lock, **outputs)
        return tmp_path / out

    return run


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_each_fold_has_a_model_and_there_are_two_tables_and_the_libraries(train):
    models = [f"models/repeat-{repeat}/fold-{fold}.safetensors" for repeat in (0, 1) for fold in (0, 1)]
    assert sorted(contents(train())) == ["curves/epochs.csv", "curves/libraries.json", "curves/steps.csv", *models]


def test_a_model_holds_weights_and_normalisation_constants_alone(train):
    names = files.read_arrays(train() / "models" / "repeat-1" / "fold-0.safetensors").keys()
    assert {"0.mean", "0.std", "1.0.weight"} < names
    assert not names & {"epochs", "losses"}


def test_the_versions_of_the_libraries_are_kept(train):
    assert files.read_json(train() / "curves" / "libraries.json")["torch"] == version("torch")


def test_libraries_that_are_not_the_pinned_ones_are_told_at_the_start(train, capsys):
    train(requirements="torch==1.0.0\nnumpy==1.0.0\n")
    lines = capsys.readouterr().err.splitlines()
    own = f"torch {version('torch')} (pinned: 1.0.0), numpy {version('numpy')} (pinned: 1.0.0)"
    assert lines[1].startswith(f"train: {own}: numbers may differ;")


def test_there_is_a_row_for_each_epoch_of_each_fold(train):
    table = pd.read_csv(train() / "curves" / "epochs.csv")
    names = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "kept"]
    assert table.columns.tolist() == ["repeat", "fold", "epoch", *names]
    assert table["kept"].tolist() == 4 * [0, 1]
    expected = [(repeat, fold, epoch) for repeat in (0, 1) for fold in (0, 1) for epoch in (1, 2)]
    assert list(table[["repeat", "fold", "epoch"]].itertuples(index=False, name=None)) == expected


def test_there_is_a_row_for_each_step_of_each_fold(train):
    table = pd.read_csv(train() / "curves" / "steps.csv")
    assert table.columns.tolist() == ["repeat", "fold", "step", "loss"]
    assert table.groupby(["repeat", "fold"]).step.apply(list).tolist() == [[1, 2, 3, 4, 5, 6]] * 4


def test_the_losses_of_the_steps_add_up_to_those_of_the_epochs(train):
    out = train({"train.batch_size": 20})
    steps, epochs = pd.read_csv(out / "curves" / "steps.csv"), pd.read_csv(out / "curves" / "epochs.csv")
    means = steps.loss.to_numpy().reshape(-1, 2).mean(axis=1)
    assert epochs.train_loss.to_numpy() == pytest.approx(means, rel=1e-5)


def test_folds_of_an_earlier_run_do_not_linger(train):
    train()
    out = train({"cv.repeats": 1})
    assert [path.name for path in (out / "models").iterdir()] == ["repeat-0"]


@pytest.fixture
def trained(monkeypatch):
    """List the folds whose training is begun, and be interrupted at the one whose number is put first."""
    call, begun, interruptions = TrainFold.__call__, [], []

    def watched(task, fold, job):
        begun.append(fold)
        if interruptions and len(begun) == interruptions[0]:
            raise KeyboardInterrupt
        return call(task, fold, job)

    monkeypatch.setattr(TrainFold, "__call__", watched)
    return begun, interruptions


@pytest.fixture
def interrupted(train, trained):
    """Be interrupted at the third of four folds; then count anew."""
    begun, interruptions = trained
    interruptions.append(3)
    with pytest.raises(KeyboardInterrupt):
        train()
    begun.clear()
    interruptions.clear()


def test_an_interrupted_run_leaves_no_models(interrupted, tmp_path):
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_after_an_interruption_only_what_is_missing_is_trained(interrupted, train, trained):
    train()
    assert trained[0] == [Fold(1, 0), Fold(1, 1)]


def test_after_an_interruption_the_console_tells_what_was_found(interrupted, train, capsys):
    capsys.readouterr()
    train()
    anew = "`dvc exp run -f -S compute.reuse_folds=false` trains all anew"
    assert capsys.readouterr().err.splitlines()[:2] == [
        "train: simple_cnn, 4 folds, 2 epochs",
        f"  2 of 4 folds are from the fold store; {anew}",
    ]


def test_after_an_interruption_the_bytes_are_those_of_an_undisturbed_run(interrupted, train, tmp_path):
    found = contents(train())
    shutil.rmtree(tmp_path / "store")
    assert contents(train(out="undisturbed")) == found


@pytest.mark.parametrize(
    "changes",
    [{"train.lr": 0.04}, {"model.name": "cnn"}, {"normalize.scope": "dataset"}, {"cv.seed": 1}],
    ids=lambda changes: next(iter(changes)),
)
def test_after_a_change_of_anything_that_counts_all_is_trained_anew(changes, interrupted, train, trained):
    train(changes)
    assert len(trained[0]) == 4


def test_a_change_of_what_does_not_count_is_no_reason_to_train_anew(interrupted, train, trained):
    train({"evaluate.temperature": True, "data.mirror": "elsewhere"})
    assert len(trained[0]) == 2


def test_what_was_trained_once_is_not_trained_again(train, trained):
    first = contents(train())
    assert contents(train(out="again")) == first
    assert len(trained[0]) == 4


def test_more_repeats_train_those_that_are_new(train, trained):
    train({"cv.repeats": 1})
    train({"cv.repeats": 3})
    assert trained[0] == [Fold(repeat, fold) for repeat in (0, 1, 2) for fold in (0, 1)]


def test_all_is_trained_anew_where_that_is_asked_for_and_kept(train, trained, tmp_path):
    train()
    before = contents(tmp_path / "store")
    found = contents(train({"compute.reuse_folds": False}, out="anew"))
    assert (len(trained[0]), contents(tmp_path / "store")) == (8, before)
    train(out="again")
    assert len(trained[0]) == 8
    assert contents(tmp_path / "out") == found


def test_a_mistake_of_the_users_leaves_the_earlier_models_whole(train, tmp_path):
    before = contents(train())
    with pytest.raises(FoldwiseError, match=r"^repeat 0 fold 0: the loss is "):
        train({"train.lr": 1e30})
    assert contents(tmp_path / "out") == before


def test_folds_of_other_data_are_told(train, digits, parameters, tmp_path):
    train()
    cv = parameters().cv
    folds.save(tmp_path / "folds", folds.assign(digits.train_labels[:79], cv), cv)
    names = "normalized", "folds", "features", "requirements", "store", "models", "curves"
    inputs = {name: tmp_path / name for name in names}
    with pytest.raises(FoldwiseError, match=r"folds deals 79 images in 1 repeats where 80 in 1 are expected"):
        stage(parameters(), **inputs, weights=tmp_path / "weights.safetensors")


def test_a_network_starts_from_given_weights(train, tmp_path):
    torch.manual_seed(0)
    given = {name: tensor.numpy() for name, tensor in resnet18().state_dict().items()}
    files.write_arrays(tmp_path / "weights.safetensors", given)
    recipe = {"model.name": "resnet18", "model.weights_file": "a.pth", "model.freeze": True}
    out = train(recipe | {"cv.repeats": 1, "train.epochs": 1})
    found = files.read_arrays(out / "models" / "repeat-0" / "fold-1.safetensors")
    assert np.array_equal(found["1.layer4.1.conv2.weight"], given["layer4.1.conv2.weight"])


def test_weights_of_another_network_are_told(train, tmp_path):
    files.write_arrays(tmp_path / "weights.safetensors", {"0.weight": np.zeros((3, 3), np.float32)})
    with pytest.raises(FoldwiseError, match=r"^the weights to start from lack 0.weight of this network's shape"):
        train()
