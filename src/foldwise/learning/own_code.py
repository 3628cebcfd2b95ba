"""Functions of the user's own, named as FILE:FUNCTION, from the folder `own/`."""

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foldwise.base.errors import FoldwiseError, did_you_mean, first_line

# DVC tracks it as a whole: what is elsewhere could change without a fold being trained anew.
FOLDER = Path("own")


def code() -> bytes:
    """All that a function of the user's own may depend on, as digests: every file of the folder, but for its texts."""
    found = b""
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file() and path.suffix not in {".md", ".pyc"}:
            with path.open("rb") as file:
                found += path.as_posix().encode() + b"\0" + hashlib.file_digest(file, "sha256").digest()
    return found


def function(parameter: str, name: str) -> Callable[..., Any]:
    """Load a function.

    Parameters
    ----------
    parameter : str
        Which names it, for the line about a mistake.
    name : str
        Such as `own/networks.py:small`.

    Raises
    ------
    FoldwiseError
        If the file is not in `own/`, cannot be loaded, or has no such function.
    """
    file, _, wanted = name.partition(":")
    path = Path(file)
    if path.parts[:1] != FOLDER.parts or ".." in path.parts:
        raise FoldwiseError(f"params.yaml: {parameter} is {name}: move {file} into {FOLDER}/, which DVC tracks")
    # A cluster's node was given the folder elsewhere.
    path = next((place for entry in ("", *sys.path) if (place := Path(entry, path)).is_file()), path)
    if not path.is_file():
        raise FoldwiseError(f"params.yaml: {parameter} is {name}, but there is no {file}: correct the path")
    folder = str(path.parent.absolute())
    if folder not in sys.path:  # for what it imports from beside it
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(f"foldwise_own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise FoldwiseError(f"{file} cannot be loaded: {told(error)}") from error
    makers = {key: value for key, value in vars(module).items() if inspect.isroutine(value) or inspect.isclass(value)}
    known = [key for key, value in makers.items() if value.__module__ == spec.name]
    if wanted not in known:
        hint = did_you_mean(wanted, known, f"it has {', '.join(known)}" if known else "it has none")
        raise FoldwiseError(f"params.yaml: {parameter} is {name}, but {file} has no function {wanted!r}: {hint}")
    found: Callable[..., Any] = getattr(module, wanted)
    return found


def check_options(name: str, makes: Callable[..., Any], given: int, options: Mapping[str, Any]) -> None:
    """FoldwiseError if a function does not take so many values, and `model.options`."""
    taken = inspect.signature(makes).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        return
    known = [parameter.name for parameter in taken][given:]
    for option in options:
        if option not in known:
            hint = did_you_mean(option, known, f"it takes {', '.join(known)}" if known else "it takes none")
            raise FoldwiseError(f"params.yaml: model.options has {option}, which {name} does not take: {hint}")


def told(error: BaseException) -> str:
    """Tell an error in a line, with the line of the user's own code that it came from."""
    told = f"{type(error).__name__}: {first_line(error)}".rstrip(": ")
    if isinstance(error, SyntaxError):
        return f"{told.partition(' (')[0]} ({Path(error.filename or '').name}, line {error.lineno})"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = Path(frame.filename).parts
        if FOLDER.name in parts and "site-packages" not in parts:
            return f"{told} ({Path(*parts[parts.index(FOLDER.name) :])}, line {frame.lineno})"
    return told
