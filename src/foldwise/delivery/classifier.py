"""One network, or the folds' models together, from raw pixels to calibrated probabilities."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays
from foldwise.delivery.card import Network
from foldwise.learning import models
from foldwise.learning.networks import ImageForm
from foldwise.learning.prediction import mean_logits


class Classifier(nn.Module):
    """Give logits and probabilities, (B, classes), of raw pixels, (B, C, H, W) uint8; of several models each one's.

    Several models' probabilities are averaged, as for the ensemble on the test set, and the temperature comes after
    that: it then changes no class.
    """

    def __init__(self, models: Sequence[nn.Module], augment: Literal["none", "shift"], temperature: float) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.augment: Literal["none", "shift"] = augment
        self.temperature = temperature

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Give logits, probabilities and, of several models, each one's probabilities, (B, models, classes)."""
        each = torch.stack([mean_logits(model, pixels, self.augment).float() for model in self.models], dim=1)
        logits = torch.logsumexp(torch.log_softmax(each, dim=2), dim=1) / self.temperature
        answers = logits, torch.softmax(logits, dim=1)
        return answers if len(self.models) == 1 else (*answers, torch.softmax(each / self.temperature, dim=2))


def classifier(network: Network, form: ImageForm, weights: Arrays) -> Classifier:
    """Make a classifier, ready to predict.

    Parameters
    ----------
    network : Network
        Its entry in the card.
    form : ImageForm
    weights : dict of arrays
        Those of each member, under their own names after the member's.

    Raises
    ------
    FoldwiseError
        If the weights are not those of the network.
    """
    made = []
    for member in network.members:
        own = {name.removeprefix(member): array for name, array in weights.items() if name.startswith(member)}
        try:
            mean, std = (own[f"0.{name}"].ravel().tolist() for name in ("mean", "std"))
        except KeyError as error:
            raise FoldwiseError("holds the weights of another network") from error
        model = models.build(network.name, form, mean, std, network.options)
        models.load_weights(model, own)
        made.append(model)
    return Classifier(made, network.augment, network.temperature).eval()
