"""A classifier as an ONNX file, by PyTorch's exporter."""

import contextlib
import io
import logging
import warnings
from typing import Any

import torch

from foldwise.base.errors import FoldwiseError, first_line
from foldwise.delivery.classifier import Classifier
from foldwise.delivery.session import INPUT, OUTPUTS
from foldwise.learning.networks import ImageForm


def exported(classifier: Classifier, form: ImageForm) -> bytes:
    """Put a classifier into one ONNX file: uint8 `pixels` (B, C, H, W) to `OUTPUTS`, for batches of any size.

    Raises
    ------
    FoldwiseError
        If the network does what the exporter cannot follow.
    """
    outputs = OUTPUTS[: 2 + (len(classifier.models) > 1)]
    example = torch.zeros(2, *form[:3], dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            program = torch.onnx.export(
                classifier,
                (example,),
                input_names=[INPUT],
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        model = program.model_proto
        model.ClearField("producer_version")
        _strip(model)
        return bytes(model.SerializeToString(deterministic=True))
    except Exception as error:  # a network is anybody's code
        reason = first_line(error.__cause__ or error)
        raise FoldwiseError(
            f"the network cannot be put into an ONNX file ({type(error).__name__}: {reason}): "
            "set final.model to none, or mend the network"
        ) from error


def _strip(message: Any) -> None:
    """Remove what only tells where a model was made: paths, lines of code, the exporter's notes."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type:
            for part in value if field.is_repeated else (value,):
                _strip(part)
