"""One revision through a real DVC, in a small repository."""

import hashlib
import shutil
import subprocess

import numpy as np
import pytest
import small_repository
from dvc.repo import Repo

from foldwise.errors import FoldwiseError
from foldwise.lockfile import Lock
from foldwise.repository import revision

PREDICTIONS = "predictions/out_of_fold.npy"
ON = ["workspace", "main", "seed-1"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """For tests that change nothing."""
    return small_repository.copy(tmp_path_factory, tmp_path_factory.mktemp("repository") / "small")


@pytest.fixture
def mine(tmp_path_factory, tmp_path):
    return small_repository.copy(tmp_path_factory, tmp_path / "mine")


def read(found):
    return found.result(
        PREDICTIONS, Lock.of(found.yaml("dvc.lock"), found.yaml("dvc.yaml")).producers["predictions"][1]
    )


def refusal(root, name="main", do=lambda found: read(found)):
    with pytest.raises(FoldwiseError) as raised, revision(root, name) as found:
        do(found)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def forget(small):
    """Lose the cache and what is checked out of it, as on a fresh clone."""
    for folder in (".dvc/cache", "data", "models", "predictions", "scores"):
        shutil.rmtree(small.root / folder)


@pytest.mark.parametrize("name", ["main", "HEAD", "seed-1"])
def test_the_commit_is_that_which_git_resolves(small, name):
    expected = small.git("for-each-ref", "--format=%(objectname)", f"refs/exps/**/{name}") or small.git(
        "rev-parse", name
    )
    with revision(small.root, name) as found:
        assert found.commit == expected


@pytest.mark.parametrize("name", ["main", "workspace"])
def test_a_cached_file_is_that_of_the_run(small, name):
    with revision(small.root, name) as found:
        assert read(found) == (small.root / PREDICTIONS).read_bytes()


def test_a_cached_file_of_an_experiment_is_not_that_of_the_workspace(small):
    with revision(small.root, "seed-1") as found:
        assert read(found) != (small.root / PREDICTIONS).read_bytes()


@pytest.mark.parametrize("name", ON)
def test_a_file_that_is_nowhere_is_none(small, name):
    with revision(small.root, name) as found:
        assert (found.find("nowhere"), found.md5("nowhere")) == (None, None)


def test_md5_is_that_of_the_file(small):
    with revision(small.root, "main") as found:
        assert found.md5("code.py") == hashlib.md5((small.root / "code.py").read_bytes()).hexdigest()


def test_yaml_reads_small_numbers_as_dvc_writes_them(mine):
    (mine.root / "params.yaml").write_text("train:\n  lr: 3e-05\n")
    with revision(mine.root, "workspace") as found:
        assert found.yaml("params.yaml") == {"train": {"lr": 3e-05}}


def test_a_missing_yaml_file_is_told(small):
    said = refusal(small.root, "main", lambda found: found.yaml("nowhere.yaml"))
    assert said == "main: nowhere.yaml is missing: bring it back, and commit nowhere.yaml"


def test_a_corrupt_yaml_file_is_told_in_one_line(mine):
    (mine.root / "dvc.lock").write_text("stages: [")
    assert refusal(mine.root, "workspace", lambda found: found.yaml("dvc.lock")).startswith(
        "workspace: DVC cannot read"
    )


def test_results_come_from_a_remote_that_the_commit_does_not_know(mine, tmp_path):
    expected = (mine.root / PREDICTIONS).read_bytes()
    mine.add_remote("../../store")
    with Repo(str(mine.root)) as repo:
        repo.push()
    forget(mine)
    with revision(mine.root, "main") as found:
        assert read(found) == expected


def test_results_that_are_nowhere_are_told_with_what_to_do(mine):
    forget(mine)
    assert refusal(mine.root) == (
        "main: predictions/out_of_fold.npy is neither in the cache nor on a remote: run `dvc push` "
        "(for an experiment `dvc exp push`) where it was made, or `dvc repro` there again"
    )


def test_an_unknown_revision_is_told(small):
    assert refusal(small.root, "nope").startswith("nope: no such Git revision or experiment: `git log --oneline`")


def test_an_experiment_name_with_two_meanings_is_told(mine):
    mine.commit({"train": {"seed": 7}})
    mine.experiment("seed-1", {"train": {"seed": 8}})
    mine.git("commit", "--quiet", "--allow-empty", "--message", "neither's baseline")
    assert refusal(mine.root, "seed-1").startswith("seed-1: several experiments have this name")


def test_no_repository_is_told(tmp_path):
    assert refusal(tmp_path) == "main: no Git repository with DVC here: run this inside a clone"


def test_dvc_without_git_is_told(mine):
    shutil.rmtree(mine.root / ".git")
    assert refusal(mine.root) == "main: no Git repository with DVC here: run this inside a clone"


def test_a_repository_without_commits_is_told(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    Repo.init(str(tmp_path)).close()
    assert refusal(tmp_path, "HEAD").startswith("HEAD: no such Git revision")


def check(found):
    found.check_unmodified(["predictions", "scores"])


@pytest.mark.parametrize("folder", [".", "scores"])
def test_a_modified_result_is_refused_from_any_folder(mine, folder, monkeypatch):
    monkeypatch.chdir(mine.root / folder)
    changed = mine.root / PREDICTIONS
    changed.unlink()
    np.save(changed, np.zeros(3))
    assert refusal(mine.root / folder, "workspace", check) == (
        "workspace: predictions is not what dvc.lock records: run `dvc checkout` to bring that back, or `dvc repro`"
    )


def test_a_modified_result_is_refused_also_without_a_cache(mine):
    shutil.rmtree(mine.root / ".dvc/cache")
    (mine.root / "scores/new.csv").write_text("")
    assert refusal(mine.root, "workspace", check).startswith("workspace: scores is not what dvc.lock records")


def test_results_that_are_not_checked_out_are_not_modified(mine):
    shutil.rmtree(mine.root / "predictions")
    with revision(mine.root, "workspace") as found:
        check(found)
        assert read(found)


def test_a_modified_file_besides_is_let_be(mine):
    shutil.rmtree(mine.root / "models")
    (mine.root / "models").mkdir()
    (mine.root / "models/model.json").write_text("{}")
    with revision(mine.root, "workspace") as found:
        check(found)


def test_a_workspace_that_dvc_is_at_work_in_is_told(mine):
    with Repo(str(mine.root)) as repo, repo.lock:
        assert refusal(mine.root, "workspace", check).startswith("workspace: DVC is at work in this workspace")


def test_a_commit_is_read_while_dvc_is_at_work(mine):
    with Repo(str(mine.root)) as repo, repo.lock, revision(mine.root, "main") as found:
        assert read(found)


def test_what_is_raised_within_has_the_name_before_it(small):
    def fail(_):
        raise FoldwiseError("too bad")

    assert refusal(small.root, "seed-1", fail) == "seed-1: too bad"
