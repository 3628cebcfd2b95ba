"""What is trained again after a change, and what is not: counted in real runs."""

import json
import shutil
import time

import pytest
from clones import ran, trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # on a busy machine

FOLDS = ["0.0", "0.1", "0.2", "0.3", "0.4"]


def repro(clone, changes=None, *options):
    """Change parameters, and run what DVC itself does not remember; give the folds that were trained."""
    clone.turn(changes or {})
    return sorted(trained(clone.dvc("repro", "--no-run-cache", *options)))


def edit(clone, path, old, new):
    text = (clone.root / path).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (clone.root / path).write_text(text.replace(old, new), encoding="utf-8")


def test_more_repeats_train_the_new_folds_alone(repeated):
    assert repro(repeated, {"cv.repeats": 3}, "train") == [f"{repeat}.{fold}" for repeat in (1, 2) for fold in range(5)]


def test_other_folds_and_back_train_once(repeated):
    before = repeated.made()
    assert len(repro(repeated, {"cv.k": 10})) == 10
    assert repro(repeated, {"cv.k": 5}) == []
    assert repeated.made() == before


def test_another_seed_and_back_train_once(repeated):
    before = repeated.made()
    assert repro(repeated, {"train.seed": 1}) == FOLDS
    assert repro(repeated, {"train.seed": 0}) == []
    assert repeated.made() == before


def test_what_changes_the_evaluation_trains_nothing(repeated):
    assert repro(repeated, {"evaluate.augment": "shift"}) == []
    assert repro(repeated, {"evaluate.temperature": "true"}) == []


def test_a_run_that_was_thrown_away_costs_nothing_to_get_back(repeated):
    repro(repeated, {"train.lr": 0.02})
    made = repeated.made()
    repeated.git("checkout", ".")
    shutil.rmtree(repeated.root / ".dvc" / "cache")
    assert repro(repeated) == []
    assert repro(repeated, {"train.lr": 0.02}) == []
    assert repeated.made() == made


def test_copies_of_dvcs_take_folds_from_the_clone(repeated):
    # The stage runs again, as its code has changed, and finds all folds.
    edit(repeated, "src/foldwise/execution/jobs.py", "goes on after epoch", "continues after epoch")
    told = repeated.dvc("exp", "run", "--temp", "-S", "evaluate.augment=shift")
    assert ("train" in ran(told), trained(told)) == (True, [])
    assert "5 of 5 folds are from the fold store" in told
    repeated.dvc("exp", "run", "--queue", "-S", "cv.seed=42,43")
    repeated.dvc("queue", "start", "--jobs", "2")
    while "Success" not in (status := repeated.dvc("queue", "status")) or "Running" in status or "Queued" in status:
        assert "Failed" not in status, status
        time.sleep(3)  # asking takes a second of one of two cores
    told = [repeated.dvc("queue", "logs", line.split()[0]) for line in status.splitlines() if "Success" in line]
    assert sorted(len(trained(log)) for log in told) == [0, 5]
    assert not list((repeated.root / ".dvc" / "tmp" / "exps").rglob(".fold_store"))


def test_changed_data_train_all(repeated):
    assert repro(repeated, {"data.subset": 299}, "train") == FOLDS


ALL = {"check", "download", "normalize", "split", "weights", "features", "train", "evaluate", "aggregate", "final"}
EDITS = {
    "an error's words in base": (
        "src/foldwise/base/params.py",
        'ValueError("input should be a number")',
        'ValueError("should be a number")',
        ALL,
    ),
    "an error's words in learning": (
        "src/foldwise/learning/training.py",
        "raise it to 3 or more",
        "raise it",
        {"features", "train", "evaluate", "final"},
    ),
    "a progress line": (
        "src/foldwise/execution/jobs.py",
        "goes on after epoch",
        "continues after epoch",
        {"features", "train", "evaluate", "final"},
    ),
    "a network of one's own that is not used": (
        "own/networks.py",
        "nn.ReLU()",
        "nn.SiLU()",
        {"features", "train", "evaluate", "final"},
    ),
    "Ray's backend": ("src/foldwise/ray_backend.py", "HEAD_SECONDS = 15.0", "HEAD_SECONDS = 16.0", set()),
    "a report of compare": ("src/foldwise/compare/reports.py", "(no such parameter)", "(none)", set()),
    "a plot": ("src/foldwise/evaluation/plots.py", '"font.size": 9', '"font.size": 8', {"aggregate", "final"}),
    "a score": (
        "src/foldwise/evaluation/scores.py",
        "decimals: int = 2",
        "decimals: int = 1",
        {"evaluate", "aggregate", "final"},
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_that_trains_nothing_runs_the_stages_again_that_may_say_something_else(what, repeated):
    path, old, new, stages = EDITS[what]
    edit(repeated, path, old, new)
    assert json.loads(repeated.dvc("status", "--json")).keys() == stages
    told = repeated.dvc("repro")
    assert trained(told) == []
    assert set(ran(told)) <= stages


def test_an_edit_of_the_training_loop_trains_all(repeated):
    loop = "src/foldwise/learning/training.py"
    edit(repeated, loop, "        optimizer.step()\n", "        optimizer.step()\n        optimizer.step()\n")
    assert json.loads(repeated.dvc("status", "--json")).keys() == {"features", "train", "evaluate", "final"}
    assert sorted(trained(repeated.dvc("repro", "train"))) == FOLDS


def kept(clone):
    return sorted((clone.root / ".fold_store").glob("*.finished"))


def test_damaged_folds_are_trained_again_to_the_same_bytes(repeated):
    before = repeated.made()
    torn, empty, planted, gone, whole = kept(repeated)
    torn.write_bytes(torn.read_bytes()[:-1000])
    empty.write_bytes(b"")
    planted.write_bytes(whole.read_bytes())
    gone.unlink()
    assert repro(repeated, None, "--force", "--single-item", "train") == FOLDS[:4]
    assert repeated.made() == before


def test_a_store_that_cannot_be_used_costs_time_alone(repeated):
    before = repeated.made()
    shutil.rmtree(repeated.root / ".fold_store")
    (repeated.root / ".fold_store").touch()
    told = repeated.dvc("repro", "--no-run-cache", "--force", "--single-item", "train")
    assert sorted(trained(told)) == FOLDS
    assert told.count("folds are trained, but not kept: ") == 1
    assert repeated.made() == before


def test_all_is_trained_anew_where_that_is_asked_for_to_the_same_bytes(repeated):
    before, store = repeated.made(), kept(repeated)
    assert repro(repeated, {"compute.reuse_folds": "false"}, "--force") == FOLDS
    assert repeated.made() == before
    assert kept(repeated) == store


def test_two_experiments_at_the_same_time_share_the_store_and_keep_their_bytes(repeated):
    options = "exp", "run", "--temp", "-S", "train.seed=7", "-S"
    with (
        repeated.running("dvc", *options, "evaluate.augment=none", "--name", "one") as one,
        repeated.running("dvc", *options, "evaluate.augment=shift", "--name", "other") as other,
    ):
        assert (one.process.wait(), other.process.wait()) == (0, 0), one.told + other.told
    count = len(trained(one.told)) + len(trained(other.told))
    assert 5 <= count <= 10
    models = []
    for name in ("one", "other"):
        repeated.dvc("exp", "apply", name)
        models.append(repeated.content("models"))
    assert models[0] == models[1]
    repeated.turn({"compute.reuse_folds": "false"})
    repeated.dvc("repro", "--no-run-cache", "--force", "--single-item", "train")
    assert repeated.content("models") == models[0]
