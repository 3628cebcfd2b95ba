import signal
import sys
from contextlib import suppress

import pytest

from foldwise.base import interrupts

ONE_LINE = "interrupted; what is finished is kept, `dvc repro` goes on from there\n"

pytestmark = pytest.mark.usefixtures("signals_of_a_new_process")


@pytest.fixture
def times(monkeypatch):
    """Let Ctrl-C be pressed at given seconds; tells of each time whether an error came of it."""

    def press(*seconds):
        clock = iter(seconds)
        monkeypatch.setattr(interrupts.time, "monotonic", lambda: next(clock))
        heard = []
        for _ in seconds:
            try:
                signal.raise_signal(signal.SIGINT)
                heard.append(False)
            except KeyboardInterrupt:
                heard.append(True)
        return heard

    return press


def test_an_interruption_is_told_in_one_line(capsys):
    interrupts.listen()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == ONE_LINE


def test_in_a_copy_of_dvcs_the_experiment_is_to_be_run_again(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert interrupts.remedy() == "finished folds are kept: run the experiment again"


def test_what_a_library_makes_of_an_interruption_is_told_in_one_line(capsys):
    interrupts.listen()
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    sys.excepthook(ImportError, ImportError("is it installed?"), None)
    assert capsys.readouterr().err == ONE_LINE


def test_a_mistake_of_our_own_is_told_as_python_does(capsys):
    interrupts.listen()
    sys.excepthook(ZeroDivisionError, ZeroDivisionError("by zero"), None)
    assert capsys.readouterr().err == "ZeroDivisionError: by zero\n"


def test_a_process_that_was_told_to_ignore_interruptions_does_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.listen()
    interrupts.end()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_without_an_interruption_there_is_none_to_raise():
    interrupts.listen()
    interrupts.check()
    interrupts.end()


@pytest.mark.parametrize("when", [interrupts.check, interrupts.end])
def test_an_interruption_that_was_swallowed_is_raised_again(when):
    interrupts.listen()
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        when()


def test_an_interruption_soon_after_another_raises_nothing(times):
    interrupts.listen()
    assert times(0.0, 1.0) == [True, False]


def test_an_interruption_long_after_one_that_was_swallowed_is_heard(times):
    interrupts.listen()
    assert times(0.0, 1.0, 10.0) == [True, False, True]


def test_at_the_end_ctrl_c_ends_the_process_and_raises_nothing_that_would_be_swallowed():
    interrupts.listen()
    interrupts.end()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
