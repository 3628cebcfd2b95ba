"""Many runs of a small repository, read from Git's and DVC's own files, against what DVC itself gives."""

import contextlib
import os
import shutil
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import small_repository

from foldwise.base.errors import FoldwiseError
from foldwise.compare import many, runs


def assert_equal(found, expected):
    for field in fields(expected):
        if field.name != "results":
            assert getattr(found, field.name) == getattr(expected, field.name), field.name
    ours, theirs = found.results, expected.results
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(ours.out_of_fold, theirs.out_of_fold)
    np.testing.assert_array_equal(ours.folds.assignments, theirs.folds.assignments)
    np.testing.assert_array_equal(ours.folds.units, theirs.folds.units)
    pd.testing.assert_frame_equal(ours.scores, theirs.scores)


@pytest.mark.parametrize("name", ["main", "HEAD", "seed-1", "unskilled", "four", "workspace"])
def test_a_run_is_what_dvc_gives(small, name):
    (found,), left_out = many.read(small.root, [name])
    assert left_out == {}
    assert_equal(found, runs.read(name, small.root))


def test_what_changed_after_a_run_is_what_dvc_gives(mine):
    (mine.root / "code.py").write_text("print(1)\n")
    text = (mine.root / "params.yaml").read_text()
    (mine.root / "params.yaml").write_text(text.replace("skill: 2.0", "skill: 3e-05"))
    mine.git("commit", "--quiet", "--all", "--message", "code")
    (found,), _ = many.read(mine.root, ["main"])
    assert found.changed == ("code.py", "train.skill")
    assert_equal(found, runs.read("main", mine.root))


def test_by_default_they_are_head_and_all_experiments(small):
    found, left_out = many.read(small.root)
    assert ([run.name for run in found], left_out) == (["HEAD", "four", "seed-1", "unskilled"], {})


def test_what_else_dvc_keeps_among_the_experiments_is_none(mine):
    mine.git("update-ref", "refs/exps/stash/00/1", "HEAD")
    mine.git("update-ref", "refs/exps/exec/EXEC_HEAD", "HEAD")
    mine.git("update-ref", "refs/exps/celery/stash", "HEAD")
    assert [run.name for run in many.read(mine.root)[0]] == ["HEAD", "four", "seed-1", "unskilled"]


def test_experiments_of_one_name_go_by_their_commits(mine):
    first = mine.git(
        "rev-parse", "refs/exps/" + mine.git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/exps/*/*/four")
    )
    mine.git("update-ref", "refs/exps/00/11/four", "HEAD")
    names = [run.name for run in many.read(mine.root)[0]]
    assert names == [
        "HEAD",
        *sorted([first[:7], mine.git("rev-parse", "HEAD")[:7]], key=names.index),
        "seed-1",
        "unskilled",
    ]
    # Of a name alone DVC takes the one that was made from HEAD.
    assert_equal(many.read(mine.root, ["four"])[0][0], runs.read("four", mine.root))


def test_a_branch_goes_before_an_experiment_of_its_name(mine):
    mine.experiment("main", {"train": {"seed": 5}})
    (found,), _ = many.read(mine.root, ["main"])
    assert found.parameters["train.seed"] == 0


def test_names_that_are_not_utf_8_links_and_submodules_are_passed_over(mine):
    (mine.root / os.fsdecode(b"caf\xe9.txt")).write_text("")
    (mine.root / "link").symlink_to("params.yaml")
    mine.git("update-index", "--add", "--cacheinfo", f"160000,{mine.git('rev-parse', 'HEAD')},module")
    mine.git("add", "--all", "--", ":!module")
    mine.git("commit", "--quiet", "--message", "odd")
    assert [run.name for run in many.read(mine.root)[0]] == ["HEAD", "four", "seed-1", "unskilled"]


def test_a_repository_within_one_of_gits_is_read(mine, tmp_path):
    outer = small_repository.SmallRepository(tmp_path / "outer")
    outer.root.mkdir()
    outer.git("init", "--quiet", "--initial-branch=main", ".")
    shutil.copytree(mine.root, outer.root / "inner", ignore=shutil.ignore_patterns(".git"))
    with contextlib.chdir(outer.root / "inner"):
        shutil.rmtree(".dvc/tmp", ignore_errors=True)
    outer.git("add", "--all")
    outer.git("commit", "--quiet", "--message", "inner")
    for inside in ("inner", "inner/data"):
        (found,), _ = many.read(outer.root / inside, ["HEAD"])
        assert found.parameters["train.seed"] == 0


def test_odd_yaml_is_told(mine):
    (mine.root / "params.yaml").write_text("train: {seed: 2024-02-30}\n")
    mine.git("commit", "--quiet", "--all", "--message", "odd")
    with pytest.raises(FoldwiseError, match=r"^HEAD: params.yaml is not valid YAML"):
        many.read(mine.root)


def test_without_git_that_is_told(small, monkeypatch):
    places = many.places(small.root)
    monkeypatch.setattr(many, "places", lambda _: places)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FoldwiseError, match=r"^git cannot be run \(No such file or directory\): install it"):
        many.read(small.root)


def test_nothing_is_written(small):
    before = small.snapshot()
    many.read(small.root)
    assert small.snapshot() == before


def test_results_that_only_a_remote_has_are_brought_by_dvc(mine, tmp_path):
    mine.add_remote(tmp_path / "store")
    shutil.copytree(mine.root / ".dvc/cache", tmp_path / "store")
    shutil.rmtree(mine.root / ".dvc/cache")
    (found,), _ = many.read(mine.root, ["seed-1"])
    assert found.parameters["train.seed"] == 1


def without_results(mine, name):
    (digest,) = {run.digests["predictions"] for run in many.read(mine.root, [name])[0]}
    (mine.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink()


def test_an_experiment_without_results_is_left_out_with_the_reason(mine):
    without_results(mine, "unskilled")
    found, left_out = many.read(mine.root)
    assert [run.name for run in found] == ["HEAD", "four", "seed-1"]
    assert "predictions/out_of_fold.npy is neither in the cache nor on a remote" in left_out["unskilled"]


def test_a_run_that_was_named_and_has_no_results_is_refused(mine):
    without_results(mine, "unskilled")
    with pytest.raises(FoldwiseError, match=r"^unskilled: predictions/out_of_fold.npy is neither"):
        many.read(mine.root, ["main", "unskilled"])


def test_a_damaged_result_is_told_as_dvc_does(mine):
    (run,), _ = many.read(mine.root, ["seed-1"])
    folder = mine.root / ".dvc/cache/files/md5"
    for path in folder.rglob("*"):
        if path.is_file() and run.digests["predictions"].startswith(path.parent.name + path.name[:5]):
            path.chmod(0o644)
            path.write_text("[]")
    assert "damaged" in many.read(mine.root)[1]["seed-1"]


def test_a_torn_lock_file_is_told(mine):
    (mine.root / "dvc.lock").write_text("stages: [\n")
    mine.git("commit", "--quiet", "--all", "--message", "torn")
    with pytest.raises(FoldwiseError, match=r"^HEAD: dvc.lock is not valid YAML"):
        many.read(mine.root)


def test_an_unknown_name_is_told(small):
    with pytest.raises(FoldwiseError, match=r"^nobody: no such Git revision or experiment"):
        many.read(small.root, ["nobody"])


def test_outside_a_repository_that_is_told(tmp_path):
    with pytest.raises(FoldwiseError, match="no Git repository with DVC here: run this inside a clone"):
        many.read(tmp_path)
