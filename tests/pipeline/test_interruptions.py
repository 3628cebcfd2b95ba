"""A ten-fold run, disturbed in every way: the next one ends well, to the same bytes, and trains no fold twice."""

import json
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from clones import CACHED, Clone, ran, trained
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from psutil import Process
from voluptuous import Invalid

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

RECIPE = {"data.subset": None, "cv.k": 10, "train.epochs": 3}
FOLDS = {f"0.{fold}" for fold in range(10)}
# How often each stage is disturbed: most often where most time goes and most can be lost.
MOMENTS = {
    "download": 1,
    "normalize": 2,
    "split": 1,
    "weights": 1,
    "features": 1,
    "train": 9,
    "evaluate": 4,
    "aggregate": 2,
    "final": 1,
}
# The same for the death of one worker, where there are any.
WORKERS = {"train": 13, "evaluate": 7}


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody has interrupted: a copy from before each stage, the stage's seconds, and what came out."""

    clone: Clone
    copies: dict[str, Clone]
    seconds: dict[str, float]
    content: dict[str, bytes]

    def before(self, stage: str, folder: Path) -> Clone:
        """Give a clone that is about to run a stage, with the later stages in its run-cache to save time."""
        clone = self.copies[stage].copy(folder)
        cache, own = (root / ".dvc" / "cache" for root in (self.clone.root, folder))
        shutil.copytree(cache / "files", own / "files", dirs_exist_ok=True)
        for later in list(MOMENTS)[list(MOMENTS).index(stage) + 1 :]:
            for entry in self.clone.cached_runs(later):
                (own / entry.relative_to(cache)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(entry, own / entry.relative_to(cache))
        return clone


@dataclass(frozen=True)
class Outcome:
    """What a disturbance left, and what the next run made of it; `reached`: there was a stage's process to hear it."""

    inside: bool
    reached: bool
    status: int
    finished: set[str]
    left_running: list[str]
    told: str
    after: str
    clone: Clone


@pytest.fixture(scope="module")
def undisturbed(reference, pristine, tmp_path_factory):
    """Run stage by stage, with a copy before each; after another run, which has read the libraries from the disk."""
    folder = tmp_path_factory.mktemp("undisturbed")
    clone = pristine.copy(folder / "foldwise")
    clone.turn(RECIPE)
    copies, seconds = {}, {}
    for stage in MOMENTS:
        clone.commit()
        copies[stage] = clone.copy(folder / stage)
        with clone.running("dvc", "repro", stage) as run:
            run.wait_for(f"Running stage '{stage}'")
            start = time.monotonic()
            assert run.process.wait() == 0, run.told
        seconds[stage] = time.monotonic() - start
    return Undisturbed(clone, copies, seconds, clone.made())


def is_torn(path: Path) -> bool:
    """Whether DVC was killed while it wrote a file, which it empties and then fills by blocks."""
    return path.exists() and path.stat().st_size % 8192 == 0


def is_refused(path: Path, read: Callable[[str], object]) -> bool:
    """Whether DVC cannot read a file of its own any more, having heard Ctrl-C while it wrote it."""
    with suppress(FileNotFoundError):
        try:
            read(path.read_text())
        except (ValueError, yaml.YAMLError, Invalid):
            return True
    return False


def read_record(text: str) -> None:
    """Read `dvc.lock` as DVC does."""
    COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(text))


def go_on(clone: Clone) -> str:
    """Type the command again; where DVC was ended in the middle of its own notes, take the way out of the README."""
    record, locks = clone.root / "dvc.lock", clone.root / ".dvc" / "tmp" / "rwlock"
    if is_torn(record) or is_refused(record, read_record) or is_refused(locks, json.loads):
        clone.dvc("repro", status=None)
        locks.unlink(missing_ok=True)
        clone.git("checkout", "dvc.lock")
    if list((clone.root / ".dvc" / "cache" / "runs").rglob("*.tmp")):  # DVC reads the newest entry, also a torn one
        return clone.dvc("repro", status=None) + clone.dvc("repro", "--no-run-cache")
    return clone.dvc("repro")


def remaining(clone: Clone, patience: float = 5) -> list[str]:
    """Name the processes that still run after some seconds, in which a busy system ends those that were killed."""
    end = time.monotonic() + patience
    while (left := clone.processes()) and time.monotonic() < end:
        time.sleep(0.05)
    return [str(process) for process in left]


def disturb(undisturbed: Undisturbed, how: int, stage: str, share: float, n_jobs: int, folder: Path) -> Outcome:
    """Send a run a signal when some share of a stage is over, then run again."""
    inside = False
    while not inside:
        clone = undisturbed.before(stage, folder / f"{stage}-{share:.6f}")
        clone.turn({"compute.n_jobs": n_jobs})
        with clone.running("dvc", "repro") as run:
            run.wait_for(f"Running stage '{stage}'")
            time.sleep(share * undisturbed.seconds[stage])
            inside = run.process.poll() is None
            reached = False
            if inside:
                at_work = set(run.stages())
                run.signal(how)
                # One that had begun to end before would not be found any more.
                reached = bool(at_work.intersection(run.stages()))
            status = run.process.wait()
            left = remaining(clone)
        share /= 2  # it was faster than the undisturbed run
    return Outcome(inside, reached, status, clone.finished(), left, run.told, go_on(clone), clone)


def drawn(seed: int) -> Iterator[tuple[str, float, int]]:
    """Draw a stage, a share of its time and a number of workers, as often as `MOMENTS` says."""
    choice = random.Random(seed)
    for stage, count in MOMENTS.items():
        for n in range(count):
            yield stage, choice.uniform(0.01, 0.95), 1 + (n % 3 == 0)


@pytest.fixture(scope="module", params=[signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def disturbances(request, undisturbed, tmp_path_factory):
    """Kill some twenty runs, or press Ctrl-C in as many, two at a time."""
    folder = tmp_path_factory.mktemp("disturbances")
    with ThreadPoolExecutor(2) as pool:
        moments = drawn(seed=5)
        return list(pool.map(lambda moment: disturb(undisturbed, request.param, *moment, folder), moments))


def test_no_run_ends_well_that_was_disturbed_while_a_stage_worked(disturbances):
    assert [outcome.inside for outcome in disturbances] == [True] * sum(MOMENTS.values())
    assert any(outcome.reached or outcome.status == -signal.SIGKILL for outcome in disturbances)
    # While a stage's process gives its memory back at its end, nobody hears Ctrl-C: DVC ignores it until then.
    unheard = [outcome for outcome in disturbances if outcome.status == 0]
    assert [outcome.told for outcome in unheard if outcome.reached] == []
    assert len(unheard) <= 1


def test_hardly_ever_is_a_disturbance_told_at_length(disturbances):
    # Before a stage's first import it is Python that answers Ctrl-C.
    assert len([outcome.told for outcome in disturbances if "Traceback" in outcome.told]) <= 3


def test_a_disturbed_run_leaves_no_process(disturbances):
    assert [outcome.left_running for outcome in disturbances if outcome.left_running] == []


def test_after_a_disturbance_no_finished_fold_is_trained_twice(disturbances):
    assert [outcome.finished & set(trained(outcome.after)) for outcome in disturbances if outcome.finished] != []
    assert [outcome for outcome in disturbances if outcome.finished & set(trained(outcome.after))] == []


def test_a_disturbance_loses_no_more_folds_than_were_under_way(disturbances):
    lost = [set(trained(outcome.told)) & set(trained(outcome.after)) for outcome in disturbances]
    assert max(map(len, lost)) <= 2


def test_after_a_disturbance_the_run_trains_each_fold_that_is_missing_once(disturbances):
    for outcome in disturbances:
        missing = FOLDS - outcome.finished if "train" in ran(outcome.after) else set()
        assert sorted(trained(outcome.after)) == sorted(missing)


def test_after_a_disturbance_the_bytes_are_those_of_an_undisturbed_run(disturbances, undisturbed):
    for outcome in disturbances:
        assert outcome.clone.made() == undisturbed.content


def test_after_a_disturbance_nothing_half_written_remains(disturbances):
    assert [path for outcome in disturbances for path in outcome.clone.root.rglob("*.part")] == []


def test_a_kill_between_the_end_of_training_and_its_record_trains_nothing_again(undisturbed, tmp_path):
    clone = undisturbed.before("train", tmp_path / "foldwise")
    with clone.running("dvc", "repro") as run:
        while not (clone.root / "curves" / "libraries.json").exists():  # which is written last
            assert run.process.poll() is None, run.told
            time.sleep(0.001)
        run.kill()
    told = go_on(clone)
    assert (trained(told), "10 of 10 folds are from the fold store" in told) == ([], True)
    assert clone.made() == undisturbed.content


def test_a_torn_record_is_refused_and_git_brings_it_back(repeated):
    before = repeated.content()
    (repeated.root / "dvc.lock").write_bytes(b"")
    assert "dvc.lock" in repeated.dvc("repro", status=255)
    repeated.git("checkout", "dvc.lock")
    assert ran(repeated.dvc("repro")) == []
    assert repeated.content() == before


def test_a_torn_file_of_locks_is_refused_and_can_be_removed(repeated):
    locks = repeated.root / ".dvc" / "tmp" / "rwlock"
    locks.write_bytes(b"")
    repeated.turn({"cv.seed": 1})
    assert ".dvc/tmp/rwlock" in repeated.dvc("repro", "split", status=255)
    locks.unlink()
    assert ran(repeated.dvc("repro", "split")) == ["split"]


@pytest.mark.parametrize(
    ("stage", "end", "told"),
    [("split", "outs:", "'outs'"), ("train", "- path: models", "output 'models' does not exist")],
)
def test_a_torn_entry_of_the_run_cache_is_refused_and_can_be_passed_over(stage, end, told, repeated):
    before = repeated.made()
    (entry,) = repeated.cached_runs(stage)
    entry.with_name(".torn.tmp").write_text(entry.read_text().partition(end)[0])
    (repeated.root / "dvc.lock").unlink()
    for _ in range(2):
        assert f"failed to reproduce '{stage}': {told}" in repeated.dvc("repro", status=255)
    assert stage in ran(repeated.dvc("repro", "--no-run-cache"))
    assert ran(repeated.dvc("repro")) == []
    assert repeated.made() == before


def test_after_success_a_forced_stage_takes_every_fold_from_the_store_or_trains_all_where_that_is_asked_for(repeated):
    before = repeated.made()
    assert trained(repeated.dvc("repro", "--force", "--single-item", "train")) == []
    repeated.turn({"compute.reuse_folds": "false"})
    assert len(trained(repeated.dvc("repro", "--force", "--single-item", "train"))) == 5
    assert repeated.made() == before


@dataclass(frozen=True)
class Interruption:
    """What Ctrl-C did."""

    status: int
    seconds_to_last_worker: float
    left_running: list[str]
    finished: set[str]
    told: str
    after: str
    clone: Clone


@pytest.fixture(scope="module", params=["train", "evaluate"])
def interruption(request, undisturbed, tmp_path_factory):
    """Press Ctrl-C twice, as people do, while workers work; then type the command again."""
    clone = undisturbed.before(request.param, tmp_path_factory.mktemp("interruption") / "foldwise")
    with clone.running("dvc", "repro") as run:
        run.wait_for({"train": "fold 3 (4 of 10)", "evaluate": "evaluate: 10 models"}[request.param])
        while not (workers := run.workers()):
            time.sleep(0.01)
        start = time.monotonic()
        run.signal(signal.SIGINT)
        time.sleep(0.05)
        run.signal(signal.SIGINT)
        while any(worker.is_running() for worker in workers):
            time.sleep(0.01)
        seconds = time.monotonic() - start
        status = run.process.wait()
        left = [str(process) for process in clone.processes()]
    return Interruption(status, seconds, left, clone.finished(), run.told, go_on(clone), clone)


def test_ctrl_c_stops_all_workers_within_two_seconds(interruption):
    assert interruption.seconds_to_last_worker < 2


def test_ctrl_c_leaves_no_process(interruption):
    assert interruption.left_running == []


def test_ctrl_c_ends_with_an_error_status(interruption):
    assert interruption.status == 255


def test_ctrl_c_is_answered_with_one_line_on_how_to_go_on(interruption):
    lines = [line for line in interruption.told.splitlines() if "interrupted" in line]
    assert len(lines) == 1
    assert lines[0].endswith(": interrupted; what is finished is kept, `dvc repro` goes on from there")


def test_ctrl_c_prints_no_traceback_and_no_warning(interruption):
    told = interruption.told
    assert [word for word in ("Traceback", "Warning", "KeyboardInterrupt") if word in told] == [], told


def test_after_ctrl_c_no_finished_fold_is_trained_twice(interruption):
    assert interruption.finished & set(trained(interruption.after)) == set()


def test_after_ctrl_c_the_bytes_are_those_of_an_undisturbed_run(interruption, undisturbed):
    assert interruption.clone.made() == undisturbed.content


def test_ctrl_c_while_libraries_load_leaves_no_process_and_nothing_half_written(undisturbed, tmp_path):
    # No shares of the stage's time, which is longer where libraries are read from the disk.
    for seconds in (0.1, 0.3, 0.6, 1.0):
        clone = undisturbed.before("train", tmp_path / str(seconds))
        with clone.running("dvc", "repro") as run:
            run.wait_for("Running stage 'train'")
            time.sleep(seconds)
            run.signal(signal.SIGINT)
            assert run.process.wait() != 0, run.told
            assert clone.processes() == []
        assert [name for name in ("models", "curves") if (clone.root / name).exists()] == []


@dataclass(frozen=True)
class Loss:
    """What the death of one worker did to a run, which goes on by itself."""

    status: int
    finished: set[str]
    told: str
    clone: Clone


def lose_worker(undisturbed: Undisturbed, stage: str, share: float, folder: Path) -> Loss:
    """Kill one of two workers when some share of a stage is over, or as soon as there is one."""
    workers: list[Process] = []
    while not workers:
        clone = undisturbed.before(stage, folder / f"{stage}-{share:.6f}")
        with clone.running("dvc", "repro") as run:
            run.wait_for(f"Running stage '{stage}'")
            time.sleep(share * undisturbed.seconds[stage])
            while not workers and run.process.poll() is None:
                workers = run.workers()
            for worker in workers[:1]:
                worker.kill()
            finished = clone.finished()
            status = run.process.wait()
        share /= 2  # it was faster than the undisturbed run
    return Loss(status, finished, run.told, clone)


@pytest.fixture(scope="module")
def losses(undisturbed, tmp_path_factory):
    """Kill a worker in each of twenty runs, two at a time."""
    folder, choice = tmp_path_factory.mktemp("losses"), random.Random(6)
    moments = [(stage, choice.uniform(0.01, 0.95)) for stage, count in WORKERS.items() for _ in range(count)]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda moment: lose_worker(undisturbed, *moment, folder), moments))


def test_a_worker_that_dies_is_told_of_and_its_fold_runs_again(losses):
    assert [loss.told for loss in losses if loss.status != 0] == []
    told = [loss.told.count("a worker died at repeat 0 fold ") for loss in losses]
    assert set(told) <= {0, 1}
    assert sum(told) > 12  # the others died when their work was done


def test_a_worker_that_dies_takes_no_finished_fold_along(losses):
    assert any(loss.finished for loss in losses)
    for loss in losses:
        _, _, again = loss.told.partition("a worker died")
        assert loss.finished & set(trained(again)) == set()


def test_after_a_worker_has_died_the_bytes_are_those_of_an_undisturbed_run(losses, undisturbed):
    for loss in losses:
        assert loss.clone.made() == undisturbed.content


def kill_worker(run) -> None:
    """Kill one worker while it trains."""
    before = run.told.count("epoch 1/3")
    while run.told.count("epoch 1/3") == before:
        time.sleep(0.002)
    run.workers()[0].kill()


def test_when_workers_die_twice_the_run_ends_in_one_line_and_the_next_goes_on(undisturbed, tmp_path):
    clone = undisturbed.before("train", tmp_path / "foldwise")
    with clone.running("dvc", "repro") as run:
        run.wait_for("fold 3 (4 of 10)")
        kill_worker(run)
        run.wait_for("a worker died at")
        kill_worker(run)
        status = run.process.wait()
    assert (status, "Traceback" in run.told) == (255, False)
    assert run.told.count("train: a worker died twice, the second time at repeat 0 fold ") == 1
    finished = clone.finished()
    assert finished & set(trained(go_on(clone))) == set()
    assert clone.made() == undisturbed.content


def test_two_runs_at_the_same_time_do_not_corrupt_each_other(undisturbed, tmp_path):
    clone = undisturbed.before("train", tmp_path / "foldwise")
    with clone.running("dvc", "repro") as one, clone.running("dvc", "repro") as other:
        statuses = {one.process.wait(), other.process.wait()}
    assert statuses <= {0, 255}
    assert 0 in statuses
    assert ran(clone.dvc("repro")) == []
    assert clone.made() == undisturbed.content


def test_two_experiments_in_folders_of_their_own_at_the_same_time_do_not_corrupt_each_other(repeated):
    before = repeated.content(*CACHED, "dvc.lock", "metrics", "plots", "params.yaml")
    with (
        repeated.running("dvc", "exp", "run", "--temp", "--name", "two", "-S", "cv.k=2") as two,
        repeated.running("dvc", "exp", "run", "--temp", "--name", "three", "-S", "cv.k=3") as three,
    ):
        assert (two.process.wait(), three.process.wait()) == (0, 0), two.told + three.told
    assert repeated.content(*CACHED, "dvc.lock", "metrics", "plots", "params.yaml") == before
    for name, k in (("two", 2), ("three", 3)):
        repeated.dvc("exp", "apply", name)
        assert len(list(repeated.root.glob("models/*/*"))) == k
        assert ran(repeated.dvc("repro")) == []
