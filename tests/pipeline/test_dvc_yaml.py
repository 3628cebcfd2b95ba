"""What `dvc.yaml`, `params.yaml` and the sources around them must keep to."""

import ast
import configparser
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from clones import ROOT, listed

PACKAGE = ROOT / "src" / "foldwise"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
LOCK = "requirements.lock"
# Their bytes are proved by digest, whichever library fetched or unpacked them; or they write none.
PROVED = {"check", "download", "weights"}
# They change how fast, never what.
PARAMETERS_OF_NO_STAGE = {"compute.backend", "compute.n_jobs", "compute.gpus_per_fold", "compute.reuse_folds"}
SOURCES = [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "stages").glob("*.py"))]
# Each imports from those before it.
ROOMS = ("base", "sources", "data", "learning", "execution", "evaluation", "delivery", "compare")
# It changes how fast, never what.
OF_NO_STAGE = PACKAGE / "ray_backend.py"


def name_of(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """Give the dotted names that a file imports anywhere, also within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules(path):
    """Give the package's files that a file imports, those of the packages they lie in included."""
    names = [name for name in imports(path) if name.split(".")[0] == "foldwise"]
    parts = {tuple(name.split(".")[1:end]) for name in names for end in range(1, name.count(".") + 2)}
    files = {PACKAGE.joinpath(*part, "__init__.py") for part in parts}
    files |= {PACKAGE.joinpath(*part).with_suffix(".py") for part in parts if part}
    return {file for file in files if file.is_file()}


def closure(path):
    """Give the package's files that a file needs, itself included if it is one."""
    found, new = set(), [path]
    while new:
        path = new.pop()
        found.add(path)
        new += modules(path) - found - {OF_NO_STAGE}
    return found


def code_of(stage):
    """Give the files of code that a stage depends on; a folder stands for those in it."""
    deps = [ROOT / dep for dep in STAGES[stage]["deps"] if dep.startswith(("src/", "stages/"))]
    return {file for dep in deps for file in ([dep] if dep.is_file() else dep.rglob("*.py"))}


def libraries(paths):
    return {name.split(".")[0] for path in paths for name in imports(path)}


def outs(stage):
    """Name what a stage writes, with DVC's options for it."""
    listed = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    return dict(next(iter(out.items())) if isinstance(out, dict) else (out, {}) for out in listed)


def script(stage):
    return next(word for word in shlex.split(STAGES[stage]["cmd"]) if word.endswith(".py"))


def parameters():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return {f"{section}.{name}" for section, names in params.items() for name in names}


def params_of(stage):
    """Name the parameters that a stage depends on; a section stands for all of its parameters."""
    named = stage.get("params", [])
    return {
        parameter
        for parameter in parameters()
        for name in named
        if parameter == name or parameter.startswith(f"{name}.")
    }


@pytest.mark.parametrize("stage", STAGES)
def test_the_import_closure_lies_in_the_deps(stage):
    outside = closure(ROOT / script(stage)) - code_of(stage)
    assert {path for path in outside if path.name != "__init__.py"} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_no_dep_is_without_use(stage):
    needed = closure(ROOT / script(stage))
    code = [ROOT / dep for dep in STAGES[stage]["deps"] if dep.startswith(("src/", "stages/"))]
    assert [dep for dep in code if not any(file.is_relative_to(dep) for file in needed)] == []


def test_folders_keep_the_deps_short():
    assert len([dep for stage in STAGES.values() for dep in stage["deps"] if dep.startswith(("src/", "stages/"))]) <= 45


def test_an_init_holds_no_code():
    bodies = [ast.parse(path.read_text(encoding="utf-8")).body for path in PACKAGE.rglob("__init__.py")]
    assert {tuple(map(type, body)) for body in bodies} == {(ast.Expr,)}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_those_above_it_alone(room):
    above = ROOMS[: ROOMS.index(room) + 1]
    used = {file for path in (PACKAGE / room).rglob("*.py") for file in modules(path)} - {OF_NO_STAGE}
    assert {file.relative_to(PACKAGE).parts[0] for file in used} - {"__init__.py"} <= set(above)


def test_every_file_of_the_package_lies_in_a_room_or_is_a_way_in():
    others = {path.name for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in ROOMS}
    assert others == {"__init__.py", "cli.py", OF_NO_STAGE.name}


@pytest.mark.parametrize("stage", STAGES)
def test_other_deps_are_the_inputs_on_the_command_line(stage):
    written = {path for other in STAGES.values() for path in outs(other)}
    words = set(shlex.split(STAGES[stage]["cmd"]))
    inputs = words & written - set(outs(STAGES[stage]))
    inputs |= {"params.yaml"} if stage == "check" else set()
    others = {dep for dep in STAGES[stage]["deps"] if not dep.startswith(("src/", "stages/"))}
    # The user's own images have any name, and are no word of a command for a shell to misread; code names its folder.
    assert others - {LOCK, "${data.folder}", "own", "own/weights"} == inputs


@pytest.mark.parametrize("stage", STAGES)
def test_stages_whose_numbers_come_from_libraries_depend_on_their_versions(stage):
    assert (LOCK in STAGES[stage]["deps"]) == (stage not in PROVED)


@pytest.mark.parametrize("stage", STAGES)
def test_no_dep_is_named_twice(stage):
    assert len(STAGES[stage]["deps"]) == len(set(STAGES[stage]["deps"]))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_the_code_beside_it(stage):
    begun = f"env PYTHONPATH=src python3 -m foldwise.base.stage stages/{stage}.py --params params.yaml"
    assert STAGES[stage]["cmd"].startswith(begun)


@pytest.mark.parametrize("stage", STAGES)
def test_a_command_has_nothing_that_shells_disagree_about(stage):
    assert re.fullmatch(r"[\w ./=-]+", STAGES[stage]["cmd"])


@pytest.mark.parametrize("stage", STAGES)
def test_every_out_is_named_on_the_command_line(stage):
    named = [Path(word) for word in shlex.split(STAGES[stage]["cmd"])]
    assert all(any(Path(out).is_relative_to(path) for path in named) for out in outs(STAGES[stage]))


@pytest.mark.parametrize("stage", STAGES)
def test_every_param_is_a_parameter(stage):
    named = STAGES[stage].get("params", [])
    assert [
        name for name in named if not any(f"{parameter}.".startswith(f"{name}.") for parameter in parameters())
    ] == []


def test_every_parameter_that_counts_is_a_param_of_a_stage_and_no_other():
    assert set().union(*(params_of(stage) for stage in STAGES.values())) == parameters() - PARAMETERS_OF_NO_STAGE


def test_every_parameter_has_a_comment():
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    bare = []
    for before, line in pairwise(lines):
        is_parameter = re.match(r"  \w+:", line)
        if is_parameter and not re.search(r"# \w", line) and not re.match(r" +# \w", before):
            bare.append(line)
    assert bare == []


def test_the_pages_of_dvc_plots_are_ignored_in_every_folder():
    command = ["git", "check-ignore", "--no-index", "dvc_plots/index.html", "docs/dvc_plots/index.html"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.count("\n") == 2


def test_every_cached_out_is_ignored_by_git():
    cached = [out for stage in STAGES.values() for out, how in outs(stage).items() if how.get("cache", True)]
    command = ["git", "check-ignore", "--no-index", *(f"{out}/" for out in cached)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    assert [out for out in cached if f"{out}/" not in found] == []


def test_no_out_that_git_tracks_is_ignored_by_it():
    tracked = [
        out for stage in STAGES.values() for out, options in outs(stage).items() if not options.get("cache", True)
    ]
    command = ["git", "check-ignore", "--no-index", *tracked]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout == ""


@pytest.mark.parametrize("stage", ["download", "normalize", "split", "aggregate"])
def test_a_stage_without_networks_names_no_torch(stage):
    assert {"torch", "torchvision"} & libraries(closure(ROOT / script(stage))) == set()


@pytest.mark.parametrize("stage", ["download", "normalize", "split", "aggregate"])
def test_a_stage_without_networks_loads_no_torch(stage):
    code = f"import runpy, sys; runpy.run_path({script(stage)!r}); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "False\n"


def test_torchvision_is_imported_for_its_networks_and_augmentations_alone():
    """And within functions, as it takes seconds to load."""
    using = [path for path in SOURCES if "torchvision" in libraries([path])]
    assert [path.stem for path in using] == ["augmentation", "elsewhere", "networks", "pretrained"]
    heads = [node for path in using for node in ast.parse(path.read_text(encoding="utf-8")).body]
    assert not [
        head for head in heads if isinstance(head, ast.Import | ast.ImportFrom) and "torchvision" in ast.unparse(head)
    ]


def test_features_depend_on_every_parameter_that_says_whether_folds_share_them():
    text = (PACKAGE / "learning" / "frozen.py").read_text(encoding="utf-8")
    read = {f"{section}.{name}" for section, name in re.findall(r"params\.(\w+)\.(\w+)", text)}
    assert "train.precision" in read
    assert read - params_of(STAGES["features"]) == set()


OWN = "learning/own_code.py"


@pytest.mark.parametrize("stage", STAGES)
def test_stages_that_may_run_the_users_own_code_depend_on_it(stage):
    runs = PACKAGE / OWN in closure(ROOT / script(stage))
    assert ("own" in STAGES[stage]["deps"]) == runs


def test_dvc_neither_phones_home_nor_asks_for_updates():
    config = configparser.ConfigParser()
    config.read(ROOT / ".dvc" / "config")
    assert [config.getboolean("core", option) for option in ("analytics", "check_update")] == [False, False]


def calls(path):
    """Give each call in a file with its dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def switched(call, option):
    """Give the constant that a call sets an option to."""
    return next((ast.literal_eval(word.value) for word in call.keywords if word.arg == option), None)


def lines_of(wrong):
    """Give file and line of each call in the sources that a rule forbids."""
    return [f"{name_of(path)}:{call.lineno}" for path in SOURCES for name, call in calls(path) if wrong(name, call)]


def test_torch_reads_weights_and_nothing_else():
    assert lines_of(lambda name, call: name == "torch.load" and not switched(call, "weights_only")) == []


def test_numpy_reads_and_writes_no_objects():
    names = {"np.load", "np.save", "np.savez"}
    assert lines_of(lambda name, call: name in names and switched(call, "allow_pickle") is not False) == []


def test_nothing_that_unpickles_is_imported():
    assert {"pickle", "dill", "cloudpickle", "marshal", "shelve"} & libraries(SOURCES) == set()


def test_no_library_is_asked_to_unpickle():
    free = {"joblib.load", "pd.read_pickle", "torch.jit.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
    assert lines_of(lambda name, call: name in free) == []


def test_no_tracked_file_names_an_address_of_a_package_index():
    address = re.compile(rb"--(extra-)?index-url|[-]-find-links|pyp[i][.]org|python[h]osted|/simp[l]e/?\s*$", re.M)
    assert [name for name in listed() if address.search((ROOT / name).read_bytes())] == []
