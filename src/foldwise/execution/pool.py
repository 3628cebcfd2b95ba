"""Folds beside each other on this machine, by joblib's workers."""

import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool

from foldwise.base import interrupts
from foldwise.base.files import Arrays
from foldwise.base.params import Compute
from foldwise.data.folds import Fold
from foldwise.execution.jobs import Inputs, Work
from foldwise.execution.schedule import deal


class WorkerDied(Exception):
    """A worker has died; the message says what was seen of it."""


def run(work: Work, folds: Sequence[Fold], compute: Compute, inputs: Inputs) -> Iterator[tuple[Fold, Arrays | None]]:
    """Run folds, and give the results as they come.

    Raises
    ------
    WorkerDied
        If one was killed, mostly because memory was short.
    """
    workers = at_a_time(len(folds), compute)
    # With one worker joblib runs the fold in this process, whose death nobody could tell.
    n_jobs = max(2, workers) if _allowed(compute) > 1 else 1
    parallel = joblib.Parallel(n_jobs, backend="loky", return_as="generator_unordered", batch_size=1)
    try:
        with ExitStack() as stack:
            with interrupts.unheard_by_new_processes():
                parts = ((folds[part.place], part) for part in deal(len(folds), workers, work.costs))
                results = parallel(joblib.delayed(work)(fold, part, *inputs(fold)) for fold, part in parts)
                stack.callback(_close, results)
            for fold, arrays in results:  # noqa: UP028, as `yield from` would close it first
                yield fold, arrays
    except BrokenProcessPool as error:
        raise WorkerDied(str(error).split(". ")[0].split("\n")[0]) from error
    if n_jobs > 1:
        # They hold nothing that is not here, and by themselves take seconds to unload PyTorch.
        get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def at_a_time(n_folds: int, compute: Compute) -> int:
    """Folds that run beside each other."""
    return max(1, min(n_folds, _allowed(compute)))


def _allowed(compute: Compute) -> int:
    """Workers that there may be."""
    asked = int(joblib.effective_n_jobs(compute.n_jobs))
    return asked if compute.n_jobs > 0 else max(1, asked // compute.threads_per_fold)


def _close(results: Generator[tuple[Fold, Arrays | None]]) -> None:
    """End what nobody waits for any more, without joblib's warning of it or an error of its thread's."""
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        with warnings.catch_warnings(action="ignore"):
            results.close()
    finally:
        threading.excepthook = hook
