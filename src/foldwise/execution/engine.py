"""Many folds: those that the store has are taken from it, the others run, and are kept."""

from collections.abc import Iterator, Sequence
from importlib import import_module

from foldwise.base.console import say
from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays
from foldwise.base.params import Compute
from foldwise.data.folds import Fold
from foldwise.execution import memory, pool
from foldwise.execution.fold_store import FoldStore
from foldwise.execution.jobs import Inputs, Task, Work

# The module of each `compute.backend`: its `run` changes how fast, never what.
_BACKENDS = {"loky": "foldwise.execution.pool", "ray": "foldwise.ray_backend"}


def run(
    task: Task,
    folds: Sequence[Fold],
    compute: Compute,
    *,
    inputs: Inputs = lambda _: (),
    store: FoldStore | None = None,
    costs: Sequence[float] = (1.0,),
) -> Iterator[tuple[Fold, Arrays]]:
    """Run a task on every fold, many at a time, and give the results as they come.

    Parameters
    ----------
    task : callable
        Takes a fold, its job and its inputs, gives named arrays, or None if the part to do did not end the fold; pure,
        picklable, on one thread.
    folds : sequence of Fold
        In the order in which they start.
    compute : Compute
        Backend and number of workers: they change how fast, never what.
    inputs : callable
        Gives what a fold needs besides; it is called here, where the files are.
    store : FoldStore, optional
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
        arrays = store.read(fold, "finished") if store else None
        if arrays is None:
            missing.append(fold)
        else:
            yield fold, arrays
    if len(missing) < len(folds):
        say(
            f"  {len(folds) - len(missing)} of {len(folds)} folds are from the fold store; "
            "`dvc exp run -f -S compute.reuse_folds=false` trains all anew"
        )
    if not missing:
        return
    work = Work(task, len(missing), costs, store)
    for is_last_attempt in (False, True):
        try:
            yield from _finished(work, missing, compute, inputs)
            return
        except pool.WorkerDied as death:
            at_a_time = pool.at_a_time(len(missing), compute)
            lost = ", ".join(map(str, missing[:at_a_time]))
            if is_last_attempt:
                raise FoldwiseError(
                    f"a worker died twice, the second time at {lost} or the next: {death}; {memory.remedy(at_a_time)}"
                ) from death
            say(f"  a worker died at {lost} or the next: {death}; what is missing runs once more")


def _finished(work: Work, missing: list[Fold], compute: Compute, inputs: Inputs) -> Iterator[tuple[Fold, Arrays]]:
    """Run what is missing; what is finished is kept, and crossed off `missing`."""
    is_kept = True
    # A copy, because the backend goes through the folds while they are crossed off.
    for fold, arrays in import_module(_BACKENDS[compute.backend]).run(work, tuple(missing), compute, inputs):
        if arrays is None:
            continue
        if work.store and is_kept and (reason := work.store.write(fold, "finished", arrays)):
            say(f"  folds are trained, but not kept: {reason}")
            is_kept = False
        missing.remove(fold)
        yield fold, arrays
