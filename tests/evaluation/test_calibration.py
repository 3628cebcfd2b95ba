"""Reliability and temperatures against scikit-learn, SciPy, or a sum done by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from foldwise.evaluation import calibration


def doubtful(n, decimals=8):
    """Give predictions of four classes, the probabilities rounded, and labels, some of them wrong."""
    random = np.random.default_rng(n)
    top = random.uniform(0.3, 0.97, n).round(decimals).clip(0.3, 0.97)
    rows = np.stack([top, *[(1 - top) / 3] * 3], axis=1)
    return np.log(rows).astype(np.float32), (random.random(n) > top).astype(np.int64)


def test_reliability_is_that_of_scikit_learns_quantile_bins():
    predicted, labels = doubtful(300)
    curve = calibration.reliability(predicted, labels)
    top = np.exp(predicted[:, 0].astype(float))
    accuracy, confidence = calibration_curve(labels == 0, top, n_bins=15, strategy="quantile")
    np.testing.assert_allclose([curve.accuracy, curve.confidence], [accuracy, confidence], rtol=1e-12)


def test_calibration_error_of_two_unequal_bins_is_that_by_hand():
    # confidences .6 .6 .7 (two right) and .9 .9 (one right): 3/5 |2/3 - 1.9/3| + 2/5 |1/2 - .9|
    top = np.array([0.6, 0.9, 0.7, 0.6, 0.9])
    log_probs = np.log(np.stack([top, 1 - top], axis=1))
    curve = calibration.reliability(log_probs, np.array([0, 0, 1, 0, 1]), bins=2)
    assert curve.calibration_error == pytest.approx(0.6 * 0.1 / 3 + 0.4 * 0.4)


def test_bins_of_reliability_differ_by_one_image_at_most_where_none_tie():
    assert calibration.reliability(*doubtful(100)).count.tolist() == [7] * 10 + [6] * 5


def test_fewer_images_than_bins_make_one_bin_each():
    assert calibration.reliability(*doubtful(4)).count.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("decimals", range(4))
@pytest.mark.parametrize("n", [1, 20, 500])
def test_bins_do_not_depend_on_the_order_of_the_images(n, decimals):
    predicted, labels = doubtful(n, decimals)
    first = calibration.reliability(predicted, labels)
    for order in (np.argsort(labels), np.random.default_rng(0).permutation(n)):
        again = calibration.reliability(predicted[order], labels[order])
        for one, other in zip(vars(first).values(), vars(again).values(), strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("decimals", range(4))
@pytest.mark.parametrize("n", [1, 20, 500])
def test_a_bin_is_no_larger_than_the_largest_group_of_equals_and_two_shares(n, decimals):
    predicted, labels = doubtful(n, decimals)
    group = np.unique(predicted[:, 0], return_counts=True)[1].max()
    count = calibration.reliability(predicted, labels).count
    assert (count.sum(), len(count) <= 15, count.max() <= group + 2 * -(-n // 15)) == (n, True, True)


def test_a_constant_predictor_that_is_right_half_the_time_is_calibrated():
    curve = calibration.reliability(np.log(np.full((300, 2), 0.5, np.float32)), np.repeat([0, 1], 150))
    assert (curve.count.tolist(), curve.calibration_error) == ([300], pytest.approx(0, abs=1e-7))


def test_certainties_that_float32_rounds_to_one_are_a_bin_of_their_own():
    predicted, labels = doubtful(1000)
    predicted[::2] = [0, -30, -30, -30]
    count = calibration.reliability(predicted, labels).count
    assert (count[-1], count[:-1].max() <= 67) == (500, True)


def predictions(n, classes=4, sharpness=3.0, seed=0):
    """Labels drawn from softmax(logits), and the log-probabilities of softmax(sharpness * logits)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes))
    labels = np.argmax(logits + rng.gumbel(size=(n, classes)), axis=1)
    return calibration.apply_temperature(logits, 1 / sharpness).astype(np.float32), labels


def test_temperature_is_that_of_scikit_learn():
    log_probs, labels = predictions(2000)
    classifier = LogisticRegression().fit(np.eye(4), np.arange(4))
    classifier.coef_, classifier.intercept_ = np.eye(4), np.zeros(4)  # decision_function returns what it is given
    scaled = CalibratedClassifierCV(FrozenEstimator(classifier), method="temperature", ensemble=False)
    scaled.fit(log_probs.astype(float), labels)
    expected = 1 / scaled.calibrated_classifiers_[0].calibrators[0].beta_
    assert calibration.fit_temperature(log_probs, labels) == pytest.approx(expected, rel=1e-3)


def test_temperature_of_overconfident_predictions_recovers_their_sharpness():
    assert calibration.fit_temperature(*predictions(100_000, sharpness=3.0)) == pytest.approx(3.0, rel=0.03)


def test_temperature_of_predictions_without_errors_stays_within_bounds():
    log_probs, _ = predictions(50)
    low, high = calibration.TEMPERATURE_BOUNDS
    assert low <= calibration.fit_temperature(log_probs, log_probs.argmax(1)) <= high


@pytest.mark.parametrize("n", [3, 50, 5000])
@pytest.mark.parametrize("margin", [1, 9])
def test_answers_without_an_error_are_as_certain_as_the_rule_of_succession_makes_them(n, margin):
    labels = np.arange(n) % 3
    log_probs = calibration.apply_temperature(margin * np.eye(3)[labels], 1.0)
    rescaled = calibration.apply_temperature(log_probs, calibration.fit_temperature(log_probs, labels))
    assert np.exp(rescaled.max(axis=1)) == pytest.approx((n + 1) / (n + 2), rel=1e-5)


def test_a_temperature_is_that_of_targets_written_out():
    log_probs, labels = predictions(30)
    targets = softmax(np.where(np.eye(4)[labels] == 1, -np.inf, log_probs.astype(float)), axis=1) / 32
    targets[np.arange(30), labels] = 31 / 32
    found = minimize(lambda t: -(targets * calibration.apply_temperature(log_probs, t[0])).sum(), 1.0, tol=1e-12)
    assert calibration.fit_temperature(log_probs, labels) == pytest.approx(found.x[0], rel=1e-4)


def test_an_absurd_opinion_of_one_class_does_not_spoil_a_temperature():
    log_probs, labels = predictions(500)
    log_probs[0, (labels[0] + 1) % 4] = -1e30
    assert calibration.fit_temperature(log_probs, labels) == pytest.approx(3, rel=0.2)


def test_one_class_alone_has_a_temperature():
    assert 0 < calibration.fit_temperature(np.zeros((5, 1), np.float32), np.zeros(5, int)) < np.inf


def test_temperature_of_useless_predictions_stays_within_bounds():
    log_probs, _ = predictions(50)
    low, high = calibration.TEMPERATURE_BOUNDS
    assert low <= calibration.fit_temperature(log_probs, log_probs.argmin(1)) <= high


def test_temperature_two_takes_the_square_root_of_the_odds():
    halved = calibration.apply_temperature(np.log(np.array([[0.8, 0.2]])), 2.0)
    assert np.exp(halved) == pytest.approx(np.array([[2 / 3, 1 / 3]]))


def cross_validated(repeats, n, k):
    predicted = [predictions(n, sharpness=2.0 + repeat)[0] for repeat in range(repeats)]
    rng = np.random.default_rng(7)
    assignments = np.stack([rng.permutation(np.arange(n) % k) for _ in range(repeats)]).astype(np.int32)
    return np.stack(predicted), predictions(n)[1], assignments


def test_cross_fitted_temperature_is_the_one_of_the_other_folds():
    log_probs, labels, assignments = cross_validated(repeats=2, n=90, k=3)
    _, temperatures = calibration.cross_fit_temperature(log_probs, labels, assignments)
    others = assignments[1] != 2
    assert temperatures[1, 2] == calibration.fit_temperature(log_probs[1, others], labels[others])


def test_cross_fitting_gives_each_image_the_temperature_of_its_fold():
    log_probs, labels, assignments = cross_validated(repeats=2, n=90, k=3)
    recalibrated, temperatures = calibration.cross_fit_temperature(log_probs, labels, assignments)
    repeat, image = 1, 5
    expected = calibration.apply_temperature(log_probs[repeat, image], temperatures[repeat, assignments[repeat, image]])
    np.testing.assert_array_equal(recalibrated[repeat, image], expected)


def test_changing_the_labels_of_a_fold_leaves_its_own_predictions_as_they_were():
    log_probs, labels, assignments = cross_validated(repeats=1, n=90, k=3)
    held_out = assignments[0] == 0
    before, _ = calibration.cross_fit_temperature(log_probs, labels, assignments)
    after, _ = calibration.cross_fit_temperature(log_probs, np.where(held_out, 3 - labels, labels), assignments)
    np.testing.assert_array_equal(before[0, held_out], after[0, held_out])


def test_cross_fitting_lowers_the_log_loss_of_overconfident_predictions():
    log_probs, labels, assignments = cross_validated(repeats=1, n=900, k=5)
    recalibrated, _ = calibration.cross_fit_temperature(log_probs, labels, assignments)
    assert log_loss(labels, np.exp(recalibrated[0])) < log_loss(labels, softmax(log_probs[0].astype(float), axis=1))


def test_bins_count_units_of_images_that_depend_on_each_other():
    confidence = np.array([0.6, 0.6, 0.7, 0.7, 0.8, 0.8], np.float32)
    log_probabilities, labels = np.log(np.stack([confidence, 1 - confidence], axis=1)), np.zeros(6, np.int64)
    found = calibration.reliability(log_probabilities, labels, np.array([4, 4, 4, 9, 0, 1]), bins=3)
    assert (found.count.tolist(), found.effective.tolist()) == ([2, 2, 2], [1, 2, 2])
    assert calibration.reliability(log_probabilities, labels, bins=3).effective.tolist() == [2, 2, 2]
