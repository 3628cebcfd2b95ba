"""Running many folds: workers, resume, progress."""

import ctypes
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool

from foldwise import ray_backend
from foldwise.base.console import say
from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays
from foldwise.base.params import Compute
from foldwise.data.folds import Fold
from foldwise.execution.schedule import Part, deal
from foldwise.execution.scratch import Scratch


@dataclass
class Progress:
    """How far one part of a fold is, and with it the whole stage; lives in the part's worker.

    Attributes
    ----------
    fold : Fold
    part : Part
        What is to be done now.
    total : int
        Folds to run in all.
    begun : float
        Share of the fold (0 to 1) that was done when this part was begun.
    """

    fold: Fold
    part: Part
    total: int
    begun: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def say(self, share: float, line: str) -> None:
        """Print a line once `share` (0 to 1) of the fold is done, with an estimate of the time left for all folds."""
        seconds = time.monotonic() - self.started
        planned = self.part.span - self.part.start - (share - self.part.begin)
        left = seconds / (share - self.begun) * max(0.0, planned)
        self.note(f"{line}  {seconds:.0f} s, about {left:.0f} s left")

    def note(self, line: str) -> None:
        """Print a line about the fold."""
        say(f"  {self.fold} ({self.part.place + 1} of {self.total})  {line}")


Task = Callable[[Fold, Progress], Arrays | None]


def run(
    task: Task,
    folds: Sequence[Fold],
    compute: Compute,
    scratch: Scratch | None = None,
    costs: Sequence[float] = (1.0,),
) -> Iterator[tuple[Fold, Arrays]]:
    """Run a task on every fold, many at a time, and give the results as they come.

    Parameters
    ----------
    task : callable
        Takes a fold and its progress, gives named arrays, or None if the part to do did not end the fold; pure,
        picklable, on one thread.
    folds : sequence of Fold
        In the order in which they start.
    compute : Compute
        Backend and number of workers: they change how fast, never what.
    scratch : Scratch, optional
        Where finished folds are found and kept.
    costs : sequence of float
        Cost of each epoch, in any unit, of a task that can stop after each; what comes of it is kept by the task.

    Yields
    ------
    fold, arrays
        In the order of finishing.

    Raises
    ------
    FoldwiseError
        If a worker dies a second time.
    """
    missing = []
    for fold in folds:
        arrays = scratch.read(fold, "finished") if scratch else None
        if arrays is None:
            missing.append(fold)
        else:
            yield fold, arrays
    if len(missing) < len(folds):
        say(f"  {len(folds) - len(missing)} of {len(folds)} folds were already finished")
    for last_attempt in (False, True):
        at_a_time = _at_a_time(missing, compute)
        try:
            # A copy, because joblib goes through the folds while they are crossed off.
            for fold, arrays in _parallel(task, tuple(missing), compute, costs):
                if arrays is None:
                    continue
                if scratch:
                    scratch.write(fold, "finished", arrays)
                missing.remove(fold)
                yield fold, arrays
            return
        except BrokenProcessPool as error:
            lost = ", ".join(map(str, missing[: _at_a_time(missing, compute)]))
            seen = str(error).split(". ")[0].split("\n")[0]
            if last_attempt:
                raise FoldwiseError(
                    f"a worker died twice, the second time at {lost} or the next: {seen}; "
                    f"{ray_backend.too_little_memory(at_a_time)}"
                ) from error
            say(f"  a worker died at {lost} or the next: {seen}; what is missing runs once more")


def _workers(compute: Compute) -> int:
    asked = int(joblib.effective_n_jobs(compute.n_jobs))
    return asked if compute.n_jobs > 0 else max(1, asked // compute.threads_per_fold)


def _at_a_time(folds: Sequence[Fold], compute: Compute) -> int:
    return max(1, min(len(folds), _workers(compute)))


def _parallel(
    task: Task, folds: Sequence[Fold], compute: Compute, costs: Sequence[float]
) -> Iterator[tuple[Fold, Arrays | None]]:
    if compute.backend == "ray":
        yield from ray_backend.on_ray(_run, task, folds, compute)
        return
    at_a_time = _at_a_time(folds, compute)
    # With one worker joblib runs the fold in this process, whose death nobody could tell.
    workers = max(2, at_a_time) if _workers(compute) > 1 else 1
    parallel = joblib.Parallel(workers, backend=compute.backend, return_as="generator_unordered", batch_size=1)
    with ExitStack() as stack:
        with _deaf_to_interruptions():
            parts = deal(len(folds), at_a_time, costs)
            results = parallel(joblib.delayed(_run)(task, folds[part.place], part, len(folds)) for part in parts)
            stack.callback(_close, results)
        for fold, arrays in results:  # noqa: UP028, as `yield from` would close it first
            yield fold, arrays
    if compute.backend == "loky" and workers > 1:
        # They hold nothing that is not here, and by themselves take seconds to unload PyTorch.
        get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def _close(results: Generator[tuple[Fold, Arrays | None]]) -> None:
    """End what nobody waits for any more, without joblib's warning of it or an error of its thread's."""
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        with warnings.catch_warnings(action="ignore"):
            results.close()
    finally:
        threading.excepthook = hook


@contextmanager
def _deaf_to_interruptions() -> Iterator[None]:
    """Let the workers that are started within never hear Ctrl-C: this process does, once they have been started."""
    resource_tracker.ensure_running()  # its start would let the signal through again
    heard: list[int] = []
    # The mask is what workers inherit; the signal may still reach this process by way of a library's thread.
    handler = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)


def _run(
    task: Callable[..., Arrays | None], fold: Fold, part: Part, total: int, *given: Arrays
) -> tuple[Fold, Arrays | None]:
    _keep_memory()
    return fold, task(fold, Progress(fold, part, total), *given)


def _keep_memory() -> None:
    """Tell glibc to keep freed memory: activations given back to the system at every step cost page faults."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            trim_threshold, mmap_threshold = -1, -3
            mallopt(mmap_threshold, 1 << 25)  # the most that glibc takes; more it refuses without a word
            mallopt(trim_threshold, (1 << 31) - 1)
