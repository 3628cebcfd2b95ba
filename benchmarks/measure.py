"""A whole process, from start to its last line: seconds, memory of its process tree, the accuracy it printed."""

import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 1e6
PRINTED = re.compile(r"^mean fold accuracy ([0-9.]+)$", re.MULTILINE)
# Looking costs time of the cores that are measured: about a fiftieth.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds


@dataclass(frozen=True)
class Measured:
    """What one run of a command took.

    Attributes
    ----------
    seconds : float
    memory : float
        Peak of the process tree in MB, pages shared by several processes counted once (proportional set size).
    resident : float
        Peak of the process tree in MB, such pages counted in each process (resident set size).
    largest : float
        Peak of what any single process of the tree has to itself, in MB (unique set size).
    output : str
        What it wrote on standard output.
    """

    seconds: float
    memory: float
    resident: float
    largest: float
    output: str

    @property
    def accuracy(self) -> float:
        """The mean fold accuracy that was printed last."""
        found = PRINTED.findall(self.output)
        if not found:
            sys.exit("benchmarks: no `mean fold accuracy` was printed")
        return float(found[-1])


def measure(command: list[str] | str, folder: Path, environment: dict[str, str]) -> Measured:
    """Run a command (a list of words, or a line for the shell) in `folder` to its end.

    Raises
    ------
    SystemExit
        If the command fails, with the last of what it said.
    """
    peaks = 0.0, 0.0, 0.0
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = psutil.Popen(
            command, shell=isinstance(command, str), cwd=folder, env=environment, stdout=output, stderr=errors
        )
        while True:
            looked = time.perf_counter()
            peaks = tuple(map(max, peaks, _memory(process)))
            cost = time.perf_counter() - looked
            try:
                status = process.wait(timeout=min(max(SHORTEST_PAUSE, 50 * cost), LONGEST_PAUSE))
                break
            except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                continue
        seconds = time.perf_counter() - started
        output.seek(0)
        errors.seek(0)
        if status:
            words = command if isinstance(command, str) else " ".join(command)
            said = (output.read() + errors.read()).strip().splitlines()[-15:]
            sys.exit("\n".join([f"benchmarks: `{words}` failed:", *said]))
        return Measured(seconds, *(peak / MB for peak in peaks), output.read())


def _memory(process: psutil.Process) -> tuple[float, float, float]:
    """Sums of proportional and resident sizes, and the largest unique one, in bytes."""
    proportional = resident = largest = 0
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        tree = []
    for one in tree:
        try:
            now = one.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        proportional += getattr(now, "pss", now.rss)
        resident += now.rss
        largest = max(largest, now.uss)
    return proportional, resident, largest
