"""The command `foldwise`, called as a function, and once as a user does."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_repository
import yaml
from small_runs import run

from foldwise import cli
from foldwise.compare import runs

ROOT = Path(__file__).parents[1]

SUMMARY = {
    "cv": {"accuracy": {"mean": 0.99, "ci95_low": 0.98, "ci95_high": 0.995}},
    "out_of_fold": {"n": 100, "errors": 1, "accuracy": 0.99, "log_loss": 0.1, "calibration_error": 0.01},
    "test": {"accuracy": {"mean": 0.97}, "ensemble": {"accuracy": 0.98, "errors": 2}},
}
ACCURACIES = {
    "main": [0.90, 0.92, 0.91, 0.93, 0.89],
    "workspace": [0.95, 0.96, 0.96, 0.97, 0.95],
    "noise": [0.91, 0.90, 0.93, 0.92, 0.90],
}


PIPELINE = {
    "stages": {
        "train": {"cmd": "python code.py --models models", "params": ["train.lr"], "deps": ["code.py"]},
        "aggregate": {"cmd": "python sum.py --models models --metrics metrics/summary.json", "deps": ["models"]},
    }
}


def record(metrics="metrics/summary.json"):
    """Write a `dvc.lock` of what lies in the workspace."""

    def entry(path):
        return {"path": path, "md5": hashlib.md5(Path(path).read_bytes()).hexdigest(), "hash": "md5"}

    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    lr = yaml.safe_load(Path("params.yaml").read_text())["train"]["lr"]
    made = {"path": "models", "md5": "m.dir", "hash": "md5"}
    parameters = {"params.yaml": {"train.lr": lr}}
    stages = {
        "train": {"cmd": stages["train"]["cmd"], "deps": [entry("code.py")], "params": parameters, "outs": [made]},
        "aggregate": {"cmd": stages["aggregate"]["cmd"], "deps": [made], "outs": [entry(metrics)]},
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def edit(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Stand in a workspace with parameters, a summary, and the record of how it was made."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    Path("code.py").write_text("")
    Path("dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    Path(".dvc").mkdir()
    Path("metrics").mkdir()
    Path("metrics/summary.json").write_text(json.dumps(SUMMARY))
    record()


@pytest.fixture
def known(monkeypatch):
    """Have made-up runs in place of a repository's."""
    monkeypatch.setattr(runs, "read", lambda name, directory: run(ACCURACIES[name], name))


def printed(capsys, *arguments):
    assert cli.main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("folder", [".", "metrics"])
def test_summary_prints_the_headline_numbers_from_any_folder(finished, monkeypatch, capsys, folder):
    monkeypatch.chdir(folder)
    said = printed(capsys, "summary")
    assert "0.9900, 95 % interval 0.9800 to 0.9950" in said
    assert "Note" not in said


def test_summary_reads_the_file_that_the_pipeline_made(finished, capsys):
    Path("numbers").mkdir()
    Path("numbers/summary.json").write_text(json.dumps(SUMMARY).replace("0.99,", "0.89,"))
    edit("dvc.yaml", "metrics/summary.json", "numbers/summary.json")
    record("numbers/summary.json")
    assert "0.8900, 95 % interval" in printed(capsys, "summary")


def test_summary_names_a_primary_score_other_than_accuracy(finished, capsys):
    log_loss = {"mean": 0.2121, "std": 0.01, "ci95_low": 0.2, "ci95_high": 0.25}
    Path("metrics/summary.json").write_text(json.dumps(SUMMARY | {"cv": SUMMARY["cv"] | {"log_loss": log_loss}}))
    record()
    assert printed(capsys, "summary").splitlines()[1] == "log loss over folds  0.2121, 95 % interval 0.2000 to 0.2500"


AGAIN = "changed after its results were made: `dvc repro` would make others"


@pytest.mark.parametrize(
    ("path", "old", "new", "note"),
    [
        ("params.yaml", "lr: 0.02 ", "lr: 0.03 ", f"train.lr {AGAIN}"),
        ("code.py", "", "print()", f"code.py {AGAIN}"),
        ("dvc.yaml", "metrics/summary.json", "other.json", f"the command of `aggregate` {AGAIN}"),
        ("dvc.yaml", "python code.py", "python3 code.py", f"the command of `train` {AGAIN}"),
        ("metrics/summary.json", "{", " {", "metrics/summary.json is not what dvc.lock records"),
    ],
)
def test_summary_notes_what_has_changed_since(finished, capsys, path, old, new, note):
    edit(path, old, new)
    lines = printed(capsys, "summary").splitlines()
    assert lines[0].startswith("accuracy over folds  0.9900")
    assert [line for line in lines if line.startswith("Note: ")] == lines[3:]
    assert lines[3].startswith(f"Note: {note}")


def test_summary_of_half_a_run_notes_that(finished, capsys):
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["train"]["outs"] = [{"path": "models", "md5": "n.dir"}]
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert "\nNote: half a run: models is newer than what `aggregate` made of it" in printed(capsys, "summary")


def test_summary_takes_small_numbers_as_dvc_writes_them(finished, capsys):
    edit("params.yaml", "lr: 0.02 ", "lr: 0.00003 ")
    record()
    edit("params.yaml", "lr: 0.00003 ", "lr: 3e-05 ")
    assert "Note" not in printed(capsys, "summary")


@pytest.mark.parametrize("path", ["dvc.lock", "dvc.yaml", "params.yaml"])
@pytest.mark.parametrize("content", [None, b"", b"a: [", b"\xff\x00", b"- a", b"stages: 1", b"stages: {aggregate: 1}"])
def test_summary_of_a_damaged_repository_is_told_in_one_line(finished, capsys, path, content):
    Path(path).unlink()
    if content is not None:
        Path(path).write_bytes(content)
    assert failure(capsys, "summary").startswith(f"foldwise: {path}")


@pytest.mark.parametrize("path", ["dvc.lock", "dvc.yaml"])
def test_summary_tells_a_file_that_cannot_be_read(finished, capsys, path):
    Path(path).unlink()
    Path(path).mkdir()
    assert f"{path} cannot be read (Is a directory): `git checkout {path}` brings it" in failure(capsys, "summary")


def test_summary_of_code_that_is_gone_notes_that(finished, capsys):
    Path("code.py").unlink()
    assert f"\nNote: code.py {AGAIN}" in printed(capsys, "summary")


def test_summary_outside_a_repository_says_so(finished, capsys):
    Path(".dvc").rmdir()
    assert failure(capsys, "summary") == "foldwise: no repository with DVC here: run this inside a clone\n"


def failure(capsys, *arguments):
    assert cli.main(arguments) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    return said.err


def test_summary_checks_the_parameters_first(finished, capsys):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("  seed: 42", "  seed: -1"))
    assert failure(capsys, "summary").startswith("foldwise: params.yaml: cv.seed is -1")


def test_summary_without_metrics_says_what_to_do(finished, capsys):
    Path("metrics/summary.json").unlink()
    assert failure(capsys, "summary").startswith("foldwise: metrics/summary.json is missing: run `dvc repro`")


@pytest.mark.parametrize("content", ["{}", "[]", json.dumps(SUMMARY).replace("0.97", "null"), '{"cv": 1}'])
def test_summary_of_incomplete_metrics_says_what_to_do(finished, capsys, content):
    Path("metrics/summary.json").write_text(content)
    said = failure(capsys, "summary")
    assert said == "foldwise: metrics/summary.json lacks headline numbers: run `dvc repro -f -s aggregate`\n"


def test_compare_compares_with_the_workspace_unless_told_otherwise(known, capsys):
    assert cli.main(["compare", "main"]) == 0
    assert capsys.readouterr().out.startswith("B is better by 4.80 points (95% 3.76 to 5.84)\n\n")


def test_compare_takes_b_after_a(known, capsys):
    cli.main(["compare", "workspace", "main"])
    assert capsys.readouterr().out.startswith("B is worse by 4.80 points (95% 3.76 to 5.84)\n\n")


def test_compare_prints_json(known, capsys):
    cli.main(["compare", "main", "noise", "--json"])
    assert json.loads(capsys.readouterr().out)["verdict"] == "undecided"


def test_compare_prints_markdown(known, capsys):
    cli.main(["compare", "main", "--markdown"])
    assert capsys.readouterr().out.startswith("**B is better by 4.80 points")


def test_compare_of_several_is_against_the_first(known, capsys):
    cli.main(["compare", "main", "noise", "workspace", "--json"])
    found = json.loads(capsys.readouterr().out)["comparisons"]
    assert [(one["a"]["name"], one["b"]["name"]) for one in found] == [("main", "noise"), ("main", "workspace")]


@pytest.mark.parametrize(("arguments", "rope"), [([], 0.1), (["--rope", "0.5"], 0.5), (["--rope", "0"], 0)])
def test_rope_is_in_points_and_a_tenth_by_default(known, capsys, arguments, rope):
    cli.main(["compare", "main", "--json", *arguments])
    assert json.loads(capsys.readouterr().out)["rope"] == rope


def test_an_interruption_is_told_in_one_line(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "read", interrupted)
    assert cli.main(["compare", "main"]) == 130
    assert capsys.readouterr().err == "foldwise: interrupted\n"


@pytest.mark.parametrize("rope", ["-1", "nan", "inf", "wide"])
def test_a_rope_that_is_no_width_is_refused(known, capsys, rope):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", "main", f"--rope={rope}"])
    assert stopped.value.code == 2
    assert f"'{rope}' is not a number of points, 0 or more" in capsys.readouterr().err


def test_compare_outside_a_repository_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert failure(capsys, "compare", "main").startswith("foldwise: main: no Git repository with DVC here")


def test_compare_reads_a_real_repository(tmp_path_factory, tmp_path, monkeypatch, capsys):
    small = small_repository.copy(tmp_path_factory, tmp_path / "small")
    monkeypatch.chdir(small.root)
    verdicts = []
    for name in ("seed-1", "unskilled", "four"):
        cli.main(["compare", "main", name, "--json"])
        verdicts.append(json.loads(capsys.readouterr().out)["verdict"])
    assert verdicts == ["undecided", "worse", "not_paired"]


def test_select_finds_the_experiments_on_the_folds_of_head(tmp_path_factory, tmp_path, monkeypatch, capsys):
    small = small_repository.copy(tmp_path_factory, tmp_path / "small")
    monkeypatch.chdir(small.root)
    found = json.loads(printed(capsys, "select", "--json"))
    assert {one["name"]: one["standing"] for one in found["runs"]}.keys() == {"HEAD", "seed-1", "unskilled"}
    assert found["runs"][-1]["name"] == "unskilled"
    assert found["left_out"] == {"four": "on other folds or data than HEAD"}
    assert found["allowing_for_the_choice"]["draws"] == 1000
    assert printed(capsys, "select").startswith(f"{found['best']} is the best of 3: accuracy ")
    assert printed(capsys, "select", "main", "--markdown").startswith("**there was no choice: main is the only one")


@pytest.mark.parametrize("words", [("compare", "main", "seed-1"), ("select",)])
def test_a_picture_is_drawn_beside_what_is_said(tmp_path_factory, tmp_path, monkeypatch, capsys, words):
    small = small_repository.copy(tmp_path_factory, tmp_path / "small")
    monkeypatch.chdir(small.root)
    said = printed(capsys, *words)
    assert printed(capsys, *words, "--plot", "drawn/it.png") == said
    assert Path("drawn/it.png").read_bytes().startswith(b"\x89PNG")


def test_select_refuses_named_runs_on_other_folds_in_one_line(tmp_path_factory, tmp_path, monkeypatch, capsys):
    small = small_repository.copy(tmp_path_factory, tmp_path / "small")
    monkeypatch.chdir(small.root)
    said = failure(capsys, "select", "main", "four")
    assert said == "foldwise: four is on other folds or data than main: leave it out\n"


def test_runs_has_a_line_for_each_experiment(tmp_path_factory, tmp_path, monkeypatch, capsys):
    small = small_repository.copy(tmp_path_factory, tmp_path / "small")
    monkeypatch.chdir(small.root)
    lines = printed(capsys, "runs").splitlines()
    assert [line.split()[0] for line in lines] == ["run", "HEAD", "four", "seed-1", "unskilled"]
    for line, differs in zip(lines[2:], ["cv.k=4", "train.seed=1", "train.skill=0.5"], strict=True):
        assert f"  {differs}  " in line


@pytest.mark.parametrize("primary", ["accuracy", "balanced_accuracy", "f1_macro", "log_loss", "roc_auc_macro"])
def test_compare_of_a_real_repository_follows_each_primary_score(
    tmp_path_factory, tmp_path, monkeypatch, capsys, primary
):
    small = small_repository.copy(tmp_path_factory, tmp_path / "small")
    monkeypatch.chdir(small.root)
    for skill, b, verdict in ((2.0, "unskilled", "worse"), (0.5, "seed-1", "better")):
        small.judge_by(primary, {"train": {"skill": skill}})
        cli.main(["compare", "HEAD", b, "--json"])
        found = json.loads(capsys.readouterr().out)
        assert (found["primary"], found["verdict"], found["p"]) == (primary, verdict, found["scores"][primary]["p"])
        note = f"evaluate.primary is {primary} in A and accuracy in B: both are judged by that of A"
        assert (note in found["notes"]) == (primary != "accuracy")


@pytest.mark.parametrize(
    ("arguments", "slow"), [(["summary"], {"torch", "pandas", "scipy", "dvc"}), (["compare", "main"], {"torch"})]
)
def test_slow_libraries_are_not_imported(finished, arguments, slow):
    program = f"import sys; from foldwise import cli; cli.main({arguments}); sys.exit(bool({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def run_into(output, *arguments, before="pass"):
    """Run the command with its output going there, as a shell would; gives status and what it complains of."""
    program = f"import sys; from foldwise import cli; {before}; sys.exit(cli.main({list(arguments)}))"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=buffered, stdout=output, stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stderr


# Python's own exit writes what is buffered, so text of any length must be tried.
LONG = "cli._compare = lambda _: 'x' * 10**6"


@pytest.mark.parametrize(
    ("arguments", "before"),
    [(["summary"], "pass"), (["--help"], "pass"), (["compare", "--help"], "pass"), (["compare", "main"], LONG)],
)
def test_a_reader_that_has_enough_ends_it_in_peace(finished, arguments, before):
    reading, writing = os.pipe()
    os.close(reading)
    assert run_into(writing, *arguments, before=before) == (0, "")
    os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's")
@pytest.mark.parametrize("arguments", [["summary"], ["--help"]])
def test_output_to_a_full_disk_is_told_in_one_line(finished, arguments):
    with Path("/dev/full").open("w") as full:
        said = run_into(full, *arguments)
    assert said == (1, "foldwise: the output cannot be written: No space left on device\n")


def test_a_current_folder_that_is_gone_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert failure(capsys, "summary").startswith("foldwise: the current folder is gone")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_experiment_of_the_whole_pipeline_is_compared_on_a_fresh_clone(tmp_path):
    here, clone = tmp_path / "here", tmp_path / "clone"

    def do(*words, at=here):
        done = subprocess.run(words, cwd=at, env=small_repository.ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0, words
        return done.stdout

    kept = ".dvc", ".gitignore", "dvc.yaml", "images", "own", "params.yaml", "requirements.lock", "src", "stages"
    for name in do("git", "ls-files", *kept, at=ROOT).splitlines():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes((ROOT / name).read_bytes())
    do("git", "init", "--quiet", "--initial-branch=main", ".")
    do("dvc", "remote", "add", "--quiet", "--default", "store", os.fspath(tmp_path / "store"))
    do("git", "add", "--all")
    do("git", "commit", "--quiet", "--message", "code")
    parameters = "data.name=digits", "data.subset=400", "model.name=simple_cnn", "train.epochs=1", "compute.n_jobs=1"
    do("dvc", "exp", "run", "--quiet", *(word for parameter in parameters for word in ("-S", parameter)))
    do("git", "add", "--all")
    do("git", "commit", "--quiet", "--message", "results")
    do("dvc", "push", "--quiet")
    do("dvc", "exp", "run", "--quiet", "--name", "another-seed", "-S", "train.seed=1")
    do("git", "clone", "--quiet", os.fspath(here), os.fspath(clone), at=tmp_path)
    do("dvc", "pull", "--quiet", at=clone)
    do("git", "fetch", "--quiet", "origin", "refs/exps/*:refs/exps/*", at=clone)
    do("dvc", "exp", "push", "--quiet", os.fspath(clone), "another-seed")
    before = do("git", "status", "--porcelain", at=clone)
    found = json.loads(do("foldwise", "compare", "main", "another-seed", "--json", at=clone))
    assert (found["verdict"], found["parameters"]) == ("undecided", {"train.seed": {"a": 0, "b": 1}})
    assert do("git", "status", "--porcelain", at=clone) == before
