"""Folds on a cluster, with a stand-in for Ray that runs everything at once; the real one: test_ray_cluster.py."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from foldwise import ray_backend
from foldwise.base.errors import FoldwiseError
from foldwise.data.folds import Fold
from foldwise.execution import engine
from foldwise.execution.jobs import Work

FOLDS = [Fold(0, 0), Fold(0, 1), Fold(0, 2)]


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__(f"a traceback of {cause}")
        self.cause = cause


@dataclass
class Reference:
    """What stands for an object or a call; Ray's can be keys, too."""

    value: object = None
    error: Exception | None = None

    __hash__ = object.__hash__


class Ray:
    """As much of Ray as Foldwise uses: it counts what goes into the object store, and what runs at a time."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    util = SimpleNamespace(register_serializer=lambda *_, **__: None)

    def __init__(self, head):
        self.head, self.refusal, self.slow, self.lost = head, None, 0, False
        self.stored, self.asked, self.most, self.ended, self.settings = [], {}, 0, False, {}
        self.resources = [{"CPU": 2.0}, {"CPU": 1.0}]

    def init(self, address, **settings):
        if self.refusal:
            raise self.refusal
        self.settings = {"address": address, **settings}

    def shutdown(self):
        self.ended = True

    def nodes(self):
        return [{"Alive": True, "Resources": resources} for resources in self.resources]

    def get_runtime_context(self):
        return SimpleNamespace(gcs_address=self.head)

    def put(self, value):
        self.stored.append(value)
        return Reference(value)

    def get(self, reference):
        if reference.error:
            raise reference.error
        return reference.value

    def wait(self, references, timeout):
        self.most = max(self.most, len(references))
        if self.slow:
            self.slow -= 1
            time.sleep(0.1)
            return [], references
        return references[:1], references[1:]

    def remote(self, function):
        def call(*arguments):
            if self.lost:
                return Reference(error=RayError("Task failed because the node is dead.\nMore of it"))
            try:
                return Reference(function(*arguments))
            except FoldwiseError as error:
                return Reference(error=RayTaskError(error))
            except ZeroDivisionError as error:
                return Reference(error=RayTaskError(error))

        def options(**asked):
            self.asked = asked
            return SimpleNamespace(remote=call)

        return SimpleNamespace(options=options)


@dataclass(frozen=True)
class Task:
    """Give what it was called with; fail where it is told to."""

    error: Exception | None = None

    def __call__(self, fold, job, *given):
        if self.error:
            raise self.error
        return {"called": (fold, job.part.place, job.total, job.part.span, *given)}


def work(task=Task()):
    return Work(task, len(FOLDS), [1.0], None)


def read_nothing(fold):
    return ()


@pytest.fixture(autouse=True)
def _environment():
    kept = dict(os.environ)
    os.environ.pop("RAY_ADDRESS", None)
    yield
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture
def head():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "{}:{}".format(*server.getsockname())


@pytest.fixture
def ray(head, monkeypatch):
    stand_in = Ray(head)
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    return stand_in


@pytest.fixture
def compute(parameters):
    settings = {"backend": "ray", "n_jobs": -1}
    return lambda **more: parameters({f"compute.{name}": value for name, value in (settings | more).items()}).compute


@pytest.fixture
def driven(ray, compute):
    """Drive Ray in this process: what would be sent to the stage, in a list."""

    def drive(inputs=read_nothing, **settings):
        return list(ray_backend._messages(work(), FOLDS, compute(**settings), inputs))

    return drive


def results(messages):
    ended = [message.content for message in messages if isinstance(message, ray_backend._Result)]
    return {fold: arrays["called"] for fold, arrays in ended}


def test_the_stage_gets_each_folds_result(ray, compute):
    got = dict(engine.run(Task(), FOLDS, compute()))
    assert {fold: arrays["called"] for fold, arrays in got.items()} == {
        fold: (fold, position, 3, 1) for position, fold in enumerate(FOLDS)
    }


def test_no_folds_need_no_ray(monkeypatch, compute):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(engine.run(Task(), [], compute())) == []


def test_without_ray_the_install_command_is_told(monkeypatch, compute):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FoldwiseError) as caught:
        list(engine.run(Task(), FOLDS, compute()))
    told = "params.yaml: compute.backend is ray, which is not installed: run `make ray`"
    assert str(caught.value) == told


def test_the_default_path_loads_no_ray_and_needs_no_address():
    imports = "import sys; import foldwise.execution.engine, foldwise.learning.train_fold"
    script = f"{imports}; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_a_gpu_that_no_fold_asks_for_is_told(compute):
    with pytest.raises(FoldwiseError, match=r"compute\.gpus_per_fold is 0"):
        list(engine.run(Task(), FOLDS, compute(device="cuda", gpus_per_fold=0)))


def test_the_work_goes_to_the_object_store_once(ray, driven):
    driven()
    assert ray.stored == [work()]


def test_each_fold_states_its_needs(ray, driven):
    ray.resources = [{"CPU": 2.0, "GPU": 1.0}]
    driven(threads_per_fold=2, gpus_per_fold=0.25)
    assert {name: ray.asked[name] for name in ("num_cpus", "num_gpus", "max_retries")} == {
        "num_cpus": 2,
        "num_gpus": 0.25,
        "max_retries": 1,
    }


def test_what_a_fold_needs_is_read_where_the_files_are(driven):
    messages = driven(lambda fold: (f"the model of {fold}, read by {os.getpid()}",))
    assert all(
        called[-1] == f"the model of {fold}, read by {os.getpid()}" for fold, called in results(messages).items()
    )


def test_all_folds_are_seen_by_a_cluster_that_can_grow(ray, driven):
    ray.resources = [{"CPU": 1.0}]
    driven()
    assert ray.most == 3


def test_no_more_folds_run_at_a_time_than_wanted(ray, driven):
    driven(n_jobs=2)
    assert ray.most == 2


def test_with_a_limit_every_fold_is_run(driven):
    assert set(results(driven(n_jobs=1))) == set(FOLDS)


@pytest.mark.parametrize(
    ("resources", "threads", "gpus", "places"),
    [
        ([{"CPU": 4.0}], 1, 0, 4),
        ([{"CPU": 3.0}, {"CPU": 3.0}], 2, 0, 2),
        ([{"CPU": 8.0, "GPU": 1.0}], 1, 0.2, 5),
        ([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}], 1, 1, 1),
        ([{"GPU": 1.0}], 1, 1, 0),
    ],
)
def test_folds_that_fit_on_the_nodes_are_counted(resources, threads, gpus, places, compute):
    nodes = [{"Alive": True, "Resources": each} for each in resources]
    assert ray_backend._places(nodes, compute(threads_per_fold=threads, gpus_per_fold=gpus)) == places


def test_a_dead_node_has_no_place(compute):
    assert ray_backend._places([{"Alive": False, "Resources": {"CPU": 4.0}}], compute()) == 0


def test_a_machine_without_a_place_is_told(ray, driven):
    with pytest.raises(FoldwiseError) as caught:
        driven(threads_per_fold=4)
    lower = "lower compute.threads_per_fold or compute.gpus_per_fold, or set RAY_ADDRESS to a cluster"
    assert str(caught.value) == f"this machine has not 4 CPUs and 0 GPUs, as a fold asks for: {lower}"


def test_a_cluster_without_a_place_is_told(ray, driven, capsys):
    os.environ["RAY_ADDRESS"] = "10.0.0.1:6379"
    driven(threads_per_fold=4)
    assert capsys.readouterr().err == "  no node has 4 CPUs and 0 GPUs: waiting for one\n"


def test_a_cluster_of_its_own_is_on_loopback_without_a_dashboard(ray, driven):
    driven()
    assert [ray.settings[name] for name in ("address", "_node_ip_address", "include_dashboard")] == [
        "local",
        "127.0.0.1",
        False,
    ]


def test_the_cluster_at_ray_address_is_used_as_it_is(ray, driven):
    os.environ["RAY_ADDRESS"] = "10.0.0.1:6379"
    driven()
    assert (ray.settings["address"], "include_dashboard" in ray.settings) == ("10.0.0.1:6379", False)


def test_no_usage_statistics_are_sent(driven):
    driven()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_the_code_of_this_workspace_goes_along(ray, driven):
    driven()
    code = os.path.dirname(ray_backend.__file__)  # noqa: PTH120
    assert ray.settings["runtime_env"]["py_modules"] == [code, "own"]
    assert {"*.pth", "*.safetensors"} <= set(ray.settings["runtime_env"]["excludes"])


@pytest.mark.parametrize("switch", ["ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES"])
def test_the_switches_of_portable_results_go_along(switch, ray, driven, monkeypatch):
    monkeypatch.setenv(switch, "avx2")
    driven()
    assert ray.settings["runtime_env"]["env_vars"][switch] == "avx2"


def test_ray_is_shut_down_in_the_end(ray, driven):
    driven()
    assert ray.ended


def test_a_cluster_that_does_not_answer_is_told(ray, compute):
    os.environ["RAY_ADDRESS"] = "10.0.0.1:6379"
    ray.refusal = ConnectionError("Failed to connect\nTraceback")
    with pytest.raises(
        FoldwiseError, match=r"^no Ray cluster at RAY_ADDRESS=10\.0\.0\.1:6379 \(Failed to connect\): .*"
    ):
        list(engine.run(Task(), FOLDS, compute()))


@pytest.mark.parametrize(("said", "reason"), [("no memory\nTraceback", "no memory"), ("", "ConnectionError")])
def test_a_machine_on_which_ray_does_not_start_is_told(said, reason, ray, compute):
    ray.refusal = ConnectionError(said)
    with pytest.raises(FoldwiseError) as caught:
        list(engine.run(Task(), FOLDS, compute()))
    told = f"Ray does not start on this machine ({reason}): set compute.backend to loky in params.yaml"
    assert str(caught.value) == told


def test_a_mistake_of_the_users_in_a_worker_comes_through(ray, compute):
    with pytest.raises(FoldwiseError, match=r"^too hot$"):
        list(engine.run(Task(FoldwiseError("too hot")), FOLDS, compute()))


def test_a_fault_in_a_worker_comes_with_its_traceback(ray, compute):
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*ZeroDivisionError: of mine"):
        list(engine.run(Task(ZeroDivisionError("of mine")), FOLDS, compute()))


def test_a_fold_whose_worker_died_twice_is_told(ray, driven):
    ray.lost = True
    with pytest.raises(
        FoldwiseError, match=r"^a worker died twice at repeat 0 fold 0: Task failed .* dead\.; if memory"
    ) as caught:
        driven()
    assert str(caught.value).endswith(
        "if memory is short, set compute.n_jobs to 1; what is finished is kept, `dvc repro` goes on from there"
    )


def test_a_driver_that_ray_has_ended_is_told_as_a_lost_cluster(ray, compute):
    ray.wait = lambda *_, **__: os._exit(1)
    lost = f"the Ray cluster, whose head was {ray.head}, is lost: "
    for address, told in ({}, lost), ({"RAY_ADDRESS": ray.head}, f"{lost}start it again; "):
        os.environ |= address
        with pytest.raises(FoldwiseError, match=rf"^{told}what is finished is kept, `dvc repro` goes on from there$"):
            list(engine.run(Task(), FOLDS, compute()))


def test_a_head_that_does_not_answer_is_told_as_a_lost_cluster(ray, compute, monkeypatch):
    monkeypatch.setattr(ray_backend, "HEAD_SECONDS", 0)
    ray.head, ray.slow = "127.0.0.1:1", 1000
    with pytest.raises(FoldwiseError, match="is lost"):
        list(engine.run(Task(), FOLDS, compute()))


def test_a_slow_fold_is_waited_for(ray, compute):
    ray.slow = 15
    assert len(list(engine.run(Task(), FOLDS, compute()))) == 3


def test_a_stage_that_stops_listening_ends_the_driver(ray, compute):
    got = ray_backend.run(work(), FOLDS, compute(), read_nothing)
    ray.wait = lambda references, timeout: (
        (references[:1], []) if len(references) == 3 else (time.sleep(0.1), references)
    )
    next(got)
    start = time.monotonic()
    got.close()
    assert time.monotonic() - start < 5
