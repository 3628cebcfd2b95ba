"""Runs made up in memory: a thousand answers a fold, so many of them right as is told."""

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

    Which answers are right is random, by `seed`, but for `out_of_fold`; `primary`, `parameters`, `sources`, `digests`,
    `changed`, `libraries` and `unpinned` are as told.
    """
    k = len(accuracies) // repeats
    labels = np.arange(k * SIZE, dtype=np.int64) % 3
    together = {"groups": "together", "copies": "together"}
    cv = CV(k=k, strategy="stratified", repeats=repeats, seed=changes.get("cv_seed", 42), **together)
    assignments = folds.assign(labels, cv)
    digest = folds.digest(assignments)
    described = folds.Description(strategy=cv.strategy, k=k, repeats=repeats, seed=cv.seed, sha256=digest)
    places = list(np.ndindex(repeats, k))
    table = pd.DataFrame(places, columns=["repeat", "fold"]).assign(n=SIZE)
    for score in SCORES:
        table[score] = changes.get("scores", {}).get(score, accuracies)
    right = np.zeros(assignments.shape, bool)
    random = np.random.default_rng(seed)
    for (repeat, fold), accuracy in zip(places, accuracies, strict=True):
        held_out = random.permutation(np.flatnonzero(assignments[repeat] == fold))
        right[repeat, held_out[: round(accuracy * SIZE)]] = True
    sure = np.log(0.5 + 0.4 * random.random(assignments.shape))
    answers = np.repeat(np.log((1 - np.exp(sure)) / 2)[..., np.newaxis], 3, axis=2)
    np.put_along_axis(
        answers, np.where(right, labels, (labels + 1) % 3)[..., np.newaxis], sure[..., np.newaxis], axis=2
    )
    return runs.Run(
        name=name,
        commit=changes.get("commit"),
        parameters=changes.get("parameters", {}),
        sources=changes.get("sources", {}),
        digests=DIGESTS | {"predictions": name} | changes.get("digests", {}),
        changed=changes.get("changed", ()),
        libraries=changes.get("libraries", {}),
        unpinned=changes.get("unpinned", ""),
        classes=("first", "second", "third"),
        results=HeldOut(
            folds=folds.Folds(assignments, described),
            labels=labels,
            out_of_fold=changes.get("out_of_fold", answers.astype(np.float32)),
            scores=table,
            primary=SCORES[changes.get("primary", "accuracy")],
        ),
    )
