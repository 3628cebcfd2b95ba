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
class Posterior:
    """Probabilities that B is worse than A, practically the same, or better; they sum to 1."""

    p_worse: float
    p_same: float
    p_better: float


@dataclass(frozen=True)
class Estimate:
    """A mean over folds, and how far the truth may be from it: Student's t around it.

    Attributes
    ----------
    mean : float
    std : float
        Sample standard deviation (ddof 1) of the fold scores.
    error : float
        Standard error of the mean, corrected.
    df : float
        Degrees of freedom.
    scatter : float
        Standard error without the correction, by image or by fold: so much the mean of networks does scatter
        (`docs/statistics.md`).
    """

    mean: float
    std: float
    error: float
    df: float
    scatter: float

    def half(self, confidence: float = 0.95) -> float:
        """Half the interval: a mean difference beyond it is seen."""
        return float(stats.t.ppf((1 + confidence) / 2, self.df)) * self.error

    def interval(
        self, confidence: float = 0.95, bounds: tuple[float, float] = (-np.inf, np.inf)
    ) -> tuple[float, float]:
        """Lower and upper end, cut to `bounds`."""
        half = self.half(confidence)
        low, high = np.clip([self.mean - half, self.mean + half], *bounds)
        return float(low), float(high)

    def seen(self, power: float = 0.8) -> float:
        """True difference that has this chance of lying outside the interval of no difference."""
        return self.half() + float(stats.norm.ppf(power)) * self.scatter

    @property
    def t(self) -> float:
        """Distance from 0 in standard errors: infinite where there is no error, and 0 where there is no mean either."""
        if self.error:
            return self.mean / self.error
        return float(np.copysign(np.inf, self.mean)) if self.mean else 0.0

    @property
    def p(self) -> float:
        """Of the two-sided test that the truth is 0: below 1 - confidence exactly where that interval leaves out 0."""
        return float(2 * stats.t.sf(abs(self.t), self.df))

    def posterior(self, rope: float) -> Posterior:
        """Probabilities that the truth is below, within or above +-`rope`, which is practically the same.

        The distribution of the truth is that of the interval. With `corrected_t` that is the Bayesian correlated t-test
        of Corani and Benavoli, Machine Learning 100 (2015); see Benavoli, Corani, Demsar and Zaffalon, "Time for a
        Change", JMLR 18(77) (2017).
        """
        if rope < 0:
            raise ValueError(f"rope must not be negative, got {rope}")
        if self.error == 0:
            worse, better = float(self.mean < -rope), float(self.mean > rope)
        else:
            worse = float(stats.t.cdf(-rope, self.df, self.mean, self.error))
            better = float(stats.t.sf(rope, self.df, self.mean, self.error))
        return Posterior(p_worse=worse, p_same=max(0.0, 1 - worse - better), p_better=better)


@dataclass(frozen=True)
class Proportion:
    """A proportion with its interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """Images that only A, or only B, classifies correctly, and the exact two-sided p-value."""

    only_a: int
    only_b: int
    p: float


def corrected_t(scores: Array, test_train_ratio: float, *, resolution: float = 0.0) -> Estimate:
    """Estimate a procedure's expected score from its scores (J,) on J >= 2 folds, or B's less A's from differences.

    Student's t with J - 1 degrees of freedom and the variance s^2 (1/J + n_test/n_train): the corrected resampled t of
    Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52 (2003), used for repeated k-fold
    as by Bouckaert and Frank (PAKDD 2004). Exact if scores are normal and each two correlate by n_test / n, that is
    1/k; with real learners it is mostly less, and the interval of a single k-fold is too wide.

    `resolution` is the smallest step of a score, 1 / n_test for an accuracy. Folds can agree by chance, above all if
    few or without errors, and s = 0 would make everything certain; so s is taken to be resolution * sqrt(n_test / n)
    at least, the spread that one image answered otherwise makes. `std` in the result is s as it is.
    """
    mean, std = _moments(scores)
    least = resolution * np.sqrt(test_train_ratio / (1 + test_train_ratio))
    error = max(std, least) * np.sqrt(1 / len(scores) + test_train_ratio)
    return Estimate(mean, std, float(error), len(scores) - 1, float(max(std, least) / np.sqrt(len(scores))))


def image_t(
    scores: Array,
    values: Array,
    folds: Array,
    test_train_ratio: float,
    *,
    units: Array | None = None,
    resolution: float = 0.0,
) -> Estimate:
    """Estimate the same from the images of a single k-fold, whose J scores have but J - 1 degrees of freedom.

    Parameters
    ----------
    scores : (J,) float
        Of the folds, or B's less A's.
    values : (N,) float
        What each image adds, whose mean in a fold is its score.
    folds : (N,) int
        The fold that holds each image out, 0 to J - 1.
    test_train_ratio, resolution : float
        As in `corrected_t`.
    units : (N,) int, optional
        Images of one number are not independent; by default each is on its own.

    Notes
    -----
    The wider one of two intervals. One has the variance of the images, as if the models were given (Bayle, Bayle,
    Janson and Mackey, "Cross-validation Confidence Intervals for Test Error", NeurIPS 2020), made larger by the factor
    of Nadeau and Bengio, 1 + J n_test/n_train, and as many degrees of freedom as there are units, less one; of units of
    unequal weight, their effective number (Kish, Survey Sampling, 1965). The other is the plain t interval of the J
    scores: chance in training is not in the images. The two together are not in the literature; `docs/statistics.md`
    has the evidence.
    """
    mean, std = _moments(scores)
    j, (_, unit) = len(scores), np.unique(np.arange(len(values)) if units is None else units, return_inverse=True)
    weights = 1 / (j * np.bincount(folds, minlength=j)[folds])
    of_units = np.bincount(unit, weights * (values - np.sum(weights * values)))
    n = 1 / np.sum(np.bincount(unit, weights) ** 2)
    if n < 2:  # nearly all images are of one unit
        return corrected_t(scores, test_train_ratio, resolution=resolution)
    least = resolution / j * len(values) / n  # one unit answered otherwise
    independent = float(max(np.sqrt(n / (n - 1) * np.sum(of_units**2)), least))
    by_fold = float(std / np.sqrt(j))
    scatter = max(independent, by_fold)
    images = Estimate(mean, std, independent * float(np.sqrt(1 + j * test_train_ratio)), float(n - 1), scatter)
    plain = Estimate(mean, std, by_fold, j - 1, scatter)
    return max(images, plain, key=Estimate.half)


def repeated(estimate: Estimate, now: int, folds: int, test_train_ratio: float) -> Estimate:
    """Foresee what `corrected_t` of so many folds would be, where folds scatter as the `now` of an estimate do."""
    std = estimate.scatter * np.sqrt(now)
    error = std * np.sqrt(1 / folds + test_train_ratio)
    return Estimate(estimate.mean, float(std), float(error), folds - 1, float(std / np.sqrt(folds)))


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Proportion:
    """Wilson's score interval of a proportion, `successes` of n >= 1 independent trials; it stays within [0, 1].

    For pooled out-of-fold answers, one per image. It takes the models as given: it says how they would do on other
    images, not how the procedure would on another training set. Source: Wilson (1927), JASA 22; method 3 of Newcombe
    (1998), Statistics in Medicine 17.
    """
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Proportion(estimate=successes / n, low=float(interval.low), high=float(interval.high))


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


def _moments(scores: Array) -> tuple[float, float]:
    """Mean and sample standard deviation."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < 2 or not np.all(np.isfinite(scores)):
        raise ValueError(f"needs at least two finite scores, one per fold, got {scores.tolist()}")
    # equal differences of accuracies are equal only up to rounding
    return float(scores.mean()), float(scores.std(ddof=1)) if np.ptp(scores) > 1e-12 else 0.0
