import math
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn
from torch.nn import functional

from foldwise.base.errors import FoldwiseError
from foldwise.base.params import Train
from foldwise.data.folds import Fold
from foldwise.learning import selection, training
from foldwise.learning.prediction import log_probabilities
from foldwise.learning.randomness import streams
from foldwise.learning.training import Samples, Training, fit

pytestmark = pytest.mark.usefixtures("one_thread")

FOLD = Fold(1, 2)
TRAINING, HELD_OUT = np.arange(59), np.arange(59, 80)
STEPS = 4  # of an epoch: 59 images in batches of up to 16


class Scale(nn.Module):
    def forward(self, pixels):
        return pixels.float() / 255 - 0.5


def network(seed=5):
    """Make a small network with all that matters: convolution, batch normalisation, dropout, a last layer."""
    torch.manual_seed(seed)
    return nn.Sequential(
        Scale(), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, 10)
    )


@pytest.fixture
def samples(digits):
    images, labels = torch.from_numpy(digits.train_images), torch.from_numpy(digits.train_labels)
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    return Samples(images[shuffled], labels[shuffled], TRAINING, HELD_OUT, np.arange(80))


def trained(samples, train, model=None, report=lambda state: None):
    state = Training.start(model or network(), train)
    fit(state, samples, train, streams(train.seed, FOLD), report)
    return state


def bits(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def plain_loop(samples, recipe):
    """Train as a textbook does, on seeds of the fold that have a child for each use, and that one for each epoch."""

    def seeds(use, epoch):
        return np.random.SeedSequence(recipe.seed, spawn_key=(*FOLD, use, epoch))

    model = network().to(memory_format=torch.channels_last)
    weights = model.parameters()
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(weights, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=True)
    elif recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(weights, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    else:
        optimizer = torch.optim.AdamW(weights, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    steps = math.ceil(len(TRAINING) / recipe.batch_size)
    total = steps * recipe.epochs
    scheduler = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, 1, total),
        "one_cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.lr, total, pct_start=0.2, anneal_strategy="linear", cycle_momentum=False
        ),
    }[recipe.schedule]()
    for epoch in range(recipe.epochs):
        torch.manual_seed(int(seeds(4, epoch).generate_state(1, np.uint64)[0]))
        order = np.random.default_rng(seeds(2, epoch)).permutation(TRAINING)
        model.train()
        for batch in np.array_split(order, steps):
            logits = model(samples.images[batch].to(memory_format=torch.channels_last))
            losses = functional.cross_entropy(
                logits, samples.labels[batch], label_smoothing=recipe.label_smoothing, reduction="none"
            )
            if recipe.class_weights == "balanced":
                count = compute_sample_weight("balanced", samples.labels[TRAINING])
                losses = losses * torch.from_numpy(count.astype(np.float32))[batch]
            optimizer.zero_grad()
            losses.mean().backward()
            if recipe.gradient_clip:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
            optimizer.step()
            scheduler.step()
    return model


RECIPES = {
    "sgd": {"train.optimizer": "sgd", "train.lr": 0.05, "train.momentum": 0.9, "train.weight_decay": 1e-3},
    "adam": {"train.optimizer": "adam", "train.lr": 1e-3, "train.weight_decay": 1e-2, "train.batch_size": 7},
    "clipped": {"train.optimizer": "sgd", "train.lr": 0.05, "train.gradient_clip": 0.5},
    "balanced": {"train.optimizer": "sgd", "train.lr": 0.05, "train.class_weights": "balanced"},
    "adamw": {
        "train.optimizer": "adamw",
        "train.lr": 6e-3,
        "train.weight_decay": 0.05,
        "train.schedule": "one_cycle",
        "train.label_smoothing": 0.1,
        "train.epochs": 3,
    },
}


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_weights_are_those_of_a_plain_loop_to_the_bit(changes, samples, parameters):
    recipe = parameters(changes).train
    assert bits(trained(samples, recipe).model) == bits(plain_loop(samples, recipe))


class Watched(nn.Module):
    """Count steps, and keep what is seen in training and in evaluation; each image is known by its own grey."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(10))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.trained_on, self.evaluated_on = [], []

    def forward(self, pixels):
        (self.trained_on if self.training else self.evaluated_on).append(pixels[:, 0, 0, 0].tolist())
        self.steps += self.training
        return self.logits(len(pixels))

    def logits(self, n):
        return self.weight.expand(n, 10)


class Scripted(Watched):
    """Say class 0 to all images, the more certainly the higher the script's number for the epoch."""

    def __init__(self, script, steps=STEPS):
        super().__init__()
        self.script, self.steps_an_epoch = script, steps

    def logits(self, n):
        if self.training:
            return super().logits(n)
        return torch.eye(10)[:1].expand(n, 10) * self.script[self.steps // self.steps_an_epoch - 1]


class Failing(Watched):
    """Give logits that are not numbers from one step on."""

    def __init__(self, step, value, *, while_training=True):
        super().__init__()
        self.step, self.value, self.while_training = step, value, while_training

    def logits(self, n):
        failing = self.steps >= self.step and self.training == self.while_training
        return super().logits(n) + (self.value if failing else 0)


@pytest.fixture
def greys():
    images = torch.arange(80, dtype=torch.uint8).view(80, 1, 1, 1).expand(80, 1, 8, 8).contiguous()
    return Samples(images, torch.arange(80) % 10, TRAINING, HELD_OUT, np.arange(80))


def test_every_training_image_is_taken_once_an_epoch(greys, parameters):
    model = Watched()
    trained(greys, parameters().train, model)
    taken = [*chain(*model.trained_on)]
    assert [sorted(taken[:59]), sorted(taken[59:])] == [TRAINING.tolist()] * 2


class Graded(Watched):
    """Know the class of each image, the darker the less certainly."""

    def __init__(self, sharpness=1):
        super().__init__()
        self.sharpness = sharpness

    def logits(self, n):
        greys = torch.tensor((self.trained_on if self.training else self.evaluated_on)[-1]).long()
        return super().logits(n) + functional.one_hot(greys % 10, 10) * self.sharpness * greys[:, None] / 80


def test_later_epochs_take_the_share_of_the_images_with_the_highest_losses(greys, parameters):
    model = Graded()
    trained(greys, parameters({"train.selective_backprop": 0.4, "train.lr": 1e-6, "train.epochs": 3}).train, model)
    assert [sorted(chain(*model.trained_on[start : start + 2])) for start in (4, 6)] == [list(range(24))] * 2


def test_later_epochs_take_images_of_larger_gradient_more_often_but_all_at_times(greys, parameters, monkeypatch):
    monkeypatch.setattr(selection, "FEWEST", 20)
    model = Graded(sharpness=5)
    recipe = {"train.importance_sampling": 0.4, "train.lr": 1e-9, "train.epochs": 60}
    trained(greys, parameters(recipe).train, model)
    taken = Counter(chain(*model.trained_on[STEPS:]))
    assert (sum(taken.values()), taken.keys()) == (59 * 24, set(range(59)))
    dark, light = (sum(taken[grey] for grey in greys) for greys in (range(20), range(39, 59)))
    assert dark > 1.5 * light


def test_images_count_as_many_as_they_stand_for(greys, parameters, monkeypatch):
    monkeypatch.setattr(selection, "FEWEST", 20)
    monkeypatch.setattr(
        training, "by_importance", lambda gradients, count, random: (np.arange(24), np.arange(24, dtype=np.float32))
    )
    state = trained(greys, parameters({"train.importance_sampling": 0.4, "train.lr": 1e-9}).train, Graded())
    each = state.seen[0, :24]
    assert np.dot(state.losses[STEPS:], [12, 12]) == pytest.approx(float((torch.arange(24) * each).sum()), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_noted_of_an_image_are_its_unsmoothed_loss_and_the_norm_of_its_gradient(smoothing, samples, parameters):
    class Fixed(Watched):
        def logits(self, n):
            self.given = torch.linspace(-2, 3, 10 * n).view(n, 10).sin() * 3 + super().logits(n)
            if self.given.requires_grad:
                self.given.retain_grad()
            return self.given

    model = Fixed()
    recipe = {"train.batch_size": 59, "train.epochs": 1, "train.label_smoothing": smoothing}
    found = []

    def keep(state):
        found.append(state.seen.clone())

    given = []
    model.register_forward_hook(lambda _, __, output: given.append(output) if output.requires_grad else None)
    trained(samples, parameters(recipe).train, model, keep)
    assert len(given) == 1
    order = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(*FOLD, 2, 0))).permutation(TRAINING)
    expected = 59 * given[0].grad.norm(dim=1)  # the loss is the mean over the batch
    torch.testing.assert_close(found[0][2, order], expected)
    loss = functional.cross_entropy(given[0].detach(), samples.labels[order], reduction="none")
    torch.testing.assert_close(found[0][0, order], loss)


def test_few_images_are_all_taken_by_importance_sampling(greys, parameters):
    sampled, all_of_them = (
        trained(greys, parameters(recipe).train, network()) for recipe in ({"train.importance_sampling": 0.4}, {})
    )
    assert bits(sampled.model) == bits(all_of_them.model)


def test_an_epochs_training_scores_are_of_all_images_when_they_were_last_seen(greys, parameters):
    state = trained(greys, parameters({"train.selective_backprop": 0.4, "train.lr": 1e-9}).train, Graded())
    assert state.epochs[1][1:3] == pytest.approx(state.epochs[0][1:3], rel=1e-5)


def test_the_schedule_is_over_the_steps_that_are_really_taken(greys, parameters):
    recipe = {"train.selective_backprop": 0.4, "train.epochs": 3, "train.schedule": "one_cycle"}
    state = trained(greys, parameters(recipe).train, Watched())
    rate = state.optimizer.param_groups[0]["lr"]
    assert (len(state.losses), rate) == (4 + 2 + 2, pytest.approx(0.05 / 25e4))


def learnt(samples, recipe, layers):
    """Train, and name the layers of some network whose weights or running statistics each epoch has changed."""
    model = nn.Sequential(Scale(), *deepcopy(layers))
    kept = [{name: value.clone() for name, value in model.state_dict().items()}]
    state = Training.start(model, recipe)

    def keep(state):
        kept.append({name: value.clone() for name, value in state.model.state_dict().items()})

    fit(state, samples, recipe, streams(recipe.seed, FOLD), keep)
    return [
        {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
        for before, after in pairwise(kept)
    ]


@pytest.mark.parametrize("optimizer", Train.model_fields["optimizer"].annotation.__args__)
def test_the_first_layer_and_its_normalisation_can_be_frozen_after_an_epoch(optimizer, samples, parameters):
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)]
    recipe = {"train.optimizer": optimizer, "train.epochs": 3, "train.weight_decay": 0.1}
    assert learnt(samples, parameters(recipe | {"train.freeze_first_layer_after": 2}).train, layers) == [
        {"1", "2", "5"},
        {"1", "2", "5"},
        {"5"},
    ]
    assert learnt(samples, parameters(recipe).train, layers) == [{"1", "2", "5"}] * 3


def test_the_last_layer_is_never_frozen(samples, parameters):
    recipe = parameters({"train.freeze_first_layer_after": 1}).train
    assert learnt(samples, recipe, [nn.Flatten(), nn.Linear(64, 10)]) == [{"2"}] * 2


def test_batches_are_of_nearly_equal_size(greys, parameters):
    model = Watched()
    trained(greys, parameters().train, model)
    assert [len(batch) for batch in model.trained_on] == [15, 15, 15, 14] * 2


def test_each_epoch_has_an_order_of_its_own(greys, parameters):
    model = Watched()
    trained(greys, parameters().train, model)
    assert model.trained_on[:STEPS] != model.trained_on[STEPS:]


def test_held_out_images_are_looked_at_after_each_epoch(greys, parameters):
    model = Watched()
    trained(greys, parameters().train, model)
    assert model.evaluated_on == [HELD_OUT.tolist()] * 2


def test_a_part_of_many_held_out_images_is_looked_at_until_the_last_epoch(greys, parameters, monkeypatch):
    monkeypatch.setattr(training, "WATCHED", 10)
    model = Watched()
    trained(greys, parameters({"train.epochs": 3}).train, model)
    assert model.evaluated_on == [HELD_OUT[::3].tolist()] * 2 + [HELD_OUT.tolist()]


def test_augmentation_leaves_held_out_images_as_they_are(greys, parameters):
    model = Watched()
    trained(greys, parameters({"train.augment": "affine"}).train, model)
    assert model.evaluated_on == [HELD_OUT.tolist()] * 2


@pytest.mark.parametrize("changes", [{"train.augment": "affine"}, {"train.label_smoothing": 0.1}], ids=str)
def test_augmentation_and_label_smoothing_change_what_is_learnt_until_the_clean_epochs(changes, samples, parameters):

    def losses(changes):
        return trained(samples, parameters(changes | {"train.epochs": 3}).train).losses

    plain, changed = losses({}), losses(changes)
    for epochs, same in ((3, plain), (9, plain), (0, changed)):
        assert losses(changes | {"train.clean_epochs": epochs}) == same
    most = losses(changes | {"train.clean_epochs": 1})
    assert most[: 2 * STEPS] == changed[: 2 * STEPS]
    assert most[2 * STEPS] != changed[2 * STEPS]


def test_bfloat16_leaves_the_weights_in_float32(samples, parameters):
    weights = trained(samples, parameters({"train.precision": "bfloat16"}).train).model.parameters()
    assert {weight.dtype for weight in weights} == {torch.float32}


def test_bfloat16_changes_the_rounding(samples, parameters):
    found = [trained(samples, parameters({"train.precision": name}).train) for name in ("float32", "bfloat16")]
    assert found[1].losses != found[0].losses
    assert found[1].losses == pytest.approx(found[0].losses, rel=0.1)


def test_a_loss_is_kept_for_each_step(samples, parameters):
    assert len(trained(samples, parameters().train).losses) == 2 * STEPS


def test_epochs_are_numbered_from_1(samples, parameters):
    assert [row[0] for row in trained(samples, parameters().train).epochs] == [1, 2]


def test_the_training_loss_of_an_epoch_is_the_mean_over_its_images(samples, parameters):
    state = trained(samples, parameters().train)
    expected = [np.average(losses, weights=[15, 15, 15, 14]) for losses in (state.losses[:STEPS], state.losses[STEPS:])]
    assert [row[1] for row in state.epochs] == pytest.approx(expected)


def test_the_training_accuracy_is_that_on_the_images_as_they_were_seen(greys, parameters):
    model = Scripted([0.0])
    with torch.no_grad():
        model.weight[3] = 1.0  # class 3 of ten, to six of 59 images
    state = trained(greys, parameters({"train.epochs": 1, "train.lr": 1e-9}).train, model)
    assert state.epochs[0][2] == pytest.approx(6 / 59)


def test_the_held_out_scores_are_those_of_the_model_as_it_is(samples, parameters):
    state = trained(samples, parameters().train)
    predicted, labels = log_probabilities(state.model, samples.images[HELD_OUT]), samples.labels[HELD_OUT]
    loss, accuracy = functional.nll_loss(predicted, labels), (predicted.argmax(1) == labels).double().mean()
    assert state.epochs[-1][3:] == pytest.approx([float(loss), float(accuracy)])


def test_label_smoothing_is_left_out_of_the_held_out_loss(greys, parameters):
    state = trained(greys, parameters({"train.label_smoothing": 0.5, "train.epochs": 1}).train, Scripted([1.0]))
    known = (greys.labels[HELD_OUT] == 0).double().mean()
    assert state.epochs[0][3] == pytest.approx(math.log(math.e + 9) - float(known))


def test_each_epoch_is_reported_when_it_is_finished(samples, parameters):
    seen = []
    trained(samples, parameters().train, report=lambda state: seen.append((len(state.epochs), len(state.losses))))
    assert seen == [(1, STEPS), (2, 2 * STEPS)]


def test_a_finished_training_does_not_go_on(samples, parameters):
    train = parameters().train
    state = trained(samples, train)
    before = bits(state.model)
    fit(state, samples, train, streams(train.seed, FOLD), lambda state: None)
    assert (bits(state.model), len(state.epochs)) == (before, 2)


@pytest.mark.parametrize("changes", [{"train.seed": 1}, {"train.lr": 0.04}, {"train.batch_size": 12}])
def test_a_change_of_the_recipe_changes_the_weights(changes, samples, parameters):
    one, other = trained(samples, parameters().train), trained(samples, parameters(changes).train)
    assert bits(one.model) != bits(other.model)


@pytest.mark.parametrize("patience", [0, 1])
@pytest.mark.parametrize("what", ["images", "labels"])
def test_no_weight_depends_on_what_is_held_out(what, patience, samples, parameters):
    train = parameters({"train.epochs": 5, "train.patience": patience, "train.lr": 0.3}).train
    before = bits(trained(samples, train).model)
    getattr(samples, what)[HELD_OUT] = 1
    assert bits(trained(samples, train).model) == before


NETWORK = "mend the network"
SMALL = f"lower train.lr in params.yaml, or, as its weights are still small, {NETWORK}"


@pytest.mark.parametrize(("value", "told"), [(math.nan, "nan"), (math.inf, "nan")])
def test_a_loss_that_is_not_a_number_is_told_with_its_step(value, told, greys, parameters):
    with pytest.raises(FoldwiseError) as caught:
        trained(greys, parameters().train, Failing(6, value))
    assert str(caught.value) == f"the loss is {told} at step 6: {SMALL}"


def test_a_loss_that_is_no_number_before_any_step_is_the_networks(greys, parameters):
    with pytest.raises(FoldwiseError) as caught:
        trained(greys, parameters({"train.weight_decay": 1e9}).train, Failing(1, math.nan))
    told = f"the loss is nan at step 1: no step was taken before, so {NETWORK}, or set another model.name"
    assert str(caught.value) == told


@pytest.mark.parametrize("optimizer", Train.model_fields["optimizer"].annotation.__args__)
def test_a_learning_rate_far_too_high_is_told(optimizer, samples, parameters):
    with pytest.raises(FoldwiseError, match=r"^the loss is (nan|inf) at step \d: lower train.lr in params.yaml$"):
        trained(samples, parameters({"train.lr": 1e30, "train.optimizer": optimizer}).train)


DECAYS = {"sgd": 1e4, "adam": 1e300, "adamw": 1e4, "muon": 1e5}  # Adam divides its L2 away, until it overflows


@pytest.mark.parametrize(("optimizer", "weight_decay"), DECAYS.items(), ids=DECAYS)
def test_a_weight_decay_far_too_high_is_told_and_the_one_that_is_named_does(
    optimizer, weight_decay, samples, parameters
):
    recipe = {"train.optimizer": optimizer, "train.epochs": 8}
    model = nn.Sequential(Scale(), nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    with pytest.raises(FoldwiseError, match=r"times train.lr 0.05 is above 1: lower train.weight_decay to 0.02 or"):
        trained(samples, parameters(recipe | {"train.weight_decay": weight_decay}).train, deepcopy(model))
    state = trained(samples, parameters(recipe | {"train.weight_decay": 0.02}).train, deepcopy(model))
    assert len(state.losses) == 8 * STEPS


def test_weights_that_break_at_the_very_last_step_are_told(greys, parameters):
    with pytest.raises(FoldwiseError) as caught:
        trained(greys, parameters().train, Failing(2 * STEPS, math.nan, while_training=False))
    assert str(caught.value) == f"the loss is nan after an epoch: {SMALL}"


def test_no_network_is_frozen_whole(samples, parameters):
    layers = [nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10)]
    layers[2].requires_grad_(False)
    assert learnt(samples, parameters({"train.freeze_first_layer_after": 1}).train, layers) == [{"1"}] * 2


FEW = "batches of one image are too few for batch normalisation, and "


@pytest.mark.parametrize(
    ("n", "recipe", "told", "mended"),
    [
        (59, {"train.batch_size": 1}, "train.batch_size is 1: raise it to 3 or more", {"train.batch_size": 3}),
        (3, {"train.batch_size": 2}, "train.batch_size is 2: raise it to 3 or more", {"train.batch_size": 3}),
        (
            59,
            {"train.selective_backprop": 1e-3},
            "train.selective_backprop leaves one of 59 images: raise it to 0.04 or more",
            {"train.selective_backprop": 0.04},
        ),
        (
            1,
            {},
            "one image is all there is: raise data.subset or cv.k, or set model.name to a network without it",
            None,
        ),
    ],
)
def test_batches_of_one_image_are_refused_before_the_first_step(n, recipe, told, mended, samples, parameters):
    few, model = replace(samples, training=TRAINING[:n]), network()
    before = bits(model)
    with pytest.raises(FoldwiseError) as caught:
        trained(few, parameters(recipe).train, model)
    assert (str(caught.value), bits(model)) == (FEW + told, before)
    if mended:
        assert trained(few, parameters(recipe | mended).train).losses


@pytest.mark.parametrize("batch_size", [3, 4, 256])
@pytest.mark.parametrize("n", range(2, 12))
def test_three_images_a_batch_are_always_enough(n, batch_size, samples, parameters):
    recipe = parameters({"train.batch_size": batch_size, "train.epochs": 1}).train
    assert trained(replace(samples, training=TRAINING[:n]), recipe).losses


def test_batches_of_one_image_train_other_networks(greys, parameters):
    assert len(trained(greys, parameters({"train.batch_size": 1}).train, Watched()).losses) == 2 * 59


def freeze_all_but_last(model):
    for layer in model[:-1]:
        layer.requires_grad_(False)
    return model


def test_frozen_layers_stay_as_they_are_with_their_running_statistics(samples, parameters):
    before = bits(network())
    after = bits(trained(samples, parameters().train, freeze_all_but_last(network())).model)
    assert {name for name in after if after[name] != before[name]} == {"6.weight", "6.bias"}


def test_frozen_batch_normalisation_takes_batches_of_one_image(samples, parameters):
    train = parameters({"train.batch_size": 1}).train
    assert len(trained(samples, train, freeze_all_but_last(network())).losses) == 2 * 59


def stopping(parameters, patience=2, **changes):
    return parameters({"train.patience": patience, "train.epochs": 6} | changes).train


@pytest.mark.parametrize(
    ("script", "patience", "finished", "best"),
    [
        ([3, 1, 2, 2, 0, 0], 2, 4, 2),
        ([3, 1, 2, 0, 2, 2], 2, 6, 4),
        ([3, 1, 2, 0, 2, 2], 1, 3, 2),
        ([1, 1, 1, 1, 1, 1], 3, 4, 1),
        ([6, 5, 4, 3, 2, 1], 1, 6, 6),
        ([1, 2, 3, 4, 5, 6], 9, 6, 1),
    ],
)
def test_training_stops_without_a_better_inner_loss_and_goes_back(script, patience, finished, best, greys, parameters):
    model = Scripted(script, steps=3)  # without the inner split, 44 images in batches of up to 16
    state = trained(greys, stopping(parameters, patience), model)
    assert (len(state.epochs), int(model.steps)) == (finished, best * 3)


def test_without_patience_the_last_weights_are_kept(greys, parameters):
    model = Scripted([1, 2, 3, 4, 5, 6])
    trained(greys, stopping(parameters, patience=0), model)
    assert int(model.steps) == 6 * STEPS


def test_the_inner_split_is_of_the_training_images_alone(greys, parameters):
    model = Watched()
    trained(greys, stopping(parameters), model)
    inner = model.evaluated_on[1]
    assert sorted(chain(inner, *model.trained_on[:3])) == TRAINING.tolist()


def test_the_inner_split_is_stratified(greys, parameters):
    model = Watched()
    trained(greys, stopping(parameters), model)
    counts = np.bincount(np.array(model.evaluated_on[1]) % 10, minlength=10)
    assert (counts.sum(), counts.min(), counts.max()) == (15, 1, 2)


@pytest.mark.parametrize(
    ("n", "fraction", "purpose", "fits"),
    [(59, 0.1, "stop", 0.2), (59, 0.9999, "train", 0.8), (20, 0.4, "stop", 0.5), (20, 0.6, "train", 0.5)],
)
def test_an_inner_fraction_that_is_too_small_or_too_large_is_told_with_one_that_does(
    n, fraction, purpose, fits, greys, parameters
):
    few = replace(greys, training=TRAINING[:n])
    with pytest.raises(FoldwiseError) as caught:
        trained(few, stopping(parameters, **{"train.inner_fraction": fraction}), Watched())
    assert str(caught.value) == (
        f"train.inner_fraction is {fraction}, which of {n} training images leaves too few of 10 classes to {purpose} "
        f"on: set it to {fits}, or train.patience to 0"
    )
    assert trained(few, stopping(parameters, **{"train.inner_fraction": fits}), Watched()).losses


@given(each=st.lists(st.integers(2, 9), min_size=1, max_size=12), fraction=st.floats(1e-6, 1, exclude_max=True))
def test_where_each_class_has_two_images_a_named_inner_fraction_always_does(each, fraction):
    labels = torch.from_numpy(np.repeat(np.arange(len(each)), each))
    samples = Samples(torch.zeros(len(labels)), labels, np.arange(len(labels)), np.arange(0), np.arange(len(labels)))
    try:
        training._set_aside(samples, fraction, np.random.SeedSequence(0))
    except FoldwiseError as error:
        named = float(str(error).split("set it to ")[1].split(",")[0])
        assert [len(part) >= len(each) for part in training._set_aside(samples, named, np.random.SeedSequence(0))] == [
            True,
            True,
        ]


@given(
    labels=st.lists(st.integers(0, 2), min_size=30, max_size=60),
    fraction=st.floats(0.2, 0.6),
    entropy=st.integers(0, 99),
)
def test_where_all_images_are_on_their_own_the_inner_split_is_scikit_learns(labels, fraction, entropy):
    labels, stream = torch.tensor([0, 0, 1, 1, 2, 2, *labels]), np.random.SeedSequence(entropy)
    chosen = np.flatnonzero(np.arange(len(labels)) % 5 != 3)
    samples = Samples(torch.zeros(len(labels)), labels, chosen, np.arange(0), np.arange(len(labels)) + 4)
    try:
        found = training._set_aside(samples, fraction, stream)
    except FoldwiseError:
        assume(False)
    seed = int(stream.generate_state(1)[0])
    expected = train_test_split(chosen, test_size=fraction, random_state=seed, stratify=labels[chosen].numpy())
    assert [part.tolist() for part in found] == [sorted(part.tolist()) for part in expected]


@given(
    sizes=st.lists(st.integers(1, 6), min_size=20, max_size=40),
    fraction=st.floats(0.2, 0.6),
    entropy=st.integers(0, 99),
)
def test_the_inner_split_keeps_units_whole_and_has_some_of_each_class_on_both_sides(sizes, fraction, entropy):
    units = np.random.default_rng(entropy).permutation(np.repeat(np.arange(len(sizes)), sizes))
    samples = Samples(torch.zeros(len(units)), torch.from_numpy(units % 2), np.arange(len(units)), np.arange(0), units)
    parts = training._set_aside(samples, fraction, np.random.SeedSequence(entropy))
    assert sorted(np.concatenate(parts)) == list(range(len(units)))
    assert not set(units[parts[0]]) & set(units[parts[1]])
    assert [set(units[part] % 2) for part in parts] == [{0, 1}] * 2
    assert len(np.unique(units[parts[1]])) == math.ceil(fraction * len(sizes))


def test_a_class_of_one_group_is_too_few_for_the_inner_split(greys, parameters):
    units = np.where(np.arange(80) % 10 == 3, 3, np.arange(80))
    with pytest.raises(FoldwiseError) as caught:
        trained(replace(greys, units=units), stopping(parameters), Watched())
    assert str(caught.value) == (
        "class 3 has one training group, too few for the split of early stopping: set train.patience to 0"
    )


def test_a_class_of_one_image_is_no_matter_of_the_inner_fraction(greys, parameters):
    one = replace(greys, training=TRAINING[:11])
    with pytest.raises(FoldwiseError) as caught:
        trained(one, stopping(parameters), Watched())
    assert str(caught.value) == (
        "class 1 has one training image, too few for the split of early stopping: set train.patience to 0"
    )
    assert trained(one, stopping(parameters, patience=0), Watched()).losses
