import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from foldwise.optimization import learning_rate, make_optimizers

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


@pytest.mark.parametrize("steps", [5, 6, 7, 40, 1000])
def test_one_cycle_is_that_of_pytorch(steps):
    expected = rates_of_pytorch(
        lambda optimizer: OneCycleLR(optimizer, PEAK, total_steps=steps, pct_start=0.2, anneal_strategy="linear", cycle_momentum=False), steps
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


@pytest.mark.parametrize("steps", [4, 8, 1000])
def test_one_cycle_reaches_its_peak_after_a_quarter(steps):
    assert np.argmax(rates("one_cycle", steps)) == steps // 4 - 1


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_frozen_weights_are_not_given_to_the_optimiser(name, parameters):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    model[0].requires_grad_(False)
    optimizers = make_optimizers(model, parameters({"train.optimizer": name}).train)
    given = [weight for optimizer in optimizers for group in optimizer.param_groups for weight in group["params"]]
    assert {id(weight) for weight in given} == {id(weight) for weight in model[1].parameters()}
