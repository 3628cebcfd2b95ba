"""What a stage does before it loads its libraries: it hears Ctrl-C, and runs as Foldwise's own environment would."""

from __future__ import annotations  # an old Python is to come as far as the line that says so

import os
import sys
from types import TracebackType

from foldwise.base import interrupts, portability

# DVC hands on whatever its own shell has set. These are of other tools, and would end a stage or change what it does:
# how many threads and workers there are, params.yaml says. What only says where things are, such as TMPDIR, stays.
_FOREIGN = (
    "GOMP_",
    "JOBLIB_MULTIPROCESSING",
    "JOBLIB_START_METHOD",
    "KMP_",
    "LOKY_",
    "MATPLOTLIBRC",
    "MPLBACKEND",
    "OMP_",
    "PYTORCH_JIT",
    "TORCH_FORCE_",
    "TORCH_LOGS",
)
# These choose the processor's instructions, and with them the last digits; `compute.portable` sets some itself.
ROUNDING = ("ATEN_", "DNNL_", "MKL_", "NPY_", "NVIDIA_TF32_OVERRIDE", "ONEDNN_", "OPENBLAS_", "TORCH_ALLOW_TF32_")
_HANDED_OVER = "FOLDWISE_HANDED_OVER"


def begin() -> None:
    """Prepare this process, before it loads any library."""
    interrupts.listen()
    if sys.path[0] == os.getcwd():  # noqa: PTH109 -- where `python -m` looks first, and a file of the user's may lie
        del sys.path[0]
    foreign = _FOREIGN if portability.is_on() else _FOREIGN + ROUNDING
    for name in list(os.environ):
        if name.startswith(foreign):
            del os.environ[name]
    if sys.version_info < (3, 11):  # noqa: UP036
        _run_elsewhere("is older than 3.11")
        raise SystemExit(1)
    in_one_line = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("foldwise"):
            _run_elsewhere(f"has no {error.name}")
        else:
            in_one_line(kind, error, trace)

    sys.excepthook = tell


def _run_elsewhere(lack: str) -> None:
    """Start anew, once, by the Python of `.venv`, also from DVC's copies; where that cannot be, say what to do."""
    from foldwise.base.copies import original_root  # not loaded before it is needed

    environment = os.path.join(original_root() or "", ".venv")  # noqa: PTH118
    python = os.path.join(environment, "bin", "python")  # noqa: PTH118
    is_own = os.path.realpath(environment) == os.path.realpath(sys.prefix)
    if os.path.exists(python) and not is_own and _HANDED_OVER not in os.environ:  # noqa: PTH110
        command = [python, "-m", "foldwise.base.stage", *sys.argv[1:]]
        os.execve(python, command, dict(os.environ, **{_HANDED_OVER: "1"}))  # noqa: S606
    stage = os.path.splitext(os.path.basename(sys.argv[1]))[0]  # noqa: PTH119, PTH122
    if is_own:
        line = f"{environment} {lack}: `make -B .venv/installed` brings what requirements.lock pins"
    else:
        line = (
            f"{sys.executable}, the first python3 on PATH, {lack}: put Foldwise's environment before it "
            "(`. .venv/bin/activate`), or install what is missing"
        )
    print(f"{stage}: {line}", file=sys.stderr)
