"""A classifier as an ONNX file, by PyTorch's exporter, and the proof that it says the same."""

import contextlib
import io
import logging
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foldwise.base.errors import FoldwiseError, first_line
from foldwise.delivery.classifier import Classifier
from foldwise.learning.networks import ImageForm

INPUT = "pixels"
OUTPUTS = ("logits", "probabilities", "folds")


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
    except Exception as error:  # a network is anybody's code
        reason = first_line(error.__cause__ or error)
        raise FoldwiseError(
            f"the network cannot be put into an ONNX file ({type(error).__name__}: {reason}): "
            "set final.model to none, or mend the network"
        ) from error
    assert program is not None
    model = program.model_proto
    model.ClearField("producer_version")
    _strip(model)
    return bytes(model.SerializeToString(deterministic=True))


def _strip(message: Any) -> None:
    """Remove what only tells where a model was made: paths, lines of code, the exporter's notes."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type:
            for part in value if field.is_repeated else (value,):
                _strip(part)


class Session:
    """An ONNX file, ready to answer."""

    def __init__(self, content: bytes, threads: int = 1) -> None:
        """Load it; FoldwiseError, which leaves to the caller to say of which file, if it is none."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's own errors have no common class
            raise FoldwiseError("is not a whole ONNX file") from error

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give the probabilities, (B, classes), of (B, C, H, W) pixels."""
        found: NDArray[np.float32] = self._session.run(["probabilities"], {INPUT: pixels})[0]
        return found
