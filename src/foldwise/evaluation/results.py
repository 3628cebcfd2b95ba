"""What a run left behind, joined and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foldwise.base.errors import FoldwiseError
from foldwise.data.folds import Folds
from foldwise.evaluation import scores
from foldwise.evaluation.inference import Estimate, corrected_t, image_t
from foldwise.evaluation.scores import SCORES, Labels, LogProbabilities, Score

OUT_OF_FOLD = "out of fold"
ENSEMBLE = "test set (ensemble)"

Predictions = Mapping[str, tuple[LogProbabilities, Labels]]


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOut:
    """What a run left behind of its N training images, each held out once in every repeat.

    Attributes
    ----------
    folds : Folds
    labels : int64 array, shape (N,)
    out_of_fold : float32 array, shape (repeats, N, classes)
        Log-probabilities of each image from the model that did not see it.
    scores : DataFrame
        `scores/folds.csv`, a row for each fold.
    primary : Score
        The score by which the run is judged.
    """

    folds: Folds
    labels: Labels
    out_of_fold: NDArray[np.float32]
    scores: pd.DataFrame
    primary: Score = SCORES["accuracy"]

    def check(self, remedy: str) -> None:
        """Raise FoldwiseError, which ends with `remedy`, if the parts are not all of the same data and folds."""
        if list(zip(self.scores["repeat"], self.scores["fold"], strict=True)) != list(self.folds):
            raise FoldwiseError(f"the scores are not of these folds: {remedy}")
        for predictions, shape in self._expected_shapes():
            if predictions.shape != shape:
                raise FoldwiseError(f"the predictions are not of this data and these folds: {remedy}")
            if not np.isfinite(predictions).all():
                raise FoldwiseError(f"the predictions are not all finite: {remedy}")

    def _expected_shapes(self) -> list[tuple[NDArray[np.float32], tuple[int, ...]]]:
        return [(self.out_of_fold, (*self.folds.assignments.shape, self.out_of_fold.shape[-1]))]

    @property
    def shown(self) -> list[Score]:
        """The scores that plots and tables show."""
        return [score for score in SCORES.values() if score.always_shown or score == self.primary]

    @property
    def test_train_ratio(self) -> float:
        """Held-out images for each training image, of the largest fold.

        Where groups make folds unequal, the scores of small folds scatter more than the t distribution allows for: with
        the mean of the folds, 95 % intervals of simulated learners held the truth in 92 to 94 % only, with the largest
        in 94 to 97 % (tests/evaluation/test_inference_simulations.py).
        """
        held_out = max(int(np.bincount(row).max()) for row in self.folds.assignments)
        return held_out / (len(self.labels) - held_out)

    def step(self, score: Score) -> float:
        """Smallest step of a score on the smallest fold."""
        return score.step(int(self.scores["n"].min()))

    def values(self, score: Score) -> NDArray[np.float64]:
        """The score of each fold that has it."""
        return self.scores[score.name].dropna().to_numpy(dtype=np.float64)

    def estimate(self, score: Score, less: "HeldOut | None" = None) -> Estimate | None:
        """Estimate a score, or by how much it is above that of another run on the same folds.

        By the images of a single k-fold where the score is a mean over them, else by the folds alone; None where fewer
        than two folds have it.
        """
        of_folds = self.scores[score.name] - (less.scores[score.name] if less else 0)
        known, step = of_folds.dropna().to_numpy(dtype=np.float64), self.step(score)
        if len(known) < 2:
            return None
        if score.of_image is None or len(self.folds.assignments) > 1 or len(known) < len(of_folds):
            return corrected_t(known, self.test_train_ratio, resolution=step)
        first, *others = (score.of_image(run.out_of_fold[0], run.labels) for run in (self, less) if run)
        older = less is not None and self.folds.all_units is None  # which tell nothing of units
        return image_t(
            known,
            first - sum(others),
            self.folds.assignments[0],
            self.test_train_ratio,
            units=(less if older and less else self).folds.units,
            resolution=step,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Results(HeldOut):
    """All that a run left behind, of N training images, M test images and J models.

    Attributes
    ----------
    epochs, steps : DataFrame
        `curves/epochs.csv` and `curves/steps.csv`.
    classes : sequence of str
    test : float32 array, shape (J, M, classes)
        Log-probabilities of each test image from every fold's model.
    test_labels : int64 array, shape (M,)
    temperature : float
        By which `test` was rescaled; 1 as the models gave it.
    names : sequence of str, optional
        Files of the training images.
    audit : sequence of dict
        The findings of `audit.json`.
    """

    epochs: pd.DataFrame
    steps: pd.DataFrame
    classes: Sequence[str]
    test: NDArray[np.float32]
    test_labels: Labels
    temperature: float = 1.0
    names: Sequence[str] | None = None
    audit: Sequence[Mapping[str, Any]] = ()

    def name(self, index: int) -> str:
        """Name a training image, by its index where it has no file."""
        return f"#{index}" if self.names is None else self.names[index]

    def _expected_shapes(self) -> list[tuple[NDArray[np.float32], tuple[int, ...]]]:
        classes = len(self.classes)
        return [
            (self.out_of_fold, (*self.folds.assignments.shape, classes)),
            (self.test, (len(self.folds), len(self.test_labels), classes)),
        ]

    def predictions(self) -> Predictions:
        """Give log-probabilities and labels: out of fold, the mean of the repeats; on a test set, the ensemble."""
        predictions = {OUT_OF_FOLD: (scores.ensemble(self.out_of_fold), self.labels)}
        if len(self.test_labels):
            predictions[ENSEMBLE] = scores.ensemble(self.test), self.test_labels
        return predictions

    def units(self) -> dict[str, NDArray[np.int64]]:
        """Give the units of the images of each of `predictions`, where they are known."""
        known = {OUT_OF_FOLD: self.folds.units, ENSEMBLE: self.folds.test_units}
        return {name: units for name, units in known.items() if len(units)}

    @property
    def test_apart(self) -> NDArray[np.bool_]:
        """Which test images have neither a copy nor their group in training, (M,)."""
        return ~np.isin(self.folds.test_units, self.folds.units)
