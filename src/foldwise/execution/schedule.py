"""Which folds start when, and which of them change workers half-way, so that no worker idles at the end."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Part(NamedTuple):
    """A fold, or some epochs of it, as one piece of work.

    Attributes
    ----------
    place : int
        The fold's place among those to run, from 0.
    begin : float
        Share of the fold (0 to 1) that another part does before this one.
    until : int or None
        Epochs of the fold that are finished with this part; None where it ends the fold.
    start, span : float
        When this part starts and when all parts end by the plan, in units of the time of a whole fold.
    """

    place: int
    begin: float
    until: int | None
    start: float
    span: float


def done_after(costs: Sequence[float]) -> NDArray[np.float64]:
    """Share of a fold (0 to 1) that is done after no epoch, one, two, and so on; from each epoch's cost in any unit."""
    return np.cumsum([0.0, *costs]) / sum(costs)


def deal(n_folds: int, n_workers: int, costs: Sequence[float] = (1.0,)) -> list[Part]:
    """Plan all folds on some workers.

    Folds laid end to end are cut into one equal piece per worker. A fold that a cut goes through is begun by one worker
    at the start and ended by the other at the end: McNaughton's wrap-around rule, which leaves no worker idle
    ("Scheduling with deadlines and loss functions", Management Science 6, 1959). Cuts are moved to the nearest end of
    an epoch.

    Parameters
    ----------
    n_folds, n_workers : int
    costs : sequence of float
        Cost of each epoch, in any unit; with one epoch no fold is cut.

    Returns
    -------
    list of Part
        In the order in which they start.
    """
    shares = done_after(costs)
    span = max(Fraction(1), Fraction(n_folds, n_workers))
    planned = []
    for fold in range(n_folds):
        start = fold % span
        head = max(Fraction(0), start + 1 - span)  # the share that the next worker begins with
        epochs = int(np.abs(shares - float(head)).argmin())
        if 0 < epochs < len(costs):
            planned += [(Fraction(0), fold, 0.0, epochs), (start, fold, float(shares[epochs]), None)]
        else:
            planned.append((start if epochs == 0 else Fraction(0), fold, 0.0, None))
    planned.sort(key=lambda part: part[:2])
    places = {fold: place for place, fold in enumerate(dict.fromkeys(fold for _, fold, _, _ in planned))}
    return [Part(places[fold], begin, until, float(start), float(span)) for start, fold, begin, until in planned]
