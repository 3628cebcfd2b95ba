"""Runs of a small repository, read through a real DVC."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import small_repository
import yaml
from dvc.repo import Repo

from foldwise.base import files
from foldwise.base.errors import FoldwiseError
from foldwise.compare import many, runs

ROOT = Path(__file__).parents[2]


def refusal(root, name="workspace"):
    with pytest.raises(FoldwiseError) as raised:
        runs.read(name, root)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_pipeline_makes_what_is_read_once():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    made = [Path(out).name for stage in stages.values() for out in stage.get("outs", ())]
    assert {made.count(name) for name in (*runs._FILES, "curves")} == {1}


def test_a_commit_gives_the_parameters_that_its_results_were_made_with(small):
    assert runs.read("main", small.root).parameters == {
        "data.images": 60,
        "cv.k": 5,
        "cv.strategy": "stratified",
        "cv.repeats": 1,
        "cv.seed": 42,
        "cv.groups": "together",
        "cv.copies": "together",
        "train.seed": 0,
        "train.skill": 2.0,
    }


def test_an_experiment_gives_its_own_parameters(small):
    assert runs.read("seed-1", small.root).parameters["train.seed"] == 1


def test_results_are_those_that_were_written(small):
    results = runs.read("main", small.root).results
    np.testing.assert_array_equal(results.labels, np.load(small.root / "data/normalized/train_labels.npy"))
    np.testing.assert_array_equal(results.out_of_fold, np.load(small.root / "predictions/out_of_fold.npy"))
    np.testing.assert_array_equal(results.folds.assignments, np.load(small.root / "data/folds/assignments.npy"))


def test_scores_of_repeats_have_one_row_for_each_fold(mine):
    mine.commit({"cv": {"repeats": 2, "k": 3}})
    results = runs.read("workspace", mine.root).results
    assert list(zip(results.scores["repeat"], results.scores["fold"], strict=True)) == list(results.folds)


def test_classes_are_named_as_the_run_has_them(mine):
    assert runs.read("main", mine.root).classes == ("0", "1", "2")
    (mine.root / "data/normalized/meta.json").write_text('{"classes": ["a", "b", "c"]}')
    mine.record()
    assert runs.read("workspace", mine.root).classes == ("a", "b", "c")
    mine.git("commit", "--quiet", "--all", "--message", "named")
    assert runs.read("main", mine.root).classes == ("a", "b", "c")
    assert many.read(mine.root, ["main"])[0][0].classes == ("a", "b", "c")


def test_sources_are_the_code_that_dvc_lock_records(small):
    assert list(runs.read("main", small.root).sources) == ["code.py"]


def test_only_a_commit_has_a_hash(small):
    commits = [runs.read(name, small.root).commit for name in ("main", "workspace")]
    assert commits == [small.git("rev-parse", "main"), None]


def test_equal_results_have_equal_digests(small):
    a, b = (runs.read(name, small.root).digests for name in ("main", "workspace"))
    assert a == b


def test_another_seed_changes_the_digests_of_predictions_and_scores_alone(small):
    a, b = (runs.read(name, small.root).digests for name in ("main", "seed-1"))
    assert {name for name in a if a[name] != b[name]} == {"predictions", "scores"}


@pytest.mark.parametrize("name", ["main", "workspace"])
def test_nothing_has_changed_after_a_run(small, name):
    assert runs.read(name, small.root).changed == ()


def test_a_parameter_turned_after_the_run_is_named(mine):
    text = (mine.root / "params.yaml").read_text()
    (mine.root / "params.yaml").write_text(text.replace("skill: 2.0", "skill: 3.0"))
    assert runs.read("workspace", mine.root).changed == ("train.skill",)


def test_code_committed_without_a_run_is_named(mine):
    (mine.root / "code.py").write_text("print(1)\n")
    mine.git("commit", "--quiet", "--all", "--message", "code")
    assert runs.read("main", mine.root).changed == ("code.py",)


def test_reading_leaves_the_workspace_as_it_was(mine):
    (mine.root / "notes.txt").write_text("untracked")
    (mine.root / "params.yaml").write_text("data: {}\ncv: {}\n")
    before = mine.snapshot()
    for name in ("main", "seed-1", "four", "workspace"):
        runs.read(name, mine.root)
    assert mine.snapshot() == before


def test_a_fresh_clone_reads_old_runs_from_the_remote_after_a_pull(mine, tmp_path):
    mine.add_remote(tmp_path / "store")
    mine.git("commit", "--quiet", "--all", "--message", "remote")
    mine.commit({"train": {"seed": 3}})
    with Repo(str(mine.root)) as repo:
        repo.push(all_commits=True)
    clone = small_repository.SmallRepository(tmp_path / "clone")
    mine.git("clone", "--quiet", str(mine.root), str(clone.root))
    with Repo(str(clone.root)) as repo:
        repo.pull()
    before = clone.snapshot()
    read = [runs.read(name, clone.root) for name in ("HEAD~1", "workspace")]
    assert ([run.parameters["train.seed"] for run in read], clone.snapshot()) == ([0, 3], before)


def test_without_dvc_it_is_said_how_to_get_it(small, monkeypatch):
    monkeypatch.delitem(sys.modules, "foldwise.compare.repository", raising=False)
    monkeypatch.setitem(sys.modules, "dvc.repo", None)
    assert refusal(small.root).startswith(
        "runs are read through DVC, which is not installed: `make .venv/installed` brings it into .venv"
    )


def test_a_touched_workspace_is_refused(mine):
    mine.write({"train": {"seed": 5}})
    assert refusal(mine.root).startswith("workspace: predictions is not what dvc.lock records")


def test_a_commit_is_read_beside_a_touched_workspace(mine):
    mine.write({"train": {"seed": 5}})
    assert runs.read("main", mine.root).parameters["train.seed"] == 0


def test_an_interrupted_run_is_refused(mine):
    lock = mine.root / "dvc.lock"
    before = lock.read_text()
    mine.commit({"cv": {"k": 4}})
    start = "  train:\n"
    after = lock.read_text()
    lock.write_text(after[: after.index(start)] + before[before.index(start) :])
    mine.git("commit", "--quiet", "--all", "--message", "half")
    assert refusal(mine.root, "main").startswith(
        "main: half a run: data/folds is newer than what `evaluate` made of it"
    )


def test_a_commit_before_the_first_run_is_refused(mine):
    mine.git("rm", "--quiet", "dvc.lock")
    mine.git("commit", "--quiet", "--message", "no results")
    assert refusal(mine.root, "main").startswith("main: dvc.lock is missing: run `dvc repro` there")


def test_a_run_that_did_not_reach_evaluate_is_refused(mine):
    lock = mine.root / "dvc.lock"
    text = lock.read_text()
    lock.write_text(text[: text.index("  evaluate:\n")])
    assert refusal(mine.root) == "workspace: dvc.lock has no stage that makes predictions: run `dvc repro` there"


@pytest.mark.parametrize("name", ["normalized", "folds", "predictions", "scores"])
def test_a_run_with_a_folder_of_another_name_is_refused(mine, name):
    lock = mine.root / "dvc.lock"
    lock.write_text(re.sub(rf"(path: .*){name}\n", r"\1other\n", lock.read_text()))
    assert refusal(mine.root) == f"workspace: dvc.lock has no stage that makes {name}: run `dvc repro` there"


def test_folders_may_lie_elsewhere_and_be_made_by_other_stages(mine):
    edit(
        mine.root / "dvc.yaml",
        """    deps: [code.py, data/normalized, data/folds, models]
    outs: [predictions, scores]
""",
        """    deps: [code.py, data/normalized, data/folds, models]
    outs: [out/predictions]
  score:
    cmd: python code.py $PWD
    deps: [data/folds, out/predictions]
    outs: [out/scores]
""",
    )
    (mine.root / ".gitignore").write_text("/data\n/models\n/out\n")
    before = runs.read("main", mine.root)
    (mine.root / "out").mkdir()
    for name in ("predictions", "scores"):
        shutil.move(mine.root / name, mine.root / "out" / name)
    mine.record()
    after = runs.read("workspace", mine.root)
    assert (after.digests, list(after.sources)) == (before.digests, ["code.py"])


@pytest.mark.parametrize("rows", [[1, 2, 3, 4], [1, 0, 2, 3, 4]], ids=["fewer", "order"])
def test_scores_of_other_folds_are_refused(mine, rows):
    path = mine.root / "scores/folds.csv"
    files.write_csv(path, files.read_csv(path, []).iloc[rows])
    mine.record()
    assert refusal(mine.root) == "workspace: the scores are not of these folds: run `dvc repro -f -s evaluate` there"


def test_predictions_of_other_folds_are_refused(mine):
    path = mine.root / "predictions/out_of_fold.npy"
    files.write_array(path, np.load(path)[:, 1:])
    mine.record()
    assert refusal(mine.root) == (
        "workspace: the predictions are not of this data and these folds: run `dvc repro -f -s evaluate` there"
    )


def test_a_damaged_file_is_told_by_the_path_that_the_user_knows(mine):
    (mine.root / "scores/folds.csv").unlink()
    (mine.root / "scores/folds.csv").write_text("repeat,fold\n0,0\n")
    mine.record()
    assert refusal(mine.root).startswith("workspace: scores/folds.csv has no column n")


def test_predictions_that_are_nowhere_are_told(mine):
    shutil.rmtree(mine.root / ".dvc/cache")
    assert refusal(mine.root, "main").startswith("main: data/normalized/train_labels.npy is neither in the cache nor")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("stage", ["evaluate", "train", "split", "normalize"])
def test_a_renamed_stage_is_found_by_what_it_makes(mine, stage):
    edit(mine.root / "dvc.yaml", f"  {stage}:\n", "  other:\n")
    mine.commit({"train": {"skill": 3.0}, "cv": {"k": 4}, "data": {"images": 30}})
    assert f"  {stage}:\n" in (mine.root / "dvc.lock").read_text()
    found = runs.read("main", mine.root)
    assert (found.parameters["train.skill"], found.parameters["cv.k"], found.changed) == (3.0, 4, ())


def test_two_stages_that_make_predictions_are_told(mine):
    made = "cmd: python code.py\n    outs: [more/predictions]\n"
    edit(mine.root / "dvc.yaml", "stages:\n", f"stages:\n  another:\n    {made}")
    files.write_bytes(mine.root / "more/predictions/x", b"")
    mine.record()
    assert refusal(mine.root).startswith("workspace: several stages in dvc.lock make predictions (")


def test_the_primary_score_is_read(mine):
    mine.judge_by("log_loss")
    found = runs.read("workspace", mine.root)
    assert (found.results.primary.name, found.parameters["evaluate.primary"], found.changed) == (
        "log_loss",
        "log_loss",
        (),
    )


def test_a_primary_score_turned_after_the_run_decides_without_another_run(mine):
    mine.judge_by("log_loss")
    edit(mine.root / "params.yaml", "primary: log_loss", "primary: f1_macro")
    names = [runs.read(name, mine.root).results.primary.name for name in ("main", "workspace")]
    assert names == ["log_loss", "f1_macro"]


def test_a_run_without_the_parameter_is_judged_by_accuracy(small):
    assert runs.read("main", small.root).results.primary.name == "accuracy"


def test_a_primary_score_that_is_not_known_is_told(mine):
    mine.judge_by("kappa")
    assert refusal(mine.root) == (
        "workspace: evaluate.primary is kappa, which is no score: `foldwise summary` says which there are"
    )


def test_scores_that_an_older_version_did_not_write_are_missing_in_every_fold(mine):
    path = mine.root / "scores/folds.csv"
    files.write_csv(path, files.read_csv(path, []).drop(columns="balanced_accuracy"))
    mine.record()
    scores = runs.read("workspace", mine.root).results.scores
    assert (scores["balanced_accuracy"].isna().all(), scores["accuracy"].isna().any()) == (True, False)


PINS = "torch==2.15.0 \\\n    --hash=sha256:00\n"


def with_libraries(small, content):
    """Let the stage that makes the models write also which libraries made them, and depend on pins."""
    edit(small.root / "dvc.yaml", "--models models\n", "--models models --curves curves\n")
    edit(small.root / "dvc.yaml", "[code.py, data/folds]", "[locks/requirements.lock, data/folds]")
    edit(small.root / "dvc.yaml", "outs: [models]", "outs: [models, curves]")
    (small.root / ".gitignore").write_text("/data\n/models\n/predictions\n/scores\n/curves\n")
    files.write_bytes(small.root / "locks/requirements.lock", PINS.encode())
    files.write_json(small.root / "curves/libraries.json", content)
    small.commit()


@pytest.mark.parametrize(("torch", "unpinned"), [("2.15.0", ""), ("2.9.1", "torch 2.9.1 (pinned: 2.15.0)")])
@pytest.mark.parametrize("name", ["main", "workspace"])
def test_the_libraries_of_a_run_are_held_against_the_pins_of_its_revision(mine, name, torch, unpinned):
    with_libraries(mine, {"torch": torch})
    found = runs.read(name, mine.root)
    assert (found.libraries, found.unpinned) == ({"torch": torch}, unpinned)


@pytest.mark.parametrize("content", [["torch"], 1, None])
def test_a_list_of_libraries_that_is_none_is_told(mine, content):
    with_libraries(mine, content)
    assert refusal(mine.root) == "workspace: curves/libraries.json lists no libraries: run `dvc repro -f` there"


def test_of_runs_that_kept_no_libraries_nothing_is_said(small):
    found = runs.read("main", small.root)
    assert (found.libraries, found.unpinned) == ({}, "")


def test_no_room_for_the_temporary_copies_is_told(small, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "TemporaryDirectory", full)
    assert refusal(small.root) == (
        "workspace: temporary copies cannot be kept (No space left on device): make room where they lie, or set TMPDIR "
        "to a folder that has some"
    )
