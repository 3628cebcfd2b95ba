"""Comparisons and selections as a picture: a row for each run, with its folds, its mean and its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import matplotlib.style
from matplotlib.figure import Figure

from foldwise.base import files
from foldwise.base.errors import FoldwiseError
from foldwise.compare import rankings, reports
from foldwise.compare.best import Selection
from foldwise.compare.comparison import Comparison
from foldwise.compare.rendering import heading, settings
from foldwise.evaluation.inference import Estimate
from foldwise.evaluation.plots import STYLE, png
from foldwise.evaluation.scores import Score

_INK, _FOLDS, _BAND = "#1f3b57", "#8fb3d5", "#eef3e2"
_ROWS = 40  # no sheet has room for more


@dataclass(frozen=True)
class _Row:
    """A run: an estimate with its interval, and the score of each fold."""

    label: str
    estimate: Estimate
    interval: tuple[float, float]
    of_folds: Sequence[float]


def of_comparisons(comparisons: Sequence[Comparison]) -> Figure:
    """Draw how far each run is from A: its folds, mean and interval, zero, and what does not matter.

    Raises
    ------
    FoldwiseError
        If no run can be paired with A.
    """
    first = comparisons[0]
    rows = [
        _Row(f"{one.b.name} less {one.a.name}", found.decisive, found.decisive.interval(), found.of_folds)
        for one in comparisons
        if (found := one.pairing)
    ]
    if not rows:
        raise FoldwiseError(f"there is nothing to draw: {reports.sentence(first)}")
    title = reports.sentence(first) if len(comparisons) == 1 else f"Against A, {first.a.name}"
    figure = _forest(first.primary, rows, title, (-first.rope / 100, first.rope / 100))
    axes = figure.axes[0]
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set_xlabel(f"difference in {first.primary.heading}, {first.primary.unit}; shaded: what does not matter")
    return figure


def of_selection(selection: Selection) -> Figure:
    """Draw each run's folds, mean and interval, the best first; shaded: the best after allowing for the choice."""
    score, allowed = selection.primary, selection.allowed
    rows = [
        _Row(
            " ".join([candidate.run.name, settings(candidate.parameters)]),
            candidate.estimate,
            candidate.estimate.interval(bounds=score.bounds),
            tuple(candidate.run.results.values(score)),
        )
        for candidate in selection.candidates
    ]
    figure = _forest(score, rows, rankings.sentence(selection), (allowed.low, allowed.high) if allowed else None)
    shaded = "; shaded: the best after allowing for the choice" if allowed else ""
    figure.axes[0].set_xlabel(f"{heading(score)}{shaded}")
    return figure


def write(figure: Figure, path: Path) -> None:
    """Write a picture; FoldwiseError where that cannot be."""
    if path.suffix.lower() != ".png":
        raise FoldwiseError(f"{path}: pictures are written as .png: give it a name that ends so")
    try:
        with files.writing(path) as temporary:
            temporary.write_bytes(png(figure))
    except OSError as error:
        raise FoldwiseError(f"{path} cannot be written: {error.strerror}") from error


def _forest(score: Score, rows: Sequence[_Row], title: str, band: tuple[float, float] | None) -> Figure:
    drawn = list(enumerate(rows[:_ROWS]))
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(8, 1.8 + 0.32 * len(drawn)), dpi=150, layout="constrained")
        axes = figure.subplots()
        if band:
            axes.axvspan(*(score.scale * end for end in band), color=_BAND, linewidth=0)
        for y, row in drawn:
            low, high = (score.scale * end for end in row.interval)
            below = [y + 0.22] * len(row.of_folds)
            axes.plot([score.scale * value for value in row.of_folds], below, "o", color=_FOLDS, ms=4)
            axes.plot([low, high], [y, y], color=_INK, linewidth=2)
            axes.plot(score.scale * row.estimate.mean, y, "D", color=_INK, ms=6)
        axes.set_yticks([y for y, _ in drawn], [row.label for _, row in drawn])
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        more = f"\n({len(rows) - _ROWS} more are not drawn)" if len(rows) > _ROWS else ""
        figure.suptitle(fill(title, 100) + more, fontsize=10, x=0.01, ha="left")
        axes.set_title("point: a fold; diamond and line: mean and 95 % interval", fontsize=8, color="#555555")
    return figure
