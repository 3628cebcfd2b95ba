import heapq
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldwise.execution.schedule import deal

plans = st.tuples(
    st.integers(1, 40), st.integers(1, 20), st.lists(st.floats(0.1, 1), min_size=1, max_size=8).map(tuple)
)


def lengths(plan, costs):
    """Give the share of its fold that each part is long."""
    ends = {part.place: 1.0 for part in plan}
    found = []
    for part in plan:
        end = ends[part.place] if part.until is None else sum(costs[: part.until]) / sum(costs)
        found.append(end - part.begin)
    return found


@given(plans)
def test_the_parts_of_a_fold_are_all_of_it_in_order(plan):
    n_folds, _, costs = plan
    parts = deal(*plan)
    for place in range(n_folds):
        own = [part for part in parts if part.place == place]
        ends = [None if part.until is None else sum(costs[: part.until]) / sum(costs) for part in own]
        assert own[0].begin == 0
        assert ends[-1] is None
        assert [part.begin for part in own[1:]] == pytest.approx(ends[:-1])


@given(plans)
def test_parts_come_in_the_order_in_which_they_start(plan):
    assert all(one.start <= other.start for one, other in pairwise(deal(*plan)))


@given(plans)
def test_folds_are_numbered_in_the_order_in_which_they_start(plan):
    places = [part.place for part in deal(*plan)]
    assert list(dict.fromkeys(places)) == list(range(plan[0]))


@given(plans)
def test_workers_that_take_the_next_part_end_with_the_plan_but_for_one_epoch(plan):
    n_folds, n_workers, costs = plan
    parts = deal(*plan)
    free = [0.0] * n_workers
    for length in lengths(parts, costs):
        heapq.heappush(free, heapq.heappop(free) + length)
    longest = max(costs) / sum(costs)
    assert max(free) <= max(1, n_folds / n_workers) + longest + 1e-9


@given(plans)
def test_no_part_is_planned_before_the_one_that_it_goes_on_from_has_ended(plan):
    _, _, costs = plan
    parts = deal(*plan)
    longest = max(costs) / sum(costs)
    for part, length in zip(parts, lengths(parts, costs), strict=True):
        later = [other for other in parts if other.place == part.place and other.begin > part.begin]
        assert all(part.start + length <= other.start + longest + 1e-9 for other in later)


def test_five_folds_leave_none_of_two_workers_idle():
    found = [(part.place, part.begin, part.until, part.start) for part in deal(5, 2, (1, 0.5, 0.5, 0.5, 0.5))]
    whole = [(place, 0, None, start) for place, start in ((0, 0), (2, 0.5), (3, 1), (4, 1.5))]
    assert found == [whole[0], (1, 0, 2, 0), *whole[1:], (1, 0.5, None, 2)]


@pytest.mark.parametrize(("folds", "workers", "epochs"), [(4, 2, 5), (5, 1, 5), (3, 8, 5), (5, 2, 1)])
def test_no_fold_is_cut_without_need(folds, workers, epochs):
    assert all((part.begin, part.until) == (0, None) for part in deal(folds, workers, (1,) * epochs))
