"""Every command that a message tells the user to type is one that can be typed."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import small_repository
import yaml
from dvc.cli.parser import get_main_parser

from foldwise import cli

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
COMMAND = re.compile(r"`((?:dvc|foldwise|git|make|pip|uv) [^`]+)`")
# What stands in for the values that a message is given; for all others, a file.
FILLED = {
    "settings": "-S cv.k=5 -S train.seed=1",
    "stage": "aggregate",
    "outputs['predictions'].stage": "evaluate",
    "output.stage": "aggregate",
    "wheel.requirement": "torchvision==0.22",
}


def text(node):
    """A string of a program with its placeholders filled."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text, node.values))
    if isinstance(node, ast.FormattedValue):
        return FILLED.get(ast.unparse(node.value), "params.yaml")
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def commands(source):
    """All commands in a program's strings, but for docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    whole = [
        node for node in ast.walk(tree) if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in parts
    ]
    return {found for node in whole for found in COMMAND.findall(text(node))}


PROGRAMS = [*(ROOT / "src/foldwise").rglob("*.py"), *(ROOT / "stages").glob("*.py")]
ADVICE = sorted({command for path in PROGRAMS for command in commands(path.read_text(encoding="utf-8"))})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Have a clone that lacks old commits, and in which each command of Git's may do as it says."""
    made = small_repository.copy(tmp_path_factory, tmp_path_factory.mktemp("advice") / "made")
    made.commit()
    clone = small_repository.SmallRepository(made.root.with_name("clone"))
    made.git("clone", "--quiet", "--depth=1", f"file://{made.root}", str(clone.root))
    return clone


def of(program):
    return [shlex.split(command)[1:] for command in ADVICE if command.startswith(f"{program} ")]


def test_commands_are_found_also_in_strings_that_are_put_together():
    source = '"""`dvc doc`"""; x = f"run `dvc repro -f -s {stage}` " f"or `git diff {path}`"; y = "`dvc " "pull`"'
    assert commands(source) == {"dvc repro -f -s aggregate", "git diff params.yaml", "dvc pull"}


@pytest.mark.parametrize("words", of("dvc"), ids=" ".join)
def test_dvc_knows_the_command(words):
    get_main_parser().parse_args(words)


@pytest.mark.parametrize("words", [words for words in of("dvc") if "-s" in words], ids=" ".join)
def test_the_pipeline_has_the_stage(words):
    assert words[words.index("-s") + 1] in STAGES


@pytest.mark.parametrize("words", of("git"), ids=" ".join)
def test_git_does_it(small, words, monkeypatch):
    monkeypatch.setitem(small_repository.ENVIRONMENT, "HOME", str(small.root.parent))
    small.git(*words)


@pytest.mark.parametrize("words", [["summary"], *of("foldwise")], ids=" ".join)
def test_foldwise_knows_the_command(words):
    cli._parser().parse_args(words)


@pytest.mark.parametrize("words", of("make"), ids=" ".join)
def test_the_makefile_has_the_target(words):
    targets = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert words[-1] in targets
    subprocess.run(["make", "--dry-run", *words], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("words", of("pip"), ids=" ".join)
def test_pip_knows_the_command(words):
    subprocess.run(["python", "-m", "pip", words[0], *words[1:], "--help"], check=True, capture_output=True)
