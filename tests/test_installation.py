"""The environment comes from the locks alone, today and later: they are closed, and the index is asked for no more."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import packages
import pytest
import yaml
from locks import ROOT, open_ends, pins, project

LOCKS = "requirements.lock", "requirements-dev.lock"
UV = shutil.which("uv", path=Path(sys.executable).parent)


@pytest.mark.parametrize(("locks", "extras"), [(LOCKS[:1], []), (LOCKS, ["dev"])], ids=["run", "development"])
def test_the_locks_are_closed(locks, extras):
    assert open_ends(project(*extras), pins(*locks), distributions()) == []


@pytest.mark.parametrize("package", ["numpy", "sympy", "coverage", "numpy-typing-compat"])
def test_a_pin_that_is_taken_out_is_missed(package):
    """Required by the project, by a package, by one that asks for an extra of it, by an extra."""
    pinned = pins(*LOCKS)
    del pinned[package]
    assert any(f" requires {package}" in line for line in open_ends(project("dev"), pinned, distributions()))


PINNED = {"cov": "1.0", "cover": "1.0", "toml": "1.0"}


@pytest.mark.parametrize(
    ("changes", "cover", "missed"),
    [
        ({}, ["toml>=1; extra == 'conf'"], []),
        ({}, ["toml; extra == 'conf'", "mars; extra == 'rest'", "mars; python_version < '3'"], []),
        ({}, ["toml; extra == 'conf'", "mars; extra == 'conf'"], ["cover[conf] requires mars; extra == 'conf'"]),
        ({}, ["toml>=2; extra == 'conf'"], ["cover[conf] requires toml>=2; extra == 'conf'", "nothing requires toml"]),
        ({"toml": None}, ["toml; extra == 'conf'"], ["cover[conf] requires toml; extra == 'conf'"]),
        ({}, [], ["nothing requires toml"]),
        ({"cov": "1.1"}, ["toml"], ["cov 1.1 is pinned, and not installed"]),
    ],
    ids=["closed", "not asked for", "unmet extra", "other version", "taken out", "stray", "not installed"],
)
def test_what_is_open_is_named(tmp_path, changes, cover, missed):
    for name, requires in {"cov": ["cover[conf]>=1"], "cover": cover, "toml": []}.items():
        about = tmp_path / f"{name}-1.0.dist-info" / "METADATA"
        about.parent.mkdir()
        about.write_text(packages.metadata(name, "1.0", requires))
    pinned = {name: version for name, version in (PINNED | changes).items() if version}
    assert open_ends(["cov"], pinned, distributions(path=[str(tmp_path)])) == missed


@pytest.fixture
def index(tmp_path):
    """Serve packages that need more than themselves, an extra or a build, each with a newer release beside it."""
    root = tmp_path / "index"
    root.mkdir()
    with packages.served(root) as index:
        for version in ("1.0", "2.0"):
            packages.wheel(index.of("coverage"), "coverage", version, ["house-of-toml; extra == 'toml'"])
            packages.wheel(index.of("pytest-cov"), "pytest-cov", version, ["coverage[toml]"])
            packages.sdist(index.of("antlr"), "antlr", version)
        packages.wheel(index.of("house-of-toml"), "house-of-toml", "1.0")
        script = f'#!/bin/sh\nexec {UV} "$@"\n'
        packages.wheel(index.of("uv"), "uv", "1.0", members={"uv-1.0.data/scripts/uv": script})
        for tool in ("setuptools", "flit-core"):
            packages.repacked(index.of(tool), tool)
            packages.wheel(index.of(tool), tool, "99.0")  # builds nothing
        yield index


class Checkout:
    """A small project with Foldwise's Makefile, and locks that name the older releases."""

    PROJECT = """
        [build-system]
        requires = ["flit_core"]
        build-backend = "flit_core.buildapi"
        [project]
        name = "house"
        version = "1"
        description = "A house."
        dependencies = ["setuptools"]
        optional-dependencies = {dev = ["antlr", "flit_core", "pytest-cov", "uv"], ray = ["house-of-toml"]}
        """

    def __init__(self, root, index):
        self.root, self.index = root, index
        root.mkdir()
        shutil.copy(ROOT / "Makefile", root)
        (root / "pyproject.toml").write_text(self.PROJECT)
        (root / "house.py").touch()
        newer = re.compile(r"-(2|99)\.0[.-]")
        self.locked = {path.parent.name: path for path in index.root.glob("*/*") if not newer.search(path.name)}
        pin = {name: packages.pin(path) for name, path in sorted(self.locked.items())}
        (root / "requirements.lock").write_text(pin.pop("setuptools"))
        (root / "requirements-dev.lock").write_text("".join(pin.values()))
        (root / "requirements-ray.lock").write_text(pin["house-of-toml"])

    def make(self, *options, status=0, python=sys.executable):
        command = ["make", f"PYTHON={python}", *options]
        done = subprocess.run(command, cwd=self.root, env=self.index.environment, capture_output=True, text=True)
        told = done.stdout + done.stderr
        assert done.returncode == status, told
        return told

    @property
    def locks(self):
        return {path.name: path.read_text() for path in self.root.glob("*.lock")}


@pytest.fixture
def checkout(tmp_path, index):
    return Checkout(tmp_path / "checkout", index)


def test_the_index_is_asked_for_what_the_locks_name_and_for_nothing_else(checkout):
    checkout.make(".venv/installed")
    pages = {path for path in checkout.index.asked if path.endswith("/")}
    assert pages == {f"/{name}/" for name in checkout.locked}
    files = {f"/{path.relative_to(checkout.index.root)}" for path in checkout.locked.values()}
    assert set(checkout.index.asked) - pages == files


def test_what_a_lock_lacks_ends_make_with_a_line(checkout):
    lock = checkout.root / "requirements-dev.lock"
    lock.write_text(re.sub(r"coverage==.*\n.*\n", "", lock.read_text()))
    told = checkout.make(".venv/installed", status=2)
    assert "pytest-cov 1.0 requires coverage, which is not installed.\n" in told
    assert "What is in .venv does not fit together: make clean, then the same again\n" in told
    assert not (checkout.root / ".venv" / "installed").exists()


def test_the_tool_that_makes_locks_is_had_where_they_cannot_be_installed(checkout):
    checkout.locked["coverage"].unlink()
    checkout.make(".venv/bin/uv")
    assert {path for path in checkout.index.asked if path.endswith("/")} == {"/uv/"}
    assert subprocess.check_output([checkout.root / ".venv/bin/uv", "--version"], text=True).startswith("uv ")


@pytest.mark.parametrize(
    ("gone", "options", "moved"),
    [(False, [], []), (True, [], ["coverage"]), (False, ["UPGRADE=-P coverage"], ["coverage"])],
    ids=["nothing to do", "a wheel is gone", "one upgraded"],
)
def test_a_lock_keeps_the_pins_that_can_be_had(checkout, gone, options, moved):
    before = checkout.locks
    (checkout.root / ".venv" / "bin").mkdir(parents=True)
    (checkout.root / ".venv" / "bin" / "uv").symlink_to(UV)
    if gone:
        checkout.locked["coverage"].unlink()
    checkout.make("lock", *options)
    changed = {name: text for name, text in checkout.locks.items() if text != before[name]}
    assert re.findall(r"^(.*)==2\.0", "".join(changed.values()), re.MULTILINE) == moved
    assert len(changed) == len(moved)


@pytest.mark.parametrize(("minor", "fits"), [(10, False), (11, True), (14, True), (15, False)])
def test_a_python_for_which_the_locks_have_no_wheels_is_told_in_one_line(checkout, minor, fits):
    python = checkout.root / "python"
    code = f"import sys; sys.version_info = 3, {minor}, 0; exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\ncase $1 in -c) exec {sys.executable} -c "{code}" "$2";; esac\ntouch began; exit 1\n')
    python.chmod(0o755)
    told = checkout.make(".venv/installed", python=python, status=2)
    line = "Foldwise needs Python 3.11 to 3.14, for which its locks have wheels: make PYTHON=python3.14\n"
    assert (line in told, (checkout.root / "began").exists()) == (not fits, fits)


def test_all_places_name_the_same_versions_of_python():
    makefile = (ROOT / "Makefile").read_text()
    oldest, newest = re.search(r"\((3, \d+)\) <= sys.version_info\[:2\] <= \((3, \d+)\)", makefile).groups()
    oldest, newest = oldest.replace(", ", "."), newest.replace(", ", ".")
    for name in ("Makefile", "README.md", "docs/install.md"):
        assert f"Python {oldest} to {newest}" in (ROOT / name).read_text()
    assert f"--python-version {oldest} " in makefile
    assert f'requires-python = ">={oldest}"' in (ROOT / "pyproject.toml").read_text()
    workflow = yaml.safe_load((ROOT / ".github/workflows/front-door.yml").read_text())
    assert workflow["jobs"]["open"]["strategy"]["matrix"]["python"] == [oldest, newest]
