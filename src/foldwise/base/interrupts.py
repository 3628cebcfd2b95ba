"""Ctrl-C, heard whenever it comes: a library that is being loaded may swallow the error that Python raises for it."""

from __future__ import annotations

# Nothing else is loaded here: what is loaded before `listen` is loaded unheard.
import signal
import sys
import time
from types import FrameType, TracebackType

_SECONDS_TO_END = 2.0

_heard: float | None = None


def listen() -> None:
    """Hear Ctrl-C from now on, and tell of it in one line; each stage calls it before it loads its libraries."""
    sys.excepthook = _end_in_one_line
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def remedy() -> str:
    """Say how to go on after a run that was cut short: in DVC's own copies of a repository nothing is kept."""
    from foldwise.base.copies import original_root

    if original_root():
        return "nothing is kept in DVC's copy for `--temp` or the queue: run the experiment again"
    return "what is finished is kept, `dvc repro` goes on from there"


def check() -> None:
    """Raise `KeyboardInterrupt` if Ctrl-C was heard: an error raised in a callback or in C code may never arrive."""
    if _heard is not None:
        raise KeyboardInterrupt


def end() -> None:
    """Let Ctrl-C end the process from now on: an error raised while Python ends would be swallowed."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    check()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    # A second Ctrl-C soon after must break neither the end of the workers nor the one line that is left to say.
    global _heard
    before, _heard = _heard, time.monotonic()
    if before is None or _heard - before > _SECONDS_TO_END:
        raise KeyboardInterrupt


def _end_in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # NumPy, for one, makes an error of its own of an interruption while it is loaded.
    if issubclass(kind, KeyboardInterrupt) or _heard is not None:
        print(f"interrupted; {remedy()}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
