"""What surrounds a run - other tools' settings, shells, Pythons, files, clones - neither ends nor changes it."""

import subprocess
import sys

import pytest
from broken_settings import BROKEN
from clones import CACHED, Clone, ran

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def surrounded(pristine, tmp_path_factory):
    """Run all of it from a notebook, by DVC's path alone, with files of the user's own beside the plots."""
    clone = pristine.copy(tmp_path_factory.mktemp("surrounded") / "foldwise")
    for name in ("README.md", "extra.csv"):
        (clone.root / "plots" / name).write_text("of my own\n")
    bare = clone.root.parent / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    dvc = clone.root / ".venv" / "bin" / "dvc"
    (clone.root / ".venv").symlink_to(sys.prefix)
    clone.run(str(dvc), "repro", PATH=f"{bare / 'bin'}:/usr/bin:/bin", **BROKEN)
    return clone


@pytest.mark.slow
def test_it_comes_out_byte_for_byte(surrounded, reference):
    assert surrounded.content(*CACHED, "metrics", "dvc.lock") == reference.content(*CACHED, "metrics", "dvc.lock")


@pytest.mark.slow
def test_files_of_the_users_own_stay_beside_the_plots(surrounded, reference):
    own = {"plots/README.md": b"of my own\n", "plots/extra.csv": b"of my own\n"}
    assert surrounded.content("plots") == reference.content("plots") | own


def test_a_clone_with_other_line_ends_runs_nothing_again(reference, tmp_path):
    root = tmp_path / "foldwise"
    reference.git("clone", "--quiet", "--config", "core.autocrlf=true", ".", str(root))
    clone = Clone(root)
    clone.dvc("cache", "dir", "--local", str(reference.root / ".dvc" / "cache"))
    clone.dvc("checkout")
    assert ran(clone.dvc("repro", "--dry")) == []


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("+model.dropout=0.3", "check: params.yaml: unknown parameter model.dropout; remove it"),
        (
            "+evaluate.agment=none",
            "check: params.yaml: unknown parameter evaluate.agment; did you mean evaluate.augment?",
        ),
        ("compute.backend=loki", "check: params.yaml: compute.backend is 'loki': input should be 'loky' or 'ray'"),
    ],
)
def test_a_mistake_that_no_other_stage_would_see_is_told(repeated, setting, told):
    printed = repeated.dvc("exp", "run", "-S", setting, status=255)
    assert told in printed.splitlines()


def test_a_parameter_that_changes_no_result_is_answered_all_the_same(repeated):
    assert ran(repeated.dvc("exp", "run", "-S", "compute.n_jobs=1")) == ["check"]


def test_a_mirror_that_is_not_there_is_told(repeated):
    told = repeated.dvc("exp", "run", "-S", "data.mirror=/nowhere", status=255)
    assert "(/nowhere: no such folder): correct data.mirror" in told


def test_the_form_of_dvc_yaml_is_that_of_dvcs_own(clone):
    before = (clone.root / "dvc.yaml").read_bytes()
    stages = clone.dvc("stage", "list", "--name-only").split()
    stages.remove("normalize")  # DVC writes no stage whose deps a parameter names
    clone.dvc("freeze", *stages)
    clone.dvc("unfreeze", *stages)
    assert (clone.root / "dvc.yaml").read_bytes() == before
