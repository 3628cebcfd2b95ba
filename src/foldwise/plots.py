"""The tracked pictures: an overview of a run and two galleries, made without pyplot and its global state."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.scale import FuncScale
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from foldwise.results import ENSEMBLE, OUT_OF_FOLD, Results
from foldwise.tables import SMALLEST_ERROR, SMALLEST_FALSE_POSITIVE, mistakes

LEGEND_FOLDS = 10
COLUMNS = 6
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
    },
]
# In order of preference: one is left out where it would touch another.
TICKS = [0, *(first * power for first in (1, 5, 2, 3, 7, 4, 6, 8, 9) for power in (0.0001, 0.001, 0.01, 0.1, 1))]


def figures(results: Results, made: Mapping[str, pd.DataFrame], images: NDArray[np.uint8]) -> dict[str, Figure]:
    """Draw every picture, by file name without suffix.

    Parameters
    ----------
    results : Results
    made : mapping of name to DataFrame
        What `foldwise.tables.tables` made of `results`.
    images : uint8 array, shape (N, channels, height, width)
        The training images; only those shown are read.
    """
    with matplotlib.style.context(STYLE):
        worst = mistakes(*results.predictions()[OUT_OF_FOLD])
        actual, predicted = (
            [results.classes[number] for number in worst[column]] for column in ("actual", "predicted")
        )
        suspicion = made["label_suspicion"]
        return {
            "overview": overview(made),
            "worst_mistakes": gallery(
                images,
                worst["index"].tolist(),
                _captions(actual, predicted, worst["probability"]),
                "Worst mistakes out of fold: actual → predicted class, its probability, and the image's index",
            ),
            "label_suspicion": gallery(
                images,
                suspicion["index"].tolist(),
                _captions(suspicion["given"], suspicion["suggested"], suspicion["suggested_probability"]),
                "Labels to check: given label → what the models say, its probability, and the image's index",
            ),
        }


def png(figure: Figure) -> bytes:
    """Render a figure as PNG: equal figures give equal bytes, each time, as neither date nor version is written."""
    buffer = io.BytesIO()
    with matplotlib.style.context(STYLE):
        figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
        figure.set_layout_engine("none")  # or it would be laid out anew, a little differently, the next time
    return buffer.getvalue()


def overview(made: Mapping[str, pd.DataFrame]) -> Figure:
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
        draw(axes, made[name])
    return figure


def gallery(images: NDArray[np.uint8], shown: Sequence[int], captions: Sequence[str], title: str) -> Figure:
    """Draw some images with a caption each; a sheet that says so where there are none.

    Parameters
    ----------
    images : uint8 array, shape (N, channels, height, width)
        One channel is drawn in grey, three as red, green and blue.
    shown : sequence of int
        Indices of the images, in the order in which they are drawn.
    captions : sequence of str
        One for each index.
    title : str
    """
    rows = max(1, -(-len(shown) // COLUMNS))
    height = 1.85 * rows + 0.35
    figure = Figure(figsize=(1.5 * COLUMNS, height))
    figure.suptitle(title, x=0.01, y=1 - 0.06 / height, ha="left", va="top", fontsize=10)
    figure.subplots_adjust(0.01, 0.05 / height, 0.99, 1 - 0.75 / height, wspace=0.05, hspace=0.32)
    every = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for axes in every:
        axes.set_axis_off()
    if not len(shown):
        figure.text(0.5, 0.45, "none", ha="center")
    for axes, index, caption in zip(every, shown, captions, strict=False):
        pixels = np.moveaxis(np.asarray(images[index]), 0, -1)
        axes.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{caption}  #{index}", fontsize=8, loc="center")
    return figure


def _captions(given: Iterable[str], said: Iterable[str], probability: Iterable[float]) -> list[str]:
    return [f"{a} → {b}\n{share:.1%}" for a, b, share in zip(given, said, probability, strict=True)]


def _loss(axes: Axes, table: pd.DataFrame) -> None:
    for (name, fold), color in _folds(table):
        axes.plot(fold["step"], fold["loss"], label=name, color=color, lw=1)
    axes.set(title="Training loss by batch", xlabel="batch", yscale="log")
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.yaxis.set_minor_formatter("{x:.3g}")
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
    classes = table["actual"].unique()
    counts = table["images"].to_numpy().reshape(len(classes), -1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0)
    highest = share.max() or 1
    axes.imshow(np.sqrt(share), cmap="Reds", vmin=0, vmax=np.sqrt(highest) * 1.1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        if row == column or count:
            color = "#999999" if row == column else "white" if share[row, column] > highest / 2 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=color)
    long = max(map(len, classes)) > 2
    axes.set_xticks(range(len(classes)), classes, rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(range(len(classes)), classes)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set(title="Confusion out of fold", xlabel="predicted", ylabel="actual")


def _roc(axes: Axes, table: pd.DataFrame) -> None:
    for name, curve in table[table["predictions"] == OUT_OF_FOLD].groupby("class", sort=False):
        missed = 1 - curve["true_positive_rate"]
        axes.plot(curve["false_positive_rate"], missed, label=str(name), lw=1, drawstyle="steps-post")
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
