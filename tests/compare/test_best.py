"""The best of many, on runs made up in memory, against sums done by hand and simulations whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from small_runs import run

from foldwise.base.errors import FoldwiseError
from foldwise.compare.best import allowing_for_the_choice, select
from foldwise.compare.comparison import compare

A = [0.90, 0.92, 0.91, 0.93, 0.89]
BETTER = [0.95, 0.96, 0.96, 0.97, 0.95]
NOISE = [0.91, 0.90, 0.93, 0.92, 0.90]


def test_runs_are_ranked_and_told_from_the_best_or_not():
    selection = select([run(A, "a"), run(BETTER, "best"), run([0.95, 0.96, 0.96, 0.96, 0.95], "near", seed=2)])
    found = {candidate.run.name: candidate.standing for candidate in selection.candidates}
    assert found == {"best": "best", "near": "not_told_apart", "a": "worse"}
    assert list(found) == ["best", "near", "a"]


def test_the_difference_to_the_best_is_that_of_a_comparison():
    a, best = run(A, "a"), run(BETTER, "best")
    _, last = select([a, best]).candidates
    assert last.difference == compare(best, a, 0.1).pairing.decisive
    assert last.p == last.difference.p


def test_a_lower_log_loss_is_the_better():
    runs = [run(A, name, primary="log_loss", scores={"log_loss": loss}) for name, loss in (("a", A), ("b", BETTER))]
    selection = select(runs)
    assert selection.candidates[0].run.name == "a"
    assert selection.allowed.mean > 0


def test_equal_predictions_are_looked_at_once():
    again = run(A, "again", digests={"predictions": "a"})
    selection = select([run(A, "a"), again, run(BETTER, "best")])
    assert [candidate.run.name for candidate in selection.candidates] == ["best", "a"]
    assert selection.same == {"again": "a"}


def test_p_values_are_adjusted_as_if_all_pairs_were_compared():
    runs = [run(A, str(seed), seed=seed) for seed in range(4)] + [run([0.915, 0.93, 0.92, 0.94, 0.90], "best")]
    raw = sorted(candidate.difference.p for candidate in select(runs).candidates[1:])
    adjusted = sorted(candidate.p for candidate in select(runs).candidates[1:])
    assert adjusted[0] == pytest.approx(min(1, 10 * raw[0]))


def test_with_folds_of_unequal_size_what_is_allowed_for_is_a_mean_of_folds_too():
    runs = []
    for seed in (1, 2):
        one = run(A, str(seed), seed=seed)
        labels = one.results.labels
        assignments = np.repeat(np.arange(5), [200, 300, 500, 1500, 2500])[np.newaxis].astype(np.int32)
        right = np.random.default_rng(seed).random(len(labels)) < np.where(assignments[0] < 3, 0.5, 0.95)
        answers = np.where(right, labels, (labels + 1) % 3)
        folds = replace(one.results.folds, assignments=assignments)
        out_of_fold = 9 * np.eye(3, dtype=np.float32)[answers][np.newaxis]
        table = one.results.scores.assign(accuracy=[right[assignments[0] == fold].mean() for fold in range(5)])
        results = replace(one.results, folds=folds, out_of_fold=out_of_fold, scores=table)
        runs.append(replace(one, results=results))
    selection = select(runs)
    assert selection.allowed.mean == pytest.approx(selection.candidates[0].estimate.mean, abs=0.02)
    assert selection.allowed.mean < 0.75


def test_images_of_one_unit_leave_nothing_to_draw():
    runs = []
    for seed in (1, 2):
        one = run(A, str(seed), seed=seed)
        units = np.zeros(len(one.results.labels), np.int64)
        runs.append(replace(one, results=replace(one.results, folds=replace(one.results.folds, all_units=units))))
    selection = select(runs)
    assert selection.allowed is None
    assert np.isfinite(selection.candidates[1].p)


def test_one_run_is_no_choice():
    assert select([run(A)]).allowed is None


def test_what_is_no_mean_over_images_is_ranked_alone():
    selection = select([run(A, primary="f1_macro"), run(BETTER, "b", primary="f1_macro")])
    assert (selection.candidates[0].run.name, selection.allowed) == ("b", None)


@pytest.mark.parametrize("changes", [{"cv_seed": 1}, {"digests": {"normalized": "x", "predictions": "other"}}])
def test_runs_on_other_folds_or_data_are_refused(changes):
    with pytest.raises(FoldwiseError, match=r"^other is on other folds or data than a: leave it out$"):
        select([run(A, "a"), run(BETTER, "other", **changes)])


def test_a_run_without_the_score_is_refused():
    with pytest.raises(
        FoldwiseError, match=r"^old is without f1_macro in two folds or more, the evaluate.primary of a: "
    ):
        select([run(A, "a", primary="f1_macro"), run(A, "old", scores={"f1_macro": [np.nan] * 5})])


def test_parameters_that_differ_between_any_two_are_given():
    runs = [
        run(A, name, seed=lr, parameters={"train.lr": lr, "cv.k": 5}) for name, lr in (("a", 1), ("b", 2), ("c", 1))
    ]
    assert {candidate.run.name: candidate.parameters for candidate in select(runs).candidates} == {
        "a": {"train.lr": 1},
        "b": {"train.lr": 2},
        "c": {"train.lr": 1},
    }


def straightforward(values, units, draws):
    """The same loop as Tsamardinos et al. print it, one draw at a time."""
    numbers, scores = np.unique(units), []
    random = np.random.default_rng(0)
    while len(scores) < draws:
        drawn = numbers[random.integers(len(numbers), size=len(numbers))]
        left = ~np.isin(units, drawn)
        if left.any():
            within = np.concatenate([np.flatnonzero(units == number) for number in drawn])
            scores.append(values[np.argmax(values[:, within].mean(axis=1)), left].mean())
    return np.mean(scores), *np.percentile(scores, [2.5, 97.5])


@pytest.mark.parametrize("together", [1, 3])
def test_the_bootstrap_is_that_of_the_paper(together):
    values = (np.random.default_rng(5).random((4, 60)) < 0.8).astype(float)
    units = np.arange(60) // together
    found = allowing_for_the_choice(values, units, draws=200)
    assert (found.mean, found.low, found.high) == pytest.approx(straightforward(values, units, 200))


def test_the_best_of_twenty_equal_ones_is_flattered_and_the_bootstrap_is_not():
    """Independent answers, each right with 0.8: the best of 20 on 200 images is flattered by 5 points."""
    face, allowed, covered = [], [], []
    for number in range(200):
        values = (np.random.default_rng(number).random((20, 200)) < 0.8).astype(float)
        found = allowing_for_the_choice(values, draws=100)
        face.append(values.mean(axis=1).max())
        allowed.append(found.mean)
        covered.append(found.low <= 0.8 <= found.high)
    assert np.mean(face) - 0.8 > 0.04
    assert np.mean(allowed) == pytest.approx(0.8, abs=0.01)
    assert np.mean(covered) >= 0.92


def test_the_same_runs_give_the_same_bytes_whatever_else_is_drawn():
    values = (np.random.default_rng(5).random((4, 60)) < 0.8).astype(float)
    first = allowing_for_the_choice(values)
    np.random.default_rng().random(5)
    assert allowing_for_the_choice(values) == first
