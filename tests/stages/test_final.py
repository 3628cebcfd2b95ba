"""The stage that makes the model to take away, after those before it."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from foldwise.base import files
from foldwise.data import folds, images
from foldwise.data.folds import WHOLE
from foldwise.data.pixels import pixel_statistics
from foldwise.delivery import card
from foldwise.delivery.making import epochs_of_folds
from foldwise.evaluation import calibration
from foldwise.learning import models
from foldwise.learning.prediction import log_probabilities

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
FILES = ["card.json", "card.md", "model.onnx", "model.safetensors"]
RECIPE = {"cv.k": 2, "train.epochs": 3}


def stage(name):
    return runpy.run_path(str(ROOT / "stages" / f"{name}.py"))[name]


def run_all(folder, params, data):
    """Run what comes before, from the folds on."""
    at = {path.name: path for path in (folder / name for name in PATHS)} | {"metrics": folder / "summary.json"}
    images.save(data, at["normalized"])
    folds.save(at["folds"], folds.assign(data.train_labels, params.cv), params.cv)
    says = "pairs of images that look alike: 2"
    files.write_json(
        at["folds"] / "audit.json",
        {"findings": [{"says": says, "number": 1, "kind": "near", "count": 2, "examples": []}]},
    )
    files.write_arrays(at["weights"], {})
    files.write_array(at["features"], np.empty((0, 0, 0), np.float32))
    (folder / "requirements.lock").write_text("")

    def part(*names):
        return {name: at[name] for name in names}

    inputs = part("normalized", "folds", "features")
    stage("train")(
        params, **inputs, **part("weights", "store", "models", "curves"), requirements=folder / "requirements.lock"
    )
    stage("evaluate")(params, **inputs, **part("models", "predictions", "scores"))
    stage("aggregate")(params, **part("normalized", "folds", "curves", "predictions", "scores", "metrics", "plots"))
    return at


PATHS = ("normalized", "folds", "weights", "features", "store", "models", "curves", "predictions", "scores", "plots")
INPUTS = ("normalized", "folds", "weights", "features", "store", "curves", "models", "predictions", "metrics")


@pytest.fixture(scope="module")
def finished(digits, parameters, tmp_path_factory):
    """Give the paths of a run that has been aggregated."""
    return run_all(tmp_path_factory.mktemp("finished"), parameters(RECIPE), digits)


@pytest.fixture(scope="module")
def final(finished, parameters, tmp_path_factory):
    """Run the stage with some parameters changed; gives the model's folder."""

    def run(changes):
        folder = tmp_path_factory.mktemp("final") / "model"
        stage("final")(parameters(RECIPE | changes), **{name: finished[name] for name in INPUTS}, model=folder)
        return folder

    return run


@pytest.fixture(scope="module")
def refit(final):
    return final({"final.model": "refit"})


@pytest.fixture(scope="module")
def ensemble(final):
    return final({"final.model": "ensemble"})


def test_without_a_model_there_is_a_page_that_says_how_to_get_one(final):
    folder = final({})
    assert [path.name for path in folder.iterdir()] == ["card.md"]
    assert "dvc exp run -S final.model=refit" in (folder / "card.md").read_text()


def test_a_model_is_four_files(refit, ensemble):
    assert [sorted(path.name for path in folder.iterdir()) for folder in (refit, ensemble)] == [FILES, FILES]


def test_a_refitted_model_has_learnt_from_all_images(refit, digits):
    weights = files.read_arrays(refit / "model.safetensors")
    mean, std = pixel_statistics(digits.train_images, np.arange(len(digits.train_labels)))
    assert weights["0.mean"].ravel().tolist() == pytest.approx(mean)
    assert weights["0.std"].ravel().tolist() == pytest.approx(std)
    assert card.read(refit).data.images == len(digits.train_labels)


def test_the_card_has_the_test_figure_of_this_very_model(refit, digits):
    model = models.build("simple_cnn", models.form_of(digits), digits.mean, digits.std)
    models.load_weights(model, files.read_arrays(refit / "model.safetensors"))
    predicted = log_probabilities(model, torch.from_numpy(np.array(digits.test_images))).numpy()
    said = card.read(refit)
    assert said.test.errors == int((predicted.argmax(axis=1) != digits.test_labels).sum())
    rescaled = calibration.apply_temperature(predicted, said.network.temperature)
    expected = calibration.reliability(rescaled, digits.test_labels).calibration_error
    assert said.test.calibration_error == pytest.approx(expected, abs=1e-6)


def test_the_card_has_the_figures_of_the_run(finished, refit):
    summary, said = json.loads(finished["metrics"].read_text()), card.read(refit).cross_validation
    assert said.accuracy == summary["cv"]["accuracy"]
    assert (said.k, said.repeats) == (2, 1)
    assert said.out_of_fold.errors == summary["out_of_fold"]["errors"]
    assert said.calibration_error_before == summary["out_of_fold"]["calibration_error"]
    assert [each.images for each in said.by_class] == [8] * 10


def test_the_temperature_is_fitted_out_of_fold(finished, refit, digits):
    out_of_fold = files.read_array(finished["predictions"] / "out_of_fold.npy", np.float32, 3)
    expected = calibration.fit_temperature(out_of_fold[0], digits.train_labels)
    assert card.read(refit).network.temperature == pytest.approx(expected)


def test_the_page_tells_people_the_same(finished, refit):
    text, accuracy = (refit / "card.md").read_text(), card.read(refit).cross_validation.accuracy
    assert f"Cross-validated accuracy: **{100 * accuracy['mean']:.2f} %** (95 % interval" in text
    assert "1. pairs of images that look alike: 2\n" in text
    assert f"with {card.read(refit).test.errors} errors in 20 images; nothing was selected on it" in text
    assert all(max(map(len, [line])) < 400 for line in text.splitlines())


def test_an_ensemble_has_the_summary_s_figure(finished, ensemble):
    summary, said = json.loads(finished["metrics"].read_text())["test"]["ensemble"], card.read(ensemble).test
    assert (said.accuracy, said.errors) == (summary["accuracy"], summary["errors"])


def test_an_ensemble_holds_the_folds_models(finished, ensemble):
    weights = files.read_arrays(ensemble / "model.safetensors")
    for fold in (0, 1):
        own = files.read_arrays(finished["models"] / "repeat-0" / f"fold-{fold}.safetensors")
        assert all(np.array_equal(weights[f"repeat-0.fold-{fold}.{name}"], array) for name, array in own.items())
    assert len(weights) == 2 * len(own)


def test_a_model_that_was_trained_before_is_not_trained_again(final, refit, capsys):
    capsys.readouterr()
    again = final({"final.model": "refit"})
    told = capsys.readouterr().err
    assert "epoch" not in told.replace("3 epochs", "")
    assert content(again) == content(refit)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_say_nothing_of_where_they_were_made(refit):
    weights, onnx = ((refit / name).read_bytes() for name in ("model.safetensors", "model.onnx"))
    assert b"__metadata__" not in weights
    assert not any(word in onnx for word in (str(ROOT).encode(), b".py", b"foldwise", torch.__version__.encode()))


def test_with_early_stopping_it_trains_for_the_median_of_what_folds_kept(final, finished, capsys):
    """Of 2 and 3 epochs the longer; nothing is set aside."""
    curves = finished["curves"] / "epochs.csv"
    before = curves.read_bytes()
    lines = ["repeat,fold,epoch,kept", "0,0,1,0", "0,0,2,1", "0,0,3,0", "0,1,1,0", "0,1,2,0", "0,1,3,1"]
    curves.write_text("\n".join(lines) + "\n")
    try:
        capsys.readouterr()
        folder = final({"final.model": "refit", "train.patience": 1, "train.epochs": 5})
    finally:
        curves.write_bytes(before)
    told = capsys.readouterr().err
    assert "all images (1 of 1)  epoch 3/5" in told
    assert "epoch 4/5" not in told
    assert card.read(folder).data.epochs == 3


@pytest.mark.parametrize(("kept", "expected"), [([4], 4), ([2, 3], 3), ([9, 1, 5], 5), ([1, 2, 3, 4], 3)])
def test_the_median_of_the_epochs_is_one_of_them(kept, expected):
    assert epochs_of_folds(np.array(kept)) == expected


def test_without_a_test_set_the_card_says_so(digits, parameters, tmp_path):
    data = images.Images.measured(
        "digits",
        digits.classes,
        (digits.train_images, digits.train_labels),
        (digits.test_images[:0], digits.test_labels[:0]),
    )
    at = run_all(tmp_path, parameters(RECIPE), data)
    folder, params = tmp_path / "model", parameters(RECIPE | {"final.model": "refit"})
    stage("final")(params, **{name: at[name] for name in INPUTS}, model=folder)
    assert card.read(folder).test is None
    assert "There is no test set" in (folder / "card.md").read_text()


def test_the_fold_of_all_images_holds_none_out(finished, digits):
    dealt = folds.load(finished["folds"], len(digits.train_labels))
    assert len(dealt.held_out(WHOLE)) == 0
    assert len(dealt.training(WHOLE)) == len(digits.train_labels)
    assert str(WHOLE) == "all images"


def test_a_network_that_no_exporter_follows_ends_the_stage_in_a_line(final, tmp_path, monkeypatch):
    from foldwise.base.errors import FoldwiseError
    from foldwise.learning import networks

    class Odd(torch.nn.Module):
        def __init__(self, form):
            super().__init__()
            self.last = torch.nn.Linear(form.channels * form.height * form.width, form.classes)

        def forward(self, pixels):
            flat = pixels.flatten(1)
            return self.last(flat * (1 if float(flat.sum().detach().numpy()) > 0 else 2))

    monkeypatch.setitem(networks.NETWORKS, "odd", Odd)
    with pytest.raises(FoldwiseError, match="the network cannot be put into an ONNX file"):
        final({"final.model": "refit", "model.name": "odd"})
