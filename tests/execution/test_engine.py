import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import psutil
import pytest

from foldwise.base.errors import FoldwiseError
from foldwise.data.folds import Fold
from foldwise.execution import engine, pool
from foldwise.execution.fold_store import FoldStore

FOLDS = [Fold(0, 0), Fold(0, 1), Fold(1, 0), Fold(1, 1)]


@dataclass(frozen=True)
class Task:
    """Leave a file for each run of a fold; in the first `times` runs of the second fold fail, or kill the worker."""

    folder: Path
    times: int = 0
    error: Exception | None = None

    def __call__(self, fold, job):
        runs = len(list(self.folder.glob(f"{fold}*")))
        (self.folder / f"{fold} {runs}").touch()
        if fold == FOLDS[1] and runs < self.times:
            time.sleep(0.5)  # until the first fold's result has been taken
            if self.error:
                raise self.error
            os.kill(os.getpid(), signal.SIGKILL)
        return {"place": np.array([*fold, job.part.place, job.total, job.part.span])}

    def runs(self):
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def task(tmp_path):
    (tmp_path / "runs").mkdir()
    return Task(tmp_path / "runs")


@pytest.fixture
def store(tmp_path):
    return FoldStore(tmp_path / "store", {fold: f"key-of-{fold.repeat}-{fold.fold}" for fold in FOLDS})


@pytest.fixture
def compute(parameters):
    return lambda **settings: parameters({f"compute.{name}": value for name, value in settings.items()}).compute


ONCE = [f"{fold} 0" for fold in FOLDS]


def squares(fold, job, given):
    return {"square": given["number"] ** 2}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_fold_gets_what_is_read_for_it_where_the_stage_runs(n_jobs, compute):
    numbers = {fold: {"number": np.array(place)} for place, fold in enumerate(FOLDS)}
    results = dict(engine.run(squares, FOLDS, compute(n_jobs=n_jobs), inputs=lambda fold: (numbers[fold],)))
    assert [int(results[fold]["square"]) for fold in FOLDS] == [0, 1, 4, 9]


def test_each_fold_is_run_once(task, compute):
    found = dict(engine.run(task, FOLDS, compute()))
    assert (list(found), task.runs()) == (FOLDS, ONCE)


def test_each_result_is_that_of_its_fold(task, compute):
    found = dict(engine.run(task, FOLDS, compute()))
    assert [found[fold]["place"].tolist() for fold in FOLDS] == [
        [0, 0, 0, 4, 4],
        [0, 1, 1, 4, 4],
        [1, 0, 2, 4, 4],
        [1, 1, 3, 4, 4],
    ]


@dataclass(frozen=True)
class InEpochs:
    """Note in a file each epoch of a fold, and who did it."""

    folder: Path

    def __call__(self, fold, job):
        noted = self.folder / str(fold)
        done = noted.read_text().split() if noted.exists() else []
        done += [os.getpid()] * ((job.until or 4) - len(done))
        time.sleep(0.2)  # so that both workers have their share
        noted.write_text(" ".join(map(str, done)))
        return {"by": np.array(done, dtype=np.int64)} if job.until is None else None


def test_a_fold_that_is_cut_gives_one_result_after_all_its_epochs(tmp_path, compute, store):
    results = list(engine.run(InEpochs(tmp_path), FOLDS[:3], compute(n_jobs=2), store=store, costs=[1] * 4))
    assert sorted((fold, len(arrays["by"])) for fold, arrays in results) == [(fold, 4) for fold in FOLDS[:3]]
    assert len(list(tmp_path.glob("repeat*"))) == 3


@pytest.mark.parametrize(("n_jobs", "threads", "workers"), [(-1, 1, 8), (-1, 3, 2), (-1, 16, 1), (5, 4, 5)], ids=str)
def test_there_are_as_many_workers_as_cores_have_threads_for(n_jobs, threads, workers, compute, monkeypatch):
    monkeypatch.setattr(joblib, "effective_n_jobs", lambda n_jobs: 8 if n_jobs == -1 else n_jobs)
    assert pool._allowed(compute(n_jobs=n_jobs, threads_per_fold=threads)) == workers


def test_no_worker_outlives_the_run(task, compute):
    list(engine.run(task, FOLDS, compute(n_jobs=2)))
    below = psutil.Process().children(recursive=True)
    assert [worker for worker in below if any("popen_loky" in word for word in worker.cmdline())] == []


def test_no_folds_give_no_results(task, compute):
    assert list(engine.run(task, [], compute())) == []


def test_no_more_folds_run_at_a_time_than_there_are(task, compute):
    (found,) = dict(engine.run(task, FOLDS[:1], compute(n_jobs=2))).values()
    assert found["place"][-1] == 1


def test_finished_folds_are_found_and_not_run_again(task, compute, store):
    store.write(FOLDS[2], "finished", {"kept": np.array(7)})
    found = dict(engine.run(task, FOLDS, compute(), store=store))
    assert (int(found[FOLDS[2]]["kept"]), len(found), len(task.runs())) == (7, 4, 3)


def test_the_console_counts_the_finished_folds(task, compute, store, capsys):
    for fold in FOLDS[:3]:
        store.write(fold, "finished", {})
    anew = "`dvc exp run -f -S compute.reuse_folds=false` trains all anew"
    list(engine.run(task, FOLDS, compute(), store=store))
    assert capsys.readouterr().err == f"  3 of 4 folds are from the fold store; {anew}\n"


def test_what_is_finished_is_kept_before_the_next_result(task, compute, store):
    results = engine.run(task, FOLDS, compute(), store=store)
    next(results)
    results.close()
    assert [store.read(fold, "finished") is not None for fold in FOLDS] == [True, False, False, False]


def test_a_mistake_of_the_users_in_a_fold_comes_through(task, compute):
    failing = Task(task.folder, 1, FoldwiseError("what, where, what to do"))
    with pytest.raises(FoldwiseError, match=r"^what, where, what to do$"):
        list(engine.run(failing, FOLDS, compute()))


def test_a_mistake_of_the_users_in_a_worker_comes_through(task, compute):
    failing = Task(task.folder, 1, FoldwiseError("what, where, what to do"))
    with pytest.raises(FoldwiseError, match=r"^what, where, what to do$"):
        list(engine.run(failing, FOLDS, compute(n_jobs=2)))


def test_a_worker_that_dies_once_is_retried_without_what_was_finished(task, compute, store, capsys):
    found = dict(engine.run(Task(task.folder, 1), FOLDS, compute(n_jobs=2), store=store))
    told = capsys.readouterr().err
    assert sorted(found) == FOLDS
    assert [name for name in task.runs() if name.startswith("repeat 0")] == [*ONCE[:2], "repeat 0 fold 1 1"]
    seen = r"repeat 0 fold 1(, repeat 1 fold [01])? or the next: A worker process .* was unexpectedly terminated"
    assert re.fullmatch(rf"  a worker died at {seen}; what is missing runs once more\n", told)


def test_a_worker_that_dies_twice_is_told(task, compute, store):
    with pytest.raises(FoldwiseError) as caught:
        list(engine.run(Task(task.folder, 2), FOLDS, compute(n_jobs=2), store=store))
    told = str(caught.value)
    assert told.startswith("a worker died twice, the second time at repeat 0 fold 1")
    assert "; if memory is short, " in told
    assert told.endswith("; what is finished is kept, `dvc repro` goes on from there")
    assert "\n" not in told


def die(fold, job):
    time.sleep(0.5)  # until all workers have a fold
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("n", "n_jobs", "told"),
    [
        (4, 4, "set compute.n_jobs to 2"),
        (2, 64, "set compute.n_jobs to 1"),  # 32 would still run both
        (1, 64, "set a smaller train.batch_size or another model.name"),
    ],
)
def test_of_workers_that_die_fewer_are_told_than_were_at_work(n, n_jobs, told, compute):
    with pytest.raises(
        FoldwiseError, match=rf"; if memory is short, {told}; what is finished is kept, `dvc repro` goes on from there$"
    ):
        list(engine.run(die, FOLDS[:n], compute(n_jobs=n_jobs)))


def test_memory_is_kept_on_linux_alone(monkeypatch, task, compute):
    def fail(name):
        raise AssertionError

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert len(list(engine.run(task, FOLDS, compute()))) == 4


def test_a_system_without_mallopt_is_no_mistake(monkeypatch, task, compute):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert len(list(engine.run(task, FOLDS, compute()))) == 4


@dataclass(frozen=True)
class FinishedElsewhere:
    """Finish the fold after the first as another run would, then tell which folds ran."""

    store: FoldStore

    def __call__(self, fold, job):
        self.store.write(FOLDS[1], "finished", {"by": np.array(7)})
        return {"by": np.array(0)}


def test_a_fold_that_another_run_has_finished_meanwhile_is_taken(compute, store):
    results = dict(engine.run(FinishedElsewhere(store), FOLDS[:2], compute(), store=store))
    assert [int(results[fold]["by"]) for fold in FOLDS[:2]] == [0, 7]


def test_a_store_that_cannot_be_written_is_told_once_and_costs_nothing_else(task, compute, tmp_path, capsys):
    (tmp_path / "file").touch()
    unusable = FoldStore(tmp_path / "file" / "store", {fold: str(fold) for fold in FOLDS})
    results = dict(engine.run(task, FOLDS, compute(), store=unusable))
    assert (sorted(results), task.runs()) == (FOLDS, ONCE)
    assert capsys.readouterr().err.count("  folds are trained, but not kept: ") == 1


def test_ctrl_c_leaves_no_worker_and_one_line(tmp_path):
    script = tmp_path / "wait.py"
    script.write_text(
        "import os, time\n"
        "from foldwise.execution import engine\n"
        "from foldwise.data.folds import Fold\n"
        "def task(fold, job):\n"
        "    os.write(1, (str(os.getpid()) + chr(10)).encode())  # whole, also beside another's\n"
        "    time.sleep(60)\n"
        "def wait(params):\n"
        "    compute = params.compute.model_copy(update={'n_jobs': 2})\n"
        "    list(engine.run(task, [Fold(0, 0), Fold(0, 1)], compute))\n"
    )
    params = Path(__file__).parents[2] / "params.yaml"
    command = [sys.executable, "-m", "foldwise.base.stage", script, "--params", params]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        workers = [int(process.stdout.readline()) for _ in range(2)]
        os.killpg(process.pid, signal.SIGINT)
        start = time.monotonic()
        _, told = process.communicate(timeout=20)
    assert time.monotonic() - start < 2
    assert told == "wait: interrupted; what is finished is kept, `dvc repro` goes on from there\n"
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
