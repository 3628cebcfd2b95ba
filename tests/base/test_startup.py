import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from broken_settings import BROKEN

from foldwise.base import stage, startup
from foldwise.base.portability import SWITCHES

ROOT = Path(__file__).parents[2]


def start(code, folder, python=sys.executable, **env):
    """Run a script as a stage, in a folder, as DVC does."""
    (folder / "train.py").write_text(f"{code}\nraise SystemExit")
    command = [python, "-m", "foldwise.base.stage", "train.py"]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")} | env
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Make a Python that has no library, as the system's own may be."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


def test_settings_of_other_tools_are_not_taken_over(tmp_path):
    done = start(f"import os; print([name for name in {list(BROKEN)} if name in os.environ])", tmp_path, **BROKEN)
    assert done.stdout == "[]\n"


def test_the_switches_of_portable_results_stay(tmp_path):
    done = start(f"import os; print([os.environ[name] for name in {list(SWITCHES)}])", tmp_path, **SWITCHES)
    assert done.stdout == f"{list(SWITCHES.values())}\n"


def test_settings_of_places_stay(tmp_path):
    names = "TMPDIR", "JOBLIB_TEMP_FOLDER", "CUDA_VISIBLE_DEVICES", "MPLCONFIGDIR", "TORCH_HOME"
    done = start(f"import os; print([os.environ[n] for n in {names}])", tmp_path, **dict.fromkeys(names, "x"))
    assert done.stdout == "['x', 'x', 'x', 'x', 'x']\n"


def test_a_python_without_the_libraries_is_told_in_one_line(bare, tmp_path):
    done = start("import safetensors", tmp_path, bare)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"train: {bare}, the first python3 on PATH, has no safetensors: put Foldwise's")


def test_a_python_without_the_libraries_hands_over_to_that_of_the_repository(bare, tmp_path):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpabc"
    copy.mkdir(parents=True)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    done = start("import sys, safetensors; print(sys.argv)", copy, bare)
    assert (done.stdout, done.stderr) == ("['train.py', 'train.py']\n", "")


@pytest.mark.parametrize("python", [".venv/bin/python", "other/bin/python"], ids=["its own", "another"])
def test_what_the_environment_itself_lacks_is_told_and_not_tried_for_ever(bare, tmp_path, python):
    (tmp_path / ".venv").symlink_to(bare.parents[1])
    subprocess.run([bare, "-m", "venv", "--without-pip", str(tmp_path / "other")], check=True)
    done = start("import safetensors", tmp_path, tmp_path / python)
    told = "train: .venv has no safetensors: `make -B .venv/installed` brings what requirements.lock pins\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_the_environment_of_a_folder_above_is_not_taken(bare, tmp_path):
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "foldwise").mkdir()
    done = start("import safetensors", tmp_path / "foldwise", bare)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_an_old_python_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(startup.interrupts, "listen", lambda: None)
    monkeypatch.setattr(sys, "version_info", (3, 9))
    monkeypatch.setattr(sys, "argv", ["stage.py", "stages/train.py"])
    monkeypatch.setattr(sys, "path", ["somewhere", *sys.path])
    with pytest.raises(SystemExit, match="1"):
        startup.begin()
    assert ", the first python3 on PATH, is older than 3.11: put Foldwise's environment" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["stage", "startup", "interrupts", "portability", "copies"])
def test_an_old_python_can_load_what_tells_it(module):
    tree = ast.parse(Path(startup.__file__).with_stem(module).read_text(encoding="utf-8"), feature_version=(3, 8))
    assert ast.unparse(tree.body[1]) == "from __future__ import annotations"  # else `X | None` is an error in 3.9


def test_a_module_of_our_own_that_is_missing_keeps_its_traceback(tmp_path):
    done = start("import foldwise.nothing", tmp_path)
    assert "Traceback" in done.stderr


def test_a_stage_begins_before_it_loads_anything_else():
    first = [ast.unparse(statement) for statement in ast.parse(Path(stage.__file__).read_text()).body[2:4]]
    assert first == ["from foldwise.base import startup", "if __name__ == '__main__':\n    startup.begin()"]


def test_a_file_of_the_users_is_not_taken_for_a_library(tmp_path):
    (tmp_path / "numpy.py").write_text("raise AssertionError")
    assert start("import numpy; print(numpy.__name__)", tmp_path).stdout == "numpy\n"


def test_what_is_loaded_first_loads_nothing_but_python():
    code = (
        "import sys; before = set(sys.modules); import foldwise.base.startup; "
        "print(sorted(name for name in set(sys.modules) - before if name.split('.')[0] != 'foldwise'))"
    )
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); {code}"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {name.split(".")[0] for name in ast.literal_eval(loaded)} <= set(sys.stdlib_module_names)
