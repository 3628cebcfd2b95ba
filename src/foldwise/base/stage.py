"""Running a stage: `python3 -m foldwise.base.stage stages/train.py --params params.yaml ...`.

It calls the function that is named as the script: parameters, then a path for each keyword, which is an option.
"""

from __future__ import annotations  # an old Python gets this far

from foldwise.base import startup

if __name__ == "__main__":
    startup.begin()

import argparse
import inspect
import runpy
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foldwise.base import console, interrupts
from foldwise.base.errors import FoldwiseError
from foldwise.base.portability import restart_portably


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the script that comes first among the arguments, and run its stage with the others."""
    script, *options = (sys.argv[1:] if arguments is None else arguments) or [""]
    if not Path(script).is_file():
        raise SystemExit(f"no stage {script}: python3 -m foldwise.base.stage stages/NAME.py --params params.yaml ...")
    stage = runpy.run_path(script)
    run(stage[Path(script).stem], str(stage["__doc__"]), options)


def run(stage: Callable[..., None], description: str, options: Sequence[str]) -> None:
    """Run a stage.

    Parameters
    ----------
    stage : callable
        Takes the validated parameters, then paths as keyword-only arguments; each becomes a required option.
    description : str
        What `--help` says of it.
    options : sequence of str

    Raises
    ------
    SystemExit
        With status 1 after a mistake of the user's, told in one line; with 130 after Ctrl-C.
    """
    name = stage.__name__
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--params", type=Path, required=True)
    for argument in inspect.signature(stage).parameters.values():
        if argument.kind is argument.KEYWORD_ONLY:
            parser.add_argument(f"--{argument.name.replace('_', '-')}", type=Path, required=True)
    from foldwise.base.params import load  # slow to load

    paths: dict[str, Any] = vars(parser.parse_args(options))
    try:
        params = load(paths.pop("params"))
        interrupts.check()
        if params.compute.portable:
            restart_portably()
        stage(params, **paths)
        interrupts.end()
    except FoldwiseError as error:
        print(console.printable(" ".join(f"{name}: {error}".split())), file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(f"{name}: interrupted; {interrupts.remedy()}", file=sys.stderr, flush=True)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
