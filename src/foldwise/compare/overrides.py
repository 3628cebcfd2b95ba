"""How a parameter is set on a command line."""

import re
import shlex
from typing import Any

# What is no text to Hydra.
_WORDS = ("null", "true", "false", "nan", "inf")


def setting(parameter: str, value: Any) -> str:
    """Write the option of `dvc exp run` that gives a parameter this value, quoted for the shell."""
    return f"-S {shlex.quote(f'{parameter}={_literal(value)}')}"


def _literal(value: Any) -> str:
    """Write a value as Hydra reads it, which is YAML but for texts."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return f"[{','.join(map(_literal, value))}]"
        case str() if not re.fullmatch(r"[A-Za-z_/][\w/.-]*", value) or value.lower() in _WORDS:
            # A backslash stands for itself but before a quotation mark.
            escaped = re.sub(r'(\\*)("|\Z)', lambda match: 2 * match[1] + match[2].replace('"', r"\""), value)
            return f'"{escaped}"'
        case _:
            return str(value)
