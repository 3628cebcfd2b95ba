"""Train one model per fold, many folds at a time."""

from foldwise.base import startup

if __name__ == "__main__":
    startup.begin()

from pathlib import Path

import pandas as pd

from foldwise.base import console, files, libraries
from foldwise.base.params import Params
from foldwise.data.folds import load as load_folds
from foldwise.data.images import load as load_images
from foldwise.execution import engine
from foldwise.execution.crossvalidation import EPOCH_COLUMNS, TrainFold, model_path
from foldwise.execution.scratch import Scratch


def train(
    params: Params,
    *,
    normalized: Path,
    folds: Path,
    weights: Path,
    requirements: Path,
    scratch: Path,
    models: Path,
    curves: Path,
) -> None:
    """Write each fold's model, the learning curves, and the versions of the libraries that made them."""
    data = load_images(normalized)
    dealt = load_folds(folds, len(data.train_labels))
    start = files.read_arrays(weights)
    recipe = params.train, params.model, params.normalize, params.compute.rounding
    kept = Scratch.of(scratch, data.train_images, data.train_labels, dealt.assignments, *start.values(), *recipe)
    kept.clear_if_recorded()
    console.say(f"train: {params.model.name}, {len(dealt)} folds, {params.train.epochs} epochs")
    versions = libraries.installed()
    if other := libraries.unlike(versions, requirements.read_text(encoding="utf-8")):
        console.say(f"train: {other}: numbers may differ; `make -B .venv/installed` brings what is pinned")
    task = TrainFold(data, dealt, params, start, kept)
    epochs, steps = [], []
    with files.writing(models) as temporary:
        for fold, arrays in engine.run(task, list(dealt), params.compute, kept, task.costs):
            rows = pd.DataFrame(arrays.pop("epochs"), columns=EPOCH_COLUMNS).astype({"epoch": int})
            losses = pd.DataFrame({"step": range(1, len(arrays["losses"]) + 1), "loss": arrays.pop("losses")})
            epochs.append(rows.assign(**fold._asdict()))
            steps.append(losses.assign(**fold._asdict()))
            files.write_arrays(model_path(temporary, fold), arrays)
    for name, tables, columns in (("epochs", epochs, EPOCH_COLUMNS), ("steps", steps, ("step", "loss"))):
        table = pd.concat(tables)[["repeat", "fold", *columns]].sort_values(["repeat", "fold", columns[0]])
        files.write_csv(curves / f"{name}.csv", table)
    files.write_json(curves / "libraries.json", versions)
    kept.end()


if __name__ == "__main__":
    console.run(train)
