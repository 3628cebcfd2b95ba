"""Recipes on data of many kinds: wrong labels, other images, few of them, classes of unequal size; one table.

All are run in turn on the same five folds, through the package itself. Test images always have their right labels.
"""

import argparse
import functools
import itertools
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from run import machine
from shared import NORMALIZED, SEED, K, recipe
from workspace import Workspace, changed

from foldwise.base.params import Params
from foldwise.data import folds, images
from foldwise.data.images import Images
from foldwise.evaluation.calibration import cross_fit_temperature, reliability
from foldwise.execution import engine
from foldwise.learning.predict_fold import PredictFold
from foldwise.learning.train_fold import TrainFold
from foldwise.sources import subsets

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "recipes/README.md"
FIGURES = "## Figures\n"  # what follows it in the page is written anew
RECIPES = ("default", "plain", "simple_cnn")
MANY = 20_000  # training images, of which two of the five folds tell enough, and all would take hours
WRONG = (10, 20, 30)  # per cent
FEW = 3000
PAIR = ("4", "9")
OF_PAIR = (5700, 300)  # 95 to 5


@dataclass(frozen=True)
class Figures:
    """What a recipe reached on a data set, mean over folds and seeds: fractions, and processor seconds of training."""

    held_out: float
    test: float
    calibration_error: float
    rescaled: float
    seconds: float


def _training_on(data: Images, pixels: np.ndarray, labels: np.ndarray) -> Images:  # type: ignore[type-arg]
    return Images.measured(data.name, data.classes, (pixels, labels), (data.test_images, data.test_labels))


def wrong_labels(data: Images, share: float) -> Images:
    """Give a share of the training images another label, drawn evenly from the others."""
    random = np.random.default_rng(0)
    labels = data.train_labels.copy()
    wrong = random.choice(len(labels), round(share * len(labels)), replace=False)
    labels[wrong] = (labels[wrong] + random.integers(1, len(data.classes), len(wrong))) % len(data.classes)
    return _training_on(data, data.train_images, labels)


def few(data: Images, n: int) -> Images:
    """Keep n training images, each class's share of them."""
    kept = subsets.part(data.train_labels, n)
    return _training_on(data, data.train_images[kept], data.train_labels[kept])


def two_classes(data: Images, pair: tuple[str, str], counts: tuple[int, int]) -> Images:
    """Keep two classes, of the training images so many of each; of the test images all."""
    first, second = map(data.classes.index, pair)

    def of_pair(pixels: np.ndarray, labels: np.ndarray, counts: tuple[int | None, int | None]):  # type: ignore[type-arg]
        kept = np.concatenate(
            [np.flatnonzero(labels == label)[:count] for label, count in zip((first, second), counts, strict=True)]
        )
        kept.sort()
        return pixels[kept], (labels[kept] == second).astype(np.int64)

    train = of_pair(data.train_images, data.train_labels, counts)
    return Images.measured(data.name, pair, train, of_pair(data.test_images, data.test_labels, (None, None)))


def rows(workspace: Workspace) -> dict[str, Callable[[], Images]]:
    """Give each data set under its name in the table, to be fetched when it is asked for."""

    @functools.cache
    def data(name: str) -> Images:
        workspace.change({"data.name": name})
        workspace.run("dvc repro -q normalize")
        # Into memory: the next data set takes the place of the files.
        found = images.load(workspace.folder / NORMALIZED)
        train, test = (found.train_images, found.train_labels), (found.test_images, found.test_labels)
        return Images.measured(name, found.classes, *(tuple(map(np.array, part)) for part in (train, test)))  # type: ignore[arg-type]

    def noisy(per_cent: int) -> Images:
        return wrong_labels(data("mnist"), per_cent / 100)

    return {
        "MNIST": lambda: data("mnist"),
        **{f"MNIST, {share} % of the training labels wrong": functools.partial(noisy, share) for share in WRONG},
        f"MNIST, {FEW:,} images": lambda: few(data("mnist"), FEW),
        f"MNIST, {PAIR[0]} and {PAIR[1]}, {OF_PAIR[0]:,} and {OF_PAIR[1]} images": lambda: two_classes(
            data("mnist"), PAIR, OF_PAIR
        ),
        "Fashion-MNIST": lambda: data("fashion_mnist"),
        "digits": lambda: data("digits"),
    }


def processor_seconds() -> float:
    """Seconds that processors have worked for this process and for workers that have ended, however busy they are."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measured(data: Images, params: Params, folder: Path) -> Figures:
    """Train and predict folds: all five, or two where there are many images."""
    labels = data.train_labels
    folds.save(folder, folds.assign(labels, params.cv), params.cv)
    splits = folds.load(folder, len(labels))
    chosen = list(splits)[: 2 if len(labels) > MANY else None]
    task, predict = TrainFold(data, splits, params, {}), PredictFold(data, splits, params)
    started = processor_seconds()
    trained = dict(engine.run(task, chosen, params.compute, costs=task.costs))
    seconds = processor_seconds() - started
    for arrays in trained.values():
        del arrays["epochs"], arrays["losses"]
    out_of_fold = np.empty((1, len(labels), len(data.classes)), np.float32)
    right = []
    for fold, arrays in engine.run(predict, chosen, params.compute, inputs=lambda fold: (trained[fold],)):
        out_of_fold[0, splits.held_out(fold)] = arrays["held_out"]
        right.append((arrays["test"].argmax(axis=1) == data.test_labels).mean())
    held_out = np.isin(splits.assignments[0], [fold.fold for fold in chosen])
    raw, given, assignments = out_of_fold[:, held_out], labels[held_out], splits.assignments[:, held_out]
    rescaled, _ = cross_fit_temperature(raw, given, assignments)
    errors = [reliability(each[0], given).calibration_error for each in (raw, rescaled)]
    return Figures(float((raw[0].argmax(axis=1) == given).mean()), float(np.mean(right)), *errors, seconds)


def mean(of_seeds: list[Figures]) -> Figures:
    """Mean over runs of one recipe on one data set."""
    return Figures(*map(statistics.mean, zip(*(vars(figures).values() for figures in of_seeds), strict=True)))


def table(found: list[tuple[str, str, Figures]]) -> str:
    """Put the figures into Markdown; the time is relative to the first recipe's on the same data."""
    lines = [
        "| data | recipe | held-out folds, % | test set, % | calibration error | after temperature | time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for title, group in itertools.groupby(found, key=lambda row: row[0]):
        first = None
        for _, name, it in group:
            first = first or it.seconds
            percentages = (it.held_out, it.test, it.calibration_error, it.rescaled)
            figures = " | ".join(f"{100 * value:.2f}" for value in percentages)
            lines.append(f"| {title} | {name} | {figures} | {it.seconds / first:.1f} |")
            title = ""
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, metavar="NAME", help="others than the table's")
    parser.add_argument("--only", default="", metavar="WORDS", help="data sets whose name begins so")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, whose mean is given")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(HERE.parent)}")
    options = parser.parse_args()
    if options.write and (options.only or options.recipes != RECIPES):
        parser.error("--write takes the whole table: leave out --only and --recipes")
    head = PAGE.read_text().partition(FIGURES)[0]
    found = []
    with tempfile.TemporaryDirectory(prefix="foldwise-robustness-") as folder:
        workspace = Workspace(HERE.parent, Path(folder))
        content = yaml.safe_load((workspace.folder / "params.yaml").read_text())
        chosen = {title: load for title, load in rows(workspace).items() if title.startswith(options.only)}
        for title, load in chosen.items():
            data = load()
            for name in options.recipes:
                of_seeds = []
                for seed in range(options.seeds):
                    changes = recipe(name) | {"train.seed": seed, "cv.k": K, "cv.seed": SEED}
                    params = Params.model_validate(changed(content, changes))
                    of_seeds.append(measured(data, params, Path(folder) / "data/folds"))
                found.append((title, name, mean(of_seeds)))
                print(*found[-1], file=sys.stderr, flush=True)
    figures = table(found)
    print(figures)
    if options.write:
        where = machine()
        measured_with = f"{where['date']}, {where['machine']}; {where['versions']}.\n"
        PAGE.write_text(f"{head}{FIGURES}\n{figures}\n{measured_with}")


if __name__ == "__main__":
    main()
