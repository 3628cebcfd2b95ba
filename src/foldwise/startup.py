"""What a stage does before it loads its libraries: it hears Ctrl-C, and runs as Foldwise's own environment would."""

from __future__ import annotations  # an old Python is to come as far as the line that says so

import os
import sys
from types import TracebackType

from foldwise import interrupts

# DVC hands on whatever its own shell has set. These are of other tools, and would end a stage or change what it does:
# how many threads and workers there are, params.yaml says. What only says where things are, such as TMPDIR, stays.
_FOREIGN = {
    "JOBLIB_MULTIPROCESSING",
    "JOBLIB_START_METHOD",
    "LOKY_PICKLER",
    "MATPLOTLIBRC",
    "MPLBACKEND",
    "PYTHONINSPECT",
}
_FOREIGN_KINDS = ("GOMP_", "KMP_", "OMP_")


def begin() -> None:
    """Prepare this process; each stage calls it before it loads its libraries."""
    interrupts.listen()
    for name in list(os.environ):
        if name in _FOREIGN or name.startswith(_FOREIGN_KINDS):
            del os.environ[name]
    if sys.version_info < (3, 11):  # noqa: UP036
        _run_elsewhere("is older than 3.11")
        raise SystemExit(1)
    told = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("foldwise"):
            _run_elsewhere(f"has no {error.name}")
        else:
            told(kind, error, trace)

    sys.excepthook = tell


def _run_elsewhere(lack: str) -> None:
    """Start anew by the Python of the nearest `.venv`, also from DVC's copies below it; without one, say what to do."""
    from pathlib import Path  # not loaded before it is needed

    for folder in (Path.cwd(), *Path.cwd().parents):
        environment = folder / ".venv"
        python = environment / "bin" / "python"
        if python.exists() and environment.resolve() != Path(sys.prefix).resolve():
            os.execv(python, [str(python), *sys.argv])  # noqa: S606
    print(
        f"{Path(sys.argv[0]).stem}: {sys.executable}, the first python3 on PATH, {lack}: put Foldwise's environment "
        "before it (`. .venv/bin/activate`), or install what is missing",
        file=sys.stderr,
    )
