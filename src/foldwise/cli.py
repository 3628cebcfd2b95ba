"""The command `foldwise`: what DVC has no command for."""

import argparse
import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from foldwise.base.errors import FoldwiseError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, 1 after a mistake of the user's, told in one line, or 130 after Ctrl-C."""
    try:
        try:
            options = _parser().parse_args(arguments)
        except SystemExit as stopped:  # after --help
            raise SystemExit(stopped.code or _write("")) from None
        return _write(f"{options.command(options)}\n")
    except FoldwiseError as error:
        print(f"foldwise: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("foldwise: interrupted", file=sys.stderr)
        return 130


def _write(text: str) -> int:
    """Print all that there is now, not as Python ends, when an error cannot be met; returns the exit status."""
    try:
        print(text, end="", flush=True)
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):  # the reader has all that it wants, as `head` does
            return 0
        raise FoldwiseError(f"the output cannot be written: {error.strerror}") from error
    return 0


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise FoldwiseError("the current folder is gone: change to one that is there") from error


def _summary(_: argparse.Namespace) -> str:
    # Imports stand in the commands: the libraries behind one should not slow down the other.
    from foldwise.compare.workspace import summary

    return summary(_here())


def _compare(options: argparse.Namespace) -> str:
    from foldwise.compare import reports, runs
    from foldwise.compare.comparison import compare_all

    names = options.revisions if len(options.revisions) > 1 else [*options.revisions, runs.WORKSPACE]
    here = _here()
    first, *others = [runs.read(name, here) for name in names]
    comparisons = compare_all(first, others, options.rope)
    if options.plot:
        from foldwise.compare import drawings

        drawings.write(drawings.of_comparisons(comparisons), options.plot)
    if options.json:
        return json.dumps(reports.content(comparisons), indent=2, allow_nan=False, default=str)
    if options.markdown:
        return reports.markdown(comparisons)
    return reports.text(comparisons, _width(), is_bold=_is_bold())


def _select(options: argparse.Namespace) -> str:
    from foldwise.compare import many, rankings
    from foldwise.compare.best import select, why_not

    found, left_out = many.read(_here(), options.revisions)
    if not options.revisions:
        reasons = {run.name: why_not(found[0], run) for run in found[1:]}
        left_out |= {name: reason for name, reason in reasons.items() if reason}
        found = [run for run in found if run.name not in left_out]
    selection = select(found)
    left_out |= {name: f"the same predictions as {like}" for name, like in selection.same.items()}
    if options.plot:
        from foldwise.compare import drawings

        drawings.write(drawings.of_selection(selection), options.plot)
    if options.json:
        return json.dumps(rankings.content(selection, left_out), indent=2, allow_nan=False, default=str)
    if options.markdown:
        return rankings.markdown(selection, left_out)
    return rankings.text(selection, left_out, _width(), is_bold=_is_bold())


def _runs(options: argparse.Namespace) -> str:
    from foldwise.compare import many, rankings

    found, left_out = many.read(_here(), options.revisions)
    return rankings.listed(found, left_out, _width())


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 100


def _is_bold() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _predict(options: argparse.Namespace) -> str:
    from foldwise.delivery.predict import predict

    found = predict(options.pictures, options.model, by_onnx=options.onnx)
    text = found.csv() if options.csv else found.table()
    if found.missing:
        _write(f"{text}\n")
        raise FoldwiseError(f"{found.missing}: mend or remove what is named")
    return text


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
        help="differences up to so many hundredths of the primary score (of a nat for log loss) are none "
        "(default: %(default)s)",
    )
    compare.set_defaults(command=_compare)
    select = commands.add_parser(
        "select",
        help="which run is the best of many, and how good is it after allowing for the choice?",
        description="Which run is best, which ones cannot be told from it, and how good is it after allowing for the "
        "choice?",
    )
    select.set_defaults(command=_select)
    runs = commands.add_parser("runs", help="a line for each experiment: what differs, and how good it is")
    runs.set_defaults(command=_runs)
    for many in (select, runs):
        many.add_argument("revisions", nargs="*", metavar="RUN", help="(default: HEAD and all experiments)")
    for command, answer in ((compare, "verdict"), (select, "best")):
        form = command.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help=f"for programs; `{answer}` is the answer")
        form.add_argument("--markdown", action="store_true", help="for pull requests")
        command.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it as well")
    predict = commands.add_parser(
        "predict",
        help="what does the model say of a picture?",
        description="Class and probability of pictures, by the model that `final.model` makes, calibrated.",
    )
    predict.add_argument("pictures", nargs="+", metavar="FILE_OR_FOLDER", help="pictures of any size and kind")
    predict.add_argument("--model", type=Path, default=Path("model"), help="its folder (default: %(default)s)")
    predict.add_argument("--csv", action="store_true", help="for programs and spreadsheets")
    predict.add_argument("--onnx", action="store_true", help="by model.onnx, which starts sooner, not by PyTorch")
    predict.set_defaults(command=_predict)
    return parser
