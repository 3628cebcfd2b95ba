"""An ONNX file, ready to answer; PyTorch is not needed for it."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from foldwise.base.errors import FoldwiseError

INPUT, OUTPUTS = "pixels", ("logits", "probabilities", "folds")


class Session:
    """A model's ONNX file.

    Parameters
    ----------
    content : bytes
    shape : tuple of int
        Channels, height and width of its images.
    classes : int
    threads : int
        0 for as many as there are cores; with one, equal pixels give equal bytes.

    Raises
    ------
    FoldwiseError
        If it is no such file; leaves to the caller to say which it is.
    """

    def __init__(self, content: bytes, shape: tuple[int, int, int], classes: int, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what is wrong is told in a line of ours
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's errors have no class in common
            raise FoldwiseError("is no whole ONNX file") from error
        taken = {each.name: each.shape[1:] for each in self._session.get_inputs()}
        given = {each.name: each.shape[1:] for each in self._session.get_outputs()}
        if taken != {INPUT: list(shape)} or given.get(OUTPUTS[1]) != [classes]:
            raise FoldwiseError(f"is not of {' x '.join(map(str, shape))} images and {classes} classes")

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give the probabilities, (B, classes) float32, of (B, C, H, W) pixels."""
        found: NDArray[np.float32] = self._session.run([OUTPUTS[1]], {INPUT: pixels})[0]
        return found
