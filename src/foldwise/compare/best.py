"""Which of many runs is best, and how good is that one, honestly? Runs in, a frozen answer out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foldwise.base.errors import FoldwiseError
from foldwise.compare.comparison import SIGNIFICANCE, differing, unlike
from foldwise.compare.runs import PRIMARY, Run
from foldwise.evaluation.inference import Estimate, holm
from foldwise.evaluation.scores import Score

Standing = Literal["best", "not_told_apart", "worse"]

DRAWS = 1000
_AT_A_TIME = 50


@dataclass(frozen=True)
class Allowed:
    """The score of the best after allowing for the choice, with its 95 % interval; `draws` bootstraps."""

    mean: float
    low: float
    high: float
    draws: int


@dataclass(frozen=True)
class Candidate:
    """One run of those that were looked at.

    Attributes
    ----------
    run : Run
    estimate : Estimate
        Of its score, as if it were the only one.
    difference : Estimate or None
        Its score less that of the best; None for the best.
    p : float
        Of no difference to the best, adjusted by Holm's method.
    parameters : dict of str to object
        Those that are not the same in all runs.
    """

    run: Run
    estimate: Estimate
    difference: Estimate | None
    p: float
    parameters: dict[str, object]

    @property
    def standing(self) -> Standing:
        """Whether it can be told from the best."""
        if self.difference is None:
            return "best"
        return "worse" if self.p < SIGNIFICANCE else "not_told_apart"


@dataclass(frozen=True)
class Selection:
    """Many runs on the same folds, the best first.

    Attributes
    ----------
    primary : Score
    candidates : tuple of Candidate
    allowed : Allowed or None
        None where there was no choice, or where the score is no mean over images.
    same : dict of str to str
        Runs that made the same predictions as one of the candidates, by name.
    """

    primary: Score
    candidates: tuple[Candidate, ...]
    allowed: Allowed | None
    same: dict[str, str]


def select(runs: Sequence[Run]) -> Selection:
    """Rank runs by the first one's primary score; those that made equal predictions count once.

    As the best is chosen by the same data, p-values are adjusted as if all pairs were compared.

    Raises
    ------
    FoldwiseError
        If a run cannot stand beside the first; see `why_not`.
    """
    first = runs[0]
    primary = first.results.primary
    estimates, of_predictions, same = {}, dict[str, Run](), {}
    for run in runs:
        estimate = run.results.estimate(primary)
        if (reason := why_not(first, run)) or estimate is None:
            raise FoldwiseError(f"{run.name} is {reason}: leave it out")
        like = of_predictions.setdefault(run.digests["predictions"], run)
        if like is not run:
            same[run.name] = like.name
        estimates[run.name] = estimate
    distinct = list(of_predictions.values())
    ranked = sorted(distinct, key=lambda run: -primary.sign * estimates[run.name].mean)
    best, *others = ranked
    differences = [run.results.estimate(primary, less=best.results) for run in others]
    pairs = len(ranked) * (len(ranked) - 1) // 2
    found = [difference.p if difference else 1.0 for difference in differences]
    adjusted = holm([*found, *[1.0] * (pairs - len(found))])[: len(found)]
    shared = {name for name in first.parameters if all(differing(first, run).get(name) is None for run in distinct)}
    candidates = tuple(
        Candidate(
            run=run,
            estimate=estimates[run.name],
            difference=difference,
            p=float(p),
            parameters={name: value for name, value in run.parameters.items() if name not in shared},
        )
        for run, difference, p in zip(ranked, [None, *differences], [1.0, *adjusted], strict=True)
    )
    return Selection(primary, candidates, _allowed(ranked, primary) if len(ranked) > 1 else None, same)


def why_not(first: Run, run: Run) -> str:
    """Say why a run cannot stand beside another; nothing if it can."""
    if unlike(first, run):
        return f"on other folds or data than {first.name}"
    primary = first.results.primary
    if len(run.results.values(primary)) < 2:
        return f"without {primary.name} in two folds or more, the {PRIMARY} of {first.name}"
    return ""


def _allowed(runs: Sequence[Run], score: Score) -> Allowed | None:
    of_image = score.of_image
    units = next((run.results.folds.units for run in runs if run.results.folds.all_units is not None), None)
    if of_image is None or (units is not None and len(np.unique(units)) < 2):
        return None
    assignments, labels = runs[0].results.folds.assignments, runs[0].results.labels
    # The score is a mean of folds, of whatever size.
    weights = np.stack([len(labels) / (len(sizes) * sizes)[row] for row in assignments for sizes in [np.bincount(row)]])
    values = [
        np.mean([of_image(repeat, labels) for repeat in run.results.out_of_fold] * weights, axis=0) for run in runs
    ]
    return allowing_for_the_choice(score.sign * np.stack(values), units, sign=score.sign)


def allowing_for_the_choice(
    values: NDArray[np.float64], units: NDArray[np.int64] | None = None, *, sign: int = 1, draws: int = DRAWS
) -> Allowed:
    """Estimate what the best of C procedures is worth, by the bootstrap that repeats the choice (BBC-CV).

    In each draw of images, with replacement, the best on the drawn ones is chosen, and scored on those that were not
    drawn. Nothing is trained. The interval has the 2.5th and the 97.5th percentile of the draws.

    Parameters
    ----------
    values : (C, N) float
        What each image adds out of fold, whose mean is the score, greater is better; the mean over repeats.
    units : (N,) int, optional
        Images of one number are drawn together; by default each is on its own.
    sign : int
        By which the result is multiplied again.
    draws : int

    Notes
    -----
    Source: Tsamardinos, Greasidou and Borboudakis, "Bootstrapping the out-of-sample predictions for efficient and
    accurate cross-validation", Machine Learning 107 (2018).
    """
    n = values.shape[1]
    _, unit, sizes = np.unique(np.arange(n) if units is None else units, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(unit, row) for row in values], axis=1)  # (units, C)
    random, scores = np.random.default_rng(0), []
    for drawn in _draws(len(sizes), draws, random):
        chosen = (drawn @ sums / (drawn @ sizes)[:, np.newaxis]).argmax(axis=1)
        left = (drawn == 0).astype(np.float64)
        held_out = left @ sums / (left @ sizes)[:, np.newaxis]
        scores.append(held_out[np.arange(len(chosen)), chosen])
    found = sign * np.concatenate(scores)
    low, high = np.percentile(found, [2.5, 97.5])
    return Allowed(float(found.mean()), float(low), float(high), draws)


def _draws(n: int, draws: int, random: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """How often each of n is drawn, a row a draw, some rows at a time; never all of them, so that some are left."""
    rows = []
    while draws:
        row = np.bincount(random.integers(n, size=n), minlength=n)
        if (row == 0).any():
            rows.append(row)
            draws -= 1
        if len(rows) == _AT_A_TIME or not draws:
            yield np.array(rows, dtype=np.float64)
            rows = []
