"""Lines of progress."""

import sys

from foldwise.base import interrupts


def say(line: str) -> None:
    """Print one line of progress.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C was heard and swallowed before.
    """
    interrupts.check()
    print(printable(line), file=sys.stderr, flush=True)


def printable(line: str) -> str:
    """Escape what would break a line or steer a terminal: names of files and classes are data, never commands."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)
