"""Numbers, names and tables as reports show them."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from foldwise.evaluation.scores import Score

Table = list[tuple[str, ...]]
Block = str | Table


def name_of(name: str, commit: str | None) -> str:
    """A run's name with its commit, where that says more."""
    return name if commit is None or commit.startswith(name) else f"{name} ({commit[:7]})"


def heading(score: Score) -> str:
    """Title of a score with its unit."""
    return f"{score.heading}, %" if score.scale == 100 else score.heading


def shown(score: Score, *values: float, sign: str = "") -> list[str]:
    """Round alike; to more decimals where one of the last two, an interval's ends, would else become 0."""
    scaled, decimals = [score.scale * value for value in values], score.decimals
    while decimals < 6 and any(abs(value) > 1e-9 and not round(value, decimals) for value in scaled[-2:]):
        decimals += 1
    return [f"{value:{sign}.{decimals}f}" for value in scaled]


def p_value(p: float) -> str:
    """Round a p-value."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def percent(probability: float) -> str:
    """Round a probability, near certainty not to certainty."""
    if 0 < probability < 0.001:
        return "<0.1%"
    return ">99.9%" if 0.999 < probability < 1 else f"{probability:.1%}"


def value(content: Any) -> str:
    """Value of a parameter as `params.yaml` has it."""
    return "(empty)" if content is None else str(content).lower() if isinstance(content, bool) else str(content)


def settings(parameters: Mapping[str, Any], rest: Sequence[str] = ()) -> str:
    """Parameters with their values, or the names of what else differs, as far as a cell holds them."""
    names = [f"{name}={value(content)}" for name, content in parameters.items()] or list(rest)
    return " ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def console(blocks: Sequence[Block], width: int, colour: int | None = None) -> str:
    """Put paragraphs, as wide as is told, and tables into text; with a terminal's colour, the first stands out."""
    first, *rest = (
        _aligned(block)
        if isinstance(block, list)
        else fill(block, width, break_long_words=False, break_on_hyphens=False)
        for block in blocks
    )
    return "\n\n".join([first if colour is None else f"\033[1;{colour}m{first}\033[0m", *rest])


def markdown(answer: str, *blocks: Block) -> str:
    """Put an answer, which stands out, paragraphs and tables into GitHub's Markdown."""
    return "\n\n".join([f"**{answer}**", *(_piped(block) if isinstance(block, list) else block for block in blocks)])


def _aligned(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    return "\n".join(line.rstrip() for line in lines)


def _piped(table: Table) -> str:
    header, *rows = (f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in table)
    return "\n".join([header, "|---" * len(table[0]) + "|", *rows])
