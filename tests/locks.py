"""Whether locks are closed: all that a locked package requires is locked too, so nothing else need be asked for."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def project(*extras: str) -> list[str]:
    """Give what `pyproject.toml` requires, alone or with some of its extras."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return content["dependencies"] + [line for extra in extras for line in content["optional-dependencies"][extra]]


def pins(*names: str) -> dict[str, str]:
    """Give the version of each package that locks name for this platform."""
    found: dict[str, str] = {}
    for name in names:
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if not line[:1].isalnum():
                continue
            requirement = Requirement(line.rstrip(" \\"))
            if requirement.marker is None or requirement.marker.evaluate():
                (specifier,) = requirement.specifier
                package = canonicalize_name(requirement.name)
                assert found.setdefault(package, specifier.version) == specifier.version, f"{package} has two pins"
    return found


def open_ends(required: Iterable[str], pinned: Mapping[str, str], installed: Iterable[Distribution]) -> list[str]:
    """Follow requirements to their ends, extras and markers included, and say what does not hold.

    Parameters
    ----------
    required
        Where to begin: the project's own requirements.
    pinned
        The version of each package that is locked, by normalised name.
    installed
        What says which requirements a locked package has.

    Returns
    -------
    list of str
        One line for each requirement that no pin meets, for each pin that is not installed in that version, and for
        each that nothing requires.
    """
    known: dict[str, Distribution] = {}
    for distribution in installed:
        known.setdefault(canonicalize_name(distribution.name), distribution)
    found = [
        f"{name} {version} is pinned, and not installed"
        for name, version in pinned.items()
        if name not in known or known[name].version != version
    ]
    reached: set[tuple[str, str]] = set()
    to_meet = [("the project", line, "") for line in required]
    while to_meet:
        by, line, extra_of_by = to_meet.pop()
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra_of_by}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in pinned or not requirement.specifier.contains(pinned[name], prereleases=True):
            found.append(f"{by} requires {line}")
            continue
        for extra in {"", *requirement.extras}:
            if (name, extra) not in reached and name in known:
                reached.add((name, extra))
                by = f"{name}[{extra}]" if extra else name
                to_meet += [(by, inner, extra) for inner in known[name].requires or []]
    return sorted(found) + [
        f"nothing requires {name}" for name in sorted(pinned.keys() - {name for name, _ in reached})
    ]
