"""Put the folds together: the headline numbers, the tables behind the plots, and the pictures."""

from pathlib import Path

import numpy as np

from foldwise import console, files
from foldwise.folds import load as load_folds
from foldwise.images import load as load_images
from foldwise.params import Params
from foldwise.summary import describe, summarize
from foldwise.tables import Results, tables


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
    dealt = load_folds(folds, len(data.train_labels))
    results = Results(
        files.read_csv(curves / "epochs.csv", ["repeat", "fold", "epoch"]),
        files.read_csv(curves / "steps.csv", ["repeat", "fold", "step", "loss"]),
        files.read_csv(scores / "folds.csv", ["repeat", "fold", "accuracy"]),
        dealt.assignments,
        data.train_labels,
        data.classes,
        files.read_array(predictions / "out_of_fold.npy", np.float32, 3),
        files.read_array(predictions / "test.npy", np.float32, 3),
        data.test_labels,
    )
    summary = summarize(results)
    files.write_json(metrics, summary)
    for name, table in tables(results).items():
        files.write_csv(plots / f"{name}.csv", table)
    console.say(describe(summary))


if __name__ == "__main__":
    console.run(aggregate)
