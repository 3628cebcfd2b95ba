"""Ctrl-C, heard whenever it comes: a library that is being loaded may swallow the error that Python raises for it."""

from __future__ import annotations

# Nothing else is loaded here: what is loaded before `listen` is loaded unheard.
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

_SECONDS_TO_END = 2.0

_heard: float | None = None


def listen() -> None:
    """Hear Ctrl-C from now on, and tell of it in one line."""
    sys.excepthook = _end_in_one_line
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def remedy() -> str:
    """Say how to go on after a run that was cut short: DVC removes its own copies of a repository."""
    from foldwise.base.copies import original_root

    if original_root():
        return "finished folds are kept: run the experiment again"
    return "what is finished is kept, `dvc repro` goes on from there"


def check() -> None:
    """Raise `KeyboardInterrupt` if Ctrl-C was heard: an error raised in a callback or in C code may never arrive."""
    if _heard is not None:
        raise KeyboardInterrupt


@contextmanager
def unheard_by_new_processes() -> Iterator[None]:
    """Let processes that are started within never hear Ctrl-C: this one does, once they have been started."""
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start would let the signal through again
    heard: list[int] = []
    # The mask is what new processes inherit; the signal may still reach this one by way of a library's thread.
    handler = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)


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
