import ast
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from foldwise.base import console, interrupts, stage
from foldwise.base.errors import FoldwiseError
from foldwise.base.params import Params

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(signals_of_a_new_process):
    """Run a stage as from the command line, by default with the repository's parameters."""

    def run(function, *options, params=ROOT / "params.yaml"):
        interrupts.listen()
        stage.run(function, "what it does", ["--params", str(params), *options])

    return run


def idle(params):
    """Do nothing."""


def raising(error):
    def deal(params):
        raise error

    return deal


def test_progress_goes_to_standard_error(capsys):
    console.say("one line")
    assert capsys.readouterr() == ("", "one line\n")


def test_names_can_neither_break_a_line_nor_steer_a_terminal(capsys):
    console.say("Kätzchen 猫 \x1b[31mred\nnext\r\x00 \u202eback \udcff.png")
    assert capsys.readouterr().err == "Kätzchen 猫 \\x1b[31mred\\nnext\\r\\x00 \\u202eback \\udcff.png\n"


def test_nor_can_names_in_errors(run, capsys):
    with pytest.raises(SystemExit):
        run(raising(FoldwiseError("a\x1b[2Jb\nc.png is empty")))
    assert capsys.readouterr().err == "deal: a\\x1b[2Jb c.png is empty\n"


def test_each_keyword_is_an_option_that_takes_a_path(run):
    given = []

    def deal(params, *, raw, data_folder):
        given.extend([raw, data_folder])

    run(deal, "--data-folder", "b", "--raw", "a")
    assert given == [Path("a"), Path("b")]


def test_the_parameters_come_validated(run):
    given = []

    def deal(params):
        given.append(params)

    run(deal)
    assert isinstance(given[0], Params)


def test_a_missing_option_is_refused(run, capsys):
    def deal(params, *, raw):
        raise AssertionError

    with pytest.raises(SystemExit, match="2"):
        run(deal)
    assert "the following arguments are required: --raw" in capsys.readouterr().err


def test_a_mistake_of_the_users_ends_with_status_1(run):
    with pytest.raises(SystemExit) as caught:
        run(raising(FoldwiseError("what, where, what to do")))
    assert caught.value.code == 1


def test_a_mistake_of_the_users_is_told_in_one_line(run, capsys):
    with pytest.raises(SystemExit):
        run(raising(FoldwiseError("what, where, what to do")))
    assert capsys.readouterr() == ("", "deal: what, where, what to do\n")


def test_a_message_of_several_lines_is_put_in_one(run, capsys):
    with pytest.raises(SystemExit):
        run(raising(FoldwiseError("unknown parameter a\r\nb\n  c")))
    assert capsys.readouterr().err == "deal: unknown parameter a b c\n"


def test_wrong_parameters_end_with_status_1(run, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        run(idle, params=tmp_path / "none.yaml")
    assert capsys.readouterr().err == f"idle: {tmp_path / 'none.yaml'} cannot be read: No such file or directory\n"


def test_a_mistake_of_our_own_keeps_its_traceback(run):
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_an_interruption_ends_with_status_130(run):
    with pytest.raises(SystemExit) as caught:
        run(raising(KeyboardInterrupt()))
    assert caught.value.code == 130


def test_an_interruption_is_told_with_how_to_go_on(run, capsys):
    with pytest.raises(SystemExit):
        run(raising(KeyboardInterrupt()))
    assert capsys.readouterr().err == "deal: interrupted; what is finished is kept, `dvc repro` goes on from there\n"


def test_a_second_interruption_is_ignored(run):
    with pytest.raises(SystemExit):
        run(raising(KeyboardInterrupt()))
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("portable", [False, True])
def test_a_stage_starts_anew_only_where_portable_bytes_are_asked_for(portable, run, tmp_path, monkeypatch):
    restarts = []
    monkeypatch.setattr(stage, "restart_portably", lambda: restarts.append(1))
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert text.count("portable: false") == 1
    (tmp_path / "params.yaml").write_text(text.replace("portable: false", f"portable: {portable}".lower()))
    run(idle, params=tmp_path / "params.yaml")
    assert len(restarts) == portable


def test_an_interruption_is_heard_once(run):
    def deal(params):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
            raise

    with pytest.raises(SystemExit, match="130"):
        run(deal)


def swallowed():
    """Press Ctrl-C, and swallow the error, as a library does that is written in C."""
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_interruption_that_was_swallowed_ends_the_stage_at_its_next_line(run, capsys):
    def deal(params):
        console.say("before")
        swallowed()
        console.say("after")

    with pytest.raises(SystemExit, match="130"):
        run(deal)
    assert [line.split(";")[0] for line in capsys.readouterr().err.splitlines()] == ["before", "deal: interrupted"]


def test_an_interruption_that_was_swallowed_after_the_last_line_is_told(run, capsys):
    def deal(params):
        swallowed()

    with pytest.raises(SystemExit, match="130"):
        run(deal)
    assert capsys.readouterr().err.startswith("deal: interrupted;")


def test_a_mistake_of_the_users_is_told_though_an_interruption_was_swallowed(run, capsys):
    def deal(params):
        swallowed()
        raise FoldwiseError("what, where, what to do")

    with pytest.raises(SystemExit, match="1"):
        run(deal)
    assert capsys.readouterr().err == "deal: what, where, what to do\n"


def test_an_interruption_that_was_swallowed_while_libraries_loaded_ends_the_stage(run):
    interrupts.listen()
    swallowed()
    ran = []

    def deal(params):
        ran.append(params)

    with pytest.raises(SystemExit, match="130"):
        run(deal)
    assert ran == []


def test_ctrl_c_ends_a_real_process_without_a_traceback(tmp_path):
    script = tmp_path / "wait.py"
    script.write_text("import time\ndef wait(params):\n    print('ready', flush=True)\n    time.sleep(60)\n")
    command = [sys.executable, "-m", "foldwise.base.stage", script, "--params", "params.yaml"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=10)
    assert (process.returncode, told.count("\n"), told[:18]) == (130, 1, "wait: interrupted;")


@pytest.mark.parametrize("path", sorted((ROOT / "stages").glob("*.py")), ids=lambda path: path.stem)
def test_a_stage_says_what_it_does_and_what_it_takes(path):
    command = [sys.executable, "-m", "foldwise.base.stage", path, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: {path.stem} [-h] --params PARAMS")
    assert ast.get_docstring(ast.parse(path.read_text())).split()[0] in done.stdout
