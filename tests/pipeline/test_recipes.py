"""The recipes: files of settings for `dvc exp run`."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from clones import ROOT
from dvc.cli.parser import get_main_parser
from dvc.utils.hydra import apply_overrides

from foldwise.base.params import load
from foldwise.learning.elsewhere import find

RECIPES = {path.name: path.read_text() for path in sorted((ROOT / "recipes").iterdir()) if not path.suffix}
# Parameters of these sections that are no part of a recipe.
OTHERS = {"train.seed", "evaluate.temperature", "evaluate.primary"}


def settings(name):
    """Let DVC read a recipe as xargs gives it."""
    return get_main_parser().parse_args(["exp", "run", *RECIPES[name].split()]).set_param


@pytest.fixture
def params_file(tmp_path):
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_states_the_whole_of_it_one_setting_a_line(name):
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    sections = ("normalize", "model", "train", "evaluate")
    whole = [f"{section}.{parameter}" for section in sections for parameter in content[section]]
    lines = RECIPES[name].splitlines()
    assert [re.fullmatch(r"-S ([a-z_.]+)=[a-z0-9_.:]+", line)[1] for line in lines] == [
        parameter for parameter in whole if parameter not in OTHERS
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid_and_the_default_is_the_way_back(name, params_file):
    before = params_file.read_bytes()
    apply_overrides(str(params_file), settings(name))
    params = load(params_file)
    assert find(params.model.name, params.model.options or {})
    assert (params_file.read_bytes() == before) == (name == "default")
    apply_overrides(str(params_file), settings("default"))
    assert params_file.read_bytes() == before


def test_the_readme_names_each_recipe():
    assert set(re.findall(r"\brecipes/(\w+)\b(?!\.md)", (ROOT / "README.md").read_text())) == set(RECIPES)


@pytest.mark.parametrize(
    ("command", "name", "change"),
    [
        ("xargs dvc exp run --queue -n ten -S cv.k=10 < recipes/thorough", "thorough", "cv.k=10"),
        ("dvc exp run --queue $(cat recipes/cnn) -S train.augment=none", "cnn", "train.augment=none"),
    ],
)
def test_a_shell_gives_a_recipe_and_a_change_to_dvc(command, name, change, clone):
    clone.run("sh", "-c", command)
    queued = clone.git("show", "refs/exps/celery/stash:params.yaml")
    for overrides in settings(name), [change]:
        apply_overrides(str(clone.root / "params.yaml"), overrides)
    assert queued.encode() == clone.params
