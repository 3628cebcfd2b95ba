"""Check every parameter, also those that no stage runs again for."""

from pathlib import Path

from foldwise.base import console
from foldwise.base.copies import original_root
from foldwise.base.errors import FoldwiseError
from foldwise.base.params import Params


def check(params: Params) -> None:
    """Say how many parameters were checked, most of which was done before."""
    folder = params.data.folder
    if not Path(folder).is_dir():  # DVC, which looks for changes there, would only name the error
        where = "in this copy of the repository: give it in full, or track it with DVC" if original_root() else "here"
        raise FoldwiseError(f"params.yaml: data.folder is {folder!r}, and there is no such folder {where}")
    parameters = sum(len(section) for section in params.model_dump().values())
    console.say(f"check: {parameters} parameters in params.yaml are as they should be")
