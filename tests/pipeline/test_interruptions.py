"""A ten-fold run, interrupted in every way: the next one ends well, to the same bytes, and trains no fold twice."""

import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from clones import CACHED, Clone, ran, trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

RECIPE = {"data.subset": None, "cv.k": 10, "train.epochs": 3}
FOLDS = {f"0.{fold}" for fold in range(10)}
# How often each stage is killed: most often where most time goes and most can be lost.
KILLS = {"download": 2, "normalize": 2, "split": 2, "weights": 2, "train": 12, "evaluate": 6, "aggregate": 4}


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
        later = list(KILLS)[list(KILLS).index(stage) + 1 :]
        for entry in filter(Path.is_file, (cache / "runs").rglob("*")):
            if any(f" stages/{name}.py " in yaml.safe_load(entry.read_text())["cmd"] for name in later):
                (own / entry.relative_to(cache)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(entry, own / entry.relative_to(cache))
        return clone


@dataclass(frozen=True)
class Outcome:
    """What one kill left, and what the next run made of it."""

    inside: bool
    finished: set[str]
    left_running: list[str]
    before: str
    after: str
    clone: Clone


@pytest.fixture(scope="module")
def undisturbed(pristine, tmp_path_factory):
    """Run stage by stage, with a copy before each."""
    folder = tmp_path_factory.mktemp("undisturbed")
    clone = pristine.copy(folder / "foldwise")
    clone.turn(RECIPE)
    copies, seconds = {}, {}
    for stage in KILLS:
        clone.commit()
        copies[stage] = clone.copy(folder / stage)
        with clone.running("dvc", "repro", stage) as run:
            run.wait_for(f"Running stage '{stage}'")
            start = time.monotonic()
            assert run.process.wait() == 0, run.told
        seconds[stage] = time.monotonic() - start
    return Undisturbed(clone, copies, seconds, clone.content())


def is_torn(path: Path) -> bool:
    """Whether DVC was killed while it wrote a file, which it empties and then fills by blocks."""
    return path.exists() and path.stat().st_size % 8192 == 0


def go_on(clone: Clone) -> str:
    """Type the command again; where DVC was killed in the middle of its own notes, take the way out of the README."""
    record, locks = clone.root / "dvc.lock", clone.root / ".dvc" / "tmp" / "rwlock"
    if is_torn(record) or is_torn(locks):
        clone.dvc("repro", status=None)
        locks.unlink(missing_ok=True)
        clone.git("checkout", "dvc.lock")
    return clone.dvc("repro")


def remaining(clone: Clone, patience: float = 5) -> list[str]:
    """Name the processes that still run after some seconds, in which a busy system ends those that were killed."""
    end = time.monotonic() + patience
    while (left := clone.processes()) and time.monotonic() < end:
        time.sleep(0.05)
    return [str(process) for process in left]


def kill(undisturbed: Undisturbed, stage: str, share: float, n_jobs: int, folder: Path) -> Outcome:
    """Kill a run when some share of a stage is over, then run again."""
    inside = False
    while not inside:
        clone = undisturbed.before(stage, folder / f"{stage}-{share:.6f}")
        clone.turn({"compute.n_jobs": n_jobs})
        with clone.running("dvc", "repro") as run:
            run.wait_for(f"Running stage '{stage}'")
            time.sleep(share * undisturbed.seconds[stage])
            inside = run.process.poll() is None
            if inside:
                run.signal(signal.SIGKILL)
            run.process.wait()
            left = remaining(clone)
        share /= 2  # it was faster than the undisturbed run
    return Outcome(inside, clone.finished(), left, run.told, go_on(clone), clone)


@pytest.fixture(scope="module")
def kills(undisturbed, tmp_path_factory):
    """Kill thirty runs, two at a time."""
    choice = random.Random(5)
    folder = tmp_path_factory.mktemp("kills")
    moments = [
        (name, choice.uniform(0.01, 0.95), 1 + (n % 3 == 0)) for name, count in KILLS.items() for n in range(count)
    ]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda moment: kill(undisturbed, *moment, folder), moments))


def test_thirty_kills_fall_inside_the_run(kills):
    assert [outcome.inside for outcome in kills] == [True] * 30


def test_a_killed_run_leaves_no_process(kills):
    assert [outcome.left_running for outcome in kills if outcome.left_running] == []


def test_after_a_kill_no_finished_fold_is_trained_twice(kills):
    assert [outcome.finished & set(trained(outcome.after)) for outcome in kills if outcome.finished] != []
    assert [outcome.finished & set(trained(outcome.after)) for outcome in kills] == [set()] * 30


def test_a_kill_loses_no_more_folds_than_were_under_way(kills):
    lost = [set(trained(outcome.before)) & set(trained(outcome.after)) for outcome in kills]
    assert max(map(len, lost)) <= 2


def test_after_a_kill_the_run_trains_each_fold_that_is_missing_once(kills):
    for outcome in kills:
        missing = FOLDS - outcome.finished if "train" in ran(outcome.after) else set()
        assert sorted(trained(outcome.after)) == sorted(missing)


def test_after_a_kill_the_bytes_are_those_of_an_undisturbed_run(kills, undisturbed):
    for outcome in kills:
        assert outcome.clone.content() == undisturbed.content


def test_after_a_kill_nothing_half_written_remains(kills):
    assert [path for outcome in kills for path in outcome.clone.root.rglob("*.part")] == []


def test_a_kill_between_the_end_of_training_and_its_record_trains_nothing_again(undisturbed, tmp_path):
    clone = undisturbed.before("train", tmp_path / "foldwise")
    with clone.running("dvc", "repro") as run:
        while not list(clone.root.glob(".scratch/*/ended")):
            assert run.process.poll() is None, run.told
            time.sleep(0.001)
        run.kill()
    told = go_on(clone)
    assert (trained(told), "10 of 10 folds were already finished" in told) == ([], True)
    assert clone.content() == undisturbed.content


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


def test_after_success_a_forced_stage_trains_every_fold_again(repeated):
    for _ in range(2):
        assert len(trained(repeated.dvc("repro", "--force", "--single-item", "train"))) == 5


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
    assert interruption.clone.content() == undisturbed.content


def test_ctrl_c_while_libraries_load_leaves_no_process_and_nothing_half_written(undisturbed, tmp_path):
    for share in (0.05, 0.1, 0.2, 0.3):
        clone = undisturbed.before("train", tmp_path / str(share))
        with clone.running("dvc", "repro") as run:
            run.wait_for("Running stage 'train'")
            time.sleep(share * undisturbed.seconds["train"])
            run.signal(signal.SIGINT)
            assert run.process.wait() != 0
            assert clone.processes() == []
        assert [name for name in ("models", "curves") if (clone.root / name).exists()] == []


def kill_worker(run) -> None:
    """Kill one worker while it trains."""
    before = run.told.count("epoch 1/3")
    while run.told.count("epoch 1/3") == before:
        time.sleep(0.002)
    run.workers()[0].kill()


@pytest.fixture(scope="module")
def lost_worker(undisturbed, tmp_path_factory):
    """Kill one worker of a run, which goes on by itself."""
    clone = undisturbed.before("train", tmp_path_factory.mktemp("worker") / "foldwise")
    with clone.running("dvc", "repro") as run:
        run.wait_for("fold 3 (4 of 10)")
        kill_worker(run)
        finished = clone.finished()
        status = run.process.wait()
    return status, finished, run.told, clone


def test_a_worker_that_dies_is_told_of_and_its_fold_runs_again(lost_worker):
    status, _, told, _ = lost_worker
    assert (status, told.count("a worker died at repeat 0 fold ")) == (0, 1)


def test_a_worker_that_dies_takes_no_finished_fold_along(lost_worker):
    _, finished, told, _ = lost_worker
    again = trained(told[told.index("a worker died") :])
    assert finished & set(again) == set()
    assert len(finished) >= 1


def test_after_a_worker_has_died_the_bytes_are_those_of_an_undisturbed_run(lost_worker, undisturbed):
    assert lost_worker[-1].content() == undisturbed.content


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
    assert clone.content() == undisturbed.content


def test_two_runs_at_the_same_time_do_not_corrupt_each_other(undisturbed, tmp_path):
    clone = undisturbed.before("train", tmp_path / "foldwise")
    with clone.running("dvc", "repro") as one, clone.running("dvc", "repro") as other:
        statuses = {one.process.wait(), other.process.wait()}
    assert statuses <= {0, 255}
    assert 0 in statuses
    assert ran(clone.dvc("repro")) == []
    assert clone.content() == undisturbed.content


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
