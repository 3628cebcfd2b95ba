"""Equal inputs give equal bytes, whatever surrounds the run."""

import shutil

import pytest
from clones import Clone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SURROUNDINGS = {
    "many_threads_asked_for": {"OMP_NUM_THREADS": "7", "MKL_NUM_THREADS": "5", "OPENBLAS_NUM_THREADS": "3"},
    "another_locale_and_time_zone": {
        "LC_ALL": "POSIX",
        "LANG": "tr_TR.UTF-8",
        "PYTHONUTF8": "0",
        "TZ": "Asia/Kathmandu",
    },
}


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_the_bytes_are_the_same_with(surrounding, clone, reference):
    clone.dvc("repro", **SURROUNDINGS[surrounding])
    assert clone.content() == reference.content()


@pytest.mark.parametrize("n_jobs", [1, 4])
def test_the_bytes_are_the_same_with_a_number_of_workers_of(n_jobs, clone, reference):
    clone.turn({"compute.n_jobs": n_jobs})
    clone.dvc("repro")
    assert clone.made() == reference.made()


def test_the_bytes_are_the_same_in_another_folder(pristine, reference, tmp_path):
    clone = pristine.copy(tmp_path / "a folder with blanks" / "Ünïcode, 'quotes' & more")
    clone.dvc("repro")
    assert clone.content() == reference.content()


AS_ANOTHER_USER = ("unshare", "--user", "--map-user=4711", "--map-group=4711")


def test_the_bytes_are_the_same_of_another_user(clone, reference, tmp_path):
    if not shutil.which("unshare") or clone.run(*AS_ANOTHER_USER, "id", "--user", status=None).strip() != "4711":
        pytest.skip("this system has no user namespaces, in which to be another user")
    clone.run(*AS_ANOTHER_USER, "dvc", "repro", HOME=str(tmp_path), USER="somebody", LOGNAME="somebody")
    assert clone.content() == reference.content()


def test_the_bytes_differ_with_another_seed(clone: Clone, reference):
    """The comparison above can fail."""
    clone.turn({"train.seed": 1})
    clone.dvc("repro", "train")
    assert clone.content("models") != reference.content("models")
