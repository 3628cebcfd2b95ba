"""The one error that is meant for the user, and what is told of all others."""


class FoldwiseError(Exception):
    """A mistake that the user can mend, told in one line: what is wrong, where, and what to do."""


def first_line(error: Exception) -> str:
    """Give the first line of an error's message; empty if it has none."""
    return (str(error).splitlines() or [""])[0]
