"""A fold, or a part of it, as a worker runs it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from foldwise.base.console import say
from foldwise.base.files import Arrays
from foldwise.data.folds import Fold
from foldwise.execution import memory
from foldwise.execution.fold_store import FoldStore
from foldwise.execution.schedule import Part, done_after

# A fold that takes longer than this also goes on within itself, at its last epoch.
CHECKPOINT_SECONDS = 30


@dataclass
class Job:
    """How far one part of a fold is, and with it the whole stage; lives in the part's worker.

    Attributes
    ----------
    fold : Fold
    part : Part
        What is to be done.
    total : int
        Folds to run in all.
    costs : sequence of float
        Cost of each epoch, in any unit.
    store : FoldStore or None
        Where the fold's last epoch is kept.
    begun : float
        Share of the fold (0 to 1) that was done when this part was begun.
    """

    fold: Fold
    part: Part
    total: int
    costs: Sequence[float] = (1.0,)
    store: FoldStore | None = None
    begun: float = 0.0
    started: float = field(default_factory=time.monotonic)
    last_kept: float = field(default_factory=time.monotonic)

    @property
    def is_first(self) -> bool:
        """Whether it is the first of all folds."""
        return self.part.place == 0

    @property
    def until(self) -> int | None:
        """Epochs after which to stop; None if the fold is to be ended."""
        return self.part.until

    def checkpoint(self) -> Arrays | None:
        """Give what was kept of the fold's last epoch, and tell that it goes on there."""
        arrays = self.store.read(self.fold, "epoch") if self.store else None
        if arrays:
            number = len(arrays["epochs"])
            self.begun = float(done_after(self.costs)[number])
            self.note(f"goes on after epoch {number}")
        return arrays

    def keep(self, checkpoint: Arrays) -> None:
        """Keep the last epoch, where the machine has the store."""
        if self.store and self.store.within_reach:
            self.store.write(self.fold, "epoch", checkpoint)
            self.last_kept = time.monotonic()

    def end_epoch(self, number: int, line: str, checkpoint: Callable[[], Arrays]) -> None:
        """Tell that an epoch, counted from 1, has ended, and how long all folds will take; keep it now and then."""
        share, seconds = float(done_after(self.costs)[number]), time.monotonic() - self.started
        planned = self.part.span - self.part.start - (share - self.part.begin)
        left = seconds / (share - self.begun) * max(0.0, planned)
        self.note(f"{line}  {seconds:.0f} s, about {left:.0f} s left")
        if time.monotonic() - self.last_kept > CHECKPOINT_SECONDS and number < len(self.costs):
            self.keep(checkpoint())

    def note(self, line: str) -> None:
        """Tell a line about the fold."""
        say(f"  {self.fold} ({self.part.place + 1} of {self.total})  {line}")


Task = Callable[..., Arrays | None]
# Reads what a fold needs besides, where the stage runs.
Inputs = Callable[[Fold], tuple[Arrays, ...]]


@dataclass(frozen=True)
class Work:
    """What is to be done with every fold, wherever that is.

    Attributes
    ----------
    task : callable
        Takes a fold, its job, and what `engine.run` was given to read for it. It gives named arrays, or None if the
        part to do did not end the fold.
    total : int
        Folds to run in all.
    costs : sequence of float
    store : FoldStore or None
    """

    task: Task
    total: int
    costs: Sequence[float]
    store: FoldStore | None

    def __call__(self, fold: Fold, part: Part, *inputs: Arrays) -> tuple[Fold, Arrays | None]:
        """Run one part of a fold; what another run has finished meanwhile is taken from the store."""
        memory.keep_freed()
        arrays = self.store.read(fold, "finished") if self.store else None
        if arrays is None:
            arrays = self.task(fold, Job(fold, part, self.total, self.costs, self.store), *inputs)
        return fold, arrays if part.until is None else None
