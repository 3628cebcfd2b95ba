"""Decide, for each repeat, in which fold each training image is held out, and audit the data."""

from pathlib import Path

import numpy as np

from foldwise.base import console, files
from foldwise.base.params import Params
from foldwise.data import audit, images
from foldwise.data.folds import assign, given, save
from foldwise.data.units import connected


def split(params: Params, *, normalized: Path, folds: Path) -> None:
    """Deal the training images to folds, and say what is wrong with them."""
    cv, data = params.cv, images.load(normalized)
    tables = images.load_tables(normalized, data)
    known = audit.Known.of(data, tables)
    labels = data.train_labels
    units = connected(known.groups, known.copies)
    together = connected(
        *(kind for kind, kept in ((known.groups, cv.groups), (known.copies, cv.copies)) if kept == "together"),
        np.full(len(units), -1),
    )[: len(labels)]
    assignments = given(known.given, cv) if cv.strategy == "given" else assign(labels, cv, together)
    kept = audit.kept(known, assignments)
    save(folds, assignments, cv, units, kept)
    findings = audit.audit(data, known, assignments, cv)
    files.write_json(folds / "audit.json", audit.content(findings, data, known))
    dealt = f"{cv.repeats} x {cv.k} folds, {cv.strategy}, seed {cv.seed}"
    if kept:
        dealt += ", " + ", ".join(f"{name} {how}" for name, how in kept.items())
    console.say(f"split: {len(labels)} training images into {dealt}")
    for line in audit.lines(findings, data, known):
        console.say(f"split: {line}")
