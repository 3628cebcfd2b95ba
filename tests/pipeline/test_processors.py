"""Portable results are those of an Intel processor without AVX-512, which QEMU emulates."""

import platform
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from clones import BIN

from foldwise.base.portability import SWITCHES

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.timeout(1800),
    pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="QEMU runs programs of Linux"),
]

RECIPE = {
    "data.subset": 80,
    "cv.k": 2,
    "model.name": "compact",
    "train.epochs": 1,
    "train.optimizer": "muon",
    "compute.n_jobs": 1,
}


@pytest.fixture(scope="module")
def run(pristine, tmp_path_factory):
    """Run stages, here or emulated, and give what they write: run(["train"], portable=True, cpu="Haswell")."""
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if not emulator:
        pytest.fail("run tests/qemu/install.sh first: there is no qemu-x86_64", pytrace=False)
    prepared = pristine.copy(tmp_path_factory.mktemp("prepared") / "foldwise")
    prepared.turn(RECIPE)
    prepared.dvc("repro", "split", "features")
    stages = yaml.safe_load((prepared.root / "dvc.yaml").read_text())["stages"]

    def written(names, portable, cpu=None):
        clone = prepared.copy(tmp_path_factory.mktemp("run") / "foldwise")
        clone.turn({"compute.portable": str(portable).lower()})
        # Starting anew would leave the emulator, so there the switches are set from the first.
        switches = SWITCHES if cpu and portable else {}
        for name in names:
            _, words = stages[name]["cmd"].split(" python3 ")
            command = [*([emulator, "-cpu", cpu] if cpu else []), str(BIN / "python"), *shlex.split(words)]
            clone.run(*command, PYTHONPATH="src", **switches)
        return clone.content("models", "curves", "predictions", "scores")

    return written


def test_portable_bytes_are_the_same_without_avx512(run):
    stages = ["train", "evaluate"]
    assert run(stages, portable=True, cpu="Haswell") == run(stages, portable=True)


def test_bytes_that_need_not_be_portable_differ_without_avx512(run):
    """The comparison above can fail."""
    if "avx512f" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX-512")
    assert run(["train"], portable=False, cpu="Haswell") != run(["train"], portable=False)
