"""Foldwise beside what a user would pick instead: one run, one machine, one table.

All are run in turn, as fresh processes, on the same MNIST and the same five stratified folds, in a copy of the
checkout. Figures of one run can be compared; those of different runs only where the machine was as quiet in both.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import report
from measure import Measured, measure
from report import Entry, Growth, Parts
from shared import K
from workspace import SAME_FOR_ALL, Workspace

from foldwise.base.params import Train
from foldwise.learning.selection import images_by_epoch

HERE = Path(__file__).resolve().parent
ENTRIES = {
    "a": (
        "textbook loop",
        "textbook.py",
        "`recipes/simple_cnn`, batches from a `TensorDataset` through a `DataLoader`. One process on all cores, a look "
        "at the held-out fold only at the end.",
    ),
    "b": (
        "classic loop",
        "classic.py",
        "`recipes/cnn` without its augmentation; torchvision's `MNIST` decodes and normalises image by image. One "
        "process on all cores, a look at the held-out fold only at the end.",
    ),
    "c1": (
        "skorch, n_jobs=1",
        "skorch_cv.py --n-jobs 1",
        "skorch's `NeuralNetClassifier` in scikit-learn's `cross_validate`: Foldwise's network, optimiser, schedule, "
        "batch size, epochs and precision, and its augmentation, a batch at a time. Internal validation and logging "
        "are off, as skorch's page on performance advises. One process on all cores, a look at the held-out fold only "
        "at the end.",
    ),
    "c2": (
        "skorch, n_jobs=2",
        "skorch_cv.py --n-jobs 2",
        "The same, two folds at a time; joblib leaves each its share of the cores.",
    ),
    "d": (
        "Lightning Fabric's k-fold way",
        "fabric_kfold.py",
        "Foldwise's network and recipe in the way of Fabric's k-fold example: torchvision's `MNIST` with transforms "
        "image by image, all models at once, epochs outside and folds inside. One process on all cores, a look at the "
        "held-out fold after each epoch.",
    ),
    "e": (
        "Foldwise",
        "foldwise_train.py",
        "`recipes/default`, the `train` stage as `dvc repro` runs it, DVC's own time included. One worker and one "
        "thread a core, a look at a third of the held-out fold after each epoch and at all of it at the end, curves "
        "and models written; normalisation constants from each fold's own images, where b, c and d take the data set's "
        "and a none; channels-last memory, and freed memory kept, neither of which the others ask for. Median of its "
        "runs, each with another `train.seed`.",
    ),
    "f": (
        "Foldwise, all images and layers",
        "foldwise_train.py",
        "The same with `train.importance_sampling: 1`, `train.freeze_first_layer_after: 0` and "
        "`train.clean_epochs: 0`, because skorch and Fabric take all images, train all layers and augment in "
        "each epoch: what they are held against.",
    ),
}
# Foldwise's own runs are spread over the whole time, so that a machine that slows down or speeds up does not favour it.
ORDER = ["e", "a", "e", "b", "c1", "f", "e", "c2", "d", "f", "e"]
QUICK_EPOCHS = 2
ONE_EPOCH = "One epoch of the train stage without DVC, start-up included.\n"
LIBRARIES = ["torch", "torchvision", "numpy", "scikit-learn", "joblib", "dvc", "skorch", "lightning-fabric"]


def compete(workspace: Workspace, keys: list[str], quick: bool) -> list[Entry]:
    """Run all entries in turn."""
    full = {"train.importance_sampling": 1, "train.freeze_first_layer_after": 0, "train.clean_epochs": 0}
    own = {parameter: SAME_FOR_ALL[parameter] for parameter in full}
    entries = {key: Entry(key, name, difference) for key, (name, _, difference) in ENTRIES.items() if key in keys}
    if quick:
        workspace.change({"train.epochs": QUICK_EPOCHS})
    for key in dict.fromkeys(ORDER) if quick else ORDER:
        if key not in keys:
            continue
        entry = entries[key]
        script, *options = ENTRIES[key][1].split()
        if key in "ef":
            # Another seed, so that DVC has something to do.
            workspace.change({"train.seed": len(entry.runs)} | (own if key == "e" else full))
        elif quick:
            options += ["--folds", "1", "--epochs", str(QUICK_EPOCHS)]
            entry.folds = 1
        command = [sys.executable, str(HERE / script), *options]
        entry.runs.append(timed(command, workspace))
        if key in "ef":
            check_trained(entry.runs[-1])
        say(f"{key}. {entry.name}", entry.runs[-1], f"accuracy {100 * entry.runs[-1].accuracy:.2f} %")
    workspace.change(own)
    return list(entries.values())


def take_apart(workspace: Workspace, quick: bool) -> tuple[Parts, list[Growth], list[Growth]]:
    """Measure the parts of the train stage, and its growth with k and with the number of images."""
    less = ["--quick"] if quick else []
    train = workspace.train
    from foldwise.learning.training import WATCHED  # loads PyTorch, which must not be there while the others are timed

    evaluate = _stage(workspace, "evaluate")
    say("evaluate stage", evaluate)
    rates = {}
    for part in ("steps", "workers"):
        run = timed([sys.executable, str(HERE / "parts.py"), part, *less], workspace)
        rates |= json.loads(run.output.splitlines()[-1])
        say(part, run)
    n = workspace.n_images
    of_fold = n * (K - 1) // K
    sizes = [images / of_fold for images in images_by_epoch(Train(**train), of_fold)]
    free = sizes[: train["freeze_first_layer_after"] or None]
    watched = min(WATCHED, n // K)

    # Next to nothing to train: what is left is what each run of the stage costs. As many folds as workers.
    workspace.change({"data.subset": 500, "cv.k": 2, "train.epochs": 1})
    workspace.run("dvc repro -q split features")
    direct, with_dvc = [], []
    for seed in range(1 if quick else 3):
        direct.append(_stage(workspace, "train"))
        workspace.change({"train.seed": 100 + seed})  # one not used above, or finished folds would be taken over
        with_dvc.append(timed("dvc repro train", workspace))
        check_trained(with_dvc[-1])
        say("stage with nothing to train, without DVC", direct[-1])
        say("stage with nothing to train, with DVC", with_dvc[-1])
    start_up = statistics.median(run.seconds for run in direct)
    parts = Parts(
        **rates,
        start_up=start_up,
        dvc=statistics.median(run.seconds for run in with_dvc) - start_up,
        evaluate=evaluate.seconds,
        trained=round(n * (K - 1) * sum(free)),
        trained_frozen=round(n * (K - 1) * (sum(sizes) - sum(free))),
        predicted=watched * K * (train["epochs"] - 1) + n,
        cores=cores(),
    )
    images = [2000, 4000] if quick else [15000, 30000, None]
    by_k = [_grown(workspace, k, images[-1], of="k") for k in ([2, 5] if quick else [2, 5, 10, 20])]
    by_n = [_grown(workspace, K, size, of="n") for size in images]
    return parts, by_k, by_n


def timed(command: list[str] | str, workspace: Workspace) -> Measured:
    """Measure a command once its libraries have been read: a cold disk is not what is compared."""
    workspace.run(f'"{sys.executable}" -c "import dvc.repo, pandas, sklearn.model_selection, torchvision"')
    return measure(command, workspace.folder, workspace.environment)


def check_trained(run: Measured) -> None:
    """Make sure that DVC ran the stage, and did not take its results from the cache."""
    if "Running stage 'train'" not in run.output:
        sys.exit(f"benchmarks: `dvc repro train` trained nothing:\n{run.output}")


def _stage(workspace: Workspace, stage: str) -> Measured:
    return timed(workspace.command(stage), workspace)


def _grown(workspace: Workspace, k: int, subset: int | None, of: str) -> Growth:
    workspace.deal({"cv.k": k, "data.subset": subset})
    run, n = _stage(workspace, "train"), workspace.n_images
    say(f"train stage, one epoch, {k} folds, {n} images", run)
    return Growth(k if of == "k" else n, n * (k - 1), run)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, str]:
    """Where, when and with what."""
    model = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        lines = (line.partition(":") for line in listed.read_text().splitlines())
        model = next((value.strip() for name, _, value in lines if name.strip() == "model name"), model)
    versions = [f"Python {platform.python_version()}"]
    for library in LIBRARIES:
        try:
            versions.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            continue
    return {
        "machine": f"{model}, {cores()} cores, {platform.system()} {platform.machine()}",
        "versions": ", ".join(versions),
        "date": datetime.now(UTC).date().isoformat(),
    }


def say(what: str, run: Measured, more: str = "") -> None:
    """Print one line of progress."""
    print(f"{what}: {run.seconds:.1f} s, {run.memory:.0f} MB {more}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one fold and few epochs of each; writes nothing")
    parser.add_argument("--only", nargs="+", choices=list(ENTRIES), metavar="ROW", help="some rows; writes nothing")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="foldwise-bench-") as folder:
        workspace = Workspace(HERE.parent, Path(folder))
        entries = compete(workspace, options.only or list(ENTRIES), options.quick)
        sections = {"Side by side": report.side_by_side(entries) + "\n" + report.differences(entries)}
        if not options.only:
            parts, by_k, by_n = take_apart(workspace, options.quick)
            sections["Where the time goes"] = report.parts(parts)
            sections["Growth"] = "\n".join([ONE_EPOCH, report.growth("folds", by_k), report.growth("images", by_n)])
    if options.only or options.quick:
        print(report.joined(sections))
        return
    ours = next(entry for entry in entries if entry.key == "e")
    sections["Where the time goes"] += "\n" + report.budget(ours.seconds, parts)
    sections["What must hold"] = report.aims(entries, parts, by_k)
    page = report.document(sections, machine(), (time.monotonic() - started) / 60)
    print(page)
    (HERE / "RESULTS.md").write_text(page)


if __name__ == "__main__":
    main()
