"""A copy of the checkout in which parameters are changed and stages run, so that the checkout stays as it is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from shared import NORMALIZED, SEED, TORCHVISION, K, recipe

# What all are compared on, whatever stands in params.yaml.
SAME_FOR_ALL = recipe("default") | {
    "data.name": "mnist",
    "data.subset": None,
    "cv.k": K,
    "cv.strategy": "stratified",
    "cv.repeats": 1,
    "cv.seed": SEED,
    # What the default leaves open, as it fills it in for these images and this network.
    "train.batch_size": 256,
    "train.freeze_first_layer_after": 1,
    "compute.device": "cpu",
    "compute.backend": "loky",
    "compute.n_jobs": -1,
    "compute.reuse_folds": False,
}


def changed(params: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Give the content of params.yaml with some parameters changed, named as in `-S`."""
    result = {section: dict(content) for section, content in params.items()}
    for name, value in parameters.items():
        section, parameter = name.split(".")
        result[section][parameter] = value
    return result


class Workspace:
    """A copy of the checkout with the data of the comparison.

    `dvc` and `python` are those of the environment that runs the benchmarks, the package is the copy's own.
    """

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.folder = folder
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=checkout, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (checkout / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(checkout / name, folder / name)
        (folder / "dvc.lock").unlink(missing_ok=True)
        path = [str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment = os.environ | {"PATH": os.pathsep.join(path), "PYTHONPATH": str(folder / "src")}
        if (checkout / "data/raw").is_dir():
            self.environment.setdefault("FOLDWISE_MIRROR", str(checkout / "data/raw"))
        self.change(SAME_FOR_ALL)
        self.run("git init -q && git add -A && dvc repro -q split features")
        (folder / TORCHVISION / "MNIST").mkdir(parents=True)
        (folder / TORCHVISION / "MNIST/raw").symlink_to(folder / "data/raw/mnist")

    def change(self, parameters: dict[str, Any]) -> None:
        """Set parameters in the copy's params.yaml."""
        path = self.folder / "params.yaml"
        path.write_text(yaml.safe_dump(changed(yaml.safe_load(path.read_text()), parameters), sort_keys=False))

    def command(self, stage: str) -> str:
        """Give the command of a stage as it stands in dvc.yaml."""
        stages = yaml.safe_load((self.folder / "dvc.yaml").read_text())["stages"]
        return str(stages[stage]["cmd"])

    def run(self, *commands: str) -> None:
        """Run commands untimed."""
        for command in commands:
            done = subprocess.run(
                command, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(f"benchmarks: `{command}` failed:\n{done.stdout}{done.stderr}")

    def deal(self, parameters: dict[str, Any]) -> None:
        """Set parameters of data and folds, and make both anew, without DVC."""
        self.change(parameters)
        self.run(self.command("normalize"), self.command("split"))

    @property
    def n_images(self) -> int:
        """Training images in the data as it is now."""
        return int(json.loads((self.folder / NORMALIZED / "meta.json").read_text())["n_train"])

    @property
    def train(self) -> dict[str, Any]:
        """The recipe in params.yaml."""
        return dict(yaml.safe_load((self.folder / "params.yaml").read_text())["train"])
