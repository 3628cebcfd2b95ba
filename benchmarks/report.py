"""The tables: measured figures in, Markdown out."""

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from measure import Measured

NUMBER = re.compile(r"-?[0-9]|$")
REPEAT = """\
    make bench            # all of it, on a machine that does nothing else: {minutes:.0f} minutes on this one
    make bench QUICK=1    # one fold (of Foldwise, all) and few epochs of each, to see that all works; writes nothing
    .venv/bin/python benchmarks/run.py --only e c1    # some of the rows, and no other table; writes nothing
"""


@dataclass
class Entry:
    """One way to the same figure, and its runs.

    Attributes
    ----------
    key : str
        Letter, and n_jobs where there are two.
    name, difference : str
        What it is, and what it does differently.
    folds : int
        How many it trains.
    runs : list of Measured
    """

    key: str
    name: str
    difference: str
    folds: int = 5
    runs: list[Measured] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Median over the runs."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def memory(self) -> float:
        """Highest peak of the runs, in MB, shared pages counted once."""
        return max(run.memory for run in self.runs)

    @property
    def resident(self) -> float:
        """Highest peak of the runs, in MB, shared pages counted in each process."""
        return max(run.resident for run in self.runs)

    @property
    def accuracy(self) -> float:
        """Mean over the runs."""
        return statistics.mean(run.accuracy for run in self.runs)


@dataclass
class Growth:
    """One train stage of a series: what was varied, images trained on in all, and what it took."""

    value: int
    images: int
    run: Measured


@dataclass
class Parts:
    """Where the time goes; rates in images per second, times in seconds.

    Attributes
    ----------
    bare, loop, loop_frozen, loop_unaugmented, prediction : float
        Rates of one thread; `loop_frozen` is that of the loop while the first layer is frozen.
    loop_share : float
        Of the bare step's rate, what the loop reaches: the median over rounds in turn.
    one_worker, two_workers, two_to_one : float
        Rates of the engine, and the median of their ratios.
    start_up : float
        The train stage with next to nothing to train, without DVC.
    dvc : float
        What DVC adds to it.
    evaluate : float
        The evaluate stage, without DVC.
    trained, trained_frozen, predicted : int
        Images that the five folds train on before and while the first layer is frozen, and that they predict for the
        curves, over all epochs.
    cores : int
    """

    bare: float
    loop: float
    loop_frozen: float
    loop_unaugmented: float
    prediction: float
    loop_share: float
    one_worker: float
    two_workers: float
    two_to_one: float
    start_up: float
    dvc: float
    evaluate: float
    trained: int
    trained_frozen: int
    predicted: int
    cores: int


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table that is readable as it stands: first column left, numbers right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rights = [all(NUMBER.match(row[column]) for row in rows) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, rights, strict=True)
        )
        return f"| {' | '.join(aligned)} |"

    rule = ("-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, rights, strict=True))
    return "\n".join([line(header), f"| {' | '.join(rule)} |", *map(line, rows)]) + "\n"


def side_by_side(entries: Sequence[Entry]) -> str:
    """Table of all entries; ratios are of times per fold, over e's."""
    ours = next((entry for entry in entries if entry.key == "e"), None)
    rows = [
        [
            f"{entry.key}. {entry.name}",
            str(entry.folds),
            str(len(entry.runs)),
            f"{entry.seconds:.1f}",
            f"{entry.seconds / entry.folds / ours.seconds * ours.folds:.2f}" if ours else "",
            f"{entry.memory:.0f}",
            f"{entry.resident:.0f}",
            f"{100 * entry.accuracy:.2f}",
        ]
        for entry in entries
    ]
    header = ["", "folds", "runs", "seconds", "times e's", "peak MB", "resident MB", "mean fold accuracy, %"]
    return table(header, rows)


def differences(entries: Sequence[Entry]) -> str:
    """Say what each entry does differently."""
    return "".join(f"- {entry.key}. {entry.difference}\n" for entry in entries)


def parts(measured: Parts) -> str:
    """Table of the rates and the stage's fixed costs."""
    rows = [
        ["bare step, one thread", f"{measured.bare:.0f} images/s", "100 %"],
        ["training loop, one thread", f"{measured.loop:.0f} images/s", f"{100 * measured.loop_share:.1f} % of it"],
        ["training loop, first layer frozen", f"{measured.loop_frozen:.0f} images/s", ""],
        ["training loop without augmentation", f"{measured.loop_unaugmented:.0f} images/s", ""],
        ["prediction, one thread", f"{measured.prediction:.0f} images/s", ""],
        ["four folds, one worker", f"{measured.one_worker:.0f} images/s", ""],
        ["four folds, two workers", f"{measured.two_workers:.0f} images/s", f"{measured.two_to_one:.2f} times one"],
        ["start-up of the stage and its workers", f"{measured.start_up:.2f} s", ""],
        ["what DVC adds to the stage", f"{measured.dvc:.2f} s", ""],
        ["the evaluate stage", f"{measured.evaluate:.2f} s", ""],
    ]
    return table(["part", "measured", ""], rows)


def budget(seconds: float, measured: Parts) -> str:
    """Table of what Foldwise's seconds are made of, worked out from the rates."""
    workers = min(measured.cores, 5)
    bare = measured.trained / workers / measured.bare
    made = {
        "forward, backward, optimiser": bare,
        "the loop around it": bare / measured.loop_share - bare,
        "both, while the first layer is frozen": measured.trained_frozen / workers / measured.loop_frozen,
        "predictions for the curves": measured.predicted / workers / measured.prediction,
        "start-up": measured.start_up,
        "DVC": measured.dvc,
    }
    made["the rest: workers slow each other, and wait at the end"] = seconds - sum(made.values())
    rows = [[name, f"{took:.1f}", f"{100 * took / seconds:.0f}"] for name, took in made.items()]
    return table(["of Foldwise's time", "seconds", "%"], [*rows, ["in all", f"{seconds:.1f}", "100"]])


def growth(name: str, series: Sequence[Growth]) -> str:
    """Table of a series of train stages."""
    rows = [
        [
            str(one.value),
            f"{one.images}",
            f"{one.run.seconds:.1f}",
            f"{one.images / one.run.seconds:.0f}",
            f"{one.run.memory:.0f}",
            f"{one.run.largest:.0f}",
        ]
        for one in series
    ]
    header = [name, "images trained on", "seconds", "images/s", "peak MB", "of which the largest process alone"]
    return table(header, rows)


def aims(entries: Sequence[Entry], measured: Parts, by_k: Sequence[Growth]) -> str:
    """Table of what must hold, and what this run reached."""
    of = {entry.key: entry for entry in entries}
    ours = of["e"]
    same_recipe = of["f"].seconds
    workers = min(measured.cores, 5)
    limit = of["a"].memory + 400 * workers
    grown = by_k[-1].run.largest / by_k[0].run.largest
    reached = [
        (
            "mean fold accuracy of the default",
            ours.accuracy >= 0.995,
            "at least 99.50 %",
            f"{100 * ours.accuracy:.2f} %",
        ),
        _ratio("a over e, the textbook loop", of["a"].seconds / ours.seconds, 8),
        _ratio("c1 over f, skorch, n_jobs=1", of["c1"].seconds / same_recipe, 2),
        _ratio("c2 over f, skorch, n_jobs=2", of["c2"].seconds / same_recipe, 1.5),
        _ratio("d over f, Lightning Fabric", of["d"].seconds / same_recipe, 2),
        ("training loop over bare step", measured.loop_share >= 0.95, "at least 0.95", f"{measured.loop_share:.3f}"),
        ("two workers over one", measured.two_to_one >= 1.85, "at least 1.85", f"{measured.two_to_one:.2f}"),
        ("peak memory of the stage", ours.memory <= limit, f"at most {limit:.0f} MB", f"{ours.memory:.0f} MB"),
        (
            f"largest process, k = {by_k[-1].value} over k = {by_k[0].value}",
            grown <= 1.1,
            "at most 1.1",
            f"{grown:.2f}",
        ),
    ]
    rows = [[what, wanted, got, "yes" if held else "no"] for what, held, wanted, got in reached]
    return table(["what must hold", "wanted", "reached", "held"], rows)


def _ratio(what: str, ratio: float, wanted: float) -> tuple[str, bool, str, str]:
    return (f"time of {what}", ratio >= wanted, f"at least {wanted:g}", f"{ratio:.2f}")


def document(sections: dict[str, str], machine: dict[str, str], minutes: float) -> str:
    """Join the sections to a page that says where, when and with what it was made."""
    made = "".join(f"- {name}: {value}\n" for name, value in machine.items())
    repeat = REPEAT.format(minutes=minutes)
    return f"# Results\n\nOne run of `make bench`, written by it. To repeat it:\n\n{repeat}\n{made}\n{joined(sections)}"


def joined(sections: dict[str, str]) -> str:
    """Join the sections."""
    return "\n".join(f"## {title}\n\n{body}" for title, body in sections.items())
