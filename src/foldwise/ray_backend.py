"""Folds on a Ray cluster, each a Ray task.

Ray's own joblib backend gives no result before all are there, and loses all of them with one node (Ray 2.60). A Ray
task whose worker or node is lost is started once more elsewhere, and the others go on.
"""

import importlib
import multiprocessing
import os
import secrets
import signal
import socket
import time
import traceback
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from foldwise.base import interrupts
from foldwise.base.console import say
from foldwise.base.errors import FoldwiseError, first_line
from foldwise.base.files import Arrays
from foldwise.base.params import Compute
from foldwise.base.portability import NUMPY_SWITCH, SWITCHES
from foldwise.data.folds import Fold
from foldwise.execution import memory
from foldwise.execution.jobs import Inputs, Work
from foldwise.execution.schedule import deal

# A head that does not answer for so long is lost: Ray would wait for a minute, then end the process without a line.
HEAD_SECONDS = 15.0


def run(work: Work, folds: Sequence[Fold], compute: Compute, inputs: Inputs) -> Iterator[tuple[Fold, Arrays | None]]:
    """Run folds on the cluster at `RAY_ADDRESS`, or on one started on this machine for the time.

    A process of its own speaks to Ray, because Ray ends the process that does so where the cluster is lost.

    Parameters
    ----------
    work : Work
        It goes into the object store once, and its arrays are mapped into the workers' memory read-only.
    folds : sequence of Fold
        In the order in which they start.
    compute : Compute
        Says what a fold needs, and how many may run at a time.
    inputs : callable
        Gives what a fold needs besides; it is called here, where the files are.

    Yields
    ------
    what `work` gives, in the order of finishing

    Raises
    ------
    FoldwiseError
        If Ray is not installed, its cluster cannot be reached, has no place for a fold, or is lost, or if a worker dies
        twice at the same fold.
    """
    if compute.device != "cpu" and not compute.gpus_per_fold:
        raise FoldwiseError(
            "params.yaml: compute.gpus_per_fold is 0, so a cluster gives a fold no GPU: set it, say to 0.2"
        )
    fork = multiprocessing.get_context("fork")  # hands over the images without a copy
    ours, theirs = fork.Pipe()
    driver = fork.Process(target=_drive, args=(ours, theirs, work, folds, compute, inputs), daemon=True)
    driver.start()
    theirs.close()
    try:
        yield from _results(ours)
    except _ClusterLost:
        driver.kill()  # it would wait for the cluster
        raise
    finally:
        ours.close()  # which the driver notices
        driver.join(20)
        driver.kill()
        driver.join()


@dataclass(frozen=True)
class _Connected:
    """The driver is connected to the cluster whose head has this address."""

    head: str


@dataclass(frozen=True)
class _Result:
    """A fold, or a part of it, has ended."""

    content: tuple[Fold, Arrays | None]


@dataclass(frozen=True)
class _Failed:
    """The driver ends with an error."""

    error: Exception


class _Waiting:
    """Nothing has ended for a second: the driver learns by it whether anybody listens."""


class _Ended:
    """All folds have ended."""


_Message = _Connected | _Result | _Failed | _Waiting | _Ended


class _ClusterLost(FoldwiseError):
    def __init__(self, head: str | None) -> None:
        where = f", whose head was {head}," if head else ""
        again = "start it again; " if os.environ.get("RAY_ADDRESS") else ""  # else the stage starts one itself
        super().__init__(f"the Ray cluster{where} is lost: {again}{interrupts.remedy()}")


def _results(driver: Connection) -> Iterator[tuple[Fold, Arrays | None]]:
    """Give the results that the driver sends, as long as it lives and the head of its cluster answers."""
    head, last_answer = None, time.monotonic()
    while True:
        try:
            message: _Message = driver.recv() if driver.poll(1) else _Waiting()
        except (EOFError, OSError):
            raise _ClusterLost(head) from None
        match message:
            case _Connected():
                head = message.head
            case _Result():
                yield message.content
            case _Failed():
                raise message.error
            case _Ended():
                return
        if head is None or _answers(head):
            last_answer = time.monotonic()
        elif time.monotonic() - last_answer > HEAD_SECONDS:
            raise _ClusterLost(head)


def _answers(head: str) -> bool:
    host, _, port = head.rpartition(":")
    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=5):
        return True
    return False


def _drive(stage: Connection, results: Connection, *arguments: Any) -> None:
    """Speak to Ray and send what comes of it, until that is all or the stage has closed its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage hears it
    stage.close()
    with suppress(BrokenPipeError), closing(_messages(*arguments)) as messages:
        try:
            for message in messages:
                if results.poll():
                    return
                results.send(message)
        except FoldwiseError as error:
            results.send(_Failed(error))
        except Exception:
            results.send(_Failed(RuntimeError(traceback.format_exc())))


def _messages(work: Work, folds: Sequence[Fold], compute: Compute, inputs: Inputs) -> Generator[_Message, None, None]:
    ray = _connected()
    try:
        yield _Connected(ray.get_runtime_context().gcs_address)
        places = _places(ray.nodes(), compute)
        if not places:
            need = f"{compute.threads_per_fold} CPUs and {compute.gpus_per_fold:g} GPUs"
            if not os.environ.get("RAY_ADDRESS"):
                lower = "lower compute.threads_per_fold or compute.gpus_per_fold, or set RAY_ADDRESS to a cluster"
                raise FoldwiseError(f"this machine has not {need}, as a fold asks for: {lower}")
            say(f"  no node has {need}: waiting for one")
        at_a_time = min(len(folds), max(1, places) if compute.n_jobs == -1 else compute.n_jobs)
        # A memory-mapped file would reach each worker as a copy of its own, an array does not.
        ray.util.register_serializer(np.memmap, serializer=np.asarray, deserializer=np.asarray)
        shared = ray.put(work)
        remote = ray.remote(_run_shared).options(
            name="fold", num_cpus=compute.threads_per_fold, num_gpus=compute.gpus_per_fold, max_retries=1
        )
        # References within a list are not resolved by Ray for each call, so that the worker keeps its own.
        jobs = (
            (fold, remote.remote([shared], fold, part, *inputs(fold)))
            for fold, part in zip(folds, deal(len(folds), at_a_time), strict=True)
        )
        # Without a limit Ray sees all folds, so that a cluster that can grow does.
        waiting = {reference: fold for fold, reference in islice(jobs, None if compute.n_jobs == -1 else at_a_time)}
        while waiting:
            done, _ = ray.wait(list(waiting), timeout=1)
            if not done:
                yield _Waiting()
            for reference in done:
                yield _Result(_result(ray, reference, waiting.pop(reference), at_a_time))
                waiting |= {reference: fold for fold, reference in islice(jobs, 1)}
        yield _Ended()
    finally:
        ray.shutdown()


def _connected() -> Any:
    """Load Ray, and connect it."""
    # Ray reads these as it is loaded: no statistics are sent, each fold's lines are shown as they are.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_COLOR_PREFIX": "0"}
    os.environ |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_task_oom_retries": "1"}
    address, place = os.environ.get("RAY_ADDRESS"), {}
    if not address:
        place = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
        # A token of its own, because Ray would leave one in the home folder.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise FoldwiseError("params.yaml: compute.backend is ray, which is not installed: run `make ray`") from error
    code = Path(__file__).parent, *filter(Path.is_dir, [Path("own")])
    environment = {
        "py_modules": list(map(str, code)),
        "excludes": ["__pycache__", "*.pth", "*.safetensors"],
        "env_vars": {name: os.environ[name] for name in (*SWITCHES, NUMPY_SWITCH) if name in os.environ},
    }
    try:
        ray.init(address or "local", runtime_env=environment, logging_level="ERROR", **place)
    except Exception as error:  # of many types
        reason = first_line(error) or type(error).__name__
        if address:
            raise FoldwiseError(
                f"no Ray cluster at RAY_ADDRESS={address} ({reason}): start it, or unset RAY_ADDRESS"
            ) from error
        raise FoldwiseError(
            f"Ray does not start on this machine ({reason}): set compute.backend to loky in params.yaml"
        ) from error
    return ray


def _places(nodes: Sequence[dict[str, Any]], compute: Compute) -> int:
    """Folds that fit on the nodes beside each other; none is spread over two."""
    places = 0
    for resources in (node["Resources"] for node in nodes if node["Alive"]):
        fit = resources.get("CPU", 0) // compute.threads_per_fold
        if compute.gpus_per_fold:
            fit = min(fit, (resources.get("GPU", 0) + 1e-9) // compute.gpus_per_fold)
        places += int(fit)
    return places


def _run_shared(shared: list[Any], *arguments: Any) -> Any:
    """Run a fold, in a worker."""
    # Arrays of the object store are read-only, and no fold writes to the images.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    return importlib.import_module("ray").get(shared[0])(*arguments)


def _result(ray: Any, reference: Any, fold: Fold, at_a_time: int) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        reason = first_line(error) or type(error).__name__
        raise FoldwiseError(f"a worker died twice at {fold}: {reason}; {memory.remedy(at_a_time)}") from error
