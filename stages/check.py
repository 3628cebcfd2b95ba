"""Check every knob, also those that no stage runs again for."""

from foldwise.base import startup

if __name__ == "__main__":
    startup.begin()

from foldwise.base import console
from foldwise.base.params import Params


def check(params: Params) -> None:
    """Say how many knobs were checked, which was done before."""
    knobs = sum(len(section) for section in params.model_dump().values())
    console.say(f"check: {knobs} knobs in params.yaml are as they should be")


if __name__ == "__main__":
    console.run(check)
