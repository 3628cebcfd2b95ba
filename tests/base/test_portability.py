import os
import subprocess
import sys

import numpy as np
import pytest

from foldwise.base import portability

SWITCHES = ["ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE"]


@pytest.fixture
def started(monkeypatch):
    """Give the environments with which this process would have been started anew."""
    found = []
    monkeypatch.setattr(os, "execve", lambda path, arguments, environment: found.append((path, arguments, environment)))
    for name in (*SWITCHES, "NPY_DISABLE_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    return found


def with_features(monkeypatch, *found):
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": {"found": list(found)} if found else {}})


def test_every_librarys_switch_is_set(started):
    portability.restart_portably()
    environment = started[0][2]
    assert {name: environment[name].lower() for name in SWITCHES} == dict.fromkeys(SWITCHES, "avx2") | {
        "MKL_CBWR": "compatible",
        "OPENBLAS_CORETYPE": "haswell",
    }


def test_the_rest_of_the_environment_goes_along(started, monkeypatch):
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    portability.restart_portably()
    assert started[0][2]["SOMETHING_ELSE"] == "kept"


def test_the_same_command_is_started_with_the_same_python(started):
    portability.restart_portably()
    assert started[0][:2] == (sys.executable, [sys.executable, *sys.orig_argv[1:]])


def test_numpys_features_beyond_avx2_are_named_to_it(started, monkeypatch):
    with_features(monkeypatch, "SSE42", "X86_V3", "AVX512F", "X86_V4", "AVX512_ICL")
    portability.restart_portably()
    assert started[0][2]["NPY_DISABLE_CPU_FEATURES"] == "AVX512F X86_V4 AVX512_ICL"


@pytest.mark.parametrize("found", [("SSE42", "X86_V3"), ()], ids=["avx2", "none"])
def test_numpy_is_told_nothing_where_it_has_no_such_feature(found, started, monkeypatch):
    with_features(monkeypatch, *found)
    portability.restart_portably()
    assert "NPY_DISABLE_CPU_FEATURES" not in started[0][2]


def test_a_process_that_was_started_so_goes_on(started, monkeypatch):
    portability.restart_portably()
    for name in SWITCHES:
        monkeypatch.setenv(name, started[0][2][name])
    portability.restart_portably()
    assert len(started) == 1


def test_a_real_process_starts_anew_once():
    code = "import os; print('start', flush=True); from foldwise.base.portability import restart_portably as r; r()\n"
    code += "print(os.environ['ATEN_CPU_CAPABILITY'])"
    environment = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["start", "start", "avx2"]
