"""A model's files: weights, ONNX, and the card with the procedure's figures and its own."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foldwise.base.errors import FoldwiseError
from foldwise.base.files import Arrays, encoded
from foldwise.base.params import Params
from foldwise.data.folds import Folds
from foldwise.data.images import Images
from foldwise.delivery.card import (
    CARD,
    ONNX,
    PAGE,
    WEIGHTS,
    Card,
    CrossValidation,
    Input,
    Network,
    OfClass,
    Proof,
    Scores,
    Trained,
    digest,
)
from foldwise.delivery.classifier import Classifier, classifier
from foldwise.delivery.onnx_file import exported
from foldwise.delivery.session import Session
from foldwise.delivery.words import page
from foldwise.evaluation import calibration, scores
from foldwise.evaluation.scores import Labels, LogProbabilities
from foldwise.evaluation.summary import pool, pooled, rounded
from foldwise.learning.devices import prepare
from foldwise.learning.models import form_of
from foldwise.learning.prediction import BATCH_SIZE

# Images on which the ONNX file is compared with PyTorch, and the difference of a probability that is too much.
PROVED_ON, MOST = 1000, 1e-4


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known when a model is made.

    Attributes
    ----------
    out_of_fold : (repeats, N, classes) float32
        Log-probabilities of the folds' models.
    test : (M, classes) float32
        Log-probabilities of this model on the test images, before the temperature; M may be 0.
    accuracy : mapping
        Over the folds, as in the run's summary.
    audit : sequence of str
        What the audit of the data found.
    epochs : int
        That it was trained for.
    """

    out_of_fold: NDArray[np.float32]
    test: NDArray[np.float32]
    accuracy: Mapping[str, float | None]
    audit: Sequence[str]
    epochs: int


def epochs_of_folds(kept: NDArray[np.int64]) -> int:
    """Median of the epochs whose weights folds kept under early stopping; of two in the middle the longer."""
    return int(np.quantile(kept, 0.5, method="higher"))


def make(params: Params, data: Images, folds: Folds, members: Mapping[str, Arrays], known: Known) -> dict[str, bytes]:
    """Make the files of a model.

    Parameters
    ----------
    params : Params
    data : Images
    folds : Folds
    members : dict of str to arrays
        Each model's weights, and what comes before their names.
    known : Known

    Returns
    -------
    dict of str to bytes
        By name.

    Raises
    ------
    FoldwiseError
        If the network cannot be put into an ONNX file, or that gives other probabilities.
    """
    prepare(params.compute.model_copy(update={"device": "cpu"}))
    weights = {member + name: array for member, own in members.items() for name, array in own.items()}
    form = form_of(data)
    network = _network(params, form.border, list(members), known.out_of_fold, data.train_labels)
    made = classifier(network, form, weights)
    content = {WEIGHTS: encoded(weights), ONNX: exported(made, form)}
    card = Card(
        kind="refit" if params.final.model == "refit" else "ensemble",
        classes=list(data.classes),
        images=Input(
            channels=form.channels,
            height=form.height,
            width=form.width,
            resize=params.data.resize,
            pictures=data.pictures,
        ),
        network=network,
        data=_trained(data, known.epochs),
        cross_validation=_cross_validation(folds, data, known),
        test=_on_test(known.test, data.test_labels, network.temperature) if len(known.test) else None,
        audit=list(known.audit),
        onnx=prove(made, content[ONNX], data),
        recipe=_recipe(params),
        sha256={name: digest(file) for name, file in content.items()},
    )
    return content | {CARD: card.written(), PAGE: page(card).encode()}


def _network(params: Params, border: int, members: list[str], out_of_fold: LogProbabilities, labels: Labels) -> Network:
    """The network, with the temperature that fits the out-of-fold log-probabilities."""
    return Network(
        name=params.model.name,
        options=params.model.options,
        border=border,
        members=members,
        augment=params.evaluate.augment,
        temperature=calibration.fit_temperature(*pool(out_of_fold, labels)),
    )


def prove(classifier: Classifier, content: bytes, data: Images) -> Proof:
    """Compare an ONNX file with PyTorch on images spread evenly over the test set, or the training set without one.

    Raises
    ------
    FoldwiseError
        If a probability differs by more than `MOST`.
    """
    images = data.test_images if len(data.test_images) else data.train_images
    images = images[np.linspace(0, len(images) - 1, min(PROVED_ON, len(images))).astype(int)]
    session, largest = Session(content, data.shape, len(data.classes)), 0.0
    for start in range(0, len(images), BATCH_SIZE):
        batch = np.ascontiguousarray(images[start : start + BATCH_SIZE])
        with torch.inference_mode():
            expected = classifier(torch.from_numpy(batch))[1].numpy()
        largest = max(largest, float(np.abs(session.probabilities(batch) - expected).max()))
    if not largest <= MOST:
        raise FoldwiseError(
            f"{ONNX} gives probabilities that differ from PyTorch's by {largest:.2g}, which is more than {MOST}: "
            "set final.model to none, or model.name to another network"
        )
    return Proof(images=len(images), largest_difference=round(largest, 9))


def _cross_validation(folds: Folds, data: Images, known: Known) -> CrossValidation:
    out_of_fold, labels, description = known.out_of_fold, data.train_labels, folds.description
    rescaled, _ = calibration.cross_fit_temperature(out_of_fold, labels, folds.assignments)
    return CrossValidation(
        **description.model_dump(include={"k", "repeats", "strategy", "groups", "copies"}),
        accuracy=dict(known.accuracy),
        out_of_fold=_scores(*pool(rescaled, labels)),
        calibration_error_before=pooled(pool(out_of_fold, labels), ())["calibration_error"],
        by_class=_by_class(scores.ensemble(out_of_fold), labels, data.classes),
    )


def _on_test(log_probabilities: LogProbabilities, labels: Labels, temperature: float) -> Scores:
    return _scores(calibration.apply_temperature(log_probabilities, temperature), labels)


def _trained(data: Images, epochs: int) -> Trained:
    found = hashlib.sha256(np.ascontiguousarray(data.train_images).data)
    found.update(np.ascontiguousarray(data.train_labels).data)
    return Trained(name=data.name, sha256=found.hexdigest(), images=len(data.train_labels), epochs=epochs)


def _recipe(params: Params) -> dict[str, Any]:
    """The parameters that decide what comes of training."""
    sections = params.model_dump(mode="json", include={"normalize", "model", "train", "evaluate"})
    del sections["evaluate"]["primary"], sections["evaluate"]["temperature"]
    return sections


def _scores(log_probabilities: LogProbabilities, labels: Labels) -> Scores:
    return Scores(**pooled((log_probabilities, labels), ("n", "errors", "accuracy", "log_loss")))


def _by_class(log_probabilities: LogProbabilities, labels: Labels, classes: Sequence[str]) -> list[OfClass]:
    table = scores.by_class(log_probabilities, labels)
    found = []
    for number, name in enumerate(classes):
        values = {score: float(table[score][number]) for score in ("precision", "recall", "f1")}
        known = rounded({score: None if np.isnan(value) else value for score, value in values.items()})
        found.append(OfClass(name=name, images=int(table["support"][number]), **known))
    return found
