"""A copy of the repository in which tests run DVC for real, on scikit-learn's digits and with a recipe of seconds."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

RECIPE = {
    "data.name": "digits",
    "data.subset": 300,
    "cv.k": 5,
    "model.name": "simple_cnn",
    "train.epochs": 2,
    "train.batch_size": 16,
    "train.optimizer": "muon",
    "train.lr": 0.01,
    "train.weight_decay": 0,
    "train.schedule": "constant",
    "train.label_smoothing": 0,
    "train.augment": "none",
    "compute.n_jobs": 2,
}
# What a run leaves to Git, and what it leaves to DVC's cache.
TRACKED = ("dvc.lock", "metrics", "plots")
CACHED = ("data", "models", "curves", "predictions", "scores", "model")
# What would make a run of the tests depend on who runs them, or write coverage of the copy.
FOREIGN = ("COV", "DVC", "FOLDWISE", "GIT", "MKL", "OMP", "OPENBLAS", "PYTEST", "PYTHON")


class Clone:
    """A repository of its own, with DVC's cache, settings and state beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        for role in ("AUTHOR", "COMMITTER"):
            self.env |= {f"GIT_{role}_NAME": "a tester", f"GIT_{role}_EMAIL": "tester@example.org"}
        for place in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
            self.env[f"DVC_{place}_DIR"] = str(root.with_name(f"{root.name}-dvc") / place.lower())

    @classmethod
    def of_the_working_tree(cls, root: Path) -> "Clone":
        """Copy what Git tracks, or would, with the tests' recipe, and commit it."""
        clone = cls(root)
        for name in listed():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        clone.turn(RECIPE)
        clone.git("init", "--quiet", "--initial-branch=main")
        clone.commit()
        return clone

    def copy(self, root: Path) -> "Clone":
        """Copy it as it stands, DVC's cache included."""
        shutil.copytree(self.root, root, symlinks=True)
        return Clone(root)

    def run(self, *command: str, status: int | None = 0, timeout: float = 600, **env: str) -> str:
        """Run a command, check its exit status (None: whatever it is) and give all that it printed."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert status is None or done.returncode == status, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def dvc(self, *arguments: str, **options) -> str:
        """Run a command of DVC's."""
        return self.run("dvc", *arguments, **options)

    def git(self, *arguments: str, **options) -> str:
        """Run a command of Git's."""
        return self.run("git", *arguments, **options)

    def commit(self) -> None:
        """Commit all that Git does not ignore."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "as it stands")

    def turn(self, parameters: dict[str, object]) -> None:
        """Change parameters in `params.yaml` as a person does: the value, and nothing else on the line."""
        path = self.root / "params.yaml"
        lines = path.read_text(encoding="utf-8").splitlines()
        for parameter, value in parameters.items():
            section, _, name = parameter.partition(".")
            start = lines.index(f"{section}:")
            at = next(at for at in range(start, len(lines)) if lines[at].startswith(f"  {name}:"))
            _, mark, comment = lines[at].partition("#")
            changed = f"  {name}: {'' if value is None else value}".rstrip()
            lines[at] = f"{changed} ".ljust(lines[at].find("#")) + mark + comment if mark else changed
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def params(self) -> bytes:
        """What `params.yaml` holds."""
        return (self.root / "params.yaml").read_bytes()

    def content(self, *names: str) -> dict[str, bytes]:
        """Read all files under some names, by default all that a run makes."""
        tops = [self.root / name for name in names or TRACKED + CACHED]
        paths = [path for top in tops for path in (top, *top.rglob("*"))]
        return {str(path.relative_to(self.root)): path.read_bytes() for path in paths if path.is_file()}

    def made(self) -> dict[str, bytes]:
        """Read all that a run makes, but for the record of `check`, which changes with every parameter."""
        content = self.content()
        record = yaml.safe_load(content["dvc.lock"])
        record["stages"].pop("check", None)
        return content | {"dvc.lock": yaml.safe_dump(record).encode()}

    def cached_runs(self, stage: str) -> list[Path]:
        """Find the entries of DVC's run-cache for a stage."""
        entries = filter(Path.is_file, (self.root / ".dvc" / "cache" / "runs").rglob("*"))
        return [entry for entry in entries if f" stages/{stage}.py " in yaml.safe_load(entry.read_text())["cmd"]]

    def finished(self) -> set[str]:
        """Name the folds that the store holds as finished."""
        whole = self.root.glob(".fold_store/repeat-*.finished")
        return {"{}.{}".format(*re.findall(r"\d+", path.name)) for path in whole}

    def processes(self) -> list[psutil.Process]:
        """Find what still runs in it."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(self.root):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    @contextmanager
    def running(self, *command: str) -> Iterator["Running"]:
        """Start a command as the leader of a process group, as a shell does; what is left at the end is killed."""
        log = self.root.with_name(f"{self.root.name}-{time.monotonic_ns()}.log")
        with log.open("w") as file:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Running(process, log)
        finally:
            for left in self.processes():
                left.kill()
            process.wait()


class Running:
    """A command that runs beside the test."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def told(self) -> str:
        """All that it has printed so far."""
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str, timeout: float = 300) -> None:
        """Wait until it has printed something."""
        end = time.monotonic() + timeout
        while text not in self.told:
            assert time.monotonic() < end, f"no {text!r} in time:\n{self.told}"
            assert self.process.poll() is None or text in self.told, f"ended without {text!r}:\n{self.told}"
            time.sleep(0.005)

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End the whole group at once."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def workers(self) -> list[psutil.Process]:
        """Find joblib's workers."""
        return self._below("popen_loky")

    def stages(self) -> list[psutil.Process]:
        """Find the processes of stages; one that ends has no command line any more."""
        return self._below("stages/")

    def _below(self, word: str) -> list[psutil.Process]:
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in below if any(word in part for part in command_of(process))]


def command_of(process: psutil.Process) -> list[str]:
    """Give a process's command line, empty if it has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def listed() -> list[str]:
    """Name the files that Git tracks, or would."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [name for name in names if (ROOT / name).is_file()]


def trained(told: str) -> list[str]:
    """Name the folds whose last epoch a run has told of, once for each time."""
    lines = re.findall(r"repeat (\d+) fold (\d+) .*epoch (\d+)/(\d+) ", told)
    return [f"{repeat}.{fold}" for repeat, fold, epoch, epochs in lines if epoch == epochs]


def ran(told: str) -> list[str]:
    """Name the stages that DVC has run."""
    return re.findall(r"Running stage '(\w+)'", told)
