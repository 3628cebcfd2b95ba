"""The one error that is meant for the user."""


class FoldwiseError(Exception):
    """A mistake that the user can mend, told in one line: what is wrong, where, and what to do."""
