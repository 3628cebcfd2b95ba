"""A real Ray cluster of three nodes on this machine, each with one CPU: the same bytes as without, also if nodes die.

Ray is installed into a folder of its own, from requirements-ray.lock. Nodes have addresses of the loopback network, and
a token of the test's own keeps everybody else out.
"""

import ctypes
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pytest
import yaml
from locks import open_ends, pins, project
from sklearn.datasets import load_digits

from foldwise.base import files
from foldwise.base.params import Params
from foldwise.data import folds, images
from foldwise.sources import catalogue, rawdata

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="nodes need loopback addresses of their own, and /proc"),
]

ROOT = Path(__file__).parents[1]
PORT = 26379
LONG = 200  # epochs
STAGES = {
    "train": "--normalized data --folds folds --weights weights.safetensors --features features.npy "
    "--requirements {root}/requirements.lock --store .fold_store --models {to}/models --curves {to}/curves",
    "evaluate": "--normalized data --folds folds --features features.npy --models {to}/models "
    "--predictions {to}/predictions --scores {to}/scores",
}


def session(leader):
    """Processes of a session, without those that have ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = status.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(number) == leader and state != "Z":
            found.append(int(status.parent.name))
    return found


def end_with_parent():
    """Let a node end if the tests are killed; 1 is Linux's PR_SET_PDEATHSIG."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@dataclass
class Cluster:
    """Nodes 1 (the head) to 3."""

    environment: dict
    folder: Path
    nodes: dict = field(default_factory=dict)

    @property
    def address(self):
        return f"127.0.0.2:{PORT}"

    def start(self):
        """Start the nodes that are missing, one after another: at once they take each other's sockets."""
        if 1 not in self.nodes:
            self.stop()
        for number in (1, 2, 3):
            if number not in self.nodes:
                self._start(number)

    def _start(self, number):
        head = ["--head", "--port", str(PORT), "--include-dashboard", "false", "--temp-dir", self.folder]
        where = head if number == 1 else ["--address", self.address]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *where]
        command += ["--node-ip-address", f"127.0.0.{number + 1}", "--num-cpus", "1", "--num-gpus", "0"]
        command += ["--object-store-memory", "200000000"]
        log = self.folder / f"node-{number}.log"
        with log.open("w") as output:
            self.nodes[number] = subprocess.Popen(
                command,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        wait_until(lambda: self.nodes[number].poll() is not None or "runtime started" in log.read_text(), 120, log)
        assert self.nodes[number].poll() is None, log.read_text()

    def processes(self, number):
        return session(self.nodes[number].pid)

    def kill(self, number):
        """Let all of a node end at once, as by a power cut: stopped first, so that no part of it sees another's end."""
        node = self.nodes.pop(number)
        while left := session(node.pid):
            for how in (signal.SIGSTOP, signal.SIGKILL):
                for process in left:
                    with suppress(ProcessLookupError):  # ended by itself since
                        os.kill(process, how)
        node.wait()

    def stop(self):
        for number in sorted(self.nodes):
            self.kill(number)


def wait_until(condition, seconds, log):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--target", folder, "-r", ROOT / "requirements-ray.lock"]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="module")
def cluster(installed, tmp_path_factory):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": str(installed), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
    environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # Ray's sockets need a short path
    started = Cluster(environment, folder)
    try:
        yield started
    finally:
        leaders = [node.pid for node in started.nodes.values()]
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)
    assert not [process for leader in leaders for process in session(leader)]


@dataclass
class Workspace:
    """A folder with data and folds, in which stages are run."""

    folder: Path
    cluster: Cluster

    def start(self, stage, to, backend, **train):
        content = yaml.safe_load((self.folder / "params.yaml").read_text())
        content["compute"]["backend"] = backend
        content["train"] |= train
        params = self.folder / f"{backend}.yaml"
        params.write_text(yaml.safe_dump(content))
        environment = self.cluster.environment | {"RAY_ADDRESS": self.cluster.address}
        environment["PYTHONPATH"] = f"{ROOT / 'src'}:{environment['PYTHONPATH']}"
        options = STAGES[stage].format(root=ROOT, to=to).split()
        script = ROOT / "stages" / f"{stage}.py"
        command = [sys.executable, "-m", "foldwise.base.stage", script, "--params", params, *options]
        with self.log.open("w") as output:
            return subprocess.Popen(
                [*command, *options],
                cwd=self.folder,
                env=environment,
                stderr=output,
                stdout=output,
                start_new_session=True,
            )

    def run(self, stage, to, backend, **train):
        assert self.start(stage, to, backend, **train).wait(200) == 0, self.log.read_text()

    @property
    def log(self):
        return self.folder / "log"

    def told(self):
        """(fold, worker) of each line of progress."""
        lines = re.findall(r"\(fold pid=(\d+).*?\) +repeat 0 fold (\d) .* epoch", self.log.read_text())
        return {(int(fold), int(worker)) for worker, fold in lines}

    def finished(self):
        """Folds whose results the stage has kept."""
        kept = self.folder.glob(".fold_store/repeat-0-fold-*.finished")
        return {int(path.name.split("-")[3]) for path in kept}

    def content(self, to):
        paths = sorted(path for path in (self.folder / to).rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder / to)): path.read_bytes() for path in paths}


def digits(_):
    """400 of scikit-learn's digits."""
    found = load_digits()
    return (found.images[:400] * 255 / 16).astype(np.uint8)[:, None], found.target[:400].astype(np.int64)


def mnist(folder):
    """600 of MNIST's training images, from where `dvc repro` has left them, else from the mirrors."""
    dataset = catalogue.find("mnist")
    own = ROOT / "data" / "raw"
    rawdata.fetch(dataset, str(own) if (own / "mnist").is_dir() else None, folder / "raw")
    (pixels, labels), _ = rawdata.decode(dataset, folder / "raw")
    return pixels[:600], labels[:600]


def noise(_):
    """8 MB of images without anything to see."""
    pixels = np.random.default_rng(0).integers(256, size=(10_000, 1, 28, 28), dtype=np.uint8)
    return pixels, np.arange(len(pixels)) % 10


@pytest.fixture(scope="module")
def prepared(cluster, parameters, tmp_path_factory):
    def make(data, k=5, network="simple_cnn"):
        folder = tmp_path_factory.mktemp("workspace")
        pixels, labels = data(tmp_path_factory.mktemp("raw"))
        made = images.Images.measured("digits", tuple("0123456789"), (pixels, labels), (pixels[:100], labels[:100]))
        params: Params = parameters({"cv.k": k, "compute.n_jobs": -1, "model.name": network})
        images.save(made, folder / "data")
        folds.save(folder / "folds", folds.assign(labels, params.cv), params.cv)
        shutil.copytree(ROOT / "own", folder / "own")
        files.write_arrays(folder / "weights.safetensors", {})
        files.write_array(folder / "features.npy", np.empty((0, 0, 0), np.float32))
        (folder / "params.yaml").write_text(yaml.safe_dump(params.model_dump()))
        return Workspace(folder, cluster)

    return make


@pytest.fixture
def workspace(cluster, prepared):
    cluster.start()
    return prepared


@pytest.mark.parametrize(("data", "network"), [(digits, "own/networks.py:mlp"), (mnist, "simple_cnn")])
def test_a_cluster_gives_the_bytes_of_loky(data, network, workspace):
    made = workspace(data, network=network)
    for backend in ("loky", "ray"):
        for stage in STAGES:
            made.run(stage, backend, backend)
        shutil.rmtree(made.folder / ".fold_store", ignore_errors=True)
    assert made.content("ray") == made.content("loky") != {}


def moved():
    """Bytes that have gone over the loopback network."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split()[1])


def peak(process):
    """Most memory that a process has had, in bytes; 0 once it has ended."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) * 1024 if found else 0
    return 0


def test_the_lock_of_ray_is_closed(installed):
    pinned = pins("requirements.lock", "requirements-dev.lock", "requirements-ray.lock")
    assert open_ends(project("dev", "ray"), pinned, distributions(path=[str(installed), *sys.path])) == []


def test_a_cluster_needs_no_tools_beside_ray(installed):
    pinned = pins("requirements.lock", "requirements-ray.lock")
    assert open_ends(project("ray"), pinned, distributions(path=[str(installed), *sys.path])) == []


def test_neither_the_bytes_moved_nor_the_memory_of_the_stage_grow_with_k(workspace, record_property):
    costs = {}
    for k in (5, 20):
        made, before = workspace(noise, k), moved()
        stage, peaks = made.start("train", "ray", "ray", epochs=1, batch_size=2048), {}
        while stage.poll() is None:
            peaks |= {process: max(peaks.get(process, 0), peak(process)) for process in session(stage.pid)}
            time.sleep(0.05)
        assert stage.wait() == 0, made.log.read_text()
        costs[k] = moved() - before, peaks[stage.pid], max(peaks.values())  # the most: of what speaks to Ray
        record_property(f"moved, peak of the stage and of its process, k = {k}", costs[k])
    images_once = 10_000 * 28 * 28
    assert costs[5][0] > images_once
    assert [more - less < images_once for less, more in zip(costs[5], costs[20], strict=True)] == [True] * 3


@pytest.fixture(scope="module")
def without_ray(prepared):
    """Give a workspace after a long run on this machine alone, whose folds are forgotten."""
    made = prepared(digits)
    made.run("train", "loky", "loky", epochs=LONG)
    shutil.rmtree(made.folder / ".fold_store", ignore_errors=True)
    return made


@pytest.fixture
def long_run(without_ray, cluster, tmp_path):
    """Start a run after one of the same on this machine.

    Its folds take several seconds, more than the nodes' workers start after one another: else those of two nodes could
    finish all folds before the third has begun.
    """
    made = Workspace(shutil.copytree(without_ray.folder, tmp_path / "long"), cluster)
    cluster.start()
    return made, made.start("train", "ray", "ray", epochs=LONG)


def test_a_node_killed_while_it_trains_costs_its_own_folds_alone(long_run, cluster):
    made, stage = long_run
    wait_until(lambda: any(worker in cluster.processes(3) for _, worker in made.told()), 100, made.log)
    there = cluster.processes(3)
    cluster.kill(3)
    finished = made.finished()
    assert stage.wait(200) == 0, made.log.read_text()
    lost = {fold for fold, worker in made.told() if worker in there} - finished
    trained_twice = {fold for fold in range(5) if len({worker for other, worker in made.told() if other == fold}) == 2}
    assert trained_twice == lost != set(), made.log.read_text()
    assert made.content("ray") == made.content("loky")


def test_a_lost_head_is_told_in_a_line_and_the_next_run_resumes(long_run, cluster):
    made, stage = long_run
    wait_until(made.finished, 100, made.log)
    cluster.kill(1)
    assert stage.wait(100) == 1
    assert re.findall(r"^train: .*", made.log.read_text(), re.MULTILINE)[1:] == [
        f"train: the Ray cluster, whose head was {cluster.address}, is lost: "
        "start it again; what is finished is kept, `dvc repro` goes on from there"
    ]
    made.run("train", "ray", "loky", epochs=LONG)
    assert re.search(r"[1-4] of 5 folds are from the fold store", made.log.read_text())
    assert made.content("ray") == made.content("loky")


def test_ctrl_c_ends_the_run_with_one_line(long_run, cluster):
    made, stage = long_run
    wait_until(made.told, 100, made.log)
    os.killpg(stage.pid, signal.SIGINT)
    assert stage.wait(30) == 130
    assert made.log.read_text().count("train: interrupted") == 1
    assert not session(stage.pid)
