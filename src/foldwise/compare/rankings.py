"""The best of many runs in words: for the console, for pull requests (Markdown) and for programs (JSON)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from foldwise.compare import rendering
from foldwise.compare.best import Candidate, Selection
from foldwise.compare.comparison import differing
from foldwise.compare.rendering import Block, Table, console, heading, name_of, p_value, settings, shown
from foldwise.compare.runs import Run
from foldwise.evaluation.inference import Estimate
from foldwise.evaluation.scores import Score

_STANDING = {"best": "best", "not_told_apart": "cannot be told from it", "worse": "worse"}
_GREEN = 32


def sentence(selection: Selection) -> str:
    """Say which is best, and how good after allowing for the choice."""
    score, best = selection.primary, selection.candidates[0]
    unit = " %" if score.scale == 100 else f" {score.unit}"
    mean, interval = _cells(score, best.estimate)
    face = f"{score.title} {mean}{unit} (95% {interval})"
    if len(selection.candidates) == 1:
        return f"there was no choice: {best.run.name} is the only one on these folds, {face}"
    others = [candidate.run.name for candidate in selection.candidates if candidate.standing == "not_told_apart"]
    if selection.allowed:
        mean, low, high = shown(score, selection.allowed.mean, selection.allowed.low, selection.allowed.high)
        allowed = f"{mean}{unit} (95% {low} to {high}) after allowing for the choice"
    else:
        allowed = (
            f"how much the choice flatters is known only of scores that are means over images, not of {score.title}"
        )
    told = f"{len(others)} of the others cannot be told from it" if others else "all others are worse"
    return f"{best.run.name} is the best of {len(selection.candidates)}: {face}; {allowed}; {told}"


def text(selection: Selection, left_out: Mapping[str, str], width: int = 100, *, is_bold: bool = False) -> str:
    """Report on a selection for the console, the answer first; `left_out` has reasons by name."""
    return console([sentence(selection), *_details(selection, left_out)], width, _GREEN if is_bold else None)


def markdown(selection: Selection, left_out: Mapping[str, str]) -> str:
    """Report as `text` does, in GitHub's Markdown."""
    return rendering.markdown(sentence(selection), *_details(selection, left_out))


def content(selection: Selection, left_out: Mapping[str, str]) -> dict[str, Any]:
    """Report for `json.dumps`: scores are fractions or nats, the best run first."""
    return {
        "sentence": sentence(selection),
        "primary": selection.primary.name,
        "looked_at": len(selection.candidates),
        "best": selection.candidates[0].run.name,
        "allowing_for_the_choice": selection.allowed and asdict(selection.allowed),
        "runs": [_content(selection.primary, candidate) for candidate in selection.candidates],
        "left_out": dict(left_out),
    }


def listed(runs: Sequence[Run], left_out: Mapping[str, str], width: int = 100) -> str:
    """One line for each run: what differs from the first, and the first one's primary score with its interval."""
    first, primary = runs[0], runs[0].results.primary
    rows: Table = [("run", "what differs", "folds", heading(primary), "95% interval")]
    for run in runs:
        theirs = {name: both["b"] for name, both in differing(first, run).items() if "b" in both}
        folds, estimate = run.results.folds.description, run.results.estimate(primary)
        own = _cells(primary, estimate) if estimate else ("", "")
        how_many = str(folds.k) if folds.repeats == 1 else f"{folds.repeats} x {folds.k}"
        rows.append((name_of(run.name, run.commit), settings(theirs), how_many, *own))
    return console([_fitting(rows, width), *_left_out(left_out)], width)


def _details(selection: Selection, left_out: Mapping[str, str]) -> list[Block]:
    primary = selection.primary
    rows: Table = [("run", "what differs", heading(primary), "95% interval", "less the best", "p, Holm", "")]
    for candidate in selection.candidates:
        apart = candidate.difference
        less = (shown(primary, apart.mean, sign="+")[0], p_value(candidate.p)) if apart else ("", "")
        rows.append(
            (
                name_of(candidate.run.name, candidate.run.commit),
                settings(candidate.parameters),
                *_cells(primary, candidate.estimate),
                *less,
                _STANDING[candidate.standing],
            )
        )
    method = (
        "Each interval is of its own run, as if it were the only one: that of the best is flattered by the choice. The "
        "score after allowing for it is that of images left out of bootstraps that choose anew (BBC-CV)."
    )
    return [rows, *([method] if selection.allowed else []), *_left_out(left_out)]


def _left_out(reasons: Mapping[str, str]) -> Iterator[str]:
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, its in reasons.items() if its == reason]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"Left out: {', '.join(names[:3])}{more}: {reason}."


def _cells(score: Score, estimate: Estimate) -> tuple[str, str]:
    mean, low, high = shown(score, estimate.mean, *estimate.interval(bounds=score.bounds))
    return mean, f"{low} to {high}"


def _content(score: Score, candidate: Candidate) -> dict[str, Any]:
    low, high = candidate.estimate.interval(bounds=score.bounds)
    apart = candidate.difference
    return {
        "name": candidate.run.name,
        "commit": candidate.run.commit,
        "parameters": candidate.parameters,
        "mean": candidate.estimate.mean,
        "ci95_low": low,
        "ci95_high": high,
        "less_the_best": apart and apart.mean,
        "p": candidate.p if apart else None,
        "standing": candidate.standing,
    }


def _fitting(table: Table, width: int) -> Table:
    """Cut the cells that say what differs, so that a row is no wider than the terminal."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    room = max(width - sum(widths) - 2 * (len(widths) - 1) + widths[1], len(table[0][1]))
    return [(row[0], row[1] if len(row[1]) <= room else f"{row[1][: room - 1]}…", *row[2:]) for row in table]
