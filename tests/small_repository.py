"""A small repository with DVC, made without running a stage: results are written, then recorded by `dvc commit`."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from dvc.repo import Repo
from scipy.special import log_softmax

from foldwise.base import files
from foldwise.base.params import CV
from foldwise.data import folds
from foldwise.evaluation import scores

PIPELINE = """\
stages:
  normalize:
    cmd: python code.py --normalized data/normalized
    params: [data]
    outs: [data/normalized]
  split:
    cmd: python code.py --normalized data/normalized --folds data/folds
    deps: [data/normalized]
    params: [cv]
    outs: [data/folds]
  train:
    cmd: python code.py --folds data/folds --models models
    deps: [code.py, data/folds]
    params: [train.seed, train.skill]
    outs: [models]
  evaluate:
    cmd: >-
      python code.py --normalized data/normalized --folds data/folds --models models --predictions predictions
      --scores scores
    deps: [code.py, data/normalized, data/folds, models]
    outs: [predictions, scores]
"""
PARAMS = {
    "data": {"images": 60},
    "cv": {"k": 5, "strategy": "stratified", "repeats": 1, "seed": 42, "groups": "together", "copies": "together"},
    "train": {"seed": 0, "skill": 2.0},
}
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    **{f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


class SmallRepository:
    """Writes, records and commits runs in `root`."""

    def __init__(self, root):
        self.root = root

    def git(self, *words):
        done = subprocess.run(
            ["git", *words], cwd=self.root, env=ENVIRONMENT, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def write(self, changes=None):
        """Write parameters and the results that come of them: write({"cv": {"k": 4}})."""
        changes = changes or {}
        params = {section: PARAMS.get(section, {}) | changes.get(section, {}) for section in {**PARAMS, **changes}}
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        for folder in ("data", "models", "predictions", "scores"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        random = np.random.default_rng(params["train"]["seed"])
        labels = np.arange(params["data"]["images"], dtype=np.int64) % 3
        cv = CV(**params["cv"])
        assignments = folds.assign(labels, cv)
        logits = random.normal(size=(cv.repeats, len(labels), 3)) + params["train"]["skill"] * np.eye(3)[labels]
        out_of_fold = log_softmax(logits, axis=-1).astype(np.float32)
        rows = []
        for fold in np.ndindex(cv.repeats, cv.k):
            held_out = assignments[fold[0]] == fold[1]
            predictions = out_of_fold[fold[0], held_out], labels[held_out]
            rows.append(scores.of_model(folds.Fold(*fold), predictions, predictions)["folds"])
        files.write_array(self.root / "data/normalized/train_labels.npy", labels)
        folds.save(self.root / "data/folds", assignments, cv)
        files.write_json(self.root / "models/model.json", params["train"])
        files.write_array(self.root / "predictions/out_of_fold.npy", out_of_fold)
        files.write_csv(self.root / "scores/folds.csv", pd.concat(rows))

    def record(self):
        """Record what lies in the workspace in `dvc.lock` and in the cache."""
        with contextlib.chdir(self.root), Repo() as repo:
            repo.commit(force=True)

    def commit(self, changes=None):
        """Write a run, record it, and commit it to Git; gives the commit."""
        self.write(changes)
        self.record()
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a run")
        return self.git("rev-parse", "HEAD")

    def judge_by(self, primary, changes=None):
        """Commit a run with a last stage that depends on the primary score."""
        pipeline = yaml.safe_load(PIPELINE)
        pipeline["stages"]["aggregate"] = {"cmd": "python code.py", "deps": ["scores"], "params": ["evaluate.primary"]}
        (self.root / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
        self.commit({**(changes or {}), "evaluate": {"primary": primary}})

    def experiment(self, name, changes):
        """Store a run as `dvc exp run --name` does, and bring the workspace back."""
        baseline = self.git("rev-parse", "HEAD")
        made = self.commit(changes)
        self.git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", made)
        self.git("reset", "--quiet", "--hard", baseline)
        with contextlib.chdir(self.root), Repo() as repo:
            repo.checkout(force=True)

    def add_remote(self, folder):
        """Set a local default remote, in the workspace's settings alone."""
        settings = self.root / ".dvc/config"
        text = settings.read_text().replace("[core]", "[core]\n    remote = store")
        settings.write_text(f"{text}['remote \"store\"']\n    url = {folder}\n")

    def snapshot(self):
        """All that the user could miss: every file but Git's and DVC's own, what Git says of them, and all refs."""
        content = {
            path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in self.root.rglob("*")
            if path.is_file() and path.relative_to(self.root).parts[0] not in (".git", ".dvc")
        }
        settings = {path: path.read_bytes() for path in (self.root / ".dvc").glob("*") if path.is_file()}
        return content, settings, self.git("status", "--porcelain"), self.git("for-each-ref")


def build(root):
    """Make a repository with one run on `main`, and experiments of another seed, of less skill and of four folds."""
    root.mkdir()
    small = SmallRepository(root)
    small.git("init", "--quiet", "--initial-branch=main", ".")
    Repo.init(str(root)).close()
    site = root.with_name(f"{root.name}-site")
    (root / ".dvc/config").write_text(
        f"[core]\n    analytics = false\n    check_update = false\n    site_cache_dir = {site}\n"
    )
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "code.py").write_text("print()\n")
    (root / ".gitignore").write_text("/data\n/models\n/predictions\n/scores\n")
    small.commit()
    small.experiment("seed-1", {"train": {"seed": 1}})
    small.experiment("unskilled", {"train": {"skill": 0.5}})
    small.experiment("four", {"cv": {"k": 4}})
    return small


def copy(tmp_path_factory, to):
    """Give a test a repository of its own."""
    pristine = tmp_path_factory.getbasetemp() / "small-repository"
    if not pristine.exists():
        build(pristine)
    shutil.copytree(pristine, to, symlinks=True)
    return SmallRepository(to)
