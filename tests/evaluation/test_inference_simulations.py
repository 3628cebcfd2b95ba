"""Do the tests and intervals keep what they promise when real learners are cross-validated, thousands of times over?

Two ridge classifiers, A and B, each see their own block of five features. Exchanging the blocks leaves the distribution
of the data as it is, so A and B are equally good, and every difference that a test calls is a false alarm. For the
power, B's classes are moved apart until its expected accuracy is 1, 2 or 3 standard errors (the standard deviation of
the mean difference over all simulated pairs) above A's.

Measured on 200 images, accuracy 0.83 to 0.84, with 2,000 pairs a setting; tests at 5 %, intervals at 95 %:

| folds x repeats                              |  5 x 1 | 10 x 1 |  5 x 4 | 10 x 3 |
| -------------------------------------------- | ------ | ------ | ------ | ------ |
| false alarms, corrected                      |  1.7 % |  0.9 % |  3.1 % |  2.5 % |
| false alarms, naive                          |  5.6 % |  5.4 % | 34.5 % | 25.8 % |
| coverage of the expected accuracy, corrected | 97.7 % | 98.9 % | 97.4 % | 97.4 % |
| coverage of the expected accuracy, naive     | 94.2 % | 94.8 % | 65.6 % | 73.9 % |
| coverage of a true difference of 2 SE        | 98.5 % | 99.2 % | 97.5 % | 97.5 % |
| power at a true difference of 1 SE           |  4.1 % |  4.1 % | 11.8 % |  9.4 % |
| power at a true difference of 2 SE           | 15.0 % | 17.1 % | 36.7 % | 35.1 % |
| power at a true difference of 3 SE           | 33.4 % | 45.0 % | 71.5 % | 71.3 % |

By image (`image_t`), single k-folds of 200 images: power at 2 SE 15.3 % (5 folds) and 19.3 % (10), at 3 SE 48.1 % and
56.2 %.

On 300 images, accuracy 0.993, two errors in all on average and often none:

| folds x repeats                              |  2 x 1 | 10 x 1 |  5 x 4 | 300 x 1 |
| -------------------------------------------- | ------ | ------ | ------ | ------- |
| false alarms, no resolution given            | 11.2 % |  0.2 % |  1.5 % |   0.1 % |
| false alarms, resolution given               |  0.0 % |  0.2 % |  1.5 % |   0.1 % |
| coverage, no resolution given                | 70.1 % | 85.0 % | 87.6 % |  84.8 % |
| coverage, resolution given                   |  100 % |  100 % | 99.9 % |   100 % |

On 180 to 380 images in groups that are held out together, their sizes lognormal, half of an image's variance its
group's; the ratio of test to training images is that of the largest fold, or the mean of the folds:

| groups, spread of log size  | 40, 1.2 | 40, 1.2 | 40, 1.8 | 40, 1.8 | 20, 1.2 | 20, 1.2 |
| folds                       |       5 |      10 |       5 |      10 |       5 |      10 |
| --------------------------- | ------- | ------- | ------- | ------- | ------- | ------- |
| images of the smallest fold |      47 |      18 |      46 |      14 |      26 |       9 |
| images of the largest fold  |      64 |      65 |     154 |     118 |      63 |      46 |
| false alarms, largest       |   1.8 % |   0.6 % |   1.0 % |   0.2 % |   1.1 % |   0.4 % |
| false alarms, mean          |   2.1 % |   1.4 % |   2.0 % |   1.7 % |   2.1 % |   1.7 % |
| coverage, largest           |  95.7 % |  97.2 % |  95.0 % |  97.5 % |  95.6 % |  96.2 % |
| coverage, mean              |  95.1 % |  95.2 % |  92.6 % |  94.1 % |  94.0 % |  93.3 % |

By image, groups as units: false alarms 0.8 %, 0.3 %, 1.1 %, 0.1 %, 0.9 %, 0.4 %; coverage 95.9 %, 97.0 %, 94.8 %,
97.7 %, 95.3 %, 96.5 %. With as many degrees of freedom as there are groups, and not their effective number: 93.5 % in
the third.

Where nine tenths of the variance are the group's (40, 1.2), coverage is 91.7 % and 94.7 %, with the mean 90.8 % and
91.3 %; with groups of one size 96.9 % and 97.2 %.

Equicorrelated Gaussian scores, 10,000 times: coverage 94.7 % (5 folds), 95.1 % (10), 95.2 % (10 folds, 3 repeats).
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.model_selection import StratifiedGroupKFold
from small_results import small_results

from foldwise.evaluation import inference

FEATURES = 5
PAIRS = 2000
NEARLY_PERFECT = {"n": 300, "separation": 2.5}
SINGLE, REPEATED = [(5, 1), (10, 1)], [(5, 4), (10, 3)]
# how much further apart B's classes are than A's for a true difference of 0, 1, 2 and 3 standard errors
GAPS = {
    (5, 1): (0.0, 0.159, 0.331, 0.533),
    (10, 1): (0.0, 0.157, 0.327, 0.518),
    (5, 4): (0.0, 0.153, 0.313, 0.488),
    (10, 3): (0.0, 0.153, 0.319, 0.500),
}


def ridge_weights(x, y):
    """Fit one ridge classifier without each fold: x (pairs, k, n / k, features), y (pairs, k, n / k) of -1 and 1."""
    gram = np.swapaxes(x, -1, -2) @ x
    moment = np.einsum("pkif,pki->pkf", x, y)
    gram = gram.sum(axis=1, keepdims=True) - gram + np.eye(FEATURES)
    moment = moment.sum(axis=1, keepdims=True) - moment
    return np.linalg.solve(gram, moment[..., None])[..., 0]


def expected_accuracy(weights, separation):
    """Accuracy of linear classifiers on infinitely many more images, which `draw` makes normal around their mean."""
    return norm.cdf(separation * weights.sum(axis=-1) / np.sqrt(FEATURES) / np.linalg.norm(weights, axis=-1))


def draw(rng, pairs, n, separation):
    """Labels -1 and 1 (pairs, n), and a block of features (pairs, n, features) for each separation."""
    y = rng.choice([-1.0, 1.0], size=(pairs, n))
    mean = y[..., None] / np.sqrt(FEATURES)
    return y, [rng.standard_normal((pairs, n, FEATURES)) + apart * mean for apart in separation]


@cache
def simulate(k, repeats, gap=0.0, *, n=200, separation=1.0):
    """Cross-validate A and B on PAIRS data sets.

    Scores (2, pairs, repeats * k), their expectations (2,), and which answers of the first repeat were right (2, pairs,
    n), fold by fold.
    """
    rng = np.random.default_rng([k, repeats])
    y, blocks = draw(rng, PAIRS, n, (separation, separation + gap))
    scores, expected, right = np.empty((2, PAIRS, repeats, k)), np.empty((2, repeats)), np.empty((2, PAIRS, n))
    for repeat in range(repeats):
        order = rng.permuted(np.tile(np.arange(n), (PAIRS, 1)), axis=1)
        labels = np.take_along_axis(y, order, axis=1).reshape(PAIRS, k, n // k)
        for learner, apart in enumerate((separation, separation + gap)):
            x = np.take_along_axis(blocks[learner], order[..., None], axis=1).reshape(PAIRS, k, n // k, FEATURES)
            weights = ridge_weights(x, labels)
            answers = (x @ weights[..., None])[..., 0] * labels > 0
            scores[learner, :, repeat] = np.mean(answers, axis=-1)
            if repeat == 0:
                right[learner] = answers.reshape(PAIRS, n)
            expected[learner, repeat] = expected_accuracy(weights, apart).mean()
    return scores.reshape(2, PAIRS, -1), expected.mean(axis=1), right


def calls(differences, ratio, **options):
    """How often the paired test calls a difference at the 5 % level."""
    return np.mean([inference.corrected_t(d, ratio, **options).p < 0.05 for d in differences])


def coverage(scores, ratio, truth, **options):
    """How often the interval of the mean holds the true value."""
    found = [inference.corrected_t(s, ratio, **options) for s in scores]
    return np.mean([abs(estimate.mean - truth) <= estimate.half() for estimate in found])


def by_image(values, folds, ratio, units=None):
    """Estimates of single k-folds from what their images add, (pairs, n)."""
    sizes = np.bincount(folds)
    scores = np.stack([values[:, folds == fold].mean(axis=1) for fold in range(len(sizes))], axis=1)
    each = zip(scores, values, strict=True)
    return [inference.image_t(*one, folds, ratio, units=units, resolution=1 / sizes.min()) for one in each]


def covers(estimates, truth):
    """How often intervals hold the true value."""
    return np.mean([abs(estimate.mean - truth) <= estimate.half() for estimate in estimates])


def power(k, repeats):
    """True difference in standard errors, and how often it is seen, for each gap of the setting."""
    for gap in GAPS[k, repeats]:
        (a, b), (expected_a, expected_b), _ = simulate(k, repeats, gap)
        yield (expected_b - expected_a) / (b - a).mean(axis=1).std(), calls(b - a, 1 / (k - 1))


def test_expected_accuracy_is_that_on_a_large_independent_set():
    rng = np.random.default_rng(0)
    y, (x,) = draw(rng, 1, 200, [1.0])
    weights = ridge_weights(x.reshape(1, 5, 40, FEATURES), y.reshape(1, 5, 40))[0, 0]
    large_y, (large_x,) = draw(rng, 1, 400_000, [1.0])
    assert np.mean((large_x @ weights) * large_y > 0) == pytest.approx(expected_accuracy(weights, 1.0), abs=0.003)


@pytest.mark.parametrize(("k", "repeats"), SINGLE + REPEATED)
def test_corrected_test_calls_equal_learners_different_in_at_most_six_per_cent(k, repeats):
    (a, b), _, _ = simulate(k, repeats)
    assert calls(b - a, 1 / (k - 1)) <= 0.06


@pytest.mark.parametrize(("k", "repeats"), REPEATED)
def test_naive_test_calls_equal_learners_different_in_at_least_ten_per_cent_once_repeated(k, repeats):
    (a, b), _, _ = simulate(k, repeats)
    assert calls(b - a, 0.0) >= 0.10


@pytest.mark.parametrize(("k", "repeats"), SINGLE + REPEATED)
def test_interval_covers_the_expected_accuracy_of_the_procedure(k, repeats):
    scores, expected, _ = simulate(k, repeats)
    assert coverage(scores[0], 1 / (k - 1), expected[0]) >= 0.94


@pytest.mark.parametrize(("k", "repeats"), SINGLE + REPEATED)
def test_paired_interval_covers_a_true_difference(k, repeats):
    (a, b), (expected_a, expected_b), _ = simulate(k, repeats, GAPS[k, repeats][2])
    assert coverage(b - a, 1 / (k - 1), expected_b - expected_a) >= 0.94


@pytest.mark.parametrize(("k", "repeats"), SINGLE + REPEATED)
def test_power_grows_with_the_true_difference(k, repeats):
    sizes, seen = zip(*power(k, repeats), strict=True)
    print(f"\n{k} x {repeats}: power", ", ".join(f"{s:.2f} SE {p:.1%}" for s, p in zip(sizes, seen, strict=True)))
    assert sizes == pytest.approx((0, 1, 2, 3), abs=0.1)
    assert seen[0] < seen[1] < seen[2] < seen[3]
    assert seen[3] >= 0.3


@pytest.mark.parametrize("k", [5, 10])
def test_by_image_equal_learners_are_called_different_in_at_most_six_per_cent(k):
    _, _, (a, b) = simulate(k, 1)
    estimates = by_image(b - a, np.repeat(np.arange(k), 200 // k), 1 / (k - 1))
    assert np.mean([estimate.p < 0.05 for estimate in estimates]) <= 0.06


@pytest.mark.parametrize("k", [5, 10])
def test_intervals_by_image_cover_the_expected_accuracy_and_a_true_difference(k):
    _, (expected_a, expected_b), (a, b) = simulate(k, 1, GAPS[k, 1][2])
    folds = np.repeat(np.arange(k), 200 // k)
    assert covers(by_image(a, folds, 1 / (k - 1)), expected_a) >= 0.94
    assert covers(by_image(b - a, folds, 1 / (k - 1)), expected_b - expected_a) >= 0.94


@pytest.mark.parametrize("k", [5, 10])
def test_by_image_a_true_difference_is_seen_more_often_than_by_fold(k):
    for gap in GAPS[k, 1][2:]:
        (by_fold, other), _, (a, b) = simulate(k, 1, gap)
        before = calls(other - by_fold, 1 / (k - 1))
        estimates = by_image(b - a, np.repeat(np.arange(k), 200 // k), 1 / (k - 1))
        now = np.mean([estimate.p < 0.05 for estimate in estimates])
        print(f"\n{k} x 1, gap {gap}: power {before:.1%} by fold, {now:.1%} by image")
        assert now > before


@pytest.mark.parametrize("k", [2, 10, 300])
def test_intervals_by_image_cover_a_nearly_perfect_accuracy(k):
    _, (expected, _), (right, _) = simulate(k, 1, **NEARLY_PERFECT)
    assert covers(by_image(right, np.repeat(np.arange(k), 300 // k), 1 / (k - 1)), expected) >= 0.94


def test_two_folds_that_agree_by_chance_call_equal_learners_different_unless_the_resolution_is_given():
    (a, b), _, _ = simulate(2, 1, **NEARLY_PERFECT)
    assert calls(b - a, 1.0) > 0.06
    assert calls(b - a, 1.0, resolution=1 / 150) <= 0.06


@pytest.mark.parametrize(("k", "repeats"), [(2, 1), (10, 1), (5, 4), (300, 1)])
def test_interval_covers_a_nearly_perfect_accuracy_only_if_the_resolution_is_given(k, repeats):
    (scores, _), (expected, _), _ = simulate(k, repeats, **NEARLY_PERFECT)
    assert coverage(scores, 1 / (k - 1), expected) < 0.94
    assert coverage(scores, 1 / (k - 1), expected, resolution=k / 300) >= 0.94


@pytest.mark.parametrize(("k", "folds"), [(5, 5), (10, 10), (10, 30)])
def test_interval_covers_95_per_cent_of_equicorrelated_gaussian_scores(k, folds):
    rng = np.random.default_rng(folds)
    shared, own = rng.standard_normal((10_000, 1)), rng.standard_normal((10_000, folds))
    scores = np.sqrt(1 / k) * shared + np.sqrt(1 - 1 / k) * own
    assert 0.94 <= coverage(scores, 1 / (k - 1), truth=0.0) <= 0.96


# Groups of images, their mean size, and the spread of its logarithm; how much of an image is its group's.
UNEQUAL = {
    "unequal": {"groups": 40, "typical": 3, "spread": 1.2, "shared": 0.5},
    "very unequal": {"groups": 40, "typical": 1.6, "spread": 1.8, "shared": 0.5},
    "few": {"groups": 20, "typical": 4.5, "spread": 1.2, "shared": 0.5},
}


@cache
def simulate_groups(k, kind):
    """Cross-validate A and B on images in groups, held out together, in folds as unequal as the groups make them.

    The images of a group are of one class, and have an effect in common that is drawn anew for each group, so that the
    classifiers are to be right on new groups. Fifty dealings, of 40 data sets each, which is quicker than 2,000.

    Returns
    -------
    scores : (2, dealings, data sets, k)
    expected : float
        Expected accuracy on images of new groups.
    held_out : (dealings, k) int
        Images of each fold.
    answers : list of (right, folds, groups) for each dealing
        Which answers were right, (2, data sets, images), the fold that holds each image out, and its group.
    """
    groups, typical, spread, shared = UNEQUAL[kind].values()
    rng, each = np.random.default_rng([k, groups]), PAIRS // 50
    scores, expected, held_out = np.empty((2, 50, each, k)), np.empty((2, 50)), np.empty((50, k), int)
    answers = []
    for dealing in range(50):
        group = np.repeat(np.arange(groups), np.ceil(rng.lognormal(np.log(typical), spread, groups)).astype(int))
        y = np.where(group % 2, 1.0, -1.0)
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=dealing)
        parts = [part for _, part in splitter.split(y, y, group)]
        held_out[dealing] = [len(part) for part in parts]
        folds = np.empty(len(y), int)
        answers.append((np.empty((2, each, len(y))), folds, group))
        for learner in range(2):
            own, common = (rng.standard_normal((each, size, FEATURES)) for size in (len(y), groups))
            x = np.sqrt(1 - shared) * own + np.sqrt(shared) * common[:, group] + y[:, None] / np.sqrt(FEATURES)
            gram = np.stack([np.swapaxes(x[:, part], 1, 2) @ x[:, part] for part in parts], axis=1)
            moment = np.stack([(x[:, part] * y[part, None]).sum(axis=1) for part in parts], axis=1)
            gram = gram.sum(axis=1, keepdims=True) - gram + np.eye(FEATURES)
            weights = np.linalg.solve(gram, (moment.sum(axis=1, keepdims=True) - moment)[..., None])
            for fold, part in enumerate(parts):
                right = (x[:, part] @ weights[:, fold])[..., 0] * y[part] > 0
                scores[learner, dealing, :, fold] = right.mean(axis=1)
                answers[-1][0][learner][:, part], folds[part] = right, fold
            expected[learner, dealing] = expected_accuracy(weights[..., 0], 1.0).mean()
    return scores, expected.mean(), held_out, answers


def ratio_of(held_out):
    """What a run with such folds takes for the ratio."""
    run, row = small_results(n=6), np.repeat(np.arange(len(held_out)), held_out)
    return replace(run, labels=row, folds=replace(run.folds, assignments=row[np.newaxis])).test_train_ratio


@pytest.mark.parametrize("kind", UNEQUAL)
@pytest.mark.parametrize("k", [5, 10])
def test_corrected_test_calls_equal_learners_different_in_at_most_six_per_cent_with_unequal_groups(k, kind):
    (a, b), _, held_out, _ = simulate_groups(k, kind)
    assert np.mean([calls(*some) for some in zip(b - a, map(ratio_of, held_out), strict=True)]) <= 0.06


@pytest.mark.parametrize("kind", UNEQUAL)
@pytest.mark.parametrize("k", [5, 10])
def test_interval_covers_the_expected_accuracy_on_new_groups(k, kind):
    (scores, _), expected, held_out, _ = simulate_groups(k, kind)
    dealt = zip(scores, map(ratio_of, held_out), strict=True)
    assert np.mean([coverage(*some, expected) for some in dealt]) >= 0.94


@pytest.mark.parametrize("kind", UNEQUAL)
@pytest.mark.parametrize("k", [5, 10])
def test_by_image_unequal_groups_keep_their_level_and_their_coverage(k, kind):
    _, expected, held_out, answers = simulate_groups(k, kind)
    called, covered = [], []
    for sizes, (right, folds, groups) in zip(held_out, answers, strict=True):
        called += [found.p < 0.05 for found in by_image(right[1] - right[0], folds, ratio_of(sizes), groups)]
        covered.append(covers(by_image(right[0], folds, ratio_of(sizes), groups), expected))
    print(f"\n{kind}, {k}: called {np.mean(called):.1%}, covered {np.mean(covered):.1%}")
    assert np.mean(called) <= 0.06
    assert np.mean(covered) >= 0.94
