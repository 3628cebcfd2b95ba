"""The libraries that a run's numbers depend on: which are installed, and which `requirements.lock` pins."""

import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

NAMES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn")


def installed() -> dict[str, str]:
    """Give the version of each, by name."""
    return {name: version(name) for name in NAMES}


def optional(name: str) -> str:
    """Give the version of a library that need not be there; empty where it is not."""
    with suppress(PackageNotFoundError):
        return version(name)
    return ""


def unlike(versions: Mapping[str, str], lock: str) -> str:
    """Say which of `versions` are not pinned in `lock`, the text of `requirements.lock`; empty if all are.

    A library may have several pins, for Pythons of different age. What stands after a `+` names a build of one release.
    """
    pins = defaultdict(list)
    for name, pin in re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock, flags=re.MULTILINE):
        pins[name].append(pin)
    return ", ".join(
        f"{name} {own} (pinned: {' or '.join(pins[name])})"
        for name, own in versions.items()
        if name in pins and own.partition("+")[0] not in pins[name]
    )
