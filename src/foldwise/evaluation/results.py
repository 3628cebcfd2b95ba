"""All that a run left behind, joined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foldwise.base.errors import FoldwiseError
from foldwise.data.folds import Folds
from foldwise.data.images import Images
from foldwise.evaluation import scores
from foldwise.evaluation.scores import Labels, LogProbabilities

OUT_OF_FOLD = "out of fold"
ENSEMBLE = "test set (ensemble)"

Predictions = Mapping[str, tuple[LogProbabilities, Labels]]


@dataclass(frozen=True)
class Results:
    """What `train` and `evaluate` left behind, of N training images, M test images and J models.

    Attributes
    ----------
    epochs, steps, scores : DataFrame
        `curves/epochs.csv`, `curves/steps.csv` and `scores/folds.csv`.
    assignments : int32 array, shape (repeats, N)
        The fold that holds each image out.
    labels, test_labels : int64 arrays, shapes (N,) and (M,)
    classes : sequence of str
    out_of_fold : float32 array, shape (repeats, N, classes)
        Log-probabilities of each training image from the model that did not see it.
    test : float32 array, shape (J, M, classes)
        Log-probabilities of each test image from every fold's model.
    temperature : float
        By which `test` was rescaled; 1 as the models gave it.
    """

    epochs: pd.DataFrame
    steps: pd.DataFrame
    scores: pd.DataFrame
    assignments: NDArray[np.int32]
    labels: Labels
    classes: Sequence[str]
    out_of_fold: NDArray[np.float32]
    test: NDArray[np.float32]
    test_labels: Labels
    temperature: float = 1.0

    def predictions(self) -> Predictions:
        """Give log-probabilities and labels: out of fold, the mean of the repeats; on the test set, the ensemble."""
        return {
            OUT_OF_FOLD: (scores.ensemble(self.out_of_fold), self.labels),
            ENSEMBLE: (scores.ensemble(self.test), self.test_labels),
        }

    @classmethod
    def of(
        cls,
        data: Images,
        folds: Folds,
        epochs: pd.DataFrame,
        steps: pd.DataFrame,
        fold_scores: pd.DataFrame,
        out_of_fold: NDArray[np.float32],
        test: NDArray[np.float32],
    ) -> Self:
        """Join the parts of one run.

        Raises
        ------
        FoldwiseError
            If they are not all of this data and these folds.
        """
        order, classes = list(folds), len(data.classes)
        shapes = (*folds.assignments.shape, classes), (len(order), len(data.test_labels), classes)
        if (out_of_fold.shape, test.shape) != shapes:
            raise FoldwiseError("the predictions are not of this data and these folds: run `dvc repro -f -s evaluate`")
        if list(zip(fold_scores["repeat"], fold_scores["fold"], strict=True)) != order:
            raise FoldwiseError("the scores are not of these folds: run `dvc repro -f -s evaluate`")
        if not np.isfinite(out_of_fold).all() or not np.isfinite(test).all():
            raise FoldwiseError("the predictions are not all finite: run `dvc repro -f -s evaluate`")
        return cls(
            epochs,
            steps,
            fold_scores,
            folds.assignments,
            data.train_labels,
            data.classes,
            out_of_fold,
            test,
            data.test_labels,
        )
