"""Is B better than A? Runs in, a frozen answer out; no files, no printing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from foldwise.base.errors import FoldwiseError
from foldwise.compare.lockfile import describe
from foldwise.compare.runs import PRIMARY, Run
from foldwise.evaluation.inference import Estimate, McNemar, Posterior, holm, mcnemar
from foldwise.evaluation.results import HeldOut
from foldwise.evaluation.scores import SCORES, Score

Verdict = Literal["better", "worse", "practically_same", "undecided", "not_paired"]

SIGNIFICANCE = 0.05
IDENTICAL = "A and B made the same predictions, to the bit"


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Attributes
    ----------
    name : str
        What the user calls it.
    commit : str or None
        Hash of the Git commit; None for the workspace.
    k, repeats : int
        Folds of a repeat, and repeats.
    means : dict of str to float or None
        Mean of each score that is shown, over the folds that have it.
    estimates : dict of str to Estimate
        Of this run alone, for the accuracy and the primary score.
    """

    name: str
    commit: str | None
    k: int
    repeats: int
    means: dict[str, float | None]
    estimates: dict[str, Estimate]


@dataclass(frozen=True)
class ClassChange:
    """How the share of a class's images that are classified correctly differs: B's less A's.

    Attributes
    ----------
    name : str
    n : int
        Images of the class.
    a, b : float
        Share that A, and B, classify correctly, mean over folds.
    difference : Estimate
    p : float
        Of no difference, adjusted by Holm's method over the classes.
    """

    name: str
    n: int
    a: float
    b: float
    difference: Estimate
    p: float


@dataclass(frozen=True)
class Pairing:
    """What may be said of two runs on the same folds; differences are B's score less A's.

    Attributes
    ----------
    estimates : dict of str to Estimate or None
        Of the difference in each score that is shown; None where fewer than two folds have it in both runs.
    decisive : Estimate
        That of the primary score.
    p : float
        Of the decisive one, adjusted where several runs are compared with A: it decides whether one is better.
    posterior : Posterior
        Of the difference in the primary score.
    mcnemar : McNemar
        On the out-of-fold answers of the first repeat, as it needs one answer for each image.
    identical : bool
        Whether predictions and primary scores are the same to the bit: then there is nothing to doubt.
    test_train_ratio : float
    can_repeat : bool
        Whether more repeats would deal other folds.
    of_folds : tuple of float
        Differences in the primary score, fold by fold.
    classes : tuple of ClassChange
        Those of which two folds or more hold images out.
    """

    estimates: dict[str, Estimate | None]
    decisive: Estimate
    p: float
    posterior: Posterior
    mcnemar: McNemar
    identical: bool
    test_train_ratio: float
    can_repeat: bool
    of_folds: tuple[float, ...]
    classes: tuple[ClassChange, ...]


@dataclass(frozen=True)
class Comparison:
    """Two runs, what differs between them, and what follows.

    Attributes
    ----------
    primary : Score
        A's, by which both are judged.
    a, b : Side
    parameters : dict of str to dict
        Parameters that differ, each with its value in "a" and in "b"; a run that does not know the parameter has none.
    sources : tuple of str
        Folders and files of code, and pins, that differ.
    notes : tuple of str
        What the reader should know besides.
    unlike : tuple of str
        Which of "data" and "folds" differ; if none does, the runs are paired.
    pairing : Pairing or None
    rope : float
        Differences in the primary score of up to so many hundredths are practically none.
    """

    primary: Score
    a: Side
    b: Side
    parameters: dict[str, dict[str, Any]]
    sources: tuple[str, ...]
    notes: tuple[str, ...]
    unlike: tuple[str, ...]
    pairing: Pairing | None
    rope: float

    @property
    def verdict(self) -> Verdict:
        """What the interval of the difference in the primary score says.

        Within the region that does not matter: practically the same. Else, where 0 is not in it: better or worse.
        """
        if self.pairing is None:
            return "not_paired"
        if self.pairing.identical or max(map(abs, self.pairing.decisive.interval())) <= self.rope / 100:
            return "practically_same"
        if self.pairing.p >= SIGNIFICANCE:
            return "undecided"
        return "better" if self.primary.sign * self.pairing.decisive.mean > 0 else "worse"


def compare(a: Run, b: Run, rope: float) -> Comparison:
    """Compare B with A by A's primary score.

    They are paired only if digests of data and of folds agree: else differences between folds would pass for
    differences between models.

    Parameters
    ----------
    a, b : Run
    rope : float
        Differences in the primary score of up to so many hundredths are practically none.

    Raises
    ------
    FoldwiseError
        If the primary score is missing in one of the runs.
    """
    primary = a.results.primary
    what = unlike(a, b)
    return Comparison(
        primary=primary,
        a=_side(a, a),
        b=_side(b, a),
        parameters=differing(a, b),
        sources=tuple(_differing(a.sources, b.sources)),
        notes=tuple(_notes(a, b)),
        unlike=what,
        pairing=None if what else _pair(a, b, rope / 100),
        rope=rope,
    )


def compare_all(first: Run, others: Sequence[Run], rope: float) -> list[Comparison]:
    """Compare each of `others` with `first` (A), the p-values that decide adjusted together by Holm's method."""
    comparisons = [compare(first, other, rope) for other in others]
    adjusted = iter(holm([one.pairing.p for one in comparisons if one.pairing]))
    return [
        replace(one, pairing=replace(one.pairing, p=float(next(adjusted)))) if one.pairing else one
        for one in comparisons
    ]


def _side(run: Run, a: Run) -> Side:
    estimates = {}
    for score in (SCORES["accuracy"], a.results.primary):
        estimate = run.results.estimate(score)
        if estimate is None:
            raise _undefined(run, a)
        estimates[score.name] = estimate
    values = {score.name: run.results.values(score) for score in a.results.shown}
    means = {name: float(known.mean()) if len(known) else None for name, known in values.items()}
    folds = run.results.folds.description
    return Side(run.name, run.commit, folds.k, folds.repeats, means, estimates)


def _undefined(run: Run, a: Run) -> FoldwiseError:
    return FoldwiseError(
        f"{run.name}: fewer than two folds have {a.results.primary.name}, the {PRIMARY} of {a.name}: set another "
        f"there, or run {run.name} again with the code of {a.name}"
    )


def _pair(a: Run, b: Run, rope: float) -> Pairing:
    primary = a.results.primary
    estimates = {score.name: b.results.estimate(score, less=a.results) for score in a.results.shown}
    decisive = estimates[primary.name]
    if decisive is None:
        raise _undefined(b, a)
    folds = a.results.folds.description
    of_folds = b.results.scores[primary.name] - a.results.scores[primary.name]
    identical = _identical(a, b) and not of_folds.any()
    improvement = replace(decisive, mean=primary.sign * decisive.mean)
    # McNemar's test supposes that images are independent: of those that are not, the first speaks for its unit.
    known = a if b.results.folds.all_units is None else b  # older runs tell nothing of units
    first = np.unique(known.results.folds.units, return_index=True)[1]
    a_right, b_right = (run.results.out_of_fold[0, first].argmax(axis=1) == run.results.labels[first] for run in (a, b))
    return Pairing(
        estimates=estimates,
        decisive=decisive,
        p=decisive.p,
        posterior=Posterior(p_worse=0.0, p_same=1.0, p_better=0.0) if identical else improvement.posterior(rope),
        mcnemar=mcnemar(a_right, b_right),
        identical=identical,
        test_train_ratio=a.results.test_train_ratio,
        can_repeat=folds.strategy != "given" and folds.k < len(a.results.labels),
        of_folds=tuple(of_folds.dropna()),
        classes=tuple(_by_class(a, b)),
    )


def _by_class(a: Run, b: Run) -> list[ClassChange]:
    accuracy, found = SCORES["accuracy"], []
    for label, name in enumerate(a.classes):
        ours, theirs = (_of_class(run.results, label) for run in (a, b))
        difference = theirs.estimate(accuracy, less=ours) if len(ours.labels) else None
        if difference:
            before, after = (float(results.values(accuracy).mean()) for results in (ours, theirs))
            found.append(ClassChange(name, len(ours.labels), before, after, difference, difference.p))
    adjusted = holm([change.p for change in found])
    return [replace(change, p=float(p)) for change, p in zip(found, adjusted, strict=True)]


def _of_class(results: HeldOut, label: int) -> HeldOut:
    """What is known of a class's images alone."""
    among = results.labels == label
    assignments, out_of_fold = results.folds.assignments[:, among], results.out_of_fold[:, among]
    right, k = out_of_fold.argmax(axis=2) == label, results.folds.description.k
    n = np.stack([np.bincount(row, minlength=k) for row in assignments])
    correct = np.stack([np.bincount(row, of, minlength=k) for row, of in zip(assignments, right, strict=True)])
    with np.errstate(invalid="ignore"):  # a fold may hold none of them out
        table = pd.DataFrame({"n": np.maximum(n, 1).ravel(), "accuracy": (correct / n).ravel()})
    units = None if results.folds.all_units is None else results.folds.units[among]
    folds = replace(results.folds, assignments=assignments, all_units=units)
    return replace(results, folds=folds, labels=results.labels[among], out_of_fold=out_of_fold, scores=table)


def unlike(a: Run, b: Run) -> tuple[str, ...]:
    """Which of "data" and "folds" differ; if none does, the runs can be paired."""
    alike = {
        "data": a.digests["normalized"] == b.digests["normalized"],
        "folds": a.results.folds.description.sha256 == b.results.folds.description.sha256,
    }
    return tuple(what for what, same in alike.items() if not same)


def differing(a: Run, b: Run) -> dict[str, dict[str, Any]]:
    """Give the parameters of the recipes that differ, each with its value in "a" and in "b"."""
    return _differing(_of_recipe(a), _of_recipe(b))


def _of_recipe(run: Run) -> dict[str, Any]:
    """The parameters, without that which asks another question of the same results."""
    return {name: value for name, value in run.parameters.items() if name != PRIMARY}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    differing = {}
    for name in sorted(a.keys() | b.keys()):
        values = {side: content[name] for side, content in (("a", a), ("b", b)) if name in content}
        if len(values) == 1 or values["a"] != values["b"]:
            differing[name] = values
    return differing


def _notes(a: Run, b: Run) -> Iterator[str]:
    if _identical(a, b):
        yield IDENTICAL
    ours, theirs = (run.results.primary.name for run in (a, b))
    if ours != theirs:
        yield f"{PRIMARY} is {ours} in A and {theirs} in B: both are judged by that of A"
    for letter, run in (("A", a), ("B", b)):
        if run.changed:
            yield f"{letter} ({run.name}): {describe(run.changed)}"
        if run.unpinned:
            yield (
                f"{letter} ({run.name}): made with {run.unpinned}, not with what requirements.lock pins: "
                "`make -B .venv/installed` brings that, and `dvc repro -f` makes it again"
            )
    together = {run.results.folds.description.groups for run in (a, b)}
    if together == {"together", "torn"}:
        a_is = a.results.folds.description.groups == "together"
        kept, torn = ("A", "B") if a_is else ("B", "A")
        yield (
            f"{kept} holds whole groups out, and says how well images of new groups are classified; {torn} trains on "
            "other images of a group, and says that of groups it knows, which is mostly easier: their difference is "
            "what that flatters"
        )
    unlike = [
        f"{name} {version} and {b.libraries[name]}"
        for name, version in a.libraries.items()
        if b.libraries.get(name, version) != version
    ]
    if unlike:
        yield f"A and B were made with different libraries: {', '.join(unlike)}"


def _identical(a: Run, b: Run) -> bool:
    return a.digests["predictions"] == b.digests["predictions"]
