"""Runs made up in memory: twelve answers a fold, and scores as told, as if of a thousand."""

import numpy as np
import pandas as pd

from foldwise.base.params import CV
from foldwise.compare import runs
from foldwise.data import folds
from foldwise.evaluation.results import HeldOut
from foldwise.evaluation.scores import SCORES

SIZE = 1000
DIGESTS = {"normalized": "n", "folds": "f", "predictions": "p", "scores": "s"}


def run(accuracies, name="a", repeats=1, seed=0, **changes):
    """Make a run of so many folds; all other scores are the accuracy's, unless `scores` has a column of them.

    Answers are random but for `out_of_fold`; `primary`, `parameters`, `sources`, `digests`, `changed`, `libraries` and
    `unpinned` are as told.
    """
    k = len(accuracies) // repeats
    labels = np.arange(k * 12, dtype=np.int64) % 3
    together = {"groups": "together", "copies": "together"}
    cv = CV(k=k, strategy="stratified", repeats=repeats, seed=changes.get("cv_seed", 42), **together)
    assignments = folds.assign(labels, cv)
    digest = folds.digest(assignments)
    described = folds.Description(strategy=cv.strategy, k=k, repeats=repeats, seed=cv.seed, sha256=digest)
    places = list(np.ndindex(repeats, k))
    table = pd.DataFrame(places, columns=["repeat", "fold"]).assign(n=SIZE)
    for score in SCORES:
        table[score] = changes.get("scores", {}).get(score, accuracies)
    noise = np.random.default_rng(seed).normal(size=(repeats, len(labels), 3)).astype(np.float32)
    return runs.Run(
        name=name,
        commit=changes.get("commit"),
        parameters=changes.get("parameters", {}),
        sources=changes.get("sources", {}),
        digests=DIGESTS | {"predictions": name} | changes.get("digests", {}),
        changed=changes.get("changed", ()),
        libraries=changes.get("libraries", {}),
        unpinned=changes.get("unpinned", ""),
        results=HeldOut(
            folds=folds.Folds(assignments, described),
            labels=labels,
            out_of_fold=changes.get("out_of_fold", noise),
            scores=table,
            primary=SCORES[changes.get("primary", "accuracy")],
        ),
    )
