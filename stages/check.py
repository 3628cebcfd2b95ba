"""Check every parameter, also those that no stage runs again for."""

from foldwise.base import console
from foldwise.base.params import Params


def check(params: Params) -> None:
    """Say how many parameters were checked, which was done before."""
    parameters = sum(len(section) for section in params.model_dump().values())
    console.say(f"check: {parameters} parameters in params.yaml are as they should be")
