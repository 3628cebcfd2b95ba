"""How a stage meets the world: options from its signature, progress lines, errors in one line."""

import argparse
import inspect
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foldwise.base import interrupts
from foldwise.base.errors import FoldwiseError
from foldwise.base.portability import restart_portably


def say(line: str) -> None:
    """Print one line of progress.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C was heard and swallowed before.
    """
    interrupts.check()
    _print(line)


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
    from foldwise.base.params import load  # slow to load

    arguments: dict[str, Any] = vars(parser.parse_args())
    name = stage.__name__
    try:
        params = load(arguments.pop("params"))
        interrupts.check()
        if params.compute.portable:
            restart_portably()
        stage(params, **arguments)
        interrupts.end()
    except FoldwiseError as error:
        _print(" ".join(f"{name}: {error}".split()))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _print(f"{name}: interrupted; {interrupts.remedy()}")
        raise SystemExit(130) from None


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
