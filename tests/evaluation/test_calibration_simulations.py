"""What rescaling costs and brings where errors are few or gathered.

A temperature fitted to the other four of five folds, ten classes, five times; log loss as it is, and rescaled with
labels taken to be certain, as Guo et al. do, and with the targets of `fit_temperature`; `sharpness` times the logits:

| images | errors         | sharpness 0.35      | sharpness 0.7       | sharpness 1.5       | sharpness 4         |
| ------ | -------------- | ------------------- | ------------------- | ------------------- | ------------------- |
| 600    | 0              | 0.516, 0.006, 0.008 | 0.088, 0.010, 0.007 | 0.007, 0.018, 0.007 | 0.003, 0.042, 0.007 |
| 600    | 5              | 0.525, 0.055, 0.054 | 0.112, 0.055, 0.054 | 0.055, 0.055, 0.054 | 0.126, 0.055, 0.054 |
| 600    | 5, in one fold | 0.535, 0.192, 0.068 | 0.119, 0.286, 0.068 | 0.061, 0.499, 0.069 | 0.141, 1.158, 0.069 |
| 6000   | 5, in one fold | 0.519, 0.013, 0.010 | 0.092, 0.013, 0.010 | 0.011, 0.013, 0.010 | 0.013, 0.013, 0.010 |
| 6000   | 300            | 0.619, 0.226, 0.226 | 0.247, 0.226, 0.226 | 0.289, 0.226, 0.226 | 0.712, 0.226, 0.226 |
"""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from foldwise.evaluation import calibration


def answered(rng, n, errors, sharpness):
    """Log-probabilities (n, 10) with so many errors, and labels: the errors stand first, less sure than the rest."""
    labels = rng.integers(0, 10, n)
    logits = 1.5 * rng.normal(size=(n, 10)) + 8 * np.eye(10)[labels]
    wrong = np.arange(errors)
    logits[wrong, labels[wrong]] -= 8
    logits[wrong, (labels[wrong] + 1) % 10] += rng.uniform(1, 5, errors)
    return log_softmax(sharpness * logits, axis=1), labels


def certain_labels(log_probs, labels):
    """Temperature of the greatest likelihood, within the same bounds."""
    true = log_probs[np.arange(len(labels)), labels]

    def loss(log_t):
        return (logsumexp(log_probs / np.exp(log_t), axis=1) - true / np.exp(log_t)).mean()

    return np.exp(minimize_scalar(loss, bounds=np.log(calibration.TEMPERATURE_BOUNDS), method="bounded").x)


def rescaled_loss(n, errors, sharpness, gathered, fit=calibration.fit_temperature):
    """Mean log loss as it is and cross-fitted on five folds; `gathered`: all errors are in one fold."""
    rng = np.random.default_rng([n, errors])
    losses = []
    for _ in range(5):
        log_probs, labels = answered(rng, n, errors, sharpness)
        folds = np.arange(n) * 5 // n if gathered else rng.permutation(np.arange(n) % 5)
        temperatures = np.array([fit(log_probs[folds != fold], labels[folds != fold]) for fold in range(5)])
        rescaled = calibration.apply_temperature(log_probs, temperatures[folds])
        losses.append([-answers[np.arange(n), labels].mean() for answers in (log_probs, rescaled)])
    return np.mean(losses, axis=0)


SHARPNESS = [0.35, 0.7, 1.5, 4]


@pytest.mark.parametrize("sharpness", SHARPNESS)
@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("errors", [0, 1, 5, 10])
@pytest.mark.parametrize("n", [60, 600, 6000])
def test_rescaling_costs_no_more_than_the_loss_of_a_few_images(n, errors, gathered, sharpness):
    plain, rescaled = rescaled_loss(n, errors, sharpness, gathered)
    # n answers cannot tell a loss below some 3 / n from none.
    assert rescaled <= 1.2 * plain + 3 / n


def test_certain_labels_make_rescaling_cost_several_times_the_loss_where_one_fold_holds_the_errors():
    plain, rescaled = rescaled_loss(600, 5, 0.7, gathered=True, fit=certain_labels)
    assert rescaled > 2 * plain


@pytest.mark.parametrize("sharpness", SHARPNESS)
def test_the_temperature_of_many_images_and_errors_is_that_of_the_greatest_likelihood(sharpness):
    log_probs, labels = answered(np.random.default_rng(0), 6000, 300, sharpness)
    assert calibration.fit_temperature(log_probs, labels) == pytest.approx(certain_labels(log_probs, labels), rel=0.005)


@pytest.mark.parametrize("errors", [0, 1])
@pytest.mark.parametrize("n", [2, 5, 20])
def test_the_temperature_of_few_images_stays_near_one_where_the_model_is_about_right(n, errors):
    log_probs, labels = answered(np.random.default_rng(n), n, errors, 0.7)
    assert 0.5 < calibration.fit_temperature(log_probs, labels) < 3
