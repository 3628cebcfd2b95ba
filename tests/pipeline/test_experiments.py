"""Experiments, as DVC's users run them."""

import importlib.util
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from clones import ROOT, TRACKED, ran
from dvc.utils.hydra import apply_overrides

from foldwise.base.files import read_arrays
from foldwise.base.params import Params, load
from foldwise.data import images

pytestmark = pytest.mark.timeout(900)  # on a busy machine

# There and back, what users turn; an empty parameter is `null` on the command line.
OVERRIDES = [
    (["train.lr=3e-5"], ["train.lr={train.lr}"]),
    (["train.lr=0.001", "train.optimizer=adam"], ["train.lr={train.lr}", "train.optimizer={train.optimizer}"]),
    (["train.label_smoothing=0"], ["train.label_smoothing={train.label_smoothing}"]),
    (["train.weight_decay=0"], ["train.weight_decay={train.weight_decay}"]),
    (["train.batch_size=64"], ["train.batch_size=null"]),
    (["train.augment=none"], ["train.augment={train.augment}"]),
    (["train.freeze_first_layer_after=2"], ["train.freeze_first_layer_after=null"]),
    (
        ["train.importance_sampling=1", "train.selective_backprop=0.3"],
        ["train.importance_sampling={train.importance_sampling}", "train.selective_backprop=1"],
    ),
    (["train.epochs=10"], ["train.epochs={train.epochs}"]),
    (["cv.k=10"], ["cv.k={cv.k}"]),
    (["cv.strategy=kfold", "cv.k=60000"], ["cv.strategy={cv.strategy}", "cv.k={cv.k}"]),
    (["cv.repeats=10"], ["cv.repeats={cv.repeats}"]),
    (["data.name=fashion_mnist"], ["data.name={data.name}"]),
    (["data.subset=6000"], ["data.subset=null"]),
    (["data.mirror=/srv/data/sets/originals"], ["data.mirror=null"]),
    (["data.mirror=https://mirror.example.org/a/long/path/to/the/originals"], ["data.mirror=null"]),
    (["model.name=simple_cnn"], ["model.name={model.name}"]),
    (["model.name=resnet18", "model.pretrained=true"], ["model.name={model.name}", "model.pretrained=false"]),
    (
        ["model.name=resnet18", "model.weights_file=/home/somebody/weights/resnet18-f37072fd.pth", "model.freeze=true"],
        ["model.name={model.name}", "model.weights_file=null", "model.freeze=false"],
    ),
    (["evaluate.temperature=true"], ["evaluate.temperature=false"]),
    (["compute.n_jobs=2", "compute.portable=true"], ["compute.n_jobs={compute.n_jobs}", "compute.portable=false"]),
]


def value_in(content, parameter):
    section, _, name = parameter.partition(".")
    return content[section][name]


@pytest.fixture
def params_file(tmp_path):
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


@pytest.mark.parametrize(("there", "back"), OVERRIDES, ids=lambda overrides: ",".join(overrides))
def test_an_override_and_its_way_back_leave_the_parameters_as_they_were(there, back, params_file):
    """DVC's own function for `-S`, which rewrites the file."""
    before = params_file.read_bytes()
    defaults = yaml.safe_load(before)
    apply_overrides(str(params_file), there)
    assert params_file.read_bytes() != before
    named = [override.split("=") for override in back]
    values = [
        f"{parameter}={value_in(defaults, parameter) if value[0] == '{' else value}" for parameter, value in named
    ]
    apply_overrides(str(params_file), values)
    assert params_file.read_bytes() == before


@pytest.mark.parametrize(
    ("override", "section", "parameter", "value"),
    [
        ("train.lr=3e-5", "train", "lr", 3e-5),
        ("train.lr=1", "train", "lr", 1.0),
        ("train.label_smoothing=0", "train", "label_smoothing", 0.0),
        ("data.subset=6000", "data", "subset", 6000),
        ("data.subset=null", "data", "subset", None),
        ("data.mirror=null", "data", "mirror", None),
        ("model.pretrained=True", "model", "pretrained", True),
        ("compute.gpus_per_fold=0.5", "compute", "gpus_per_fold", 0.5),
    ],
)
def test_an_override_is_understood(override, section, parameter, value, params_file):
    apply_overrides(str(params_file), [override])
    assert getattr(getattr(load(params_file), section), parameter) == value


@pytest.mark.slow
def test_ten_folds_and_back_trains_nothing_and_leaves_no_trace(repeated):
    before, params = repeated.content(), repeated.params
    assert "train" in ran(repeated.dvc("exp", "run", "-S", "cv.k=10"))
    assert len(list(repeated.root.glob("models/*/*"))) == 10
    told = repeated.dvc("exp", "run", "-S", "cv.k=5")
    assert {"train", "evaluate"} & set(ran(told)) == set()
    assert repeated.content() == before
    assert repeated.params == params
    assert repeated.git("status", "--short") == ""


@pytest.mark.slow
def test_an_edit_by_hand_gives_the_bytes_of_an_override(repeated, three_folds):
    repeated.turn({"cv.k": 3})
    repeated.dvc("repro")
    assert repeated.params == three_folds[0].params
    assert repeated.content() == three_folds[0].content()


@pytest.mark.slow
def test_leave_one_out_ends_in_a_sane_summary(repeated):
    overrides = "data.name=digits", "data.subset=60", "cv.strategy=kfold", "cv.k=60"
    repeated.dvc("exp", "run", *(word for override in overrides for word in ("-S", override)))
    text = (repeated.root / "metrics" / "summary.json").read_text()
    assert "NaN" not in text
    summary = json.loads(text)
    assert len(list(repeated.root.glob("models/*/*"))) == summary["out_of_fold"]["n"] == 60
    accuracy = summary["cv"]["accuracy"]
    assert 0 <= accuracy["ci95_low"] <= accuracy["mean"] <= accuracy["ci95_high"] <= 1
    assert summary["cv"]["roc_auc_macro"]["mean"] is None
    assert math.isclose(accuracy["mean"], summary["out_of_fold"]["accuracy"])


# Appended to the package: whose summary is it?
SIGNED = """
_unsigned = write_json
def write_json(path, content):
    _unsigned(path, content | {{"signed": {}}} if path.name == "summary.json" else content)
"""


@pytest.fixture(scope="module")
def queued(reference, tmp_path_factory):
    """Queue two experiments with one version of the code, edit it, and let two workers run them."""
    clone = reference.copy(tmp_path_factory.mktemp("queued") / "foldwise")
    code = clone.root / "src" / "foldwise" / "base" / "files.py"
    original = code.read_text()
    code.write_text(original + SIGNED.format(1))
    clone.dvc("exp", "run", "--queue", "-S", "train.lr=0.003,0.006")
    code.write_text(original + SIGNED.format(2))
    clone.dvc("queue", "start", "-j", "2")
    try:
        end = time.monotonic() + 600
        while any(word in clone.dvc("queue", "status") for word in ("Queued", "Running")):
            assert time.monotonic() < end
            time.sleep(3)  # asking takes a second of one of two cores
        yield clone, clone.dvc("queue", "status"), json.loads(clone.dvc("exp", "show", "--json"))
    finally:
        clone.dvc("queue", "stop", "--kill", status=None)
        for left in clone.processes():
            left.kill()


def experiments(shown):
    """Give what `dvc exp show` knows of each experiment."""
    return [state["data"] for revision in shown for branch in revision["experiments"] or [] for state in branch["revs"]]


@pytest.mark.slow
def test_a_queue_of_two_runs_both(queued):
    _, status, _ = queued
    assert (status.count("Success"), status.count("Failed")) == (2, 0), status


@pytest.mark.slow
def test_each_queued_experiment_has_its_own_value(queued):
    found = [state["params"]["params.yaml"]["data"]["train"]["lr"] for state in experiments(queued[-1])]
    assert sorted(found) == [0.003, 0.006]


@pytest.mark.slow
def test_a_queued_experiment_runs_the_code_of_its_own_copy(queued):
    found = [state["metrics"]["metrics/summary.json"]["data"]["signed"] for state in experiments(queued[-1])]
    assert found == [1, 1]


@pytest.mark.slow
def test_a_queue_leaves_the_checkout_alone(queued, reference):
    assert queued[0].content() == reference.content()
    assert queued[0].params == reference.params


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """Make a file of ResNet-18's weights in torchvision's own format."""
    from torchvision.models import resnet18

    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), path)
    return path


@pytest.mark.slow
def test_resnet18_starts_from_a_weights_file(repeated, weights_file):
    overrides = (
        f"model.weights_file={weights_file}",
        "model.name=resnet18",
        "model.freeze=true",
        "data.subset=100",
        "cv.k=2",
        "train.epochs=1",
    )
    repeated.dvc("exp", "run", *(word for override in overrides for word in ("-S", override)))
    given = torch.load(weights_file, weights_only=True)["conv1.weight"].numpy()
    models = [read_arrays(path) for path in repeated.root.glob("models/*/*")]
    assert [np.array_equal(model["1.conv1.weight"], given) for model in models] == [True, True]


def test_pretrained_without_a_network_says_what_to_supply_in_one_line(clone):
    clone.turn({"model.name": "resnet18", "model.pretrained": "true"})
    nowhere = "http://127.0.0.1:9"
    told = clone.dvc("repro", "weights", status=255, HTTPS_PROXY=nowhere, https_proxy=nowhere, NO_PROXY="", no_proxy="")
    lines = [line for line in told.splitlines() if line.startswith("weights: ")]
    assert (len(lines), "Traceback" in told) == (1, False)
    assert "resnet18-f37072fd.pth" in lines[0]
    assert "set model.weights_file to its path" in lines[0]


@pytest.fixture
def three_channels(tmp_path):
    """Make a small data set of coloured images in the one form that all stages share."""
    random = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int64) % 3
    pixels = random.integers(0, 255, (60, 3, 32, 32), dtype=np.uint8)
    splits = (pixels[:40], labels[:40]), (pixels[40:], labels[40:])
    images.save(images.Images.measured("colours", ("red", "green", "blue"), *splits), tmp_path / "normalized")
    return tmp_path


def stage(name):
    """Import a stage's function from its script."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "stages" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def small(changes) -> Params:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    for parameter, value in (
        {"cv.k": 2, "train.epochs": 1, "train.batch_size": 8, "compute.n_jobs": 1} | changes
    ).items():
        section, _, name = parameter.partition(".")
        content[section][name] = value
    return Params.model_validate(content)


@pytest.mark.parametrize(
    "name", ["compact", "wide", "cnn", "simple_cnn", pytest.param("resnet18", marks=pytest.mark.slow)]
)
def test_every_network_takes_three_channels_through_the_stages(name, three_channels):
    folder, params = three_channels, small({"model.name": name})
    parts = ("normalized", "folds", "features", "models", "curves", "predictions", "scores", "plots")
    at = {part: folder / part for part in parts}
    weights, metrics = folder / "weights.safetensors", folder / "metrics" / "summary.json"
    stage("split")(params, normalized=at["normalized"], folds=at["folds"])
    stage("weights")(params, weights=weights)
    stage("features")(params, normalized=at["normalized"], weights=weights, features=at["features"])
    trained = {part: at[part] for part in ("normalized", "folds", "features", "models")}
    inputs = {"weights": weights, "requirements": ROOT / "requirements.lock"}
    stage("train")(params, **trained, **inputs, store=folder / ".fold_store", curves=at["curves"])
    stage("evaluate")(params, **trained, predictions=at["predictions"], scores=at["scores"])
    read = {part: at[part] for part in ("normalized", "folds", "curves", "predictions", "scores", "plots")}
    stage("aggregate")(params, **read, metrics=metrics)
    assert json.loads(metrics.read_text())["out_of_fold"]["n"] == 40


def test_params_yaml_is_what_a_rewrite_of_dvcs_leaves(params_file):
    """An override that changes nothing, which already rewrites the file."""
    before = params_file.read_bytes()
    apply_overrides(str(params_file), [f"cv.k={yaml.safe_load(before)['cv']['k']}"])
    assert params_file.read_bytes() == before


def test_what_git_tracks_of_a_run_is_not_ignored(reference):
    assert set(TRACKED) <= {name.split("/")[0] for name in reference.git("ls-files").split()}
