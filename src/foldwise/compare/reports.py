"""Comparisons in words: for the console, for pull requests (Markdown) and for programs (JSON)."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from textwrap import fill
from typing import Any

from foldwise.compare.comparison import IDENTICAL, Comparison, Side
from foldwise.compare.overrides import setting
from foldwise.evaluation.inference import PairedTest
from foldwise.evaluation.scores import SCORES, Score

Table = list[tuple[str, ...]]
Block = str | Table

_METHOD = "Same folds: paired t-tests, corrected for overlapping training sets."


def sentence(comparison: Comparison) -> str:
    """Say plainly what the corrected paired test on the primary score says, or why there is none."""
    if comparison.pairing is None:
        what = "folds" if comparison.unlike == ("folds",) else "data"
        return f"not paired: the {what} differ, so it cannot be said whether B is better; {_remedy(comparison)}"
    if comparison.pairing.identical:
        return f"no difference: {IDENTICAL}"
    score, test = comparison.primary, comparison.pairing.decisive
    if comparison.verdict == "no_difference":
        (visible,) = _shown(score, test.smallest_visible)
        return f"no difference can be seen; with these folds one of {visible} {score.unit} or more would have been"
    by, least, most = _shown(score, abs(test.mean), *sorted([abs(test.low), abs(test.high)]))
    return f"B is {comparison.verdict} by {by} {score.unit} (95% {least} to {most})"


def text(comparisons: Sequence[Comparison]) -> str:
    """Report on one comparison at length, or on several with one A in a table, for the console."""
    blocks = [_aligned(block) if isinstance(block, list) else _wrapped(block) for block in _blocks(comparisons)]
    if len(comparisons) == 1:
        blocks.append(sentence(comparisons[0]))
    return "\n\n".join(blocks)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Report as `text` does, in GitHub's Markdown, the sentence first."""
    blocks = [_piped(block) if isinstance(block, list) else block for block in _blocks(comparisons)]
    if len(comparisons) == 1:
        blocks.insert(0, f"**{sentence(comparisons[0])}**")
    return "\n\n".join(blocks)


def content(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Report for `json.dumps`; more than one comparison stand in a list under `comparisons`.

    Scores and their differences (B's less A's) are fractions or nats, `rope` is in hundredths; None is what cannot be
    had, as are all differences under the verdict `not_paired`.
    """
    if len(comparisons) > 1:
        return {"comparisons": [_content(comparison) for comparison in comparisons]}
    return {**_content(comparisons[0]), "sentence": sentence(comparisons[0])}


def _content(comparison: Comparison) -> dict[str, Any]:
    pairing = comparison.pairing
    scores = {}
    for name in comparison.a.means:
        test = pairing.tests[name] if pairing else None
        scores[name] = {
            "a": comparison.a.means[name],
            "b": comparison.b.means[name],
            "difference": test and test.mean,
            "ci95_low": test and test.low,
            "ci95_high": test and test.high,
            "p": test and test.p,
            "smallest_visible": test and test.smallest_visible,
        }
    return {
        "verdict": comparison.verdict,
        "primary": comparison.primary.name,
        "p": pairing and pairing.p,
        "a": _side(comparison.a),
        "b": _side(comparison.b),
        "unlike": comparison.unlike,
        "parameters": comparison.parameters,
        "sources": comparison.sources,
        "scores": scores,
        "rope": comparison.rope,
        "posterior": pairing and asdict(pairing.posterior),
        "mcnemar": pairing and asdict(pairing.mcnemar),
        "notes": comparison.notes,
    }


def _side(side: Side) -> dict[str, Any]:
    content = asdict(side)
    content.update(content.pop("intervals"))
    return content


def _blocks(comparisons: Sequence[Comparison]) -> Iterator[Block]:
    if len(comparisons) == 1:
        yield from _one(comparisons[0])
    else:
        yield from _many(comparisons)
    identical_pair = len(comparisons) == 1 and comparisons[0].pairing and comparisons[0].pairing.identical
    notes = dict.fromkeys(note for comparison in comparisons for note in comparison.notes)
    # Of a pair it is the first line.
    yield from (f"Note: {note}." for note in notes if not (identical_pair and note == IDENTICAL))


def _one(comparison: Comparison) -> Iterator[Block]:
    sides, primary = {"A": comparison.a, "B": comparison.b}, comparison.primary
    if comparison.pairing and comparison.pairing.identical:
        yield f"{IDENTICAL}."
    yield [
        ("", "run", "folds", _heading(primary), "95% interval"),
        *((letter, _name(side), _folds(side), *_own(side, primary)) for letter, side in sides.items()),
    ]
    if comparison.parameters:
        differing = comparison.parameters.items()
        yield [("parameter", "A", "B"), *((name, _value(both, "a"), _value(both, "b")) for name, both in differing)]
    else:
        yield "No parameter differs."
    if comparison.sources:
        yield f"Code that differs: {', '.join(comparison.sources)}."
    if comparison.pairing is None:
        yield "Each interval is of its own run; whether they overlap is no test."
        return
    tests = {SCORES[name]: test for name, test in comparison.pairing.tests.items()}
    yield [
        ("score", "A", "B", "B - A", "95% interval", "p"),
        *((_heading(score), *_means(comparison, score), *_difference(score, test)) for score, test in tests.items()),
    ]
    yield _METHOD
    belief, answers = comparison.pairing.posterior, comparison.pairing.mcnemar
    yield (
        f"Probability that B is better {_percent(belief.p_better)}, practically the same "
        f"(within {primary.scale * comparison.rope / 100:g} {primary.unit}) {_percent(belief.p_same)}, worse "
        f"{_percent(belief.p_worse)}."
    )
    where = "Out of fold" if comparison.a.repeats == 1 else "Out of fold, in the first repeat"
    yield (
        f"{where}, {answers.only_a} images are right in A alone and {answers.only_b} in B alone: McNemar's exact "
        f"p {_p(answers.p)}; it speaks of these models only, and does not decide."
    )


def _many(comparisons: Sequence[Comparison]) -> Iterator[Block]:
    first, primary = comparisons[0].a, comparisons[0].primary
    difference = f"B - A, {primary.unit}"
    rows: Table = [("", "run", _heading(primary), difference, "95% interval", "p", "p, Holm", "verdict")]
    rows.append(("A", _name(first), _own(first, primary)[0], "", "", "", "", ""))
    for comparison in comparisons:
        b, pairing = comparison.b, comparison.pairing
        test = (*_difference(primary, pairing.decisive), _p(pairing.p)) if pairing else ("", "", "", "")
        rows.append(("B", _name(b), _own(b, primary)[0], *test, comparison.verdict.replace("_", " ")))
    yield rows
    yield f"{_METHOD} Verdicts follow p adjusted by Holm's method for several comparisons; intervals are not adjusted."
    unpaired = [comparison for comparison in comparisons if comparison.pairing is None]
    yield from (f"{comparison.b.name}: {sentence(comparison)}." for comparison in unpaired)


def _remedy(comparison: Comparison) -> str:
    """Say how to get runs that can be paired: by a whole command, which also sets what else makes B's recipe."""
    # The mirror brings the same files.
    differing = {name: both for name, both in comparison.parameters.items() if name != "data.mirror"}
    pairing = [name for name in differing if name.startswith(("data.", "cv."))]
    if not pairing or not all("a" in both for both in differing.values()):
        return "run both again with the same code and original files"
    wanted = {name: both.get("a" if name in pairing else "b", both["a"]) for name, both in differing.items()}
    settings = " ".join(setting(name, value) for name, value in wanted.items())
    return f"run B again with A's, in a checkout of A: `dvc exp run {settings}`"


def _name(side: Side) -> str:
    return side.name if side.commit is None or side.commit.startswith(side.name) else f"{side.name} ({side.commit[:7]})"


def _folds(side: Side) -> str:
    return str(side.k) if side.repeats == 1 else f"{side.repeats} x {side.k}"


def _heading(score: Score) -> str:
    return f"{score.heading}, %" if score.scale == 100 else score.heading


def _own(side: Side, score: Score) -> tuple[str, str]:
    own = side.intervals[score.name]
    mean, low, high = _shown(score, own.mean, own.low, own.high)
    return mean, f"{low} to {high}"


def _means(comparison: Comparison, score: Score) -> tuple[str, str]:
    means = comparison.a.means[score.name], comparison.b.means[score.name]
    a, b = ("" if mean is None else f"{score.scale * mean:.{score.decimals}f}" for mean in means)
    return a, b


def _difference(score: Score, test: PairedTest | None) -> tuple[str, str, str]:
    if test is None:
        return "", "", ""
    mean, low, high = _shown(score, test.mean, test.low, test.high, sign="+")
    return mean, f"{low} to {high}", _p(test.p)


def _shown(score: Score, *values: float, sign: str = "") -> list[str]:
    """Round alike; to more decimals where one of the last two, an interval's ends, would else become 0."""
    scaled, decimals = [score.scale * value for value in values], score.decimals
    while decimals < 6 and any(abs(value) > 1e-9 and not round(value, decimals) for value in scaled[-2:]):
        decimals += 1
    return [f"{value:{sign}.{decimals}f}" for value in scaled]


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _percent(probability: float) -> str:
    if 0 < probability < 0.001:
        return "<0.1%"
    return ">99.9%" if 0.999 < probability < 1 else f"{probability:.1%}"


def _value(both: dict[str, Any], side: str) -> str:
    value = both.get(side, "(no such parameter)")
    return "(empty)" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _wrapped(line: str) -> str:
    return fill(line, 100, break_long_words=False, break_on_hyphens=False)


def _aligned(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    return "\n".join(line.rstrip() for line in lines)


def _piped(table: Table) -> str:
    header, *rows = (f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in table)
    return "\n".join([header, "|---" * len(table[0]) + "|", *rows])
