"""Train one model per fold, many folds at a time."""

from pathlib import Path

import pandas as pd

from foldwise.base import console, files, libraries
from foldwise.base.copies import shared_by_copies
from foldwise.base.params import Params
from foldwise.data.folds import load as load_folds
from foldwise.data.images import load as load_images
from foldwise.execution import engine
from foldwise.execution.fold_store import FoldStore, fold_keys
from foldwise.learning import frozen
from foldwise.learning.train_fold import EPOCH_COLUMNS, TrainFold


def train(
    params: Params,
    *,
    normalized: Path,
    folds: Path,
    weights: Path,
    features: Path,
    requirements: Path,
    store: Path,
    models: Path,
    curves: Path,
) -> None:
    """Write each fold's model, the learning curves, and the versions of the libraries that made them."""
    data = load_images(normalized)
    splits = load_folds(folds, len(data.train_labels))
    task = TrainFold(data, splits, params, files.read_arrays(weights), frozen.read(features))
    fold_store = FoldStore(shared_by_copies(store), fold_keys(splits, *task.depends_on))
    console.say(f"train: {params.model.name}, {len(splits)} folds, {params.train.epochs} epochs")
    if not params.compute.reuse_folds:
        fold_store.forget()
        console.say("train: compute.reuse_folds is false: all folds are trained anew, also after an interruption")
    versions = libraries.installed()
    if unpinned := libraries.unlike(versions, requirements.read_text(encoding="utf-8")):
        console.say(f"train: {unpinned}: numbers may differ; `make -B .venv/installed` brings what is pinned")
    epochs, steps = [], []
    with files.writing(models) as temporary:
        for fold, arrays in engine.run(task, list(splits), params.compute, store=fold_store, costs=task.costs):
            rows = pd.DataFrame(arrays.pop("epochs"), columns=EPOCH_COLUMNS).astype({"epoch": int, "kept": int})
            losses = pd.DataFrame({"step": range(1, len(arrays["losses"]) + 1), "loss": arrays.pop("losses")})
            epochs.append(rows.assign(**fold._asdict()))
            steps.append(losses.assign(**fold._asdict()))
            files.write_arrays(fold.within(temporary), arrays)
    for name, tables, columns in (("epochs", epochs, EPOCH_COLUMNS), ("steps", steps, ("step", "loss"))):
        table = pd.concat(tables)[["repeat", "fold", *columns]].sort_values(["repeat", "fold", columns[0]])
        files.write_csv(curves / f"{name}.csv", table)
    files.write_json(curves / "libraries.json", versions)
