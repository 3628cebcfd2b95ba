"""Put the folds together: the headline numbers, the tables behind the plots, and the pictures."""

from pathlib import Path

import numpy as np

from foldwise.base import console, files
from foldwise.base.params import Params
from foldwise.data.folds import load as load_folds
from foldwise.data.images import load as load_images
from foldwise.data.images import load_tables
from foldwise.evaluation import plots as pictures
from foldwise.evaluation.findings import findings
from foldwise.evaluation.headline import describe
from foldwise.evaluation.results import Results
from foldwise.evaluation.scores import SCORES
from foldwise.evaluation.summary import recalibrate, summarize
from foldwise.evaluation.tables import tables

CURVES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


def aggregate(
    params: Params,
    *,
    normalized: Path,
    folds: Path,
    curves: Path,
    predictions: Path,
    scores: Path,
    metrics: Path,
    plots: Path,
) -> None:
    """Write the metrics and the plots, and print the summary."""
    data = load_images(normalized)
    known = load_tables(normalized, data)
    on_test = ["test_accuracy"] if len(data.test_labels) else []
    results = Results(
        folds=load_folds(folds, len(data.train_labels)),
        labels=data.train_labels,
        out_of_fold=files.read_array(predictions / "out_of_fold.npy", np.float32, 3),
        scores=files.read_csv(scores / "folds.csv", ["repeat", "fold", "n", *SCORES, *on_test]),
        epochs=files.read_csv(curves / "epochs.csv", ["repeat", "fold", "epoch", *CURVES]),
        steps=files.read_csv(curves / "steps.csv", ["repeat", "fold", "step", "loss"]),
        classes=data.classes,
        test=files.read_array(predictions / "test.npy", np.float32, 3, may_be_empty=True),
        test_labels=data.test_labels,
        primary=SCORES[params.evaluate.primary],
        names=known[0]["file_name"].tolist() if known else None,
        audit=files.read_json(folds / "audit.json")["findings"],
    )
    results.check("run `dvc repro -f -s evaluate`")
    rescaled = recalibrate(results) if params.evaluate.temperature else None
    summary, frames = summarize(results, rescaled), tables(results, rescaled)
    figures = pictures.figures(results, frames, data.train_images, data.test_images)
    images = {name: pictures.png(figure) for name, figure in figures.items()}
    files.write_json(metrics, summary)
    for name, table in frames.items():
        files.write_csv(plots / f"{name}.csv", table)
    for name, image in images.items():
        files.write_bytes(plots / "images" / f"{name}.png", image)
    for line in describe(summary).splitlines():
        console.say(line)
    for line in findings(results, summary):
        console.say(f"aggregate: {line}")
