import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from foldwise.base.errors import FoldwiseError
from foldwise.data.folds import Fold
from foldwise.data.pixels import pixel_statistics
from foldwise.execution import engine, jobs
from foldwise.execution.fold_store import FoldStore, fold_keys
from foldwise.execution.jobs import Job
from foldwise.execution.schedule import Part
from foldwise.learning import models
from foldwise.learning.train_fold import EPOCH_COLUMNS, FROZEN_COST, TrainFold

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
FOLD = Fold(0, 1)


@pytest.fixture
def store(tmp_path):
    return FoldStore(tmp_path / "store", {FOLD: "one", Fold(0, 2): "two"})


@pytest.fixture
def train(digits, deal, parameters, store):
    """Train one fold: train({"train.lr": 0.1}, data=..., weights=...)."""

    def train(changes=None, data=digits, weights=None, fold=FOLD, position=1, until=None):
        params = parameters(changes)
        task = TrainFold(data, deal(digits.train_labels, params.cv), params, weights or {})
        return task(fold, Job(fold, Part(position, 0, until, 0, 4), 4, task.costs, store))

    return train


def same(one, other):
    return {name for name in one if one[name].tobytes() == other[name].tobytes()}


def test_the_result_is_the_models_weights_and_the_curves(train, digits, parameters):
    arrays = train()
    model = models.build("simple_cnn", models.form_of(digits), (0.5,), (0.5,))
    assert arrays.keys() == {*model.state_dict(), "epochs", "losses"}


def test_there_is_one_row_an_epoch_and_one_loss_a_step(train):
    arrays = train()
    assert (arrays["epochs"].shape, arrays["losses"].shape) == ((2, 6), (8,))


def test_a_fold_is_trained_to_the_same_bytes_again(train):
    one, other = train(), train()
    assert same(one, other) == one.keys()


def test_folds_start_from_weights_of_their_own(train):
    one, other = train({"train.lr": 1e-30}), train({"train.lr": 1e-30}, fold=Fold(0, 2))
    assert "1.0.weight" not in same(one, other)


def test_the_random_state_of_the_process_does_not_matter(train):
    one = train()
    torch.manual_seed(1234)
    np.random.seed(1234)  # noqa: NPY002
    assert same(one, train()) == one.keys()


def test_normalisation_constants_are_those_of_the_folds_training_images(train, digits, deal, parameters):
    arrays = train()
    chosen = deal(digits.train_labels, parameters().cv).training(FOLD)
    mean, std = pixel_statistics(digits.train_images[chosen])
    assert (arrays["0.mean"].ravel(), arrays["0.std"].ravel()) == (pytest.approx(mean), pytest.approx(std))


def test_normalisation_constants_are_those_of_the_data_set_where_wanted(train, digits):
    arrays = train({"normalize.scope": "dataset"})
    assert (arrays["0.mean"].ravel(), arrays["0.std"].ravel()) == (
        pytest.approx(digits.mean),
        pytest.approx(digits.std),
    )


@pytest.mark.parametrize("patience", [0, 1])
@pytest.mark.parametrize("what", ["train_images", "train_labels", "test_images", "test_labels"])
def test_no_weight_depends_on_what_the_fold_does_not_train_on(what, patience, train, digits, deal, parameters):
    changes = {"train.patience": patience, "train.epochs": 4, "train.lr": 0.3}
    array = getattr(digits, what).copy()
    array[deal(digits.train_labels, parameters().cv).held_out(FOLD) if what.startswith("train") else slice(None)] = 3
    before, after = train(changes), train(changes, replace(digits, **{what: array}))
    assert same(before, after) >= before.keys() - {"epochs"}


def test_a_changed_training_image_changes_the_constants(train, digits, deal, parameters):
    array = digits.train_images.copy()
    array[deal(digits.train_labels, parameters().cv).training(FOLD)[0]] = 255
    assert "0.mean" not in same(train(), train(data=replace(digits, train_images=array)))


def test_the_console_tells_each_epoch(train, capsys):
    train()
    told = capsys.readouterr().err.splitlines()
    assert [line[:36] for line in told] == [f"  repeat 0 fold 1 (2 of 4)  epoch {epoch}/" for epoch in (1, 2)]
    assert "held out: loss " in told[0]


def test_a_loss_that_is_not_a_number_is_told_with_its_fold(train):
    with pytest.raises(FoldwiseError, match=r"^repeat 0 fold 1: the loss is (nan|inf) at step 2: lower train.lr in "):
        train({"train.lr": 1e30})


def test_training_images_without_contrast_are_told_and_may_be_normalised_by_all_images(train, digits, deal, parameters):
    images, dealt = digits.train_images.copy(), deal(digits.train_labels, parameters().cv)
    images[dealt.training(FOLD)] = 7
    plain = replace(digits, train_images=images)
    with pytest.raises(FoldwiseError) as caught:
        train(data=plain)
    told = "channel 0 of its training images is of one grey, which has no deviation to normalise by: "
    assert str(caught.value) == f"repeat 0 fold 1: {told}set normalize.scope to dataset in params.yaml"
    assert np.isfinite(train({"normalize.scope": "dataset"}, data=plain)["losses"]).all()


def test_a_device_that_is_not_there_is_told(train, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(FoldwiseError) as caught:
        train({"compute.device": "cuda"})
    told = "params.yaml: compute.device is cuda, which PyTorch does not see here: set it to cpu"
    assert str(caught.value) == told


@pytest.mark.parametrize("position", [0, 1])
def test_a_gpu_that_is_not_used_is_told_once(position, train, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    train(position=position)
    assert capsys.readouterr().err.count("a GPU is there and not used") == 1 - position


@pytest.fixture
def resnet_weights():
    torch.manual_seed(0)
    from torchvision.models import resnet18

    return {name: tensor.numpy() for name, tensor in resnet18().state_dict().items()}


def test_frozen_layers_stay_as_the_given_weights(train, resnet_weights):
    arrays = train(
        {"model.name": "resnet18", "model.weights_file": "a.pth", "model.freeze": True}, weights=resnet_weights
    )
    changed = {name for name in resnet_weights if arrays[f"1.{name}"].tobytes() != resnet_weights[name].tobytes()}
    assert changed == {"fc.weight", "fc.bias"}


def test_a_long_fold_keeps_its_last_epoch(train, store, monkeypatch):
    monkeypatch.setattr(jobs, "CHECKPOINT_SECONDS", -1)
    train({"train.epochs": 3})
    assert store.read(FOLD, "epoch")["epochs"].shape == (2, 5)


@pytest.mark.parametrize(
    ("batch_size", "told"),
    [
        (16, "8 steps in all: set train.batch_size below 16 or raise train.epochs"),
        (None, "4 steps in all: set train.batch_size below 32 or raise train.epochs"),
    ],
)
def test_a_recipe_of_few_steps_is_told_once(batch_size, told, train, capsys):
    train({"train.batch_size": batch_size}, position=0)
    train({"train.batch_size": batch_size}, position=1)
    assert [line for line in capsys.readouterr().err.splitlines() if "steps" in line] == [
        f"  repeat 0 fold 1 (1 of 4)  60 images make only {told}"
    ]


def test_later_epochs_cost_less_where_they_take_fewer_images_or_train_fewer_layers(digits, deal, parameters):
    recipe = parameters({"train.epochs": 4, "train.selective_backprop": 0.5, "train.freeze_first_layer_after": 2})
    task = TrainFold(digits, deal(digits.train_labels, recipe.cv), recipe, {})
    assert task.costs == [1, 0.5, 0.5 * FROZEN_COST, 0.5 * FROZEN_COST]


@pytest.mark.parametrize(("network", "frozen"), [("compact", 1), ("wide", 1), ("cnn", 0), ("simple_cnn", 0)])
def test_where_it_is_left_open_only_networks_are_frozen_that_it_was_tried_on(network, frozen, digits, deal, parameters):
    params = parameters({"model.name": network, "train.freeze_first_layer_after": None})
    folds = deal(digits.train_labels, params.cv)
    assert TrainFold(digits, folds, params, {}).train.freeze_first_layer_after == frozen
    asked = parameters({"model.name": network, "train.freeze_first_layer_after": 3})
    assert TrainFold(digits, folds, asked, {}).train == asked.train


def test_a_recipe_without_an_augmented_epoch_is_told(train, capsys):
    changes = {"train.augment": "shift", "train.epochs": 2}
    for epochs in (2, 1):
        train(changes | {"train.clean_epochs": epochs}, position=0)
    told = "no epoch is augmented: set train.clean_epochs below train.epochs, or train.augment to none"
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "augment" in line] == [f"  repeat 0 fold 1 (1 of 4)  {told}"]


def test_a_short_fold_keeps_none(train, store):
    train()
    assert store.read(FOLD, "epoch") is None


def interrupt_at(epoch, monkeypatch):
    """Keep the state after each epoch, and be interrupted after the given one."""
    monkeypatch.setattr(jobs, "CHECKPOINT_SECONDS", -1)
    write = FoldStore.write

    def interrupted(store, fold, kind, arrays):
        write(store, fold, kind, arrays)
        if len(arrays["epochs"]) == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(FoldStore, "write", interrupted)


def test_an_interrupted_fold_goes_on_at_its_last_epoch_to_the_same_bytes(train, monkeypatch, capsys):
    undisturbed = train({"train.epochs": 4})
    with monkeypatch.context() as context:
        interrupt_at(2, context)
        with pytest.raises(KeyboardInterrupt):
            train({"train.epochs": 4})
    capsys.readouterr()
    found = train({"train.epochs": 4})
    told = capsys.readouterr().err.splitlines()
    assert same(undisturbed, found) == undisturbed.keys()
    assert told[0] == "  repeat 0 fold 1 (2 of 4)  goes on after epoch 2"
    assert told[1].startswith("  repeat 0 fold 1 (2 of 4)  epoch 3/4  ")


def test_a_fold_in_two_parts_gives_the_bytes_of_the_whole(train):
    whole = train({"train.epochs": 4})
    assert train({"train.epochs": 4}, until=3) is None
    parts = train({"train.epochs": 4})
    assert same(whole, parts) == whole.keys() == parts.keys()


def test_the_second_part_of_a_fold_goes_on_where_the_first_ended(train, capsys):
    train({"train.epochs": 4}, until=3)
    capsys.readouterr()
    train({"train.epochs": 4})
    assert capsys.readouterr().err.startswith("  repeat 0 fold 1 (2 of 4)  goes on after epoch 3\n")


def test_a_fold_that_stops_early_in_its_first_part_gives_the_bytes_of_the_whole(train):
    stopping = {"train.epochs": 20, "train.patience": 1, "train.inner_fraction": 0.4, "train.lr": 0.3}
    whole = train(stopping)
    assert train(stopping, until=19) is None
    parts = train(stopping)
    assert len(whole["epochs"]) < 19
    assert np.flatnonzero(whole["epochs"][:, EPOCH_COLUMNS.index("kept")]).tolist() == [len(whole["epochs"]) - 2]
    assert same(whole, parts) == whole.keys() == parts.keys()


@pytest.fixture(scope="module")
def by_workers(digits, deal, parameters, tmp_path_factory):
    """Train five folds on one, two and four workers: on two and four, folds are cut."""
    params = parameters({"train.augment": "shift", "cv.k": 5, "train.epochs": 4})
    results = {}
    for workers in (1, 2, 4):
        assigned, compute = deal(digits.train_labels, params.cv), params.compute.model_copy(update={"n_jobs": workers})
        task = TrainFold(digits, assigned, params, {})
        store = FoldStore(tmp_path_factory.mktemp("store"), fold_keys(assigned, *task.depends_on))
        trained = dict(engine.run(task, list(assigned), compute, store=store, costs=task.costs))
        results[workers] = {(fold, name): array.tobytes() for fold in trained for name, array in trained[fold].items()}
    return results


@dataclass(frozen=True)
class Loading:
    """Train a fold, and tell whether its worker has loaded PyTorch's compiler."""

    train: TrainFold

    def __call__(self, fold, job):
        self.train(fold, job)
        return {"compiler": np.array("torch._dynamo" in sys.modules)}


def test_no_worker_loads_pytorchs_compiler_which_takes_as_long_as_all_else(digits, deal, parameters):
    params = parameters({"train.optimizer": "muon", "compute.n_jobs": 2, "compute.backend": "loky"})
    dealt = deal(digits.train_labels, params.cv)
    task = Loading(TrainFold(digits, dealt, params, {}))
    results = engine.run(task, list(dealt), params.compute, costs=task.train.costs)
    loaded = [bool(arrays["compiler"]) for _, arrays in results]
    assert loaded == [False] * len(dealt)


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_gives_the_same_bytes(workers, by_workers):
    assert by_workers[workers] == by_workers[1]


def change(array):
    other = array.copy()
    other.flat[0] += 1
    return other


@pytest.mark.parametrize(
    "changes",
    [
        {"train.seed": 1},
        {"train.lr": 0.06},
        {"train.epochs": 3},
        {"model.name": "cnn"},
        {"normalize.scope": "dataset"},
        {"compute.threads_per_fold": 2},
        {"compute.portable": True},
    ],
    ids=str,
)
def test_the_recipe_counts_for_the_fold_store(changes, keys):
    assert keys(changes) != keys()


@pytest.mark.parametrize("what", ["train_images", "train_labels"])
def test_the_training_data_count_for_the_fold_store(what, keys, digits):
    assert keys(data=replace(digits, **{what: change(getattr(digits, what))})) != keys()


@pytest.mark.parametrize("what", ["mean", "std"])
def test_the_constants_of_the_data_set_count_for_the_fold_store(what, keys, digits):
    assert keys(data=replace(digits, **{what: (0.25,)})) != keys()


def test_the_number_of_classes_counts_for_the_fold_store(keys, digits):
    assert keys(data=replace(digits, classes=(*digits.classes, "10"))) != keys()


@pytest.mark.parametrize("weights", [{"a": np.ones(2)}, {"a": np.zeros(3)}, {"b": np.zeros(2)}, {}], ids=str)
def test_the_weights_to_start_from_count_for_the_fold_store(weights, keys):
    assert keys(weights=weights) != keys(weights={"a": np.zeros(2)})


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluate.augment": "shift"},
        {"evaluate.temperature": True},
        {"compute.n_jobs": 2},
        {"compute.backend": "ray"},
        {"data.mirror": "/srv"},
        {"model.pretrained": True},
    ],
    ids=str,
)
def test_what_trains_no_other_model_does_not_count_for_the_fold_store(changes, keys):
    assert keys(changes) == keys()


@pytest.mark.parametrize("what", ["test_images", "test_labels"])
def test_the_test_set_does_not_count_for_the_fold_store(what, keys, digits):
    assert keys(data=replace(digits, **{what: change(getattr(digits, what))})) == keys()


@pytest.fixture
def keys(digits, deal, parameters):
    """Give the keys of all folds: keys({"train.lr": 0.1}, data=..., weights=...)."""

    def keys(changes=None, data=digits, weights=None):
        params = parameters(changes)
        assigned = deal(digits.train_labels, params.cv)
        return fold_keys(assigned, *TrainFold(data, assigned, params, weights or {}).depends_on)

    return keys


def test_every_parameter_that_the_stage_depends_on_counts_for_the_fold_store(digits, deal, parameters):
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]
    params = parameters()
    assigned = deal(digits.train_labels, params.cv)
    before = repr(TrainFold(digits, assigned, params, {}).depends_on)
    for name in stage["params"]:
        section, _, parameter = name.partition(".")
        values = getattr(params, section)
        for single in [parameter] if parameter else type(values).model_fields:
            other = params.model_copy(update={section: values.model_copy(update={single: "another value"})})
            assert repr(TrainFold(digits, assigned, other, {}).depends_on) != before, single
