"""The same instructions on every x86-64 processor with AVX2, so that AVX-512 changes no rounding."""

from __future__ import annotations  # an old Python gets this far

import os
import sys

# Each library has a switch of its own, and reads it once, when it is loaded.
SWITCHES = {
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # its convolutions
    "MKL_CBWR": "COMPATIBLE",  # its matrix products; MKL takes AVX2 of Intel's processors alone
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy's and SciPy's
}


# NumPy's own kernels; it takes the names of what this processor has.
NUMPY_SWITCH = "NPY_DISABLE_CPU_FEATURES"


def is_on() -> bool:
    """Whether this process was started with AVX-512 switched off."""
    return all(os.environ.get(name) == value for name, value in SWITCHES.items())


def restart_portably() -> None:
    """Start this process anew with AVX-512 switched off, unless that is done; its workers inherit it."""
    if not is_on():
        import numpy as np

        present = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
        beyond = " ".join(name for name in present if name == "X86_V4" or name.startswith("AVX512"))
        switches = SWITCHES | ({NUMPY_SWITCH: beyond} if beyond else {})
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | switches)  # noqa: S606
