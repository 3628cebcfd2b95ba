"""Answers on runs made up in memory, against SciPy, statsmodels and sums done by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from small_runs import SIZE, run
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from foldwise.base.errors import FoldwiseError
from foldwise.compare.comparison import compare, compare_all

A = [0.90, 0.92, 0.91, 0.93, 0.89]
BETTER = [0.95, 0.96, 0.96, 0.97, 0.95]
NOISE = [0.91, 0.90, 0.93, 0.92, 0.90]
WORSE = [0.80, 0.83, 0.82, 0.82, 0.79]


def corrected(differences, k):
    """SciPy's plain t-test, its standard error widened by Nadeau and Bengio's factor."""
    plain = stats.ttest_1samp(differences, 0)
    widened = np.sqrt((1 / len(differences) + 1 / (k - 1)) / (1 / len(differences)))
    interval = plain.confidence_interval(0.95)
    half = (interval.high - interval.low) / 2 * widened
    mean = np.mean(differences)
    p = 2 * stats.t.sf(abs(plain.statistic) / widened, plain.df)
    return mean, mean - half, mean + half, p


def by_image(a, b):
    """The same of the images of one repeat, in folds of one size: whichever has the wider interval."""
    first, second = (one.results.out_of_fold[0].argmax(axis=1) == one.results.labels for one in (a, b))
    values = second.astype(float) - first
    k = a.results.folds.description.k
    folds = np.array([values[a.results.folds.assignments[0] == fold].mean() for fold in range(k)])
    ways = (len(values) - 1, stats.sem(values) * np.sqrt(1 + k / (k - 1))), (k - 1, stats.sem(folds))
    df, error = max(ways, key=lambda way: stats.t.ppf(0.975, way[0]) * way[1])
    half, mean = stats.t.ppf(0.975, df) * error, values.mean()
    return mean, mean - half, mean + half, 2 * stats.t.sf(abs(mean) / error, df), stats.t(df, mean, error)


@pytest.mark.parametrize(("b", "verdict"), [(BETTER, "better"), (WORSE, "worse"), (NOISE, "undecided")])
def test_the_verdict_follows_the_accuracies(b, verdict):
    assert compare(run(A), run(b, "b"), 0.1).verdict == verdict


def test_the_verdict_follows_accuracy_where_other_scores_disagree():
    b = run(NOISE, "b", scores={"f1_macro": BETTER, "log_loss": WORSE, "roc_auc_macro": BETTER})
    assert compare(run(A), b, 0.1).verdict == "undecided"


@pytest.mark.parametrize("primary", ["balanced_accuracy", "f1_macro", "roc_auc_macro"])
def test_the_verdict_follows_the_primary_score_of_a(primary):
    b = run(NOISE, "b", scores={primary: BETTER})
    assert compare(run(A, primary=primary), b, 0.1).verdict == "better"


@pytest.mark.parametrize(("b", "verdict"), [(BETTER, "worse"), (WORSE, "better"), (NOISE, "undecided")])
def test_a_lower_log_loss_is_better(b, verdict):
    compared = compare(run(A, primary="log_loss"), run(BETTER, "b", primary="log_loss", scores={"log_loss": b}), 0.1)
    assert compared.verdict == verdict


def test_the_belief_that_b_is_better_is_that_of_a_lower_log_loss():
    pairing = compare(run(A, primary="log_loss"), run(NOISE, "b", primary="log_loss"), 2.0).pairing
    higher = pairing.decisive.posterior(0.02)
    assert (pairing.posterior.p_worse, pairing.posterior.p_better) == pytest.approx((higher.p_better, higher.p_worse))
    assert higher.p_better > higher.p_worse


@pytest.mark.parametrize(("b", "rope", "verdict"), [(A, 0.1, "practically_same"), (A, 0.01, "undecided")])
def test_equal_accuracies_are_practically_the_same_within_what_one_image_makes(b, rope, verdict):
    assert compare(run(A), run(b, "b"), rope).verdict == verdict


@pytest.mark.parametrize(
    ("b", "rope", "verdict"),
    [
        (BETTER, 10, "practically_same"),
        (BETTER, 5, "better"),
        (WORSE, 20, "practically_same"),
        (WORSE, 10, "worse"),
        (NOISE, 5, "practically_same"),
        (NOISE, 1, "undecided"),
    ],
)
def test_a_difference_wholly_within_the_rope_is_practically_none(b, rope, verdict):
    assert compare(run(A), run(b, "b"), rope).verdict == verdict


@pytest.mark.parametrize("rope", [0, 0.1, 1, 5, 10])
@pytest.mark.parametrize("b", [BETTER, WORSE, NOISE, A])
def test_what_is_better_or_worse_is_believed_to_be(b, rope):
    found = compare(run(A), run(b, "b"), rope)
    belief = found.pairing.posterior
    sides = {"better": belief.p_better + belief.p_same, "worse": belief.p_worse + belief.p_same}
    assert sides.get(found.verdict, 1) > 0.95
    assert found.verdict != "practically_same" or belief.p_same > 0.95


def test_each_run_has_the_estimates_of_its_accuracy_and_of_the_primary_score():
    a = run(A, primary="f1_macro", scores={"f1_macro": [0.1, 0.9, 0.1, 0.2, 0.3]})
    estimates = compare(a, run(A, "b", primary="f1_macro"), 0.1).a.estimates
    mean, low, high, _ = corrected([0.1, 0.9, 0.1, 0.2, 0.3], k=5)
    assert list(estimates) == ["accuracy", "f1_macro"]
    assert (estimates["f1_macro"].mean, *estimates["f1_macro"].interval()) == pytest.approx((mean, low, high))


def test_a_primary_score_that_differs_is_noted():
    assert compare(run(A, primary="log_loss"), run(NOISE, "b"), 0.1).notes == (
        "evaluate.primary is log_loss in A and accuracy in B: both are judged by that of A",
    )


@pytest.mark.parametrize("values", [[np.nan] * 5, [0.9, *[np.nan] * 4]])
@pytest.mark.parametrize("side", ["main", "old"])
@pytest.mark.parametrize("changes", [{}, {"cv_seed": 1}])
def test_a_primary_score_that_a_run_lacks_is_told(side, values, changes):
    primary = {"primary": "balanced_accuracy"}
    lacking = {"scores": {"balanced_accuracy": values}}
    a, b = (lacking if name == side else {} for name in ("main", "old"))
    with pytest.raises(FoldwiseError) as caught:
        compare(run(A, "main", **primary, **a), run(BETTER, "old", **changes, **b), 0.1)
    assert str(caught.value) == (
        f"{side}: fewer than two folds have balanced_accuracy, the evaluate.primary of main: set another there, or "
        f"run {side} again with the code of main"
    )


def test_a_primary_score_that_the_runs_have_in_other_folds_is_told():
    a = run(A, "main", primary="roc_auc_macro", scores={"roc_auc_macro": [0.9, 0.8, *[np.nan] * 3]})
    b = run(A, "b", scores={"roc_auc_macro": [*[np.nan] * 3, 0.9, 0.8]})
    with pytest.raises(FoldwiseError, match=r"^b: fewer than two folds have roc_auc_macro"):
        compare(a, b, 0.1)


def test_a_score_that_an_older_version_did_not_write_counts_for_nothing_where_it_is_not_primary():
    b = run(BETTER, "old", scores={"balanced_accuracy": [np.nan] * 5, "f1_macro": [np.nan] * 5})
    compared = compare(run(A), b, 0.1)
    assert (compared.b.means["f1_macro"], compared.pairing.estimates["f1_macro"]) == (None, None)
    assert compared.verdict == "better"
    assert "balanced_accuracy" not in compared.b.means


def test_mcnemar_does_not_decide():
    labels = run(A).results.labels
    right = 9 * np.eye(3, dtype=np.float32)[labels][None]
    compared = compare(run(A, out_of_fold=-right), run(NOISE, "b", out_of_fold=right), 0.1)
    assert (compared.pairing.mcnemar.p < 1e-9, compared.verdict) == (True, "undecided")


def all_of(estimate):
    return (estimate.mean, *estimate.interval(), estimate.p)


def test_differences_of_one_repeat_are_those_of_the_images():
    a, b = run(A), run(BETTER, "b", seed=1)
    assert all_of(compare(a, b, 0.1).pairing.decisive) == pytest.approx(by_image(a, b)[:4])


@pytest.mark.parametrize("score", ["f1_macro", "roc_auc_macro"])
def test_differences_of_a_score_that_is_no_mean_over_images_are_those_of_the_corrected_t_test(score):
    estimate = compare(run(A), run(BETTER, "b"), 0.1).pairing.estimates[score]
    assert all_of(estimate) == pytest.approx(corrected(np.subtract(BETTER, A), k=5))


def test_differences_of_repeats_are_those_of_the_corrected_t_test():
    a, b = np.random.default_rng(0).uniform(0.5, 1, (2, 12))
    estimate = compare(run(a, repeats=3), run(b, "b", repeats=3), 0.1).pairing.decisive
    assert all_of(estimate) == pytest.approx(corrected(b - a, k=4))


def test_equal_answers_leave_the_doubt_of_one_image():
    estimate = compare(run(A), run(A, "b"), 0.1).pairing.decisive
    error = 1 / (5 * SIZE) * np.sqrt(1 + 5 / 4)
    assert (estimate.mean, estimate.half()) == pytest.approx((0, stats.t.ppf(0.975, 5 * SIZE - 1) * error))


def test_other_folds_can_be_dealt_but_of_folds_that_are_given_and_of_single_images():
    a, b = run(A), run(A, "b", seed=1)
    assert compare(a, b, 0.1).pairing.can_repeat
    given = a.results.folds.description.model_copy(update={"strategy": "given"})
    a, b = (
        replace(one, results=replace(one.results, folds=replace(one.results.folds, description=given)))
        for one in (a, b)
    )
    assert not compare(a, b, 0.1).pairing.can_repeat


def test_probabilities_are_of_the_difference_beyond_the_rope_in_points():
    a, b = run(A), run(NOISE, "b", seed=1)
    posterior = compare(a, b, rope=2.0).pairing.posterior
    belief = by_image(a, b)[4]
    expected = belief.cdf(-0.02), belief.cdf(0.02) - belief.cdf(-0.02), belief.sf(0.02)
    assert (posterior.p_worse, posterior.p_same, posterior.p_better) == pytest.approx(expected)


def with_class_broken(name, share, **changes):
    """A run that answers a share of the second class's images wrongly, and is right else as often as A."""
    one = run(A, name, **changes)
    out_of_fold, labels = one.results.out_of_fold.copy(), one.results.labels
    broken = np.flatnonzero(labels == 1)[: round(share * np.sum(labels == 1))]
    out_of_fold[:, broken] = np.log([0.8, 0.1, 0.1])
    return replace(one, results=replace(one.results, out_of_fold=out_of_fold))


def test_the_class_that_got_worse_is_found_and_p_values_are_adjusted_over_classes():
    changes = compare(run(A), with_class_broken("b", 0.3), 0.1).pairing.classes
    assert [change.name for change in changes] == ["first", "second", "third"]
    assert [change.n for change in changes] == [1667, 1667, 1666]
    assert [change.p < 0.05 for change in changes] == [False, True, False]
    assert changes[1].difference.mean == pytest.approx(-0.3 * 0.91, abs=0.02)
    raw = [change.difference.p for change in changes]
    assert [change.p for change in changes] == pytest.approx(multipletests(raw, method="holm")[1])


def test_a_class_is_compared_as_a_run_of_its_images_alone():
    a, b = run(A), run(NOISE, "b", seed=1)
    change = compare(a, b, 0.1).pairing.classes[2]
    among = a.results.labels == 2
    right = [one.results.out_of_fold[0, among].argmax(axis=1) == 2 for one in (a, b)]
    values, folds = right[1].astype(float) - right[0], a.results.folds.assignments[0, among]
    of_folds = [values[folds == fold].mean() for fold in range(5)]
    assert change.difference.mean == pytest.approx(np.mean(of_folds))
    assert change.b - change.a == pytest.approx(np.mean(of_folds))
    # Folds of nearly one size.
    half = max(1.9612 * stats.sem(values) * np.sqrt(1 + 5 / 4), stats.t.ppf(0.975, 4) * stats.sem(of_folds))
    assert change.difference.half() == pytest.approx(half, rel=0.01)


def test_classes_of_repeats_are_compared_by_their_folds():
    found = compare(run(A * 2, repeats=2), run(NOISE * 2, "b", repeats=2, seed=1), 0.1).pairing.classes
    assert {change.difference.df for change in found} == {9}


def test_a_class_that_fewer_than_two_folds_hold_out_is_not_compared():
    def rare(one):
        labels = np.where((one.results.labels == 1) & (one.results.folds.assignments[0] > 0), 0, one.results.labels)
        return replace(one, results=replace(one.results, labels=labels))

    found = compare(rare(run(A)), rare(run(NOISE, "b", seed=1)), 0.1).pairing.classes
    assert [change.name for change in found] == ["first", "third"]


def test_mcnemar_is_that_of_statsmodels_on_the_first_repeat():
    a, b = run(A * 2, repeats=2, seed=1), run(A * 2, "b", repeats=2, seed=2)
    found = compare(a, b, 0.1).pairing.mcnemar
    a_right, b_right = (one.results.out_of_fold[0].argmax(1) == one.results.labels for one in (a, b))
    counts = [[sum((a_right == x) & (b_right == y)) for y in (True, False)] for x in (True, False)]
    assert (found.only_a, found.only_b) == (counts[0][1], counts[1][0])
    assert found.p == pytest.approx(mcnemar(counts, exact=True).pvalue)


def test_folds_without_a_score_in_one_run_are_left_out_of_its_test():
    gap = [np.nan, *BETTER[1:]]
    test = compare(run(A), run(BETTER, "b", scores={"roc_auc_macro": gap}), 0.1).pairing.estimates["roc_auc_macro"]
    assert (test.mean, test.df) == (pytest.approx(np.mean(np.subtract(BETTER, A)[1:])), 3)


def test_a_score_that_one_fold_alone_has_is_not_tested():
    lone = [0.9, *[np.nan] * 4]
    compared = compare(run(A), run(BETTER, "b", scores={"roc_auc_macro": lone}), 0.1)
    assert compared.pairing.estimates["roc_auc_macro"] is None
    assert compared.b.means["roc_auc_macro"] == 0.9


def test_a_score_that_no_fold_has_has_no_mean():
    none = [np.nan] * 5
    assert compare(run(A, scores={"roc_auc_macro": none}), run(A, "b"), 0.1).a.means["roc_auc_macro"] is None


@pytest.mark.parametrize(
    ("changes", "unlike"),
    [
        ({"cv_seed": 1}, ("folds",)),
        ({"digests": {"normalized": "other"}}, ("data",)),
        ({"cv_seed": 1, "digests": {"normalized": "other"}}, ("data", "folds")),
    ],
)
def test_other_data_or_folds_are_not_paired(changes, unlike):
    compared = compare(run(A), run(BETTER, "b", **changes), 0.1)
    assert (compared.verdict, compared.unlike, compared.pairing) == ("not_paired", unlike, None)


def test_another_number_of_folds_is_not_paired():
    assert compare(run(A), run(BETTER[:4], "b"), 0.1).verdict == "not_paired"


def test_parameters_that_differ_are_given_with_both_values_and_others_are_not():
    a = run(A, parameters={"train.lr": 0.1, "train.seed": 0, "train.old": 1})
    b = run(A, "b", parameters={"train.lr": 0.2, "train.seed": 0, "train.new": None})
    assert compare(a, b, 0.1).parameters == {
        "train.lr": {"a": 0.1, "b": 0.2},
        "train.new": {"b": None},
        "train.old": {"a": 1},
    }


def test_code_that_differs_is_named():
    a, b = run(A, sources={"x.py": "1", "y.py": "1"}), run(A, "b", sources={"x.py": "2", "y.py": "1"})
    assert compare(a, b, 0.1).sources == ("x.py",)


def test_what_changed_after_the_run_is_noted_the_first_three_by_name():
    b = run(A, "b", changed=("c.py", "d.py", "train.lr", "train.seed"))
    assert compare(run(A), b, 0.1).notes == (
        "B (b): c.py, d.py, train.lr and 1 more changed after its results were made: `dvc repro` would make others",
    )


def test_libraries_that_are_not_those_pinned_are_noted():
    b = run(A, "b", libraries={"torch": "2.9.1"}, unpinned="torch 2.9.1 (pinned: 2.15.0)")
    assert compare(run(A), b, 0.1).notes == (
        "B (b): made with torch 2.9.1 (pinned: 2.15.0), not with what requirements.lock pins: "
        "`make -B .venv/installed` brings that, and `dvc repro -f` makes it again",
    )


def test_libraries_that_differ_between_the_runs_are_noted():
    a, b = ({"torch": torch, "numpy": "2.0"} for torch in ("2.9.1", "2.15.0"))
    assert compare(run(A, libraries=a), run(A, "b", libraries=b), 0.1).notes == (
        "A and B were made with different libraries: torch 2.9.1 and 2.15.0",
    )


def test_equal_predictions_are_noted():
    assert compare(run(A), run(A), 0.1).notes == ("A and B made the same predictions, to the bit",)


def test_one_other_run_is_compared_without_adjustment():
    (compared,) = compare_all(run(A), [run(BETTER, "b")], 0.1)
    assert compared == compare(run(A), run(BETTER, "b"), 0.1)


OTHERS = [BETTER, NOISE, WORSE, [0.93, 0.93, 0.94, 0.94, 0.93]]


def test_several_are_adjusted_by_holms_method_as_statsmodels_does():
    raw = [by_image(run(A), run(b, "b"))[3] for b in OTHERS]
    adjusted = [found.pairing.p for found in compare_all(run(A), [run(b, "b") for b in OTHERS], 0.1)]
    assert adjusted == pytest.approx(multipletests(raw, method="holm")[1])


def test_runs_that_cannot_be_paired_do_not_count_among_the_several():
    found = compare_all(run(A), [run(BETTER, "b"), run(BETTER, "c", cv_seed=1)], 0.1)
    assert found[0].pairing.p == found[0].pairing.decisive.p


def test_a_difference_that_holms_method_takes_away_is_no_difference():
    slight = run([0.92, 0.935, 0.93, 0.945, 0.91], "b", seed=1)
    assert compare(run(A), slight, 0.1).verdict == "better"
    assert {found.verdict for found in compare_all(run(A), [slight] * 5, 0.1)} == {"undecided"}


def with_groups(run, groups, units=None):
    """The same run, of images that come in groups."""
    folds = run.results.folds
    described = folds.description.model_copy(update={"groups": groups})
    folds = replace(folds, description=described, all_units=units)
    return replace(run, results=replace(run.results, folds=folds))


@pytest.mark.parametrize(("a", "b", "kept"), [("together", "torn", "A"), ("torn", "together", "B")])
def test_what_ignored_groups_flatter_is_noted(a, b, kept):
    notes = compare(with_groups(run(A), a), with_groups(run(A, "b"), b), 0.1).notes
    assert [note for note in notes if note.startswith(f"{kept} holds whole groups out")] != []


@pytest.mark.parametrize("groups", ["none", "together", "torn"])
def test_runs_that_treat_groups_alike_have_no_such_note(groups):
    notes = compare(with_groups(run(A), groups), with_groups(run(A, "b"), groups), 0.1).notes
    assert not any("groups" in note for note in notes)


def test_mcnemar_counts_one_image_of_each_group():
    one, other = run(A), run(A, "b", seed=1)
    units = np.arange(len(one.results.labels)) // 4
    grouped = compare(with_groups(one, "together", units), with_groups(other, "together", units), 0.1)
    right = [side.results.out_of_fold[0, ::4].argmax(axis=1) == side.results.labels[::4] for side in (one, other)]
    expected = (right[0] & ~right[1]).sum(), (~right[0] & right[1]).sum()
    assert (grouped.pairing.mcnemar.only_a, grouped.pairing.mcnemar.only_b) == expected
