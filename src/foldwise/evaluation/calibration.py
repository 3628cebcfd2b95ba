"""How far confidence and accuracy agree, and temperatures that make them: reliability diagrams, temperature scaling."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from foldwise.data.units import effective_number
from foldwise.evaluation.scores import Labels, LogProbabilities

TEMPERATURE_BOUNDS = (0.05, 20.0)


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram, (bins,): mean confidence, accuracy, images, and how many they are worth."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]
    effective: NDArray[np.float64]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (Guo et al. 2017, equation 3): mean |accuracy - confidence| of bins, by count."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.count))


def reliability(
    log_probabilities: LogProbabilities, labels: Labels, units: NDArray[np.int64] | None = None, *, bins: int = 15
) -> Reliability:
    """Reliability diagram of the top class, in at most `bins` bins: (n, classes) and int labels (n,).

    Images of one number in `units` (n,) depend on each other; by default each is on its own.

    Images are ordered by the probability of their top class. Those of equal probability share a bin, so that the order
    in which images come changes nothing; certainties that float32 rounds to 1 are one bin. Otherwise bins have equal
    mass, or as nearly as such groups allow: bins of equal width would leave all but the last nearly empty for a good
    classifier. The noise of a bin's accuracy biases the error upwards.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2; bins of equal mass: Nguyen
    and O'Connor, EMNLP 2015.
    """
    confidence = np.exp(log_probabilities.max(axis=1).astype(np.float64))
    correct = log_probabilities.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    parts = np.split(order, _cuts(confidence[order], bins))
    return Reliability(
        confidence=np.array([confidence[part].mean() for part in parts]),
        accuracy=np.array([correct[part].mean() for part in parts]),
        count=np.array([len(part) for part in parts], dtype=np.int64),
        effective=np.array([len(part) if units is None else effective_number(units[part]) for part in parts]),
    )


def fit_temperature(log_probabilities: LogProbabilities, labels: Labels) -> float:
    """Temperature T that fits softmax(log_probabilities / T) to int labels (n,): log_probabilities (n, classes).

    It minimises the log loss, with each label taken to be right with probability (n + 1) / (n + 2), Laplace's rule of
    succession; the rest goes to the other classes in proportion to what the model gives them. Labels that are certain
    would let few or no errors send T towards 0, and one error more would then cost all that was won; n answers without
    an error say no more than that. Among many errors the one added counts for nothing. The loss is convex in 1/T, so a
    search on log T within `TEMPERATURE_BOUNDS` finds the one minimum.

    Source: Guo et al. (2017), section 4.2; a shift of logits changes no softmax, so log-probabilities serve as logits.
    Targets: Platt, "Probabilistic Outputs for Support Vector Machines" (1999), section 2.2.
    """
    logits = log_probabilities.astype(np.float64)
    given = np.arange(logits.shape[1]) == np.asarray(labels)[:, np.newaxis]
    others = softmax(np.where(given, np.finfo(np.float64).min, logits), axis=1)
    right = (len(logits) + 1) / (len(logits) + 2)
    target = (np.where(given, right, (1 - right) * others) * logits).sum(axis=1)

    def log_loss(log_t: float) -> float:
        scale = np.exp(-log_t)
        return float(np.mean(np.log(np.exp(logits * scale).sum(axis=1)) - target * scale))

    return float(np.exp(minimize_scalar(log_loss, bounds=tuple(np.log(TEMPERATURE_BOUNDS)), method="bounded").x))


def apply_temperature(
    log_probabilities: LogProbabilities, temperature: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log-probabilities (..., classes) at one temperature, or at one for each image (...); the top class stays."""
    return np.asarray(log_softmax(log_probabilities.astype(np.float64) / np.asarray(temperature)[..., None], axis=-1))


def cross_fit_temperature(
    log_probabilities: LogProbabilities, labels: Labels, assignments: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recalibrate out-of-fold log-probabilities (repeats, N, classes) so that no label is fitted to itself.

    `labels` (N,) and `assignments` (repeats, N) are int. Each fold gets the temperature fitted on the other folds of
    its repeat. Returns the recalibrated log-probabilities, float64, and the temperatures (repeats, k).
    """
    temperatures = np.empty((len(assignments), assignments.max() + 1))
    for (repeat, fold), _ in np.ndenumerate(temperatures):
        others = assignments[repeat] != fold
        temperatures[repeat, fold] = fit_temperature(log_probabilities[repeat, others], labels[others])
    return apply_temperature(log_probabilities, np.take_along_axis(temperatures, assignments, axis=1)), temperatures


def _cuts(ordered: NDArray[np.float64], bins: int) -> list[int]:
    """Where to cut ordered values into at most `bins` parts of nearly equal length, never between equal ones."""
    ends = np.append(np.flatnonzero(np.diff(ordered)) + 1, len(ordered))
    cuts = [0]
    for left in range(bins, 0, -1):
        length = -(-(len(ordered) - cuts[-1]) // left)
        after = np.searchsorted(ends, cuts[-1] + length)
        before = ends[after - 1] if after else 0
        # Cut before or after a group of equal values, whichever gives the nearer length, as a ratio.
        short = (before - cuts[-1]) * (ends[after] - cuts[-1]) > length**2
        cuts.append(int(before if short else ends[after]))
        if cuts[-1] == len(ordered):
            break
    return cuts[1:-1]
