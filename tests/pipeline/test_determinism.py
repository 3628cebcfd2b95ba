"""Equal inputs give equal bytes, whatever surrounds the run."""

import os
import shutil
import tempfile
from pathlib import Path

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
    assert clone.content() == reference.content()


def test_the_bytes_are_the_same_in_another_folder(pristine, reference, tmp_path):
    clone = pristine.copy(tmp_path / "a folder with blanks" / "Ünïcode, 'quotes' & more")
    clone.dvc("repro")
    assert clone.content() == reference.content()


@pytest.fixture
def of_nobody(pristine):
    """Give a clone that belongs to the user nobody, and the command that makes one that user."""
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become another user")
    folder = Path(tempfile.mkdtemp(prefix="nobody-"))
    try:
        folder.chmod(0o755)
        clone = pristine.copy(folder / "foldwise")
        clone.run("chown", "--recursive", "65534:65534", str(folder))
        if "ready" not in clone.run(*as_nobody, "python", "-c", "import torch; print('ready')", status=None):
            pytest.skip("the environment cannot be read by another user")
        yield clone, as_nobody
    finally:
        shutil.rmtree(folder)


def test_the_bytes_are_the_same_of_another_user(of_nobody, reference):
    clone, as_nobody = of_nobody
    clone.run(*as_nobody, "dvc", "repro", HOME=str(clone.root.parent))
    assert (clone.root / "dvc.lock").stat().st_uid == 65534
    assert clone.content() == reference.content()


def test_the_bytes_differ_with_another_seed(clone: Clone, reference):
    """The comparison above can fail."""
    clone.turn({"train.seed": 1})
    clone.dvc("repro", "train")
    assert clone.content("models") != reference.content("models")
