"""Lines of progress."""

import sys

from foldwise.base import interrupts


def printable(text: str) -> str:
    """Replace what a terminal would obey instead of showing it: names of files and classes may hold anything."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def say(line: str) -> None:
    """Print one line of progress.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C was heard and swallowed before.
    """
    interrupts.check()
    print("\n".join(map(printable, line.split("\n"))), file=sys.stderr, flush=True)
