"""Is B better than A? Runs in, a frozen answer out; no files, no printing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foldwise.compare.lockfile import describe
from foldwise.compare.runs import SCORES, Run
from foldwise.evaluation.inference import (
    McNemar,
    MeanInterval,
    PairedTest,
    Posterior,
    bayesian_t_test,
    holm,
    mcnemar,
    mean_interval,
    paired_t_test,
)

Verdict = Literal["better", "worse", "no_difference", "not_paired"]

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
        Folds, and how often images were dealt to them.
    means : dict of str to float or None
        Mean over the folds of each of `SCORES`, of those folds that have it.
    accuracy : MeanInterval
        Of this run alone.
    """

    name: str
    commit: str | None
    k: int
    repeats: int
    means: dict[str, float | None]
    accuracy: MeanInterval


@dataclass(frozen=True)
class Pairing:
    """What may be said of two runs on the same folds; differences are B's score less A's.

    Attributes
    ----------
    tests : dict of str to PairedTest or None
        Corrected paired t-test of each of `SCORES`; None where fewer than two folds have it in both runs.
    p : float
        Of the test on accuracy, adjusted where several runs are compared with A: it decides the verdict.
    posterior : Posterior
        Of the difference in accuracy.
    mcnemar : McNemar
        On the out-of-fold answers of the first repeat, as it needs one answer for each image.
    identical : bool
        Whether predictions and accuracies are the same to the bit: then there is nothing to doubt.
    """

    tests: dict[str, PairedTest | None]
    p: float
    posterior: Posterior
    mcnemar: McNemar
    identical: bool

    @property
    def accuracy(self) -> PairedTest:
        """The test on accuracy, which every fold has."""
        test = self.tests["accuracy"]
        assert test is not None
        return test


@dataclass(frozen=True)
class Comparison:
    """Two runs, what differs between them, and what follows.

    Attributes
    ----------
    a, b : Side
    parameters : dict of str to dict
        Parameters that differ, each with its value in "a" and in "b"; a run that does not know the parameter has none.
    sources : tuple of str
        Files of code or pins that differ.
    notes : tuple of str
        What the reader should know besides.
    unlike : tuple of str
        Which of "data" and "folds" differ; if none does, the runs are paired.
    pairing : Pairing or None
    rope : float
        Differences in accuracy of up to so many points (hundredths) are practically none.
    """

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
        """What the corrected paired test on accuracy says at the 5 % level."""
        if self.pairing is None:
            return "not_paired"
        if self.pairing.p >= SIGNIFICANCE:
            return "no_difference"
        return "better" if self.pairing.accuracy.mean > 0 else "worse"


def compare(a: Run, b: Run, rope: float) -> Comparison:
    """Compare B with A.

    They are paired only if digests of data and of folds agree: else differences between folds would pass for
    differences between models.

    Parameters
    ----------
    a, b : Run
    rope : float
        Differences in accuracy of up to so many points (hundredths) are practically none.
    """
    alike = {
        "data": a.digests["normalized"] == b.digests["normalized"],
        "folds": a.outcome.folds.description.sha256 == b.outcome.folds.description.sha256,
    }
    unlike = tuple(what for what, same in alike.items() if not same)
    return Comparison(
        a=_side(a),
        b=_side(b),
        parameters=_differing(a.parameters, b.parameters),
        sources=tuple(_differing(a.sources, b.sources)),
        notes=tuple(_notes(a, b)),
        unlike=unlike,
        pairing=None if unlike else _pair(a, b, rope / 100),
        rope=rope,
    )


def compare_all(first: Run, others: Sequence[Run], rope: float) -> list[Comparison]:
    """Compare each of `others` with `first` (A), the p-values that decide adjusted together by Holm's method."""
    comparisons = [compare(first, other, rope) for other in others]
    adjusted = iter(holm([found.pairing.p for found in comparisons if found.pairing]))
    return [
        replace(found, pairing=replace(found.pairing, p=float(next(adjusted)))) if found.pairing else found
        for found in comparisons
    ]


def _side(run: Run) -> Side:
    means = {name: _mean(run.outcome.scores[name].to_numpy(dtype=np.float64)) for name in SCORES}
    accuracy = run.outcome.scores["accuracy"].to_numpy(dtype=np.float64)
    interval = mean_interval(accuracy, _ratio(run), resolution=_resolution(run), clip=True)
    dealt = run.outcome.folds.description
    return Side(run.name, run.commit, dealt.k, dealt.repeats, means, interval)


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _ratio(run: Run) -> float:
    """Held-out images for each training image of a fold."""
    return 1 / (run.outcome.folds.description.k - 1)


def _resolution(run: Run) -> float:
    """Smallest step of a fold's accuracy: one image of the smallest fold."""
    return 1 / int(run.outcome.scores["n"].min())


def _pair(a: Run, b: Run, rope: float) -> Pairing:
    ratio, resolution = _ratio(a), _resolution(a)
    tests: dict[str, PairedTest | None] = {}
    for name in SCORES:
        differences = (b.outcome.scores[name] - a.outcome.scores[name]).dropna().to_numpy(dtype=np.float64)
        step = resolution if name == "accuracy" else 0.0
        tests[name] = paired_t_test(differences, ratio, resolution=step) if len(differences) > 1 else None
    in_accuracy = (b.outcome.scores["accuracy"] - a.outcome.scores["accuracy"]).to_numpy(dtype=np.float64)
    decisive = tests["accuracy"]
    assert decisive is not None
    identical = _identical(a, b) and not in_accuracy.any()
    belief = bayesian_t_test(in_accuracy, ratio, rope, resolution=resolution)
    a_right, b_right = (run.outcome.out_of_fold[0].argmax(axis=1) == run.outcome.labels for run in (a, b))
    return Pairing(
        tests=tests,
        p=decisive.p,
        posterior=Posterior(p_worse=0.0, p_same=1.0, p_better=0.0) if identical else belief,
        mcnemar=mcnemar(a_right, b_right),
        identical=identical,
    )


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = {}
    for name in sorted(a.keys() | b.keys()):
        values = {side: content[name] for side, content in (("a", a), ("b", b)) if name in content}
        if len(values) == 1 or values["a"] != values["b"]:
            found[name] = values
    return found


def _notes(a: Run, b: Run) -> Iterator[str]:
    if _identical(a, b):
        yield IDENTICAL
    for letter, run in (("A", a), ("B", b)):
        if run.changed:
            yield f"{letter} ({run.name}): {describe(run.changed)}"
        if run.unpinned:
            yield (
                f"{letter} ({run.name}): made with {run.unpinned}, not with what requirements.lock pins: "
                "`make -B .venv/installed` brings that, and `dvc repro -f` makes it again"
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
