"""How a stage meets the world: options from its signature, progress lines, errors in one line."""

import argparse
import inspect
import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from foldwise.errors import FoldwiseError
from foldwise.portability import restart_portably

_INTERRUPTED = "interrupted; what is finished is kept, `dvc repro` goes on from there"
_SECONDS_TO_END = 2.0


def say(line: str) -> None:
    """Print one line of progress."""
    print(line, file=sys.stderr, flush=True)


def run(stage: Callable[..., None]) -> None:
    """Run a stage from the command line.

    Parameters
    ----------
    stage : callable
        Takes the validated parameters, then paths as keyword-only arguments; each becomes a required option.

    Raises
    ------
    SystemExit
        With status 1 after a mistake of the user's, told in one line; with 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(description=inspect.getdoc(sys.modules[stage.__module__]))
    parser.add_argument("--params", type=Path, required=True)
    parameters = inspect.signature(stage).parameters.values()
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY:
            parser.add_argument(f"--{parameter.name.replace('_', '-')}", type=Path, required=True)
    from foldwise.params import load  # slow to load, and Ctrl-C is to be heard by then

    arguments: dict[str, Any] = vars(parser.parse_args())
    name = stage.__name__
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        params = load(arguments.pop("params"))
        if params.compute.portable:
            restart_portably()
        stage(params, **arguments)
        if signal.getsignal(signal.SIGINT) is _interrupt:  # an error raised while Python ends would be swallowed
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except FoldwiseError as error:
        say(" ".join(f"{name}: {error}".split()))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        say(f"{name}: {_INTERRUPTED}")
        raise SystemExit(130) from None


_heard = -math.inf


def _interrupt(signum: int, frame: FrameType | None) -> None:
    # A second Ctrl-C soon after must break neither the end of the workers nor the one line that is left to say.
    global _heard
    before, _heard = _heard, time.monotonic()
    if _heard - before > _SECONDS_TO_END:
        raise KeyboardInterrupt


def _end_in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        say(_INTERRUPTED)
    else:
        sys.__excepthook__(kind, error, trace)


# Seconds go by while a stage imports its libraries: Ctrl-C then comes before `run`.
sys.excepthook = _end_in_one_line
