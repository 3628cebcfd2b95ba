"""What a model says of pictures, and what it says of a folder that is none of its own."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_model
import torch
from PIL import Image
from small_folders import noise, save

from foldwise import cli
from foldwise.base import files
from foldwise.data.images import load
from foldwise.delivery import card
from foldwise.delivery.predict import predict
from foldwise.learning import models
from foldwise.learning.prediction import log_probabilities

pytestmark = pytest.mark.usefixtures("one_thread")

PAIR = ("repeat-0.fold-0.", "repeat-0.fold-1.")


@pytest.fixture(scope="module")
def refit(parameters, digits, tmp_path_factory):
    return small_model.write(tmp_path_factory.mktemp("refit") / "model", parameters(), digits)


@pytest.fixture(scope="module")
def ensemble(parameters, digits, tmp_path_factory):
    return small_model.write(tmp_path_factory.mktemp("ensemble") / "model", parameters(), digits, PAIR)


@pytest.fixture
def model(refit, tmp_path):
    """Give a copy of a model's folder, to be spoilt."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in refit.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def written(digits, tmp_path):
    """Write the digits' test images as pictures, in a folder of each class."""
    for number, (image, label) in enumerate(zip(digits.test_images, digits.test_labels, strict=True)):
        save(tmp_path / "pictures" / str(label) / f"{number:02}.png", image[0])
    return tmp_path / "pictures"


def expected(folder, data, augment="none"):
    """Predict the digits' test images by the weights of a refitted model alone."""
    weights = files.read_arrays(folder / card.WEIGHTS)
    model = models.build("simple_cnn", models.form_of(data), data.mean, data.std)
    models.load_weights(model, weights)
    return log_probabilities(model, torch.from_numpy(np.array(data.test_images)), augment).numpy()


def told(capsys, *arguments):
    """Run the command to its failure, and give the one line that it says."""
    assert cli.main(["predict", *map(str, arguments)]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize("by_onnx", [False, True], ids=["torch", "onnx"])
def test_pictures_of_the_test_images_get_their_predictions(refit, digits, written, by_onnx):
    found = predict([str(written)], refit, by_onnx=by_onnx)
    order = [int(Path(name).stem) for name in found.names]
    assert sorted(order) == list(range(20))
    assert found.probabilities.argmax(axis=1).tolist() == expected(refit, digits)[order].argmax(axis=1).tolist()


def test_probabilities_are_those_after_the_temperature(refit, digits, written):
    found = predict([str(written)], refit)
    order = [int(Path(name).stem) for name in found.names]
    logits = torch.from_numpy(expected(refit, digits)[order]) / card.read(refit).network.temperature
    assert card.read(refit).network.temperature > 1.5  # the folds' answers were drawn by lot
    assert found.probabilities == pytest.approx(torch.softmax(logits, dim=1).numpy(), abs=1e-6)


@pytest.mark.parametrize("by_onnx", [False, True], ids=["torch", "onnx"])
def test_an_ensemble_answers_by_the_mean_of_its_models(ensemble, written, by_onnx):
    """And is right as often as its card says."""
    found = predict([str(written)], ensemble, by_onnx=by_onnx)
    right = [int(Path(name).parent.name) for name in found.names] == found.probabilities.argmax(axis=1)
    assert int((~right).sum()) == card.read(ensemble).test.errors


def test_large_pictures_of_any_kind_are_brought_to_size_as_normalize_does(parameters, tmp_path, monkeypatch):
    from runpy import run_path

    monkeypatch.chdir(tmp_path)
    for number in range(8):
        pixels = noise(number, 40 + 20 * number, 90, 3)
        how = {"exif": Image.Exif()} if number % 2 else {}
        if how:
            how["exif"][274] = 6
        save(tmp_path / "images" / "train" / "ab"[number % 2] / f"{number}.jpg", pixels, **how)
        save(tmp_path / "images" / "test" / "ab"[number % 2] / f"{number}.jpg", np.flip(pixels, 1).copy(), **how)
    params = parameters({"data.name": "folder", "data.folder": "images", "data.image_size": 16})
    stage = run_path(str(Path(__file__).parents[2] / "stages" / "normalize.py"))["normalize"]
    stage(params, raw=tmp_path / "raw", normalized=tmp_path / "normalized")
    data = load(tmp_path / "normalized")
    folder = small_model.write(tmp_path / "model", params, data)
    assert card.read(folder).images.pictures.heights == (40, 160)
    found = predict(["images/test"], folder)
    names = files.read_text_table(tmp_path / "normalized" / "test.csv", ["file_name"])["file_name"].tolist()
    assert found.names == [f"images/{name}" for name in names]
    logits = expected(folder, data) / card.read(folder).network.temperature
    assert found.probabilities == pytest.approx(torch.softmax(torch.from_numpy(logits), dim=1).numpy(), abs=1e-6)


def test_the_table_names_two_classes_and_csv_has_the_same(refit, written, capsys):
    pictures = [str(written / "0" / "00.png"), str(written / "1")]
    assert cli.main(["predict", "--model", str(refit), *pictures]) == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["file", "class", "probability", "second", "probability"]
    assert cli.main(["predict", "--model", str(refit), "--csv", *pictures]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["file_name", "predicted", "probability", "second", "second_probability"]
    assert len(rows) == 4
    assert rows[1] == first.split()
    assert float(rows[1][2]) >= float(rows[1][4])


@pytest.mark.parametrize(
    ("picture", "line"),
    [
        (
            noise(0, 9, 7),
            "predict: odd.png is of another size, 9 x 7 pixels, where those that the model learnt from have 8 x 8",
        ),
        (noise(0, 8, 8, 3), "predict: odd.png is in colours, which the model has never seen"),
        (np.full((8, 8), 7, np.uint8), "predict: odd.png is blank: all pixels have one value"),
        (noise(0), ""),
    ],
    ids=["size", "colours", "blank", "like the others"],
)
def test_a_picture_unlike_the_training_images_is_told_of(refit, tmp_path, monkeypatch, capsys, picture, line):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "odd.png", picture)
    assert cli.main(["predict", "--model", str(refit), "odd.png"]) == 0
    assert capsys.readouterr().err.strip() == line


def test_many_unlike_pictures_are_told_of_in_one_line(refit, tmp_path, capsys):
    for number in range(3):
        save(tmp_path / "odd" / f"{number}.png", noise(number, 9, 9))
    assert cli.main(["predict", "--model", str(refit), str(tmp_path / "odd")]) == 0
    assert "0.png and 2 more of 3 are of another size, 9 x 9 pixels" in capsys.readouterr().err


def test_a_broken_picture_does_not_keep_the_others_from_an_answer(refit, written, capsys):
    (written / "0" / "00.png").write_bytes(b"no image")
    assert cli.main(["predict", "--csv", "--model", str(refit), str(written)]) == 1
    said = capsys.readouterr()
    assert said.out.count("\n") == 20
    assert said.err.startswith("foldwise: 1 of 20 files cannot be used: ")
    assert said.err.endswith("00.png is no image: mend or remove what is named\n")


def test_names_that_steer_a_terminal_are_escaped(refit, tmp_path, capsys):
    save(tmp_path / "\x1b[31mred.png", noise(0))
    assert cli.main(["predict", "--model", str(refit), str(tmp_path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_name_that_is_no_utf_8_is_told(refit, tmp_path, capsys):
    save(tmp_path / "a.png", noise(0)).rename(tmp_path / os.fsdecode(b"\xff.png"))
    assert told(capsys, "--csv", "--model", refit, tmp_path).endswith("\\udcff.png' is no UTF-8 name: rename it\n")


@pytest.mark.parametrize(
    ("place", "line"), [("gone.png", "there is no file or folder gone.png"), (".", ". has no pictures")]
)
def test_nothing_to_predict_is_told(refit, tmp_path, monkeypatch, capsys, place, line):
    monkeypatch.chdir(tmp_path)
    assert told(capsys, "--model", refit, place).startswith(f"foldwise: {line}")


@pytest.mark.parametrize("by", [[], ["--onnx"]], ids=["torch", "onnx"])
@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda model: [path.unlink() for path in model.iterdir()], "holds no model, as it has no card.json"),
        (lambda model: (model / "card.json").write_text("{"), "card.json cannot be read"),
        (lambda model: (model / "card.json").write_text("{}"), "card.json: kind is not as Foldwise writes it"),
        (lambda model: (model / "evil.pkl").write_bytes(b"\x80\x04."), "evil.pkl is no part of the model"),
        (lambda model: cut(model, card.WEIGHTS, card.ONNX), "is not the file that card.json beside it describes"),
        (lambda model: remove(model, card.WEIGHTS, card.ONNX), "cannot be read (No such file or directory)"),
        (lambda model: plant(model), "is no"),
    ],
    ids=["empty", "torn card", "no card", "pickle beside", "torn file", "missing", "pickle as the file"],
)
def test_a_folder_that_is_no_whole_model_is_told_of(model, tmp_path, capsys, spoil, line, by):
    save(tmp_path / "a.png", noise(0))
    spoil(model)
    assert line in told(capsys, *by, "--model", model, tmp_path / "a.png")


def cut(model, *names):
    for name in names:
        content = (model / name).read_bytes()
        (model / name).write_bytes(content[: len(content) // 2])


def remove(model, *names):
    for name in names:
        (model / name).unlink()


def plant(model):
    """Put a pickle in the place of both files, and their digests into the card."""
    content = json.loads((model / card.CARD).read_text())
    for name in (card.WEIGHTS, card.ONNX):
        (model / name).write_bytes(b"\x80\x04cos\nsystem\n(S'touch planted'\ntR.")
        content["sha256"][name] = card.digest((model / name).read_bytes())
    (model / card.CARD).write_text(json.dumps(content))


def test_the_card_of_another_model_is_told_of(model, ensemble, tmp_path, capsys):
    save(tmp_path / "a.png", noise(0))
    (model / card.CARD).write_bytes((ensemble / card.CARD).read_bytes())
    for by in ([], ["--onnx"]):
        assert "is not the file that card.json" in told(capsys, *by, "--model", model, tmp_path / "a.png")


def test_an_onnx_file_of_other_classes_is_told_of_whatever_the_card_says(model, tmp_path, capsys):
    save(tmp_path / "a.png", noise(0))
    content = json.loads((model / card.CARD).read_text())
    content["classes"].append("ten")
    (model / card.CARD).write_text(json.dumps(content))
    assert "model.onnx is not of 1 x 8 x 8 images and 11 classes" in told(capsys, "--onnx", "--model", model, tmp_path)
    assert "model.safetensors holds the weights of another" in told(capsys, "--model", model, tmp_path)


def test_a_network_of_ones_own_is_asked_by_its_onnx_file(parameters, digits, tmp_path, capsys, monkeypatch):
    params = parameters({"model.name": "own/networks.py:mlp", "model.options": {"hidden": 4}})
    folder = small_model.write(tmp_path / "model", params, digits)
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.png", noise(0))
    assert cli.main(["predict", "a.png"]) == 0
    said = capsys.readouterr()
    assert said.err == "predict: the code of own/networks.py:mlp is not part of the model: its model.onnx answers\n"
    assert said.out.count("\n") == 2
    assert folder.name == "model"


def test_neither_dvc_nor_git_nor_a_repository_is_needed_and_for_onnx_no_torch(refit, written, tmp_path):
    code = "import sys; sys.modules |= dict.fromkeys({!r}); from foldwise.cli import main; sys.exit(main())"
    for by, missing in (([], ["dvc"]), (["--onnx"], ["dvc", "torch", "torchvision"])):
        command = [sys.executable, "-c", code.format(missing), "predict", *by, "--model", str(refit), str(written)]
        environment = {**os.environ, "PATH": ""}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 21)
