"""The pipeline from end to end, as its users run it."""

import json

import pytest
from clones import CACHED, TRACKED, ran, trained

pytestmark = pytest.mark.timeout(900)  # on a busy machine

SUMMARY = {
    "cv.accuracy.mean",
    "cv.accuracy.std",
    "cv.accuracy.ci95_low",
    "cv.accuracy.ci95_high",
    "cv.f1_macro.mean",
    "cv.f1_macro.std",
    "cv.log_loss.mean",
    "cv.log_loss.std",
    "cv.roc_auc_macro.mean",
    "cv.roc_auc_macro.std",
    "out_of_fold.n",
    "out_of_fold.errors",
    "out_of_fold.accuracy",
    "out_of_fold.f1_macro",
    "out_of_fold.f1_micro",
    "out_of_fold.log_loss",
    "out_of_fold.calibration_error",
    "test.accuracy.mean",
    "test.accuracy.std",
    "test.ensemble.accuracy",
    "test.ensemble.errors",
    "test.ensemble.log_loss",
    "test.ensemble.calibration_error",
}


def flat(content, prefix=""):
    """Give nested numbers under dotted names, as DVC does."""
    if not isinstance(content, dict):
        return {prefix: content}
    return {
        name: value for key, part in content.items() for name, value in flat(part, f"{prefix}.{key}".strip(".")).items()
    }


def summary(clone):
    return flat(json.loads((clone.root / "metrics" / "summary.json").read_text()))


def test_a_run_leaves_nothing_to_git_but_its_record_and_results(reference):
    changed = reference.git("diff", "--name-only", "HEAD~1").split()
    assert {name.split("/")[0] for name in changed} <= set(TRACKED)


def test_a_run_leaves_every_out(reference):
    assert [name for name in (*TRACKED, *CACHED) if not (reference.root / name).exists()] == []


def test_the_summary_has_the_headline_numbers(reference):
    assert set(summary(reference)) >= SUMMARY


def test_the_summary_counts_every_training_image(reference):
    assert summary(reference)["out_of_fold.n"] == 300


def test_even_a_recipe_of_seconds_learns(reference):
    assert summary(reference)["cv.accuracy.mean"] > 0.5


def test_after_a_run_the_status_is_up_to_date(reference):
    assert reference.dvc("status") == "Data and pipelines are up to date.\n"


def test_a_second_run_runs_nothing(repeated):
    before = repeated.content()
    assert ran(repeated.dvc("repro")) == []
    assert repeated.content() == before


def test_another_number_of_folds_is_one_override(three_folds):
    clone, told = three_folds
    assert ran(told) == ["check", "split", "train", "evaluate", "aggregate", "final"]
    assert {path.stem for path in clone.root.glob("models/repeat-0/*")} == {"fold-0", "fold-1", "fold-2"}


def test_the_table_of_differences_is_short_and_fits_the_screen(three_folds):
    table = three_folds[0].dvc("metrics", "diff").splitlines()
    assert (max(map(len, table)) <= 120, len(table) <= 30) == (True, True)


def test_the_table_of_differences_shows_both_numbers_and_their_difference(three_folds, reference):
    clone, _ = three_folds
    rows = [row.split() for row in clone.dvc("metrics", "diff").splitlines()]
    shown = {row[1]: [float(number) for number in row[2:]] for row in rows[1:]}["out_of_fold.accuracy"]
    before, after = (summary(which)["out_of_fold.accuracy"] for which in (reference, clone))
    assert shown == pytest.approx([before, after, after - before], abs=1e-5)


def test_the_page_of_plots_is_made_and_light(three_folds, tmp_path):
    three_folds[0].dvc("plots", "show", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    assert ("vega" in page, len(page) < 5e6) == (True, True)


@pytest.mark.slow
def test_a_forced_run_comes_out_byte_for_byte(repeated):
    repeated.turn({"compute.reuse_folds": "false"})
    assert ran(repeated.dvc("repro")) == ["check"]
    repeated.commit()
    before, told = repeated.content(), repeated.dvc("repro", "--force")
    assert (len(ran(told)), len(trained(told))) == (10, 5)
    assert repeated.content() == before
    assert repeated.git("status", "--short") == ""


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"cv.k": "many"}, "params.yaml: cv.k is 'many': input should be a valid integer"),
        ({"train.lr": "-1"}, "params.yaml: train.lr is -1: input should be greater than 0"),
    ],
)
def test_a_mistake_in_the_parameters_is_told_in_one_line(clone, parameters, told):
    clone.turn(parameters)
    printed = clone.dvc("repro", status=None)
    lines = [line for line in printed.splitlines() if line.startswith("check: ")]
    assert (len(lines), "Traceback" in printed) == (1, False)
    assert told in lines[0]


def test_a_mistake_in_the_parameters_ends_with_an_error_status(clone):
    clone.turn({"cv.k": 1})
    clone.dvc("repro", status=255)


def test_a_mistake_in_the_parameters_leaves_nothing_half_written(clone):
    clone.turn({"cv.k": 1})
    clone.dvc("repro", status=255)
    assert {path.name for path in clone.root.iterdir() if path.name in CACHED} == set()
