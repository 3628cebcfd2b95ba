"""Predicting with one fold's model.

PyTorch is loaded where a fold is predicted, in the workers: it takes seconds, and a stage itself needs none of it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays
from foldwise.base.params import Params
from foldwise.data.folds import Fold, Folds
from foldwise.data.images import Images


@dataclass(frozen=True)
class PredictFold:
    """Predict one fold's held-out images and the test images.

    Attributes
    ----------
    images : Images
    folds : Folds
    params : Params
    features : (N + M, V, F) float32 array, optional
        What the frozen part of the network makes of the training and the test images.
    """

    images: Images
    folds: Folds
    params: Params
    features: NDArray[np.float32] | None = None

    def __call__(self, fold: Fold, job: object, weights: Arrays) -> Arrays:
        """Give float32 log-probabilities (n, classes): `held_out`, ascending by index, and `test`, if there are any."""
        import torch

        from foldwise.learning import frozen, models, starting
        from foldwise.learning.devices import prepare
        from foldwise.learning.prediction import log_probabilities

        device = prepare(self.params.compute)
        named, data = self.params.model, self.images
        model = starting.fresh(self.params, data)
        try:
            models.load_weights(model, weights)
        except FoldwiseError as error:
            raise FoldwiseError(f"the model of {fold} {error}: run `dvc repro -f -s train`") from error
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        held_out = torch.from_numpy(self.folds.held_out(fold))
        augment, predicted = self.params.evaluate.augment, {}
        train: NDArray[Any] = data.train_images
        test: NDArray[Any] = data.test_images
        predicting = model
        if self.features is not None:
            last = models.last_layers(named.name, models.form_of(data), named.options)
            predicting = frozen.on_features(model, last[0])
            train, test = np.split(self.features, [len(train)])
        for name, images, chosen in (("held_out", train, held_out), ("test", test, None)):
            if len(images if chosen is None else chosen):
                found = log_probabilities(predicting, torch.from_numpy(images), augment, chosen)
                predicted[name] = found.cpu().numpy()
        if not all(np.isfinite(values).all() for values in predicted.values()):
            is_whole = all(weight.isfinite().all() for weight in model.state_dict().values())
            # Training writes no weights that are not finite, so such a file was damaged later.
            damaged = "run `dvc repro -f -s train`"
            what = "lower train.lr, or mend the network" if is_whole else damaged
            raise FoldwiseError(f"the model of {fold} gives predictions that are not finite: {what}")
        return predicted
