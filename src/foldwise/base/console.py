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
    print(line, file=sys.stderr, flush=True)
