"""The one error that is meant for the user, and what its line says."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


class FoldwiseError(Exception):
    """A mistake that the user can mend, told in one line: what is wrong, where, and what to do."""


def first_line(error: BaseException) -> str:
    """Give the first line of an error's message; empty if it has none."""
    return (str(error).splitlines() or [""])[0]


def did_you_mean(name: str, known: Collection[str], otherwise: str, prefix: str = "") -> str:
    """Ask whether the known name nearest to `name` was meant; give `otherwise` where none is near."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else otherwise


def chosen(parameter: str, name: str, known: Mapping[str, T], others: Collection[str] = ()) -> T:
    """Give what a parameter chooses by name; FoldwiseError if that is unknown, with `others` that it may say too."""
    if name not in known:
        names = [*known, *others]
        hint = did_you_mean(name, names, f"use one of {', '.join(names)}")
        raise FoldwiseError(f"params.yaml: {parameter} is {name!r}, which is not known: {hint}")
    return known[name]
