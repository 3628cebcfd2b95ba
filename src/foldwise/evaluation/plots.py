"""The tracked pictures: an overview of a run and two galleries, made without pyplot and its global state."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.scale import FuncScale
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from foldwise.base import console
from foldwise.evaluation.galleries import LETTERS, end, gallery, label_pairs, short
from foldwise.evaluation.results import ENSEMBLE, OUT_OF_FOLD, Results
from foldwise.evaluation.tables import GALLERY, ROWS, SMALLEST_ERROR, SMALLEST_FALSE_POSITIVE, mistakes

LEGEND_FOLDS = 10
CLASSES = 15  # no sheet has room for the names and numbers of more
STYLE: list[str | Path | dict[str, Any]] = [
    "default",
    {
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#eeeeee",
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.2,
        "text.parse_math": False,  # a class may have a dollar in its name
    },
]
# In order of preference: one is left out where it would touch another.
TICKS = [0, *(first * power for first in (1, 5, 2, 3, 7, 4, 6, 8, 9) for power in (0.0001, 0.001, 0.01, 0.1, 1))]


def figures(
    results: Results,
    tables: Mapping[str, pd.DataFrame],
    images: NDArray[np.uint8],
    test_images: NDArray[np.uint8] | None = None,
) -> dict[str, Figure]:
    """Draw every picture, by file name without suffix; a sheet that says why in place of one that cannot be drawn.

    Parameters
    ----------
    results : Results
    tables : mapping of name to DataFrame
        Those that `foldwise.evaluation.tables.tables` gives for `results`.
    images, test_images : uint8 arrays, shape (N, channels, height, width)
        Only those shown are read.
    """
    worst, issues = mistakes(*results.predictions()[OUT_OF_FOLD]), tables["label_suspicion"]
    actual, predicted = ([results.classes[number] for number in worst[column]] for column in ("actual", "predicted"))
    names = [results.name(index) for index in worst["index"]]
    first, count = issues.head(GALLERY), len(issues)
    part = f", {GALLERY} of {count}{' or more' if count == ROWS else ''}" if count > GALLERY else ""
    pictures: dict[str, Callable[[], Figure]] = {
        "overview": lambda: overview(tables),
        "worst_mistakes": lambda: gallery(
            [images[index] for index in worst["index"]],
            label_pairs(actual, predicted, worst["probability"], names),
            "Worst mistakes out of fold: actual → predicted class, its probability, and the image",
        ),
        "label_suspicion": lambda: gallery(
            [images[index] for index in first["index"]],
            label_pairs(first["given"], first["suggested"], first["suggested_probability"], first["image"]),
            f"Labels to check{part}: given label → what the models say, its probability, and the image",
        ),
        "audit": lambda: _audit(results.audit, images, test_images),
    }
    return {name: _figure(name, draw) for name, draw in pictures.items()}


def png(figure: Figure) -> bytes:
    """Render a figure as PNG: equal figures give equal bytes, each time, as neither date nor version is written."""
    try:
        return _render(figure)
    except Exception as error:
        return _render(_sheet(figure.get_label(), error))


def overview(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw learning curves, fold scores, confusion matrix, ROC curves and reliability on one sheet."""
    figure = Figure(figsize=(12, 7.4), layout="constrained")
    panels: list[tuple[Callable[[Axes, pd.DataFrame], None], str]] = [
        (_loss, "loss_by_batch"),
        (_accuracy, "accuracy_by_epoch"),
        (_fold_accuracy, "fold_scores"),
        (_confusion, "confusion"),
        (_roc, "roc"),
        (_reliability, "reliability"),
    ]
    for axes, (draw, name) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        draw(axes, tables[name])
    return figure


def _audit(findings: Sequence[Any], images: NDArray[np.uint8], test_images: NDArray[np.uint8] | None) -> Figure:
    """Draw the first images of each finding, those that belong together beside each other, lettered alike."""
    parts = {"training": images, "test": test_images}
    shown, captions = [], []
    each = max(1, GALLERY // max(1, sum(bool(finding["examples"]) for finding in findings)) // 2)
    for finding in findings:
        for letter, together in zip(ascii_lowercase, finding["examples"][:each], strict=False):
            for image in together:
                pixels = parts[image["images"]]
                if pixels is not None:
                    shown.append(pixels[image["index"]])
                    what = end(image.get("file_name", f"#{image['index']}"), LETTERS)
                    captions.append(f"{finding['number']}{letter}  {image['images']}\n{what}")
    title = "Audit: number of the finding, letter of the images that belong together, and the image"
    return gallery(shown, captions, title)


def _figure(name: str, draw: Callable[[], Figure]) -> Figure:
    try:
        with matplotlib.style.context(STYLE):
            figure = draw()
    except Exception as error:  # what is only a picture ends no run
        figure = _sheet(name, error)
    figure.set_label(name)
    return figure


def _sheet(name: object, error: Exception) -> Figure:
    line = " ".join(f"{name}.png could not be drawn: {type(error).__name__}: {error}".split())
    console.say(f"aggregate: {line}")
    figure = Figure(figsize=(12, 0.5))
    figure.text(0.01, 0.5, line, va="center", parse_math=False)
    return figure


def _render(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.style.context(STYLE):
        figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
        figure.set_layout_engine("none")  # or it would be laid out anew, a little differently, the next time
    return buffer.getvalue()


def _loss(axes: Axes, table: pd.DataFrame) -> None:
    for (name, fold), color in _folds(table):
        axes.plot(fold["step"], fold["loss"], label=name, color=color, lw=1)
    axes.set(title="Training loss by batch", xlabel="batch", yscale="log")
    axes.yaxis.set_major_formatter("{x:.3g}")
    low, high = axes.get_ylim()
    if high < 10 * low:  # the shorter the axis, the more numbers it has room for
        axes.yaxis.set_minor_formatter("{x:.3g}")
    elif high < 2000 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if len(axes.get_lines()) <= LEGEND_FOLDS:
        axes.legend(loc="upper right")


def _accuracy(axes: Axes, table: pd.DataFrame) -> None:
    for images, line in {"validation": "-", "training": ":"}.items():
        for (_, fold), color in _folds(table[table["images"] == images]):
            axes.plot(fold["epoch"], 1 - fold["accuracy"], line, color=color)
        axes.plot([], [], line, color="#555555", label=images)
    axes.set(title="Accuracy by epoch", xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _stretch(axes.yaxis)
    axes.legend(loc="lower right")


def _fold_accuracy(axes: Axes, table: pd.DataFrame) -> None:
    table = table[table["measure"] == "accuracy"]
    mean, low, high = (float(table[column].iloc[0]) for column in ("mean", "low", "high"))
    axes.axhspan(low, high, color="C0", alpha=0.15, lw=0)
    axes.axhline(mean, color="C0")
    axes.plot(np.arange(len(table)), table["score"], "o", color="C0", ms=5)
    axes.set(title="Accuracy of the held-out folds", xlabel=f"fold (mean {mean:.4f}, 95 % {low:.4f} to {high:.4f})")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter("{x:.4f}")


def _confusion(axes: Axes, table: pd.DataFrame) -> None:
    table = table[table["predictions"] == OUT_OF_FOLD]
    names = table["actual"].unique()
    counts = (
        table.pivot(index="actual", columns="predicted", values="images").reindex(names)[names].fillna(0).to_numpy(int)
    )
    classes = [short(name) for name in names]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0)
    highest = share.max() or 1
    axes.imshow(np.sqrt(share), cmap="Reds", vmin=0, vmax=np.sqrt(highest) * 1.1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        if (row == column or count) and len(classes) <= CLASSES:
            color = "#999999" if row == column else "white" if share[row, column] > highest / 2 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=color)
    long = max(map(len, classes)) > 2
    named = slice(None, None, -(-len(classes) // CLASSES))
    ticks, shown = range(len(classes))[named], classes[named]
    axes.set_xticks(ticks, shown, rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(ticks, shown)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set(title="Confusion out of fold", xlabel="predicted", ylabel="actual")


def _roc(axes: Axes, table: pd.DataFrame) -> None:
    curves = [
        (short(str(name)), curve["false_positive_rate"].to_numpy(), 1 - curve["true_positive_rate"].to_numpy())
        for name, curve in table[table["predictions"] == OUT_OF_FOLD].groupby("class", sort=False)
    ]
    if len(curves) > CLASSES:
        rates = np.append(0, np.geomspace(SMALLEST_FALSE_POSITIVE / 10, 1, 200))
        missed = np.array([miss[np.searchsorted(false, rates, "right") - 1] for _, false, miss in curves])
        axes.fill_between(rates, missed.min(axis=0), missed.max(axis=0), alpha=0.2, lw=0, label="lowest to\nhighest")
        curves = [(f"mean of\n{len(curves)} classes", rates, missed.mean(axis=0))]
    for name, false, miss in curves:
        axes.plot(false, miss, label=name, lw=1, drawstyle="steps-post")
    axes.set(title="ROC out of fold", xlabel="false positive rate")
    axes.set_ylabel("true positive rate")
    _stretch(axes.xaxis, SMALLEST_FALSE_POSITIVE, complement=False)
    _stretch(axes.yaxis)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1)


def _reliability(axes: Axes, table: pd.DataFrame) -> None:
    table = table[table["predictions"].str.startswith(OUT_OF_FOLD) | (table["predictions"] == ENSEMBLE)]
    for name, bins in table.groupby("predictions", sort=False):
        error = 1 - bins["accuracy"]
        bars = [error - (1 - bins["high"]), (1 - bins["low"]) - error]
        axes.errorbar(1 - bins["confidence"], error, np.abs(bars), fmt="o-", ms=4, lw=1, label=str(name))
    doubt = 1 - np.array([table["confidence"].min(), table["confidence"].max()])
    axes.plot(doubt, doubt, "--", color="#999999", lw=1, label="ideal")
    axes.set(title="Reliability", xlabel="confidence", ylabel="accuracy")
    _stretch(axes.xaxis)
    _stretch(axes.yaxis)
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.15), ncols=2, columnspacing=1)


def _folds(table: pd.DataFrame) -> list[tuple[tuple[Any, pd.DataFrame], str]]:
    return [(group, f"C{number % 10}") for number, group in enumerate(table.groupby("fold", sort=False))]


def _stretch(axis: Axis, smallest: float = SMALLEST_ERROR, complement: bool = True) -> None:
    """Give rates near 0 more room, down to `smallest`; `complement`: the axis reads 1 - rate and is turned round."""

    def stretched(rate: Any) -> Any:
        return np.sign(rate) * np.log1p(np.abs(rate) / smallest)

    def back(drawn: Any) -> Any:
        return np.sign(drawn) * np.expm1(np.abs(drawn)) * smallest

    axes, name = axis.axes, axis.axis_name  # type: ignore[attr-defined]
    axes.set(**{f"{name}scale": FuncScale(axis, functions=(stretched, back))})
    axes.autoscale_view()
    low, high = stretched(np.array(sorted(getattr(axes, f"get_{name}lim")())))
    apart = (0.12 if name == "x" else 0.06) * (high - low)
    shown: list[float] = []
    for tick, place in zip(TICKS, stretched(np.array(TICKS)), strict=True):
        if low <= place <= high and all(abs(place - stretched(np.array(other))) > apart for other in shown):
            shown.append(tick)
    axis.set_ticks(shown, [f"{100 * (1 - tick if complement else tick):.6g}%" for tick in shown])
    if complement:
        axis.set_inverted(True)
