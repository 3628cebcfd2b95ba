"""The device that a fold is computed on, set up to give the same bytes each time."""

import os

import torch

from foldwise.base.errors import FoldwiseError
from foldwise.base.params import Compute


def prepare(compute: Compute) -> torch.device:
    """Set this process up to compute a fold to the same bytes each time, and give the device to do it on.

    Raises
    ------
    FoldwiseError
        If PyTorch does not see the device.
    """
    torch.set_num_threads(compute.threads_per_fold)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # which CUDA's deterministic matrix products ask for
    # The same as use_deterministic_algorithms(True), which would load PyTorch's compiler as well.
    torch.set_deterministic_debug_mode("error")
    # Filling fresh memory costs a fifteenth of the time, and nothing reads it before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[compute.device]:
        raise FoldwiseError(
            f"params.yaml: compute.device is {compute.device}, which PyTorch does not see here: set it to cpu"
        )
    return torch.device(compute.device)


def fits(images: torch.Tensor, device: torch.device) -> bool:
    """Whether images leave half of what is free on a device to networks and activations; a CPU maps them."""
    return device.type != "cuda" or images.nbytes < torch.cuda.mem_get_info(device)[0] / 2
