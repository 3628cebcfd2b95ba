import time

import numpy as np
import pytest

from foldwise.data.folds import Fold
from foldwise.execution.fold_store import FoldStore
from foldwise.execution.jobs import CHECKPOINT_SECONDS, Job
from foldwise.execution.schedule import Part

FOLD = Fold(0, 3)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("part", "begun", "left"),
    [
        (Part(0, 0, None, start=0, span=1), 0, 10),  # half of this fold
        (Part(0, 0, None, start=0.5, span=2.5), 0, 30),  # and all that comes after it
        (Part(0, 0.25, None, start=1.25, span=2), 0.25, 20),  # in ten seconds it came from a quarter to the half
        (Part(0, 0, 2, start=0, span=2.5), 0.25, 80),  # a quarter had been done before an interruption
        (Part(0, 0, None, start=1.5, span=1.5), 0, 0),  # later than planned
    ],
)
def test_the_end_of_an_epoch_tells_the_time_that_is_left(part, begun, left, clock, capsys):
    job = Job(Fold(0, 3), part, 5, [1, 1], begun=begun, started=clock[0])
    clock[0] += 10
    job.end_epoch(1, "epoch 1/2", dict)
    assert capsys.readouterr().err == f"  repeat 0 fold 3 (1 of 5)  epoch 1/2  10 s, about {left} s left\n"


def test_a_note_names_the_fold(capsys):
    Job(Fold(0, 3), Part(1, 0, None, 0, 2), 4).note("goes on after epoch 2")
    assert capsys.readouterr().err == "  repeat 0 fold 3 (2 of 4)  goes on after epoch 2\n"


@pytest.fixture
def store(tmp_path):
    return FoldStore(tmp_path / "store", {FOLD: "key"})


@pytest.mark.parametrize(("seconds", "number", "is_kept"), [(1, 1, True), (-1, 1, False), (1, 2, False)], ids=str)
def test_a_long_fold_keeps_its_last_epoch_but_not_that_which_ends_it(seconds, number, is_kept, store, clock):
    job = Job(FOLD, Part(0, 0, None, 0, 2), 4, [1, 1], store, started=clock[0], last_kept=clock[0])
    clock[0] += CHECKPOINT_SECONDS + seconds
    job.end_epoch(number, "", lambda: {"epochs": np.zeros((number, 5))})
    assert (store.read(FOLD, "epoch") is not None) == is_kept


def test_a_machine_without_the_stores_place_keeps_nothing(tmp_path):
    far = FoldStore(tmp_path / "nowhere" / "store", {FOLD: "key"})
    Job(FOLD, Part(0, 0, None, 0, 2), 4, [1, 1], far).keep({"epochs": np.zeros((1, 5))})
    assert not far.directory.parent.exists()


def test_a_job_goes_on_where_another_ended_and_tells_that(store, capsys):
    store.write(FOLD, "epoch", {"epochs": np.zeros((3, 5))})
    job = Job(FOLD, Part(0, 0, None, 0, 2), 4, [1, 1, 1, 1], store)
    assert job.checkpoint()["epochs"].shape == (3, 5)
    assert (job.begun, capsys.readouterr().err) == (0.75, "  repeat 0 fold 3 (1 of 4)  goes on after epoch 3\n")
