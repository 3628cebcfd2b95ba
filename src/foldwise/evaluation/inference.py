"""Across folds and between runs: intervals and tests. Pure functions on arrays.

The scores of the folds of one cross-validation are correlated, as their training sets overlap. The plain t-test takes
them for independent and calls noise a difference; everything here that speaks of folds is corrected for that.

In what follows J is folds times repeats, and `test_train_ratio` is n_test / n_train of one fold: 1 / (k - 1) for
k-fold, repeated or not. Bad arguments raise ValueError.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeanInterval:
    """Mean and sample standard deviation (ddof 1) of the fold scores, and the interval of the mean."""

    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Proportion:
    """A proportion with its interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """Mean difference with its interval, and the two-sided test of no difference."""

    mean: float
    low: float
    high: float
    t: float
    df: int
    p: float
    smallest_visible: float  # half the interval: with this spread, a mean difference beyond it would have been seen


@dataclass(frozen=True)
class Posterior:
    """Probabilities that B is worse than A, practically the same, or better; they sum to 1."""

    p_worse: float
    p_same: float
    p_better: float


@dataclass(frozen=True)
class McNemar:
    """Images that only A, or only B, classifies correctly, and the exact two-sided p-value."""

    only_a: int
    only_b: int
    p: float


def mean_interval(
    scores: Array,
    test_train_ratio: float,
    *,
    confidence: float = 0.95,
    resolution: float = 0.0,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> MeanInterval:
    """Interval of a procedure's expected score, from its scores (J,) on J >= 2 folds, cut to `bounds`.

    Student's t with J - 1 degrees of freedom and the variance s^2 (1/J + n_test/n_train): the corrected resampled t of
    Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52 (2003), used for repeated k-fold
    as by Bouckaert and Frank (PAKDD 2004). Exact if scores are normal and each two correlate by n_test / n, that is
    1/k; with real learners it is mostly less, and the interval of a single k-fold is too wide.

    `resolution` is the smallest step of a score, 1 / n_test for an accuracy. Folds can agree by chance, above all if
    few or without errors, and s = 0 would make everything certain; so s is taken to be resolution * sqrt(n_test / n)
    at least, the spread that one image answered otherwise makes. `std` in the result is s as it is.
    """
    mean, std, error, df = _moments(scores, test_train_ratio, resolution)
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * error
    low, high = np.clip([mean - half, mean + half], *bounds)
    return MeanInterval(mean=mean, std=std, low=float(low), high=float(high))


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Proportion:
    """Wilson's score interval of a proportion, `successes` of n >= 1 independent trials; it stays within [0, 1].

    For pooled out-of-fold answers, one per image. It takes the models as given: it says how they would do on other
    images, not how the procedure would on another training set. Source: Wilson (1927), JASA 22; method 3 of Newcombe
    (1998), Statistics in Medicine 17.
    """
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Proportion(estimate=successes / n, low=float(interval.low), high=float(interval.high))


def paired_t_test(
    differences: Array, test_train_ratio: float, *, confidence: float = 0.95, resolution: float = 0.0
) -> PairedTest:
    """Corrected paired t-test of two procedures on the same folds: `differences` (J,) are B's scores minus A's.

    Assumptions, source and the other parameters are those of `mean_interval`; p < 1 - confidence exactly where the
    interval leaves out 0. Differences that are all 0 give t = 0 and p = 1. Where they are all the same but not 0, and
    `resolution` is 0, there is no spread to judge by: t is infinite and p is 0.
    """
    mean, _, error, df = _moments(differences, test_train_ratio, resolution)
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * error
    t = mean / error if error else float(np.copysign(np.inf, mean)) if mean else 0.0
    p = float(2 * stats.t.sf(abs(t), df))
    return PairedTest(mean=mean, low=mean - half, high=mean + half, t=t, df=df, p=p, smallest_visible=half)


def bayesian_t_test(differences: Array, test_train_ratio: float, rope: float, *, resolution: float = 0.0) -> Posterior:
    """Bayesian correlated t-test: `differences` (J,) are B's scores minus A's; within +-`rope` is practically the same.

    The posterior of the true difference is Student's t with J - 1 degrees of freedom, centred at the mean, of squared
    scale s^2 (1/J + rho / (1 - rho)) with the correlation rho = n_test / n, so rho / (1 - rho) = n_test / n_train.
    Assumptions and the other parameters are those of `mean_interval`; `rope` >= 0, in units of the score.

    Source: Corani and Benavoli, Machine Learning 100 (2015); Benavoli, Corani, Demsar and Zaffalon, "Time for a
    Change", JMLR 18(77) (2017).
    """
    if rope < 0:
        raise ValueError(f"rope must not be negative, got {rope}")
    mean, _, error, df = _moments(differences, test_train_ratio, resolution)
    if error == 0:
        return Posterior(p_worse=float(mean < -rope), p_same=float(abs(mean) <= rope), p_better=float(mean > rope))
    worse, better = stats.t.cdf(-rope, df, mean, error), stats.t.sf(rope, df, mean, error)
    return Posterior(p_worse=float(worse), p_same=max(0.0, float(1 - worse - better)), p_better=float(better))


def mcnemar(a_correct: Array, b_correct: Array) -> McNemar:
    """McNemar's exact test on bool answers (n,) to the same images: a binomial test of those that differ.

    Images must be independent, so give it one answer for each: one repeat. It takes the models as given, and says
    nothing of other training sets. Source: McNemar (1947), Psychometrika 12; for classifiers, Dietterich (1998),
    Neural Computation 10.
    """
    if a_correct.shape != b_correct.shape:
        raise ValueError(f"answers to the same images differ in shape: {a_correct.shape} and {b_correct.shape}")
    only_a = int(np.count_nonzero(a_correct & ~b_correct))
    only_b = int(np.count_nonzero(~a_correct & b_correct))
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a=only_a, only_b=only_b, p=p)


def holm(p_values: Sequence[float] | Array) -> FloatArray:
    """Adjust p-values (m,) for m comparisons by Holm's step-down, in the order given.

    Bounds the chance of even one false alarm, whatever the dependence. Source: Holm (1979), Scand. J. Statistics 6.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p-values must lie in [0, 1], got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def _moments(scores: Array, test_train_ratio: float, resolution: float) -> tuple[float, float, float, int]:
    """Mean, sample standard deviation, corrected standard error of the mean, degrees of freedom."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < 2 or not np.all(np.isfinite(scores)):
        raise ValueError(f"needs at least two finite scores, one per fold, got {scores.tolist()}")
    # equal differences of accuracies are equal only up to rounding
    std = float(scores.std(ddof=1)) if np.ptp(scores) > 1e-12 else 0.0
    least = resolution * np.sqrt(test_train_ratio / (1 + test_train_ratio))
    error = max(std, least) * np.sqrt(1 / len(scores) + test_train_ratio)
    return float(scores.mean()), std, float(error), len(scores) - 1
