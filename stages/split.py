"""Decide, for each repeat, in which fold each training image is held out, and audit the data."""

from pathlib import Path

from foldwise.base import console, files
from foldwise.base.params import Params
from foldwise.data import audit, images
from foldwise.data.folds import assign, given, save


def split(params: Params, *, normalized: Path, folds: Path) -> None:
    """Deal the training images to folds, and say what is wrong with them."""
    cv, data = params.cv, images.load(normalized)
    tables = images.load_tables(normalized, data)
    known = audit.Known.of(data, tables)
    labels = data.train_labels
    if cv.strategy == "given":
        assignments = given(known.given, cv)
    else:
        assignments = assign(labels, cv, known.together(cv)[: len(labels)])
    kept = audit.kept(known, assignments)
    save(folds, assignments, cv, known.units, kept)
    findings = audit.audit(data, known, assignments, cv)
    files.write_json(folds / "audit.json", audit.content(findings, data, known))
    dealt = f"{cv.repeats} x {cv.k} folds, {cv.strategy}, seed {cv.seed}"
    if kept:
        dealt += ", " + ", ".join(f"{name} {how}" for name, how in kept.items())
    console.say(f"split: {len(labels)} training images into {dealt}")
    for line in audit.lines(findings, data, known):
        console.say(f"split: {line}")
