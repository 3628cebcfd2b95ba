"""The command `foldwise`: what DVC has no command for."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from foldwise.errors import FoldwiseError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, 1 after a mistake of the user's, told in one line, or 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        print(options.command(options))
    except FoldwiseError as error:
        print(f"foldwise: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("foldwise: interrupted", file=sys.stderr)
        return 130
    return 0


def _summary(_: argparse.Namespace) -> str:
    # Imports stand in the commands: the libraries behind one should not slow down the other.
    from foldwise import files, params
    from foldwise.headline import describe

    params.load(Path("params.yaml"))
    path = Path("metrics", "summary.json")
    try:
        return describe(files.read_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise FoldwiseError(f"{path} lacks headline numbers: run `dvc repro -f -s aggregate`") from error


def _compare(options: argparse.Namespace) -> str:
    from foldwise import reports, runs
    from foldwise.comparison import compare_all

    names = options.revisions if len(options.revisions) > 1 else [*options.revisions, runs.WORKSPACE]
    first, *others = [runs.read(name, Path.cwd()) for name in names]
    comparisons = compare_all(first, others, options.rope)
    if options.json:
        return json.dumps(reports.content(comparisons), indent=2, allow_nan=False)
    return reports.markdown(comparisons) if options.markdown else reports.text(comparisons)


def _points(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of points, 0 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="foldwise", description="How good is a run, and is another better?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    summary = commands.add_parser("summary", help="check params.yaml and print the workspace's headline numbers")
    summary.set_defaults(command=_summary)
    compare = commands.add_parser(
        "compare",
        help="is run B better than run A, or is it noise?",
        description="Is run B better than run A? Each is a Git revision, a DVC experiment's name, or `workspace`.",
    )
    compare.add_argument("revisions", nargs="+", metavar="RUN", help="A, then B (default: workspace), or several")
    compare.add_argument(
        "--rope",
        type=_points,
        default=0.1,
        metavar="POINTS",
        help="differences up to this are none (default: %(default)s)",
    )
    form = compare.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs; `verdict` is the answer")
    form.add_argument("--markdown", action="store_true", help="for pull requests")
    compare.set_defaults(command=_compare)
    return parser
