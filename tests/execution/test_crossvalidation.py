import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from foldwise.base.errors import FoldwiseError
from foldwise.base.files import write_arrays
from foldwise.data import images
from foldwise.data.folds import Fold
from foldwise.execution import crossvalidation, engine
from foldwise.execution.crossvalidation import FROZEN_COST, PredictFold, TrainFold, model_path
from foldwise.execution.engine import Progress
from foldwise.execution.schedule import Part
from foldwise.execution.scratch import Scratch
from foldwise.learning import models
from foldwise.learning.prediction import log_probabilities

pytestmark = pytest.mark.usefixtures("one_thread")

FOLD = Fold(0, 1)


@pytest.fixture
def scratch(tmp_path):
    return Scratch.of(tmp_path / "scratch")


@pytest.fixture
def train(digits, deal, parameters, scratch):
    """Train one fold: train({"train.lr": 0.1}, data=..., weights=...)."""

    def train(changes=None, data=digits, weights=None, fold=FOLD, position=1, until=None):
        params = parameters(changes)
        dealt = deal(digits.train_labels, params.cv)
        return TrainFold(data, dealt, params, weights or {}, scratch)(
            fold, Progress(fold, Part(position, 0, until, 0, 4), 4)
        )

    return train


def same(one, other):
    return {name for name in one if one[name].tobytes() == other[name].tobytes()}


def test_the_result_is_the_models_weights_and_the_curves(train, digits, parameters):
    arrays = train()
    model = models.build("simple_cnn", models.form_of(digits), (0.5,), (0.5,))
    assert arrays.keys() == {*model.state_dict(), "epochs", "losses"}


def test_there_is_one_row_an_epoch_and_one_loss_a_step(train):
    arrays = train()
    assert (arrays["epochs"].shape, arrays["losses"].shape) == ((2, 5), (8,))


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
    mean, std = images.pixel_statistics(digits.train_images[chosen])
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


def test_a_long_fold_keeps_its_last_epoch(train, scratch, monkeypatch):
    monkeypatch.setattr(crossvalidation, "CHECKPOINT_SECONDS", -1)
    train({"train.epochs": 3})
    assert scratch.read(FOLD, "epoch")["epochs"].shape == (2, 5)


def test_a_recipe_of_few_steps_is_told_once(train, capsys):
    train(position=0)
    train(position=1)
    told = "60 images make only 8 steps in all: lower train.batch_size or raise train.epochs"
    assert [line for line in capsys.readouterr().err.splitlines() if "steps" in line] == [
        f"  repeat 0 fold 1 (1 of 4)  {told}"
    ]


def test_later_epochs_cost_less_where_they_take_fewer_images_or_train_fewer_layers(digits, deal, parameters, scratch):
    recipe = parameters({"train.epochs": 4, "train.selective_backprop": 0.5, "train.freeze_first_layer_after": 2})
    task = TrainFold(digits, deal(digits.train_labels, recipe.cv), recipe, {}, scratch)
    assert task.sizes == [1, 0.5, 0.5, 0.5]
    assert task.costs == [1, 0.5, 0.5 * FROZEN_COST, 0.5 * FROZEN_COST]


def test_a_short_fold_keeps_none(train, scratch):
    train()
    assert scratch.read(FOLD, "epoch") is None


def interrupt_at(epoch, monkeypatch):
    """Keep the state after each epoch, and be interrupted after the given one."""
    monkeypatch.setattr(crossvalidation, "CHECKPOINT_SECONDS", -1)
    write = Scratch.write

    def interrupted(scratch, fold, kind, arrays):
        write(scratch, fold, kind, arrays)
        if len(arrays["epochs"]) == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(Scratch, "write", interrupted)


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
    assert same(whole, parts) == whole.keys() == parts.keys()


@pytest.fixture(scope="module")
def by_workers(digits, deal, parameters, tmp_path_factory):
    """Train five folds on one, two and four workers: on two and four, folds are cut."""
    params = parameters({"train.augment": "shift", "cv.k": 5, "train.epochs": 4})
    found = {}
    for workers in (1, 2, 4):
        scratch = Scratch.of(tmp_path_factory.mktemp("scratch"))
        dealt, compute = deal(digits.train_labels, params.cv), params.compute.model_copy(update={"n_jobs": workers})
        task = TrainFold(digits, dealt, params, {}, scratch)
        results = dict(engine.run(task, list(dealt), compute, scratch, task.costs))
        found[workers] = {(fold, name): array.tobytes() for fold in results for name, array in results[fold].items()}
    return found


@dataclass(frozen=True)
class Loading:
    """Train a fold, and tell whether its worker has loaded PyTorch's compiler."""

    train: TrainFold

    def __call__(self, fold, progress):
        self.train(fold, progress)
        return {"compiler": np.array("torch._dynamo" in sys.modules)}


def test_no_worker_loads_pytorchs_compiler_which_takes_as_long_as_all_else(digits, deal, parameters, scratch):
    params = parameters({"train.optimizer": "muon", "compute.n_jobs": 2, "compute.backend": "loky"})
    dealt = deal(digits.train_labels, params.cv)
    task = Loading(TrainFold(digits, dealt, params, {}, scratch))
    loaded = [bool(arrays["compiler"]) for _, arrays in engine.run(task, list(dealt), params.compute)]
    assert loaded == [False] * len(dealt)


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_gives_the_same_bytes(workers, by_workers):
    assert by_workers[workers] == by_workers[1]


@pytest.fixture
def trained(train, tmp_path):
    arrays = {name: array for name, array in train().items() if name not in {"epochs", "losses"}}
    write_arrays(model_path(tmp_path, FOLD), arrays)
    return arrays


@pytest.fixture
def predict(digits, deal, parameters, tmp_path):
    def predict(changes=None):
        params = parameters(changes)
        task = PredictFold(digits, deal(digits.train_labels, params.cv), params, tmp_path)
        return task(FOLD, Progress(FOLD, Part(0, 0, None, 0, 4), 4))

    return predict


@pytest.mark.parametrize("part", ["held_out", "test"])
def test_predictions_are_those_of_the_folds_model(part, trained, predict, digits, deal, parameters, tmp_path):
    model = models.build("simple_cnn", models.form_of(digits), (0.5,), (0.5,))
    models.load_weights(model, trained, tmp_path)
    held_out = deal(digits.train_labels, parameters().cv).held_out(FOLD)
    pixels = digits.train_images[held_out] if part == "held_out" else digits.test_images
    expected = log_probabilities(model, torch.from_numpy(pixels)).numpy()
    found = predict()[part]
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5)


def test_predictions_may_be_means_over_shifts(trained, predict):
    plain, shifted = predict(), predict({"evaluate.augment": "shift"})
    assert not same(plain, shifted)


def test_a_missing_model_is_told(predict, tmp_path):
    with pytest.raises(FoldwiseError, match=r"^.*repeat-0/fold-1.safetensors is missing: run `dvc repro`"):
        predict()


def test_a_model_of_another_network_is_told(trained, predict, tmp_path):
    with pytest.raises(FoldwiseError) as caught:
        predict({"model.name": "cnn"})
    path = tmp_path / "repeat-0" / "fold-1.safetensors"
    assert str(caught.value) == f"{path} holds the weights of another network: run `dvc repro -f -s train`"


def test_a_model_whose_predictions_are_not_numbers_is_told(trained, predict, tmp_path):
    path = model_path(tmp_path, FOLD)
    write_arrays(path, trained | {"0.mean": np.full_like(trained["0.mean"], np.nan)})
    with pytest.raises(FoldwiseError) as caught:
        predict()
    assert str(caught.value) == f"{path} gives predictions that are not finite: run `dvc repro -f -s train`"


def test_a_network_of_lazy_layers_is_trained_to_the_same_bytes_again_and_predicts(
    train, predict, tmp_path, monkeypatch
):
    layers = torch.nn.LazyConv2d, torch.nn.LazyBatchNorm2d, torch.nn.Flatten, torch.nn.LazyLinear
    arguments = (4, 3), (), (), (10,)
    monkeypatch.setitem(
        models.NETWORKS,
        "lazy",
        lambda form: torch.nn.Sequential(*(layer(*given) for layer, given in zip(layers, arguments, strict=True))),
    )
    lazy = {"model.name": "lazy"}
    one, other = train(lazy), train(lazy)
    assert same(one, other) == one.keys()
    write_arrays(model_path(tmp_path, FOLD), {name: one[name] for name in one.keys() - {"epochs", "losses"}})
    found = predict(lazy)
    assert np.isfinite(found["test"]).all()
    assert same(found, predict(lazy)) == found.keys()


def test_a_whole_model_whose_predictions_are_not_numbers_is_not_to_be_trained_the_same_way_again(
    trained, predict, tmp_path
):
    path = model_path(tmp_path, FOLD)
    write_arrays(path, trained | {"1.4.weight": np.full_like(trained["1.4.weight"], 3e38)})
    with pytest.raises(FoldwiseError) as caught:
        predict()
    what = "lower train.lr, or mend the network in src/foldwise/learning/models.py"
    assert str(caught.value) == f"{path} gives predictions that are not finite: {what}"
