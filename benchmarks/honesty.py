"""Does Foldwise keep its word? Its intervals and tests on thousands of real cross-validations whose truth is known.

MNIST's 70,000 images, halved to 14 x 14, are cut into disjoint subsets. On each one, recipes and scikit-learn's
learners are cross-validated as a user would; what each fold's model is really worth is measured on other subsets. The
mean of that over all subsets is the expected accuracy that an interval ought to cover in 95 of 100 subsets; the
difference of two such means is what a comparison ought to find. Two seeds of one recipe are equally good, so every
difference that is called is a false alarm.

Finished subsets are kept in the folder `.honesty` and are not computed again. An hour on two cores.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from joblib import Parallel, delayed
from numpy.typing import NDArray
from run import machine
from shared import NORMALIZED, recipe
from workspace import Workspace, changed

from foldwise.base.params import Params
from foldwise.compare.best import allowing_for_the_choice
from foldwise.data import folds, images
from foldwise.data.folds import Description, Fold, Folds
from foldwise.data.images import Images
from foldwise.evaluation.inference import Estimate, corrected_t
from foldwise.evaluation.results import HeldOut
from foldwise.evaluation.scores import SCORES
from foldwise.learning.predict_fold import PredictFold
from foldwise.learning.train_fold import TrainFold

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / ".honesty"
PAGE = HERE.parent / "docs/statistics.md"
FIGURES = "## Figures\n"  # what follows it in the page is written anew
TRUTH = 2400  # other images that each model is measured on
POWER_AT = 0.055

# A small network, so that there are thousands of folds an hour.
BASE = recipe("default") | {
    "model.name": "simple_cnn",
    "train.optimizer": "adamw",
    "train.lr": 0.02,
    "train.batch_size": 32,
    "train.weight_decay": 0.05,
    "train.label_smoothing": 0.0,
    "train.clean_epochs": 0,
    "train.freeze_first_layer_after": 0,
}
# Between the first eight there is little to choose; of two seeds neither is better.
RECIPES: dict[str, dict[str, Any]] = {
    "base": {},
    "smoothed": {"train.label_smoothing": 0.1},
    "no decay": {"train.weight_decay": 0.0},
    "faster": {"train.lr": 0.03},
    "7 epochs": {"train.epochs": 7},
    "batch of 24": {"train.batch_size": 24},
    "adam": {"train.optimizer": "adam", "train.weight_decay": 0.0},
    "muon": {"train.optimizer": "muon", "train.lr": 0.03},
    "other seed": {"train.seed": 100_000},
    "far": {"train.lr": 0.002},
    "compact": {"model.name": "compact"},
}
NEAR, OTHERS = tuple(RECIPES)[:8], ("far", "compact")
FEW = ("base", "muon", "other seed", "far")
LEARNERS = ("1-NN", "5-NN", "tree", "naive Bayes", "ridge", "discriminant")
SOME = FEW + LEARNERS
REST = tuple(name for name in RECIPES if name not in FEW)

Design = tuple[int, int]  # repeats, folds
Answers = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Setting:
    """What is cross-validated, and how.

    Attributes
    ----------
    title : str
    n : int
        Images of a subset.
    subsets : int
    designs : dict of (repeats, k) to names
        What is cross-validated with so many repeats and folds.
    pairs : tuple of pairs of classes
        Subsets are of these two classes alone, in turn; empty for all classes.
    copies : int
        Images that are made of each, shifted: they are one group.
    """

    title: str
    n: int
    subsets: int
    designs: dict[Design, tuple[str, ...]]
    pairs: tuple[tuple[int, int], ...] = ()
    copies: int = 1


SETTINGS = {
    # The first of three repeats is what a single one would have been.
    "600": Setting("600 images", 600, 96, {(3, 5): SOME, (1, 10): SOME, (1, 5): REST}),
    "300": Setting("300 images", 300, 96, {(1, 5): SOME}),
    "3000": Setting("3,000 images", 3000, 23, {(1, 5): SOME}),
    "perfect": Setting("300 images of 0 and 1, or 6 and 7", 300, 96, {(1, 5): SOME}, pairs=((0, 1), (6, 7))),
    "groups": Setting("150 images, four shifted copies of each", 600, 96, {(1, 5): SOME}, copies=4),
}


class _Job:
    """A fold's training of which nobody asks anything."""

    is_first, until = False, None

    def checkpoint(self) -> None:
        return None

    def note(self, line: str) -> None: ...

    def keep(self, checkpoint: object) -> None: ...

    def end_epoch(self, number: int, line: str, checkpoint: object) -> None: ...


def learners() -> dict[str, Any]:
    """Give scikit-learn's learners, whose answers depend more on their training images than those of networks do."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import RidgeClassifier
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.tree import DecisionTreeClassifier

    found = (
        KNeighborsClassifier(1),
        KNeighborsClassifier(5),
        DecisionTreeClassifier(random_state=0),
        GaussianNB(var_smoothing=0.1),
        RidgeClassifier(alpha=1e6),
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5),
    )
    return dict(zip(LEARNERS, found, strict=True))


def drawn(data: Images, setting: Setting, number: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Give pixels, labels and groups of a subset, and after them those of the images that tell the truth about it."""
    pixels = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    order, first = np.random.default_rng(0).permutation(len(labels)), number
    if setting.pairs:
        pair = setting.pairs[number % len(setting.pairs)]
        order, first = order[np.isin(labels[order], pair)], number // len(setting.pairs)
        labels = np.searchsorted(pair, labels)
    size = setting.n // setting.copies
    n = size + max(TRUTH // setting.copies, setting.n)
    chosen = np.take(order, np.arange(first * size, first * size + n), mode="wrap").repeat(setting.copies)
    random = np.random.default_rng(number)
    moved = [np.roll(pixels[image], random.integers(-2, 3, 2) * (setting.copies > 1), axis=(1, 2)) for image in chosen]
    step = 2 if pixels.shape[2] >= 28 else 1
    side = pixels.shape[2] // step
    smaller = np.stack(moved).reshape(-1, 1, side, step, side, step).mean(axis=(3, 5)).astype(np.uint8)
    return smaller, labels[chosen], np.arange(n).repeat(setting.copies)


def cross_validated(data: Images, setting: Setting, number: int, content: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Cross-validate everything on one subset.

    Returns
    -------
    dict of arrays
        Under `REPEATSxK/NAME/right` whether each image's answer was right out of fold, (repeats, n) bool, under
        `.../truth` each model's accuracy on other images, (repeats * k,); under `REPEATSxK/folds` the assignments,
        (repeats, n), and under `groups` the groups, (n,).
    """
    pixels, labels, groups = drawn(data, setting, number)
    n, classes = setting.n, ("first", "second") if setting.pairs else data.classes
    of = Images.measured("subset", classes, (pixels[:n], labels[:n]), (pixels[n:], labels[n:]))
    found: dict[str, NDArray[Any]] = {"groups": groups[:n]}
    for (repeats, k), names in setting.designs.items():
        dealing = {"cv.k": k, "cv.repeats": repeats, "cv.seed": number}
        recipes = {name: BASE | dealing | RECIPES[name] for name in names if name in RECIPES}
        for changes in recipes.values():
            changes["train.seed"] = number + changes.get("train.seed", 0)
        params = {name: Params.model_validate(changed(content, changes)) for name, changes in recipes.items()}
        splits = _dealt(of, next(iter(params.values())), groups[:n] if setting.copies > 1 else None)
        answers = {name: _network(of, splits, of_recipe) for name, of_recipe in params.items()}
        answers |= {name: _learner(of, splits, one) for name, one in learners().items() if name in names}
        found[f"{repeats}x{k}/folds"] = splits.assignments
        for name, answer in answers.items():
            right, truth = np.empty((repeats, n), bool), []
            for fold in splits:
                of_fold, of_others = answer(fold)
                held_out = splits.held_out(fold)
                right[fold.repeat, held_out] = of_fold == of.train_labels[held_out]
                truth.append(np.mean(of_others == of.test_labels))
            found |= {f"{repeats}x{k}/{name}/right": right, f"{repeats}x{k}/{name}/truth": np.array(truth)}
    return found


def _dealt(of: Images, params: Params, groups: NDArray[Any] | None) -> Folds:
    with tempfile.TemporaryDirectory() as folder:
        folds.save(Path(folder), folds.assign(of.train_labels, params.cv, groups), params.cv)
        splits = folds.load(Path(folder), len(of.train_labels))
        return Folds(np.array(splits.assignments), splits.description)


def _network(of: Images, splits: Folds, params: Params) -> Callable[[Fold], Answers]:
    def answer(fold: Fold) -> Answers:
        arrays = TrainFold(of, splits, params, {})(fold, _Job())
        assert arrays is not None
        del arrays["epochs"], arrays["losses"]
        predicted = PredictFold(of, splits, params)(fold, None, arrays)
        return predicted["held_out"].argmax(axis=1), predicted["test"].argmax(axis=1)

    return answer


def _learner(of: Images, splits: Folds, learner: Any) -> Callable[[Fold], Answers]:
    flat, others = (x.reshape(len(x), -1).astype(np.float32) for x in (of.train_images, of.test_images))

    def answer(fold: Fold) -> Answers:
        training = splits.training(fold)
        learner.fit(flat[training], of.train_labels[training])
        return learner.predict(flat[splits.held_out(fold)]), learner.predict(others)

    return answer


def compute(data: Images, kept: Path, name: str, number: int, content: dict[str, Any]) -> None:
    """Cross-validate everything on one subset of a setting, and keep what comes of it."""
    import torch

    torch.set_num_threads(1)
    part = kept / f"{name}-{number:04d}.part.npz"
    np.savez(part, **cross_validated(data, SETTINGS[name], number, content))
    part.rename(_file(kept, name, number))


def missing(kept: Path, subsets: int | None) -> list[tuple[str, int]]:
    """Setting and number of each subset that is not kept, those of all settings in turn."""
    counts = {name: min(setting.subsets, subsets or setting.subsets) for name, setting in SETTINGS.items()}
    every = itertools.product(range(max(counts.values())), SETTINGS)
    return [(name, n) for n, name in every if n < counts[name] and not _file(kept, name, n).exists()]


def _file(kept: Path, name: str, number: int) -> Path:
    return kept / f"{name}-{number:04d}.npz"


@dataclass(frozen=True)
class Found:
    """What is known of one design on the S subsets of a setting.

    Attributes
    ----------
    right : dict of str to (S, repeats, n) bool
    expected : dict of str to (S,) float
        Expected accuracy, of subsets alike.
    folds : (S, repeats, n) int
    groups : (S, n) int
    """

    right: dict[str, NDArray[np.bool_]]
    expected: dict[str, NDArray[np.float64]]
    folds: NDArray[np.int64]
    groups: NDArray[np.int64]

    def estimates(self, kind: str, b: str, less: str | None = None) -> list[Estimate]:
        """Estimate an accuracy on each subset, or by how much it is above another: `new`, `old` or `naive`."""
        ours = self._held_out(b)
        theirs = self._held_out(less) if less else [None] * len(ours)
        return [_estimate(kind, *each) for each in zip(ours, theirs, strict=True)]

    def _held_out(self, name: str) -> list[HeldOut]:
        return [_held_out(*each) for each in zip(self.right[name], self.folds, self.groups, strict=True)]

    def truth(self, b: str, less: str | None = None) -> NDArray[np.float64]:
        """What they ought to find, (S,)."""
        return self.expected[b] - (self.expected[less] if less else 0)


def _held_out(right: NDArray[Any], assignments: NDArray[Any], groups: NDArray[Any]) -> HeldOut:
    """What a run with such answers, (repeats, n) bool, leaves behind."""
    sizes = np.stack([np.bincount(row) for row in assignments])
    correct = np.stack([np.bincount(row, of) for row, of in zip(assignments, right, strict=True)])
    repeats, k = sizes.shape
    described = Description(strategy="stratified", k=k, repeats=repeats, seed=0, sha256="")
    return HeldOut(
        folds=Folds(assignments, described, groups),
        labels=np.ones(right.shape[1], np.int64),
        out_of_fold=np.log(np.where(np.stack([~right, right], axis=-1), 0.9, 0.1)).astype(np.float32),
        scores=pd.DataFrame({"n": sizes.ravel(), "accuracy": (correct / sizes).ravel()}),
    )


def _estimate(kind: str, b: HeldOut, less: HeldOut | None) -> Estimate:
    """As the package does, or as it did, or without any correction."""
    accuracy = SCORES["accuracy"]
    if kind == "new":
        found = b.estimate(accuracy, less)
        assert found
        return found
    of_folds = b.values(accuracy) - (less.values(accuracy) if less else 0)
    return corrected_t(of_folds, 0.0 if kind == "naive" else b.test_train_ratio, resolution=b.step(accuracy))


def read(kept: Path, name: str, design: Design) -> Found | None:
    """Read what is kept of a design; None where that is less than two subsets."""
    setting, (repeats, k) = SETTINGS[name], design
    numbers = [number for number in range(setting.subsets) if _file(kept, name, number).exists()]
    # One of a single repeat is also the first of more.
    sources = [of for of in setting.designs if of == design or (repeats == 1 and of[1] == k)]
    if len(numbers) < 2 or not sources:
        return None
    opened = [dict(np.load(_file(kept, name, number))) for number in numbers]
    right, truth = {}, {}
    for r, _ in sources:
        for one in setting.designs[r, k]:
            right[one] = np.stack([each[f"{r}x{k}/{one}/right"][:repeats] for each in opened])
            truth[one] = np.stack([each[f"{r}x{k}/{one}/truth"][: repeats * k] for each in opened]).mean(axis=1)
    alike = np.array(numbers) % max(len(setting.pairs), 1)
    expected = {one: np.array([values[alike == like].mean() for like in alike]) for one, values in truth.items()}
    assignments = np.stack([each[f"{sources[0][0]}x{k}/folds"][:repeats] for each in opened])
    return Found(right, expected, assignments, np.stack([each["groups"] for each in opened]))


def per_cent(by_subset: NDArray[Any], decimals: int = 1) -> str:
    """Mean of what is known of each subset, (S,) or (S, many), in per cent, with its standard error."""
    means = 100 * by_subset.reshape(len(by_subset), -1).mean(axis=1)
    return f"{means.mean():.{decimals}f} ± {means.std(ddof=1) / np.sqrt(len(means)):.{decimals}f}"


def covered(found: Found, kind: str, pairs: Sequence[tuple[str, str | None]]) -> NDArray[np.bool_]:
    """Whether intervals hold what they ought to, (S, pairs)."""
    columns = []
    for b, a in pairs:
        estimates, truth = found.estimates(kind, b, a), found.truth(b, a)
        columns.append([abs(e.mean - t) <= e.half() + 1e-12 for e, t in zip(estimates, truth, strict=True)])
    return np.array(columns).T


def called(found: Found, kind: str, b: str, a: str, difference: float) -> NDArray[np.bool_]:
    """Whether a difference is called on each subset, if the true one were that: the estimates are moved to it."""
    moved = zip(found.estimates(kind, b, a), found.truth(b, a), strict=True)
    return np.array([abs(e.mean - t + difference) > e.half() for e, t in moved])


def seen(found: Found, pairs: Sequence[tuple[str, str]]) -> NDArray[np.bool_]:
    """Whether a true difference of which it is said that it has an 80 % chance of being seen is, (S, pairs)."""
    columns = []
    for b, a in pairs:
        moved = zip(found.estimates("new", b, a), found.truth(b, a), strict=True)
        columns.append([e.mean - t + e.seen() > e.half() for e, t in moved])
    return np.array(columns).T


def row(found: Found) -> Iterator[str]:
    """The figures of one design, of the test as it is, as it was, and without any correction."""
    networks = [name for name in found.right if name in RECIPES]
    sklearn = [name for name in found.right if name in LEARNERS]
    near = [(b, a) for a, b in itertools.combinations(networks, 2) if not {a, b} & set(OTHERS)]
    groups: dict[str, list[tuple[str, str | None]]] = {
        "networks": [(name, None) for name in networks],
        "learners": [(name, None) for name in sklearn],
        "near": list(near),
        "far": [(b, a) for a, b in itertools.combinations(networks, 2) if {a, b} & set(OTHERS)],
        "apart": [(b, a) for a, b in itertools.combinations(sklearn, 2)],
    }
    kinds = ("new", "old", "naive")
    yield "false alarms", *(per_cent(called(found, kind, "other seed", "base", 0.0)) for kind in kinds)
    titles = {
        "networks": "mean covered, networks",
        "learners": "mean covered, scikit-learn's learners",
        "near": "difference covered, near networks",
        "far": "difference covered, networks that are apart",
        "apart": "difference covered, scikit-learn's learners",
    }
    for group, title in titles.items():
        yield title, *(per_cent(covered(found, kind, groups[group])) for kind in kinds)
    for title, group in (("half width of the mean, points", "networks"), ("of a near difference", "near")):
        halves = {
            kind: 100 * np.mean([e.half() for b, a in groups[group] for e in found.estimates(kind, b, a)])
            for kind in kinds
        }
        yield title, *(f"{half:.2f}" for half in halves.values())
    yield (
        f"a true difference of {100 * POWER_AT:g} points is called",
        *(per_cent(called(found, kind, "base", "far", POWER_AT)) for kind in kinds),
    )
    yield "what is said to have a chance of 80 % is called", per_cent(seen(found, near)), "", ""


def tables(kept: Path) -> str:
    """All figures in Markdown."""
    parts = []
    for name, setting in SETTINGS.items():
        for design in dict.fromkeys([(1, 5), *setting.designs]):
            found = read(kept, name, design)
            if found is None:
                continue
            repeats, k = design
            what = f"{k} folds" + (f", {repeats} repeats" if repeats > 1 else "")
            lines = [f"### {setting.title}, {what}; {len(found.groups)} subsets", ""]
            accuracies = {one: f"{one} {100 * values.mean():.1f}" for one, values in found.expected.items()}
            lines += [f"Expected accuracy, %: {', '.join(accuracies.values())}.", ""]
            lines += ["| % ± standard error | this test | corrected t | naive t |", "| --- | --- | --- | --- |"]
            lines += [f"| {' | '.join(cells)} |" for cells in row(found)]
            parts.append("\n".join(lines))
            if set(NEAR) <= set(found.right):
                parts.append(best_of_eight(found))
    return "\n\n".join(parts) + "\n"


def best_of_eight(found: Found) -> str:
    """How much the best of eight near-equal recipes is overstated, and what BBC-CV leaves of that."""
    values = np.stack([found.right[name][:, 0].astype(float) for name in NEAR], axis=1)  # (S, 8, n)
    expected = np.stack([found.expected[name] for name in NEAR], axis=1)
    best = values.mean(axis=2).argmax(axis=1)
    truth = np.take_along_axis(expected, best[:, np.newaxis], axis=1)[:, 0]
    face = np.take_along_axis(values.mean(axis=2), best[:, np.newaxis], axis=1)[:, 0]
    # How lucky a subset is, for all recipes alike, says nothing of the choice.
    luck = (values.mean(axis=2) - expected).mean(axis=1)
    allowed = [allowing_for_the_choice(subset) for subset in values]
    means = np.array([one.mean for one in allowed])
    held = np.array([one.low <= t <= one.high for one, t in zip(allowed, truth, strict=True)])
    lines = [
        f"The best of {len(NEAR)} near-equal recipes:",
        "",
        "| | at face value | after allowing for the choice |",
        "| --- | --- | --- |",
    ]
    for title, true in (("overstated by, points", truth), ("the same, less the luck of the subset", truth + luck)):
        lines.append(f"| {title} | {per_cent(face - true, 2)} | {per_cent(means - true, 2)} |")
    return "\n".join([*lines, f"| interval covers, % | | {per_cent(held)} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subsets", type=int, metavar="N", help="at most so many of each setting")
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.relative_to(HERE.parent)}")
    options = parser.parse_args()
    KEPT.mkdir(exist_ok=True)
    if todo := missing(KEPT, options.subsets):
        with tempfile.TemporaryDirectory(prefix="foldwise-honesty-") as folder:
            workspace = Workspace(HERE.parent, Path(folder))
            content = yaml.safe_load((workspace.folder / "params.yaml").read_text())
            data = images.load(workspace.folder / NORMALIZED)
            jobs = (delayed(compute)(data, KEPT, *one, content) for one in todo)
            parallel = Parallel(n_jobs=-1, return_as="generator_unordered", batch_size=1)
            for done, _ in enumerate(parallel(jobs), 1):
                print(f"{done} of {len(todo)} subsets", end="\r", file=sys.stderr, flush=True)
    figures = tables(KEPT)
    print(figures)
    if options.write:
        where = machine()
        head = PAGE.read_text().partition(FIGURES)[0]
        PAGE.write_text(f"{head}{FIGURES}\n{figures}\n{where['date']}, {where['machine']}; {where['versions']}.\n")


if __name__ == "__main__":
    main()
