"""Comparisons in words: for the console, for pull requests (Markdown) and for programs (JSON)."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from foldwise.compare import rendering
from foldwise.compare.comparison import IDENTICAL, SIGNIFICANCE, ClassChange, Comparison, Pairing, Side, Verdict
from foldwise.compare.overrides import setting
from foldwise.compare.rendering import (
    Block,
    Table,
    console,
    heading,
    name_of,
    p_value,
    percent,
    settings,
    shown,
    value,
)
from foldwise.evaluation.inference import Estimate, repeated
from foldwise.evaluation.scores import SCORES, Score

_METHOD = "Same folds: paired, and corrected for overlapping training sets."
_REPEATS = (2, 3, 4, 5)  # of more it was not tried whether what is foreseen comes true
# Of a terminal.
_COLOURS: dict[Verdict, int] = {"better": 32, "worse": 31, "practically_same": 36, "undecided": 33, "not_paired": 35}
_NONE = 39


def sentence(comparison: Comparison) -> str:
    """Give the answer: what the interval of the difference in the primary score says, or why there is none."""
    if comparison.pairing is None:
        what = "folds" if comparison.unlike == ("folds",) else "data"
        return f"not paired: the {what} differ, so it cannot be said whether B is better; {_remedy(comparison)}"
    if comparison.pairing.identical:
        return f"practically the same: {IDENTICAL}"
    score, estimate = comparison.primary, comparison.pairing.decisive
    low, high = estimate.interval()
    match comparison.verdict:
        case "practically_same":
            by, least, most = shown(score, estimate.mean, low, high, sign="+")
            return (
                f"practically the same: B - A is {by} {score.unit} (95% {least} to {most}), within {_rope(comparison)}"
            )
        case "undecided":
            return f"undecided: {_undecided(comparison, comparison.pairing)}"
    by, least, most = shown(score, abs(estimate.mean), *sorted([abs(low), abs(high)]))
    return f"B is {comparison.verdict} by {by} {score.unit} (95% {least} to {most})"


def _undecided(comparison: Comparison, pairing: Pairing) -> str:
    """Say how likely each side is, what would be seen, and what would decide it."""
    score, belief, now = comparison.primary, pairing.posterior, pairing.decisive
    k, done = comparison.a.k, comparison.a.repeats
    tried = [repeats for repeats in _REPEATS if repeats > done and pairing.can_repeat]
    later = {repeats: repeated(now, done * k, repeats * k, pairing.test_train_ratio) for repeats in tried}
    way = max(abs(now.mean), comparison.rope / 100 - abs(now.mean))  # to be seen, or to be seen to be none
    enough = next((repeats for repeats, then in later.items() if then.half() < way), None)
    # The correction leaves a floor that no number of repeats gets below.
    told = enough or next((repeats for repeats, then in later.items() if then.seen() < 0.9 * now.seen()), None)
    seen, less = shown(score, now.seen(), later[told].seen() if told else now.seen())
    times = math.ceil((now.half() / way) ** 2) if way else math.inf
    decisive = (
        f"cv.repeats={enough} would decide it, if it stays as large"
        if enough
        else f"{f'about {times} times as many' if times < 100 else 'only far more'} images would decide it"
    )
    parts = [
        f"B is better with {percent(belief.p_better)}, worse with {percent(belief.p_worse)}, practically the same "
        f"with {percent(belief.p_same)}",
        f"a true difference of {seen} {score.unit} has an 80% chance of being seen with these folds"
        + (f", one of {less} with cv.repeats={told}" if told else ""),
        decisive,
    ]
    return "; ".join(parts)


def overview(comparisons: Sequence[Comparison]) -> str:
    """Give the answer about several runs: how many are better than A, and so on."""
    if len(comparisons) == 1:
        return sentence(comparisons[0])
    counts = Counter(comparison.verdict for comparison in comparisons)
    parts = [f"{counts[verdict]} {verdict.replace('_', ' ')}" for verdict in _COLOURS if counts[verdict]]
    return f"of {len(comparisons)} runs against {comparisons[0].a.name}: {', '.join(parts)}"


def text(comparisons: Sequence[Comparison], width: int = 100, *, is_bold: bool = False) -> str:
    """Report on one comparison at length, the answer first, or on several with one A in a table, for the console."""
    colour = _COLOURS[comparisons[0].verdict] if len(comparisons) == 1 else _NONE
    return console([overview(comparisons), *_details(comparisons)], width, colour if is_bold else None)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Report as `text` does, in GitHub's Markdown."""
    return rendering.markdown(overview(comparisons), *_details(comparisons))


def content(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Report for `json.dumps`; more than one comparison stand in a list under `comparisons`.

    Scores and their differences (B's less A's) are fractions or nats, `rope` is in hundredths, a difference of
    `smallest_visible` has an 80 % chance of being seen; None is what cannot be had, as are all differences under the
    verdict `not_paired`.
    """
    if len(comparisons) > 1:
        return {"comparisons": [_content(one) for one in comparisons], "sentence": overview(comparisons)}
    return {**_content(comparisons[0]), "sentence": sentence(comparisons[0])}


def _content(comparison: Comparison) -> dict[str, Any]:
    pairing = comparison.pairing
    scores = {}
    for name in comparison.a.means:
        found = pairing.estimates[name] if pairing else None
        low, high = found.interval() if found else (None, None)
        scores[name] = {
            "a": comparison.a.means[name],
            "b": comparison.b.means[name],
            "difference": found and found.mean,
            "ci95_low": low,
            "ci95_high": high,
            "p": found and found.p,
            "smallest_visible": found and found.seen(),
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
        "classes": pairing and [_change(change) for change in pairing.classes],
        "notes": comparison.notes,
    }


def _change(change: ClassChange) -> dict[str, Any]:
    low, high = change.difference.interval()
    numbers = {"difference": change.difference.mean, "ci95_low": low, "ci95_high": high, "p": change.p}
    return {"name": change.name, "n": change.n, "a": change.a, "b": change.b, **numbers}


def _side(side: Side) -> dict[str, Any]:
    content = asdict(side) | {name: _interval(SCORES[name], found) for name, found in side.estimates.items()}
    del content["estimates"]
    return content


def _interval(score: Score, estimate: Estimate) -> dict[str, float]:
    low, high = estimate.interval(bounds=score.bounds)
    return {"mean": estimate.mean, "std": estimate.std, "low": low, "high": high}


def _details(comparisons: Sequence[Comparison]) -> list[Block]:
    is_one = len(comparisons) == 1
    blocks = _one(comparisons[0]) if is_one else _many(comparisons)
    notes = dict.fromkeys(note for comparison in comparisons for note in comparison.notes)
    # Of a pair it is the answer.
    return [*blocks, *(f"Note: {note}." for note in notes if not (is_one and note == IDENTICAL))]


def _one(comparison: Comparison) -> Iterator[Block]:
    sides, primary = {"A": comparison.a, "B": comparison.b}, comparison.primary
    yield [
        ("", "run", "folds", heading(primary), "95% interval"),
        *(
            (letter, name_of(side.name, side.commit), _folds(side), *_own(side, primary))
            for letter, side in sides.items()
        ),
    ]
    if comparison.parameters:
        differing = comparison.parameters.items()
        yield [
            ("parameter", "A", "B"),
            *((name, value(_of(both, "a")), value(_of(both, "b"))) for name, both in differing),
        ]
    else:
        yield "No parameter differs."
    if comparison.sources:
        yield f"Code that differs: {', '.join(comparison.sources)}."
    if comparison.pairing is None:
        yield "Each interval is of its own run; whether they overlap is no test."
        return
    found = {SCORES[name]: estimate for name, estimate in comparison.pairing.estimates.items()}
    yield [
        ("score", "A", "B", "B - A", "95% interval", "p"),
        *((heading(score), *_means(comparison, score), *_difference(score, one)) for score, one in found.items()),
    ]
    yield _METHOD
    yield from _changes(comparison.pairing)
    belief, answers = comparison.pairing.posterior, comparison.pairing.mcnemar
    yield (
        f"Probability that B is better {percent(belief.p_better)}, practically the same "
        f"(within {_rope(comparison)}) {percent(belief.p_same)}, worse "
        f"{percent(belief.p_worse)}."
    )
    where = "Out of fold" if comparison.a.repeats == 1 else "Out of fold, in the first repeat"
    yield (
        f"{where}, {answers.only_a} images are right in A alone and {answers.only_b} in B alone: McNemar's exact "
        f"p {p_value(answers.p)}; it speaks of these models only, and does not decide."
    )


def _changes(pairing: Pairing) -> Iterator[Block]:
    """Say which classes got better or worse."""
    how = "by the share of their images that is right (p adjusted by Holm's method)"
    changed = [change for change in pairing.classes if change.p < SIGNIFICANCE]
    if not changed:
        yield f"Of {len(pairing.classes)} classes none is seen to change, {how}."
        return
    accuracy = SCORES["accuracy"]
    yield [
        ("class", "images", "A", "B", "B - A", "95% interval", "p, Holm"),
        *(
            (
                change.name,
                str(change.n),
                *shown(accuracy, change.a, change.b),
                *_difference(accuracy, change.difference)[:2],
                p_value(change.p),
            )
            for change in sorted(changed, key=lambda change: -abs(change.difference.mean))
        ),
    ]
    yield f"Of {len(pairing.classes)} classes these are seen to change, {how}."


def _many(comparisons: Sequence[Comparison]) -> Iterator[Block]:
    first, primary = comparisons[0].a, comparisons[0].primary
    difference = f"less A, {primary.unit}"
    rows: Table = [("run", "what differs", heading(primary), difference, "95% interval", "p, Holm", "against A")]
    rows.append((f"A: {name_of(first.name, first.commit)}", "", _own(first, primary)[0], "", "", "", ""))
    for comparison in comparisons:
        b, pairing = comparison.b, comparison.pairing
        found = (*_difference(primary, pairing.decisive)[:2], p_value(pairing.p)) if pairing else ("", "", "")
        answer = comparison.verdict.replace("_", " ")
        theirs = {name: _of(both, "b") for name, both in comparison.parameters.items()}
        rows.append(
            (name_of(b.name, b.commit), settings(theirs, comparison.sources), _own(b, primary)[0], *found, answer)
        )
    yield rows
    yield (
        f"{_METHOD} Better and worse follow p adjusted by Holm's method for several comparisons; practically the same "
        "follows the interval, which is not adjusted."
    )
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


def _folds(side: Side) -> str:
    return str(side.k) if side.repeats == 1 else f"{side.repeats} x {side.k}"


def _own(side: Side, score: Score) -> tuple[str, str]:
    own = side.estimates[score.name]
    mean, low, high = shown(score, own.mean, *own.interval(bounds=score.bounds))
    return mean, f"{low} to {high}"


def _means(comparison: Comparison, score: Score) -> tuple[str, str]:
    means = comparison.a.means[score.name], comparison.b.means[score.name]
    a, b = ("" if mean is None else f"{score.scale * mean:.{score.decimals}f}" for mean in means)
    return a, b


def _difference(score: Score, estimate: Estimate | None) -> tuple[str, str, str]:
    if estimate is None:
        return "", "", ""
    mean, low, high = shown(score, estimate.mean, *estimate.interval(), sign="+")
    return mean, f"{low} to {high}", p_value(estimate.p)


def _rope(comparison: Comparison) -> str:
    return f"{comparison.primary.scale * comparison.rope / 100:g} {comparison.primary.unit}"


def _of(both: dict[str, Any], side: str) -> Any:
    return both.get(side, "(no such parameter)")
