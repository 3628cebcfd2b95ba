import csv
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits

from foldwise.base.params import Params
from foldwise.data.folds import assign
from foldwise.data.images import Images
from foldwise.learning import networks

ROOT = Path(__file__).parents[1]
MNIST = networks.ImageForm(1, 28, 28, 10, 2)
LABELS = np.random.default_rng(0).integers(0, 10, 997)


@pytest.fixture
def script(monkeypatch):
    """Import a benchmark by name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def foldwises_folds(cv):
    (assignments,) = assign(LABELS, cv)
    return [(np.flatnonzero(assignments != fold), np.flatnonzero(assignments == fold)) for fold in range(cv.k)]


def parameters(workspace):
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["cv"] |= {"k": 3, "seed": 7, "repeats": 2, "strategy": "kfold"}
    return Params.model_validate(workspace.changed(content, workspace.SAME_FOR_ALL))


@pytest.mark.parametrize("name", ["textbook", "classic", "skorch_cv", "fabric_kfold"])
def test_a_competitors_folds_are_foldwises(script, name):
    ours = foldwises_folds(parameters(script("workspace")).cv)
    theirs = script(name).folds(LABELS)
    for (our_training, our_held_out), (training, held_out) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(training, our_training)
        np.testing.assert_array_equal(held_out, our_held_out)


@pytest.mark.parametrize(
    ("name", "network", "ours"), [("textbook", "network", networks.simple_cnn), ("classic", "Network", networks.cnn)]
)
def test_a_competitors_network_is_foldwises(script, name, network, ours):
    theirs, ours = getattr(script(name), network)(), ours(MNIST)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(theirs(images), ours(images))


def test_changing_a_parameter_leaves_the_others(script):
    assert script("workspace").changed({"cv": {"k": 5, "seed": 1}, "data": {}}, {"cv.k": 2}) == {
        "cv": {"k": 2, "seed": 1},
        "data": {},
    }


def test_a_recipe_is_read(script):
    content, default = parameters(script("workspace")).model_dump(), script("shared").recipe("default")
    filled = {"train.batch_size": 256, "train.freeze_first_layer_after": 1, "train.augment": ("shift",)}
    assert script("workspace").changed(content, default | filled) == content
    assert default["model.weights_file"] is None


@pytest.mark.parametrize(("name", "package"), [("skorch_cv", "skorch"), ("fabric_kfold", "lightning_fabric")])
def test_a_package_that_is_not_there_is_told_in_one_line(script, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py"])
    with pytest.raises(SystemExit) as stopped:
        script(name)
    said = f"{name}.py: the package {package} is not installed: run `make bench`"
    assert str(stopped.value) == said


def test_foldwises_figure_is_the_mean_of_the_folds_last_epochs(script, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    train = script("foldwise_train")
    monkeypatch.setattr(train.subprocess, "run", lambda command: SimpleNamespace(returncode=command != TRAIN))
    Path("curves").mkdir()
    with Path("curves/epochs.csv").open("w") as file:
        rows = [(0, 0, 1, 0.1), (0, 0, 2, 0.9), (0, 1, 1, 0.2), (0, 1, 2, 0.8)]
        csv.writer(file).writerows([("repeat", "fold", "epoch", "validation_accuracy"), *rows])
    train.main()
    assert capsys.readouterr().out == "mean fold accuracy 0.850000\n"


TRAIN = ["dvc", "repro", "train"]


def test_a_measured_process_gives_the_accuracy_it_printed_last(script, tmp_path):
    command = [sys.executable, "-c", "print('mean fold accuracy 0.1\\nmean fold accuracy 0.25')"]
    assert script("measure").measure(command, tmp_path, {}).accuracy == 0.25


def test_memory_is_that_of_the_whole_tree_of_processes(script, tmp_path):
    child = "import time; held = bytearray(b'x') * 60_000_000; time.sleep(0.8)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    measured = script("measure").measure([sys.executable, "-c", parent], tmp_path, {})
    assert 60 < measured.largest < measured.memory <= measured.resident < 150


def test_a_command_that_fails_ends_the_benchmark_with_what_it_said(script, tmp_path):
    with pytest.raises(SystemExit, match=r"(?s)failed:\n.*no such luck"):
        script("measure").measure([sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path, {})


def measured(script, seconds, memory=1000.0, accuracy=0.99, largest=300.0):
    output = f"mean fold accuracy {accuracy}\n"
    return script("measure").Measured(seconds, memory, memory + 500, largest, output)


def entries(script):
    make = script("report").Entry
    times = {"a": [480], "b": [600], "c1": [90], "c2": [50], "d": [80], "e": [41, 40, 30], "f": [45]}
    made = [make(key, key.upper(), f"about {key}.") for key in times]
    for entry in made:
        accuracy = 0.9955 if entry.key == "e" else 0.98
        entry.runs = [
            measured(script, seconds, 2500 if entry.key == "e" else 900, accuracy) for seconds in times[entry.key]
        ]
    return made


def parts(script, **changes):
    rates = {
        "bare": 10000.0,
        "loop": 9600.0,
        "loop_frozen": 14000.0,
        "loop_unaugmented": 9800.0,
        "prediction": 40000.0,
        "loop_share": 0.96,
    }
    rates |= {"one_worker": 9000.0, "two_workers": 17000.0, "two_to_one": 1.88}
    times = {
        "start_up": 3.0,
        "dvc": 1.0,
        "evaluate": 5.0,
        "trained": 480000,
        "trained_frozen": 140000,
        "predicted": 120000,
        "cores": 2,
    }
    return script("report").Parts(**(rates | times | changes))


def grown(script, largest=(300.0, 310.0)):
    make = script("report").Growth
    return [
        make(k, 60000 * (k - 1), measured(script, 4.0 * k, largest=mb)) for k, mb in zip((2, 20), largest, strict=True)
    ]


def test_a_table_is_aligned_markdown(script):
    assert script("report").table(["name", "n"], [["long name", "7"], ["short", "12"]]) == (
        "| name      |  n |\n| --------- | -: |\n| long name |  7 |\n| short     | 12 |\n"
    )


def test_ratios_are_over_the_median_of_foldwises_runs(script):
    lines = script("report").side_by_side(entries(script)).splitlines()
    assert [line.split("|")[5].strip() for line in lines[2:]] == [
        "12.00",
        "15.00",
        "2.25",
        "1.25",
        "2.00",
        "1.00",
        "1.12",
    ]


def test_ratios_of_a_quick_run_are_per_fold(script):
    made = entries(script)
    made[0].folds = 1
    assert script("report").side_by_side(made).splitlines()[2].split("|")[5].strip() == "60.00"


def test_the_budget_adds_up_to_foldwises_time(script):
    lines = [line.split("|")[2].strip() for line in script("report").budget(40.0, parts(script)).splitlines()[2:]]
    assert lines == ["24.0", "1.0", "5.0", "1.5", "3.0", "1.0", "4.5", "40.0"]


def test_what_must_hold_is_judged_by_the_figures(script):
    lines = script("report").aims(entries(script), parts(script, loop_share=0.94), grown(script)).splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [(got, held) for _, _, got, held in cells] == [
        ("99.55 %", "yes"),
        ("12.00", "yes"),
        ("2.00", "yes"),
        ("1.11", "no"),
        ("1.78", "no"),
        ("0.940", "no"),
        ("1.88", "yes"),
        ("2500 MB", "no"),
        ("1.03", "yes"),
    ]


def test_the_page_says_how_to_repeat_it_and_on_what_it_was_made(script):
    page = script("report").document({"Side by side": "a table\n"}, {"machine": "abacus"}, 30.2)
    assert page.startswith("# Results\n\n")
    assert "# all of it, on a machine that does nothing else: 30 minutes on this one\n" in page
    assert page.endswith("\n- machine: abacus\n\n## Side by side\n\na table\n")


def test_all_rows_have_a_script_and_a_turn(script):
    run = script("run")
    assert set(run.ORDER) == set(run.ENTRIES)
    assert run.ORDER.count("e") >= 3
    assert all((ROOT / "benchmarks" / command.split()[0]).is_file() for _, command, _ in run.ENTRIES.values())


@pytest.fixture
def run(script, monkeypatch, tmp_path):
    """Run the benchmarks on made-up figures, in a folder of their own."""
    run = script("run")
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "Workspace", lambda *_: None)
    monkeypatch.setattr(run, "compete", lambda *_: entries(script))
    monkeypatch.setattr(run, "take_apart", lambda *_: (parts(script), grown(script), grown(script)))

    def main(*options):
        monkeypatch.setattr(sys, "argv", ["run.py", *options])
        run.main()

    return main


@pytest.mark.parametrize(("options", "written"), [([], True), (["--quick"], False), (["--only", "a", "e"], False)])
def test_only_a_full_run_writes_the_results(run, tmp_path, options, written):
    run(*options)
    assert (tmp_path / "RESULTS.md").is_file() == written


def test_a_full_run_has_all_tables(run, capsys):
    run()
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")]
    assert titles == ["# Results", "## Side by side", "## Where the time goes", "## Growth", "## What must hold"]


@pytest.fixture
def robustness(script):
    return script("robustness")


def test_so_many_labels_are_wrong_as_the_table_says(robustness, digits):
    noisy = robustness.wrong_labels(digits, 0.25)
    changed = noisy.train_labels != digits.train_labels
    assert changed.sum() == 20
    assert set(noisy.train_labels) == set(range(10))
    assert np.array_equal(noisy.test_labels, digits.test_labels)
    assert np.array_equal(robustness.wrong_labels(digits, 0.25).train_labels, noisy.train_labels)


def test_two_classes_are_kept_as_they_are(robustness, digits):
    pair = robustness.two_classes(digits, ("4", "9"), (5, 2))
    assert (pair.classes, np.bincount(pair.train_labels).tolist()) == (("4", "9"), [5, 2])
    fours, nines = (digits.test_images[digits.test_labels == label] for label in (4, 9))
    assert np.array_equal(pair.test_images[pair.test_labels == 0], fours)
    assert np.array_equal(pair.test_images[pair.test_labels == 1], nines)


def test_few_images_have_all_classes(robustness, digits):
    assert np.bincount(robustness.few(digits, 20).train_labels).tolist() == [2] * 10


def test_the_figures_of_a_recipe_are_those_of_its_folds(robustness, digits, parameters, tmp_path):
    found = robustness.measured(digits, parameters({"train.epochs": 40, "cv.k": 2}), tmp_path)
    assert 0.7 < found.held_out <= 1
    assert 0.7 < found.test <= 1
    assert found.seconds > 0


def test_the_table_gives_times_relative_to_the_first_recipe(robustness):
    one, two = (robustness.Figures(0.5, 0.75, 0.01, 0.02, seconds) for seconds in (4, 6))
    lines = robustness.table([("digits", "default", one), ("digits", "plain", two), ("MNIST", "default", two)])
    assert lines.splitlines()[2:] == [
        "| digits | default | 50.00 | 75.00 | 1.00 | 2.00 | 1.0 |",
        "|  | plain | 50.00 | 75.00 | 1.00 | 2.00 | 1.5 |",
        "| MNIST | default | 50.00 | 75.00 | 1.00 | 2.00 | 1.0 |",
    ]


@pytest.fixture
def honesty(script, monkeypatch):
    """The experiment, on few subsets of few digits."""
    honesty = script("honesty")
    names = ("base", "other seed", "far", *honesty.LEARNERS)
    few = honesty.Setting("150 digits", 150, 8, {(2, 5): names})
    pairs = honesty.Setting(
        "60 of two", 60, 4, {(1, 3): ("base", "other seed", "far", "tree", "ridge")}, ((0, 1), (6, 7))
    )
    groups = honesty.Setting("groups", 240, 3, {(1, 3): ("base", "other seed", "far", "tree", "ridge")}, copies=2)
    monkeypatch.setattr(honesty, "SETTINGS", {"few": few, "pairs": pairs, "groups": groups})
    monkeypatch.setattr(honesty, "TRUTH", 200)
    return honesty


@pytest.fixture(scope="module")
def all_digits():
    found = load_digits()
    pixels = (found.images * 15).astype(np.uint8)[:, np.newaxis]
    labels = found.target.astype(np.int64)
    classes = tuple(map(str, range(10)))
    return Images.measured("digits", classes, (pixels[:1500], labels[:1500]), (pixels[1500:], labels[1500:]))


def test_subsets_are_disjoint_and_their_truth_is_of_others(honesty, all_digits):
    few = honesty.SETTINGS["few"]
    drawn = [honesty.drawn(all_digits, few, number) for number in range(8)]
    own = [pixels[:150].reshape(150, -1) for pixels, _, _ in drawn]
    assert len(np.unique(np.concatenate(own), axis=0)) == 1200
    for (pixels, labels, groups), mine in zip(drawn, own, strict=True):
        others = pixels[150:].reshape(len(pixels) - 150, -1)
        assert len(pixels) == len(labels) == len(groups) == 350
        assert len(np.unique(np.concatenate([mine, others]), axis=0)) == 350


def test_subsets_of_two_classes_have_no_others_and_copies_are_one_group(honesty, all_digits):
    for number, pair in ((0, (0, 1)), (1, (6, 7))):
        pixels, labels, _ = honesty.drawn(all_digits, honesty.SETTINGS["pairs"], number)
        known = {
            image.tobytes(): label
            for image, label in zip(all_digits.train_images, all_digits.train_labels, strict=True)
        }
        assert {known[image.tobytes()] for image in pixels if image.tobytes() in known} == set(pair)
        assert set(labels) == {0, 1}
    _, labels, groups = honesty.drawn(all_digits, honesty.SETTINGS["groups"], 0)
    assert np.bincount(groups).tolist() == [2] * 360
    assert np.array_equal(labels[::2], labels[1::2])


@pytest.mark.slow
def test_a_small_experiment_in_honesty_keeps_its_levels_and_goes_on_where_it_was(honesty, all_digits, tmp_path):
    """Eight subsets can refute, and prove little: the whole of it is in docs/statistics.md."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    todo = honesty.missing(tmp_path, None)
    assert len(todo) == 15
    for name, number in todo:
        honesty.compute(all_digits, tmp_path, name, number, content)
    assert honesty.missing(tmp_path, None) == []
    found = honesty.read(tmp_path, "few", (1, 5))
    assert found.right["base"].shape == (8, 1, 150)
    assert honesty.called(found, "new", "other seed", "base", 0.0).mean() <= 0.25
    assert honesty.covered(found, "new", [(name, None) for name in found.right]).mean() >= 0.9
    assert honesty.read(tmp_path, "pairs", (1, 5)) is None
    again = honesty.read(tmp_path, "few", (2, 5))
    assert np.array_equal(again.right["base"][:, :1], found.right["base"])
    halves = [np.mean([e.half() for e in found.estimates(kind, "far", "base")]) for kind in ("naive", "new", "old")]
    assert halves[0] < halves[1] < halves[2]
    assert "### 60 of two, 3 folds; 4 subsets" in honesty.tables(tmp_path)
    (tmp_path / "few-0003.npz").unlink()
    assert honesty.missing(tmp_path, None) == [("few", 3)]
