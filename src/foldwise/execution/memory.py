"""Memory of the workers."""

import ctypes
import sys

from foldwise.base import interrupts


def keep_freed() -> None:
    """Tell glibc to keep freed memory: activations given back to the system at every step cost page faults."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            trim_threshold, mmap_threshold = -1, -3
            mallopt(mmap_threshold, 1 << 25)  # the most that glibc takes; more it refuses without a word
            mallopt(trim_threshold, (1 << 31) - 1)


def remedy(at_a_time: int) -> str:
    """Say what to do where so many folds at a time may have been too many for the memory."""
    fewer = (
        f"set compute.n_jobs to {at_a_time // 2}"
        if at_a_time > 1
        else "set a smaller train.batch_size or another model.name"
    )
    return f"if memory is short, {fewer}; {interrupts.remedy()}"
