import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR

from foldwise.learning.optimization import Muon, learning_rate, make_optimizer

pytestmark = pytest.mark.usefixtures("one_thread")

PEAK = 0.02
SCHEDULES = ["constant", "one_cycle", "cosine"]


def rates(schedule, steps):
    return [learning_rate(step, steps, schedule, PEAK) for step in range(steps)]


def rates_of_pytorch(make, steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(found) < steps:
            scheduler.step()
    return found


@pytest.mark.parametrize(("warmup", "steps"), [(1, 6), (5, 40), (39, 40)])
def test_a_warm_up_is_that_of_torchvisions_references(warmup, steps):
    def make(optimizer):
        rising = LinearLR(optimizer, start_factor=0.01, total_iters=warmup)
        falling = CosineAnnealingLR(optimizer, T_max=steps - warmup)
        return SequentialLR(optimizer, [rising, falling], milestones=[warmup])

    found = [learning_rate(step, steps, "cosine", PEAK, warmup) for step in range(steps)]
    assert found == pytest.approx(rates_of_pytorch(make, steps), rel=1e-6)
    constant = [learning_rate(step, steps, "constant", PEAK, warmup) for step in range(steps)]
    assert constant[:warmup] == found[:warmup]
    assert constant[warmup:] == [PEAK] * (steps - warmup)


@pytest.mark.parametrize("steps", [6, 7, 8, 40, 1000])
def test_one_cycle_is_that_of_pytorch(steps):
    expected = rates_of_pytorch(
        lambda optimizer: OneCycleLR(
            optimizer, PEAK, total_steps=steps, pct_start=0.2, anneal_strategy="linear", cycle_momentum=False
        ),
        steps,
    )
    assert rates("one_cycle", steps) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 40, 1000])
def test_cosine_is_that_of_pytorch(steps):
    expected = rates_of_pytorch(lambda optimizer: CosineAnnealingLR(optimizer, T_max=steps), steps)
    assert rates("cosine", steps) == pytest.approx(expected, rel=1e-9)


def test_constant_stays_at_the_peak():
    assert rates("constant", 7) == [PEAK] * 7


@given(schedule=st.sampled_from(SCHEDULES), steps=st.integers(1, 50))
def test_no_rate_is_above_the_peak_or_as_low_as_0(schedule, steps):
    assert all(0 < rate <= PEAK * (1 + 1e-12) for rate in rates(schedule, steps))


@pytest.mark.parametrize("steps", [5, 10, 1000])
def test_one_cycle_reaches_its_peak_after_a_fifth(steps):
    assert np.argmax(rates("one_cycle", steps)) == steps // 5 - 1


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
def test_frozen_weights_are_not_given_to_the_optimiser(name, parameters):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model, parameters({"train.optimizer": name}).train)
    given = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert {id(weight) for weight in given} == {id(weight) for weight in model[1].parameters()}


def steps_of(make, shape, steps=4):
    """Take steps on one weight with made-up gradients; give the weight after each."""
    random, found = torch.Generator().manual_seed(0), []
    weight = nn.Parameter(torch.randn(shape, generator=random))
    optimizer = make([weight])
    for _ in range(steps):
        weight.grad = torch.randn(shape, generator=random)
        optimizer.step()
        found.append(weight.detach().clone())
    return torch.stack(found)


@pytest.mark.parametrize("shape", [(5, 5), (4, 9), (9, 4)], ids=["square", "wide", "tall"])
def test_muon_is_that_of_pytorch_but_for_its_coarse_rounding(shape):
    ours = steps_of(lambda weights: Muon(weights, [], 0.1, 0.9, 0.05), shape)
    theirs = steps_of(
        lambda weights: torch.optim.Muon(weights, 0.1, momentum=0.9, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        shape,
    )
    assert (ours - theirs).abs().max() < 0.03 * (ours[-1] - ours[0]).abs().max()


def test_muon_takes_a_convolution_for_a_matrix_of_its_outputs():
    flat = steps_of(lambda weights: Muon(weights, [], 0.1, 0.9, 0.05), (4, 18))
    shaped = steps_of(lambda weights: Muon(weights, [], 0.1, 0.9, 0.05), (4, 2, 3, 3))
    assert torch.allclose(shaped.flatten(2), flat, atol=1e-6)


def test_muon_leaves_the_last_layer_and_all_vectors_to_adamw(parameters):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 3))
    optimizer = make_optimizer(model, parameters({"train.optimizer": "muon"}).train)
    matrices, others = ({id(weight) for weight in group["params"]} for group in optimizer.param_groups)
    assert matrices == {id(model[0].weight), id(model[3].weight)}
    assert others == {id(weight) for weight in model.parameters()} - matrices


@pytest.mark.parametrize("shape", [(7,), (3, 4)])
def test_what_muon_leaves_to_adamw_goes_as_by_that_of_pytorch_to_the_bit(shape):
    ours = steps_of(lambda weights: Muon([], weights, 0.1, 0.9, 0.05), shape)
    theirs = steps_of(lambda weights: torch.optim.AdamW(weights, 0.1, weight_decay=0, fused=True), shape)
    assert torch.equal(ours, theirs)


def test_muon_has_nothing_to_do_where_the_last_layer_alone_is_trained(parameters):
    optimizer = make_optimizer(nn.Linear(4, 3), parameters({"train.optimizer": "muon"}).train)
    assert [len(group["params"]) for group in optimizer.param_groups] == [0, 2]
