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
KNOBS_OF_NO_STAGE = {"compute.backend", "compute.n_jobs", "compute.gpus_per_fold"}
SOURCES = [*sorted(PACKAGE.glob("*.py")), *sorted((ROOT / "stages").glob("*.py"))]


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


def closure(path):
    """Give the package's files that a file needs, itself included if it is one."""
    found, new = set(), [path]
    while new:
        path = new.pop()
        found.add(path)
        own = [name.split(".") for name in imports(path) if name.split(".")[0] == "foldwise"]
        files = {PACKAGE / "__init__.py"} if own else set()
        files |= {PACKAGE / f"{name[1]}.py" for name in own if len(name) > 1}
        new += [file for file in files - found if file.is_file()]
    return found


def libraries(paths):
    return {name.split(".")[0] for path in paths for name in imports(path)}


def outs(stage):
    """Name what a stage writes, with DVC's options for it."""
    listed = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    return dict(next(iter(out.items())) if isinstance(out, dict) else (out, {}) for out in listed)


def script(stage):
    return next(word for word in shlex.split(STAGES[stage]["cmd"]) if word.endswith(".py"))


def knobs():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return {f"{section}.{name}" for section, names in params.items() for name in names}


def params_of(stage):
    """Name the knobs that a stage depends on; a section stands for all of its knobs."""
    named = stage.get("params", [])
    return {knob for knob in knobs() for name in named if knob == name or knob.startswith(f"{name}.")}


@pytest.mark.parametrize("stage", STAGES)
def test_code_among_the_deps_is_the_import_closure(stage):
    code = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert code == {name_of(path) for path in closure(ROOT / script(stage))}


@pytest.mark.parametrize("stage", STAGES)
def test_other_deps_are_the_inputs_on_the_command_line(stage):
    written = {path for other in STAGES.values() for path in outs(other)}
    words = set(shlex.split(STAGES[stage]["cmd"]))
    inputs = words & written - set(outs(STAGES[stage]))
    inputs |= {"params.yaml"} if stage == "check" else set()
    assert {dep for dep in STAGES[stage]["deps"] if not dep.endswith(".py")} - {LOCK} == inputs


@pytest.mark.parametrize("stage", STAGES)
def test_stages_whose_numbers_come_from_libraries_depend_on_their_versions(stage):
    assert (LOCK in STAGES[stage]["deps"]) == (stage not in PROVED)


@pytest.mark.parametrize("stage", STAGES)
def test_no_dep_is_named_twice(stage):
    assert len(STAGES[stage]["deps"]) == len(set(STAGES[stage]["deps"]))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_the_code_beside_it(stage):
    assert STAGES[stage]["cmd"].startswith(f"env PYTHONPATH=src python3 stages/{stage}.py --params params.yaml")


@pytest.mark.parametrize("stage", STAGES)
def test_a_command_has_nothing_that_shells_disagree_about(stage):
    assert re.fullmatch(r"[\w ./=-]+", STAGES[stage]["cmd"])


@pytest.mark.parametrize("stage", STAGES)
def test_every_out_is_named_on_the_command_line(stage):
    named = [Path(word) for word in shlex.split(STAGES[stage]["cmd"])]
    assert all(any(Path(out).is_relative_to(path) for path in named) for out in outs(STAGES[stage]))


@pytest.mark.parametrize("stage", STAGES)
def test_every_param_is_a_knob(stage):
    named = STAGES[stage].get("params", [])
    assert [name for name in named if not any(f"{knob}.".startswith(f"{name}.") for knob in knobs())] == []


def test_every_knob_that_counts_is_a_param_of_a_stage_and_no_other():
    assert set().union(*(params_of(stage) for stage in STAGES.values())) == knobs() - KNOBS_OF_NO_STAGE


def test_every_knob_has_a_comment():
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    bare = []
    for before, line in pairwise(lines):
        is_knob = re.match(r"  \w+:", line)
        if is_knob and not re.search(r"# \w", line) and not re.match(r" +# \w", before):
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


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_fits_in_the_head(path):
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= (60 if path.parent.name == "stages" else 250)


@pytest.mark.parametrize("stage", ["download", "normalize", "split", "aggregate"])
def test_a_stage_without_networks_names_no_torch(stage):
    assert {"torch", "torchvision"} & libraries(closure(ROOT / script(stage))) == set()


@pytest.mark.parametrize("stage", ["download", "normalize", "split", "aggregate"])
def test_a_stage_without_networks_loads_no_torch(stage):
    code = f"import runpy, sys; runpy.run_path({script(stage)!r}); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "False\n"


def test_torchvision_is_imported_for_resnet_alone():
    assert [path.stem for path in SOURCES if "torchvision" in libraries([path])] == ["models"]


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


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_torch_reads_weights_and_nothing_else(path):
    found = [call for name, call in calls(path) if name == "torch.load"]
    assert [call.lineno for call in found if not switched(call, "weights_only")] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_numpy_reads_and_writes_no_objects(path):
    found = [call for name, call in calls(path) if name in {"np.load", "np.save", "np.savez"}]
    assert [call.lineno for call in found if switched(call, "allow_pickle") is not False] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_that_unpickles_is_imported(path):
    assert {"pickle", "dill", "cloudpickle", "marshal", "shelve"} & libraries([path]) == set()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_library_is_asked_to_unpickle(path):
    free = {"joblib.load", "pd.read_pickle", "torch.jit.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
    assert [call.lineno for name, call in calls(path) if name in free] == []


def test_no_tracked_file_names_an_address_of_a_package_index():
    address = re.compile(rb"--(extra-)?index-url|[-]-find-links|pyp[i][.]org|python[h]osted|/simp[l]e/?\s*$", re.M)
    assert [name for name in listed() if address.search((ROOT / name).read_bytes())] == []
