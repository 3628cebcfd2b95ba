"""Each formula against a source that is not our own: published figures, another library, or a sum done by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from foldwise.evaluation import inference

RATIO = 1 / 9
BASE = np.array([0.91, 0.93, 0.90, 0.94, 0.92, 0.91, 0.95, 0.92, 0.93, 0.90])
CHANGED = np.array([0.93, 0.93, 0.92, 0.95, 0.91, 0.93, 0.96, 0.94, 0.93, 0.92])


@pytest.fixture(scope="module")
def moons_scores():
    """AUC on 10 x 10 folds in scikit-learn's example "Statistical comparison of models using grid search".

    The figures asserted below are those that scikit-learn 1.6 publishes with that example. It gives one-sided p-values.
    """
    x, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    models = {"rbf": SVC(), "linear": SVC(kernel="linear"), "3_poly": SVC(kernel="poly", degree=3)}
    return {name: cross_val_score(model, x, y, cv=folds, scoring="roc_auc") for name, model in models.items()}


PUBLISHED = [
    ("linear", "rbf", 0.750, (0.068, 0.432, 0.500)),
    ("3_poly", "rbf", 1.657, (0.018, 0.100, 0.882)),
    ("3_poly", "linear", 1.111, (0.063, 0.187, 0.750)),
]


@pytest.mark.parametrize(("a", "b", "t", "probabilities"), PUBLISHED)
def test_paired_t_is_that_of_scikit_learns_example(moons_scores, a, b, t, probabilities):
    test = inference.corrected_t(moons_scores[b] - moons_scores[a], RATIO)
    assert (test.t, test.df) == (pytest.approx(t, abs=5e-4), 99)


def test_paired_p_is_twice_the_one_sided_p_of_scikit_learns_example(moons_scores):
    test = inference.corrected_t(moons_scores["rbf"] - moons_scores["linear"], RATIO)
    assert test.p == pytest.approx(2 * 0.227, abs=1e-3)


def test_paired_interval_is_that_of_scikit_learns_example(moons_scores):
    test = inference.corrected_t(moons_scores["rbf"] - moons_scores["linear"], RATIO)
    assert test.interval() == pytest.approx((-0.016445, 0.036445), abs=1e-6)


def test_mean_interval_at_three_quarters_is_that_of_scikit_learns_example(moons_scores):
    found = inference.corrected_t(moons_scores["rbf"] - moons_scores["linear"], RATIO)
    assert found.interval(0.75) == pytest.approx((-0.005422, 0.025422), abs=1e-6)


@pytest.mark.parametrize(("a", "b", "_", "probabilities"), PUBLISHED)
def test_bayesian_probabilities_are_those_of_scikit_learns_example(moons_scores, a, b, _, probabilities):
    posterior = inference.corrected_t(moons_scores[b] - moons_scores[a], RATIO).posterior(0.01)
    assert (posterior.p_worse, posterior.p_same, posterior.p_better) == pytest.approx(probabilities, abs=5e-4)


# two_on_single(BASE, CHANGED, rope=rope, runs=runs) of baycomp 1.0.3; with no rope it gives two probabilities
@pytest.mark.parametrize(
    ("runs", "rope", "probabilities"),
    [
        (1, 0, (0.0288008736347235, 0, 0.9711991263652765)),
        (1, 0.005, (0.005735659927486681, 0.12714600439098267, 0.8671183356815306)),
        (1, 0.02, (8.634448199813793e-05, 0.9455167400821252, 0.05439691543587666)),
        (2, 0.005, (0.018153550843990077, 0.17224468588363862, 0.8096017632723713)),
        (2, 0.02, (0.0005138195288588317, 0.8993849312551674, 0.10010124921597374)),
    ],
)
def test_bayesian_probabilities_are_those_of_baycomp(runs, rope, probabilities):
    posterior = inference.corrected_t(CHANGED - BASE, 1 / (10 / runs - 1)).posterior(rope)
    assert (posterior.p_worse, posterior.p_same, posterior.p_better) == pytest.approx(probabilities, abs=1e-12)


def test_without_overlap_the_mean_interval_is_the_plain_t_interval():
    expected = stats.ttest_1samp(BASE, 0).confidence_interval(0.95)
    assert inference.corrected_t(BASE, 0.0).interval() == pytest.approx(tuple(expected))


def test_without_overlap_the_paired_test_is_the_plain_paired_t_test():
    test = inference.corrected_t(CHANGED - BASE, 0.0)
    expected = stats.ttest_rel(CHANGED, BASE)
    assert (test.t, test.p, test.df) == pytest.approx((expected.statistic, expected.pvalue, expected.df))


def test_reported_spread_is_the_sample_standard_deviation():
    assert inference.corrected_t(np.array([0.0, 2.0]), RATIO).std == pytest.approx(np.sqrt(2))


def test_leave_one_out_interval_is_that_of_the_formula_by_hand():
    # 20 of 400 wrong: s^2 = 400/399 * 0.05 * 0.95, times 1/400 + 1/399; t(0.975, 399) = 1.965927 (R: qt(0.975, 399))
    scores = np.r_[np.zeros(20), np.ones(380)]
    half = 1.965927 * np.sqrt(400 / 399 * 0.05 * 0.95 * (1 / 400 + 1 / 399))
    assert inference.corrected_t(scores, 1 / 399).interval() == pytest.approx((0.95 - half, 0.95 + half), abs=1e-7)


def test_clipped_interval_ends_at_one():
    assert inference.corrected_t(np.array([0.99, 1.0]), 1.0).interval(bounds=(0, 1))[1] == 1


def test_clipped_interval_starts_at_zero():
    assert inference.corrected_t(np.array([0.0, 0.1]), 1.0).interval(bounds=(0, 1))[0] == 0


def test_interval_of_equal_scores_is_the_score_where_no_resolution_is_given():
    assert inference.corrected_t(np.full(5, 0.3), 0.25).interval() == (0.3, 0.3)


def test_resolution_keeps_scores_without_errors_from_being_certain():
    # ten folds of 30 images without an error: near the rule of three, 1 - 3/300 (Hanley and Lippman-Hand 1983, JAMA)
    found = inference.corrected_t(np.ones(10), RATIO, resolution=1 / 30)
    assert found.interval(bounds=(0, 1)) == (pytest.approx(1 - 3 / 300, abs=1e-3), 1)


def test_resolution_makes_equal_scores_as_uncertain_as_one_answer_in_one_fold_does():
    equal = inference.corrected_t(np.full(5, 0.3), 0.25, resolution=0.05)
    one_off = inference.corrected_t(np.array([0.3, 0.3, 0.3, 0.3, 0.35]), 0.25)
    assert equal.half() == pytest.approx(one_off.half())


def test_resolution_finer_than_the_spread_changes_nothing():
    assert inference.corrected_t(CHANGED - BASE, RATIO, resolution=0.01) == inference.corrected_t(CHANGED - BASE, RATIO)


def test_two_folds_that_agree_by_chance_are_no_evidence_at_the_resolution_of_an_answer():
    # both folds of 100 one answer better: t = 1 / sqrt(1/2 * 3/2) = 2 / sqrt(3), and with 1 df p = 1 - 2/pi atan(t)
    test = inference.corrected_t(np.array([0.01, 0.01]), 1.0, resolution=0.01)
    assert (test.t, test.p) == pytest.approx((2 / np.sqrt(3), 1 - 2 / np.pi * np.arctan(2 / np.sqrt(3))))


def test_runs_that_score_the_same_on_every_fold_have_a_p_value_of_one():
    test = inference.corrected_t(np.zeros(4), RATIO)
    assert (test.interval(), test.t, test.df, test.p) == ((0, 0), 0, 3, 1)


@pytest.mark.parametrize("difference", [0.9 - 0.8, 0.8 - 0.9])
def test_equal_differences_without_a_resolution_are_certain_also_after_rounding(difference):
    test = inference.corrected_t(np.array([difference, np.nextafter(difference, 1), difference]), RATIO)
    assert (test.t, test.p) == (np.sign(difference) * np.inf, 0)


# two_on_single of baycomp 1.0.3 for scores that differ by the same on each of four folds
@pytest.mark.parametrize(
    ("difference", "rope", "probabilities"),
    [(0.125, 0.01, (0, 0, 1)), (-0.125, 0.01, (1, 0, 0)), (0.0, 0.01, (0, 1, 0)), (0.125, 0.125, (0, 1, 0))],
)
def test_bayesian_probabilities_of_equal_differences_are_certain(difference, rope, probabilities):
    posterior = inference.corrected_t(np.full(4, difference), RATIO).posterior(rope)
    assert (posterior.p_worse, posterior.p_same, posterior.p_better) == probabilities


def test_a_mean_difference_of_half_the_interval_has_a_p_value_of_five_per_cent():
    differences = CHANGED - BASE
    visible = inference.corrected_t(differences, RATIO).half()
    assert inference.corrected_t(differences - differences.mean() + visible, RATIO).p == pytest.approx(0.05)


def test_tests_of_a_against_b_and_of_b_against_a_mirror_each_other():
    there, back = (inference.corrected_t(d, RATIO).posterior(0.01) for d in (CHANGED - BASE, BASE - CHANGED))
    assert (there.p_worse, there.p_better) == pytest.approx((back.p_better, back.p_worse))


@pytest.mark.parametrize("scores", [[0.5], [], [0.5, np.nan], [0.5, np.inf], [[0.5, 0.6]]])
def test_scores_that_give_no_interval_are_refused(scores):
    with pytest.raises(ValueError, match="needs at least two finite scores"):
        inference.corrected_t(np.array(scores), RATIO)


def test_negative_rope_is_refused():
    with pytest.raises(ValueError, match=r"rope must not be negative, got -0\.1"):
        inference.corrected_t(BASE, RATIO).posterior(-0.1)


# Newcombe (1998), Statistics in Medicine 17, table I, method 3
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_is_that_of_newcombes_table(successes, n, low, high):
    proportion = inference.wilson(successes, n)
    assert (proportion.low, proportion.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_at_another_level_is_that_of_statsmodels():
    proportion = inference.wilson(59_700, 60_000, confidence=0.9)
    expected = proportion_confint(59_700, 60_000, alpha=0.1, method="wilson")
    assert (proportion.estimate, proportion.low, proportion.high) == pytest.approx((0.995, *expected))


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_of_impossible_counts_is_refused(successes, n):
    with pytest.raises(ValueError):  # noqa: PT011 - the message is scipy's
        inference.wilson(successes, n)


def answers(both, only_a, only_b, neither):
    counts = [both, only_a, only_b, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_mcnemar_is_that_of_armitage_and_berry():
    # Statistical Methods in Medical Research (1994), p. 127: two culture media, 50 specimens; StatsDirect: P = 0.0129
    test = inference.mcnemar(*answers(20, 12, 2, 16))
    assert (test.only_a, test.only_b, test.p) == (12, 2, pytest.approx(0.0129, abs=5e-5))


@pytest.mark.parametrize("counts", [(794, 86, 150, 570), (5, 1, 1, 5), (9990, 3, 7, 0), (2, 0, 6, 2)])
def test_mcnemar_p_is_that_of_statsmodels(counts):
    both, only_a, only_b, neither = counts
    expected = statsmodels_mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue
    assert inference.mcnemar(*answers(*counts)).p == pytest.approx(expected)


def test_mcnemar_of_equal_answers_has_a_p_value_of_one():
    assert inference.mcnemar(*answers(3, 0, 0, 2)) == inference.McNemar(0, 0, 1.0)


def test_mcnemar_of_different_numbers_of_images_is_refused():
    with pytest.raises(ValueError, match=r"differ in shape: \(2,\) and \(1,\)"):
        inference.mcnemar(np.ones(2, bool), np.ones(1, bool))


def test_holm_is_that_of_the_stdlib_documentation():
    # stdlib.io, @stdlib/stats/padjust, second example; R's p.adjust(p, "holm") gives the same
    adjusted = inference.holm([0.319, 0.201, 0.4, 0.374, 0.113])
    assert adjusted == pytest.approx([0.957, 0.804, 0.957, 0.957, 0.565])


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03], [0.01, 0.01, 0.5], [0.7, 0.6], [0.0, 1.0], []])
def test_holm_is_that_of_statsmodels(p):
    expected = multipletests(p, method="holm")[1] if p else []
    assert inference.holm(p) == pytest.approx(expected)


@pytest.mark.parametrize("p", [[0.1, -0.1], [1.1], [np.nan]])
def test_p_values_outside_zero_to_one_are_refused(p):
    with pytest.raises(ValueError, match="p-values must lie in"):
        inference.holm(p)


FOLDS = np.arange(50) % 5
VALUES = np.random.default_rng(1).normal(0.2, 1, 50)


def of_folds(values, folds=FOLDS):
    return np.array([values[folds == fold].mean() for fold in range(folds.max() + 1)])


def test_by_images_the_error_is_that_of_the_mean_of_all_times_the_factor_of_nadeau_and_bengio():
    found = inference.image_t(of_folds(VALUES), VALUES, FOLDS, 1 / 4)
    assert (found.mean, found.df) == pytest.approx((VALUES.mean(), 49))
    assert found.error == pytest.approx(stats.sem(VALUES) * np.sqrt(1 + 5 / 4))
    assert found.scatter == pytest.approx(max(stats.sem(VALUES), stats.sem(of_folds(VALUES))))


def test_images_of_unequal_folds_weigh_as_their_fold_does():
    sizes = np.array([3, 3, 4, 4, 6, 6, 6, 6, 6, 6])
    folds = np.repeat(np.arange(10), sizes)
    found = inference.image_t(of_folds(VALUES, folds), VALUES, folds, 1 / 9)
    weights = np.repeat(1 / (10 * sizes), sizes)
    mean = np.sum(weights * VALUES)
    effective = np.sum(weights) ** 2 / np.sum(weights**2)  # Kish's
    by_hand = np.sqrt(effective / (effective - 1) * np.sum((weights * (VALUES - mean)) ** 2))
    assert (found.mean, found.df, found.scatter) == pytest.approx((mean, effective - 1, by_hand))


def test_images_of_a_unit_are_added_up_as_clustered_errors_are():
    units = np.arange(50) // 5
    found = inference.image_t(of_folds(VALUES), VALUES, FOLDS, 1 / 4, units=units)
    clustered = OLS(VALUES, np.ones(50)).fit(cov_type="cluster", cov_kwds={"groups": units}).bse[0]
    assert (found.df, found.scatter) == pytest.approx((9, clustered))


def test_where_no_image_is_wrong_one_unit_is_supposed_to_be():
    # near the rule of three for 20 groups of 30: 1 - 3/20
    values, units = np.ones(600), np.repeat(np.arange(20), 30)
    found = inference.image_t(np.ones(5), values, units % 5, 1 / 4, units=units, resolution=1 / 120)
    assert found.interval()[0] == pytest.approx(1 - 3 / 20, abs=0.01)


def test_images_of_nearly_one_unit_are_estimated_by_their_folds():
    found = inference.image_t(of_folds(VALUES), VALUES, FOLDS, 1 / 4, units=np.zeros(50, int))
    assert found == inference.corrected_t(of_folds(VALUES), 1 / 4)


def test_folds_that_scatter_more_than_their_images_do_give_the_plain_t_interval():
    values = np.repeat([0.0, 1.0, 2.0, 3.0, 4.0], 10)
    found = inference.image_t(np.arange(5.0), values, np.repeat(np.arange(5), 10), 1 / 4)
    assert found.interval() == pytest.approx(tuple(stats.ttest_1samp(np.arange(5.0), 0).confidence_interval()))


def test_equal_images_leave_the_doubt_of_one_of_them():
    found = inference.image_t(np.ones(5), np.ones(50), FOLDS, 1 / 4, resolution=1 / 10)
    # near the rule of three for 50 images without an error: 1 - 3/50
    assert found.interval(bounds=(0, 1)) == (pytest.approx(1 - 3 / 50, abs=2e-3), 1)


def test_leave_one_out_by_images_is_as_by_folds():
    scores = np.r_[np.zeros(20), np.ones(380)]
    by_images = inference.image_t(scores, scores, np.arange(400), 1 / 399)
    assert by_images.half() == pytest.approx(inference.corrected_t(scores, 1 / 399).half())


def test_a_difference_that_is_seen_with_80_per_cent_is_seen_so_often():
    estimate = inference.image_t(of_folds(VALUES), VALUES, FOLDS, 1 / 4)
    means = np.random.default_rng(0).normal(estimate.seen(), estimate.scatter, 20_000)
    assert np.mean(means > estimate.half()) == pytest.approx(0.8, abs=0.01)


def test_what_repeats_would_bring_is_what_folds_that_scatter_so_bring():
    one = inference.corrected_t(BASE, RATIO)
    foreseen = inference.repeated(one, 10, 30, RATIO)
    thrice = inference.corrected_t(np.tile(BASE, 3), RATIO)
    # The sample deviation of thirty has 29 in the place of 27.
    assert foreseen.half() == pytest.approx(thrice.half() * np.sqrt(29 / 27))
    assert foreseen.mean == pytest.approx(BASE.mean())
