"""Make the model to take away: one of the same recipe on all images, or the folds' models averaged; and its card."""

from pathlib import Path
from typing import TYPE_CHECKING

from foldwise.base import console, files
from foldwise.base.copies import shared_by_copies
from foldwise.base.files import Arrays
from foldwise.base.params import Params
from foldwise.delivery import card, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from foldwise.learning.train_fold import TrainFold


def final(
    params: Params,
    *,
    normalized: Path,
    folds: Path,
    weights: Path,
    features: Path,
    store: Path,
    curves: Path,
    models: Path,
    predictions: Path,
    metrics: Path,
    model: Path,
) -> None:
    """Write the model's files and its card; where no model is asked for, a page that says how to."""
    if params.final.model == "none":
        with files.writing(model) as temporary:
            files.write_bytes(temporary / card.PAGE, words.NOTHING.encode())
        return
    # Slow to load, and most runs make no model.
    import numpy as np

    from foldwise.data.folds import load as load_folds
    from foldwise.data.images import load as load_images
    from foldwise.delivery import making
    from foldwise.evaluation.scores import ensemble
    from foldwise.learning import frozen
    from foldwise.learning.train_fold import TrainFold

    data = load_images(normalized)
    splits = load_folds(folds, len(data.train_labels))
    epochs = params.train.epochs
    if params.final.model == "refit":
        if params.train.patience:
            table = files.read_csv(curves / "epochs.csv", ["epoch", "kept"])
            epochs = making.epochs_of_folds(table["epoch"][table["kept"] == 1].to_numpy())
        console.say(f"final: {params.model.name} on all {len(data.train_labels)} training images, {epochs} epochs")
        task = TrainFold(data, splits, params, files.read_arrays(weights), frozen.read(features), epochs)
        members, test = refit(task, store)
    else:
        console.say(f"final: the {len(splits)} models of the folds, averaged")
        members = {".".join((*fold.parts, "")): files.read_arrays(fold.within(models)) for fold in splits}
        test = ensemble(files.read_array(predictions / "test.npy", np.float32, 3, may_be_empty=True))
    known = making.Known(
        out_of_fold=files.read_array(predictions / "out_of_fold.npy", np.float32, 3),
        test=test,
        accuracy=files.read_json(metrics)["cv"]["accuracy"],
        audit=[finding["says"] for finding in files.read_json(folds / "audit.json")["findings"]],
        epochs=epochs,
    )
    made = making.make(params, data, splits, members, known)
    with files.writing(model) as temporary:
        for name, content in made.items():
            files.write_bytes(temporary / name, content)
    console.say(f"final: {model / card.PAGE} says what it is; `foldwise predict PICTURE` asks it")


def refit(task: "TrainFold", store: Path) -> "tuple[dict[str, Arrays], NDArray[np.float32]]":
    """Train one model on all images; gives it, and its log-probabilities of the test images, (M, classes)."""
    import numpy as np

    from foldwise.data.folds import WHOLE
    from foldwise.execution import engine
    from foldwise.execution.fold_store import FoldStore, fold_keys
    from foldwise.learning.predict_fold import PredictFold

    data, compute = task.images, task.params.compute
    kept = FoldStore(shared_by_copies(store), fold_keys(task.folds, *task.depends_on, which=[WHOLE]))
    if not compute.reuse_folds:
        kept.forget()
    ((_, trained),) = engine.run(task, [WHOLE], compute, store=kept, costs=task.costs)
    weights = {name: array for name, array in trained.items() if name not in {"epochs", "losses"}}
    predicting = PredictFold(data, task.folds, task.params, task.features)
    test = np.empty((0, len(data.classes)), np.float32)
    if len(data.test_labels):
        ((_, predicted),) = engine.run(predicting, [WHOLE], compute, inputs=lambda _: (weights,))
        test = predicted["test"]
    return {"": weights}, test
