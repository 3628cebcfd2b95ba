import re
from dataclasses import replace

import numpy as np
import pytest
from small_results import small_results

from foldwise.evaluation.calibration import reliability
from foldwise.evaluation.findings import findings
from foldwise.evaluation.results import OUT_OF_FOLD

pytestmark = pytest.mark.filterwarnings("error")

SURE = np.float32(-1e-2)  # logarithm of a probability of 0.99


def answering(labels, answers, sure=SURE, classes=3):
    """Log-probabilities of models that give each image one answer."""
    others = np.log((1 - np.exp(sure)) / (classes - 1))
    return np.where(np.arange(classes) == answers[:, None], sure, others).astype(np.float32)[None]


def run(labels, answers, sure=SURE, k=4, units=None):
    """A run of given labels and answers, its folds' scores with it."""
    results = small_results(n=len(labels), k=k, units=units)
    folds = results.folds.assignments[0]
    right = [float((answers == labels)[folds == fold].mean()) for fold in range(k)]
    scores = results.scores.assign(accuracy=right)
    return replace(results, labels=labels, out_of_fold=answering(labels, answers, sure), scores=scores)


def told(results, *, is_rescaled):
    error = reliability(*results.predictions()[OUT_OF_FOLD]).calibration_error
    summary = {"calibration_error": error} | ({"rescaled": {}} if is_rescaled else {})
    return findings(results, {"out_of_fold": summary})


def labelled(n=2000):
    return np.arange(n) % 3


def wrong(labels, share, seed=0):
    chosen = np.random.default_rng(seed).random(len(labels)) < share
    return np.where(chosen, (labels + 1) % 3, labels)


def test_a_good_run_gives_none():
    labels = labelled()
    assert told(run(labels, wrong(labels, 0.02)), is_rescaled=False) == []


COMMONEST = "is not clearly above that of always saying b, the commonest class, 0.5000: raise train.epochs, or lower "


@pytest.mark.parametrize(("share", "reached"), [(None, "0.5000"), (0.7, None), (0.49, None)])
def test_models_that_are_not_clearly_better_than_the_commonest_class_are_told(share, reached):
    labels = np.repeat([0, 1, 2], [500, 1000, 500])
    answers = wrong(labels, share) if share else np.ones(2000, int)
    (line,) = told(run(labels, answers), is_rescaled=True)
    reached = reached or f"{(answers == labels).mean():.4f}"
    assert line == f"the accuracy out of fold, {reached}, {COMMONEST}train.lr or train.weight_decay"


def test_models_that_are_somewhat_better_are_not():
    labels = np.repeat([0, 1, 2], [500, 1000, 500])
    lines = told(run(labels, wrong(labels, 0.43)), is_rescaled=True)
    assert not any("commonest" in line for line in lines)


def test_a_training_loss_that_rises_is_told_with_the_worst_fold():
    results = run(labelled(), labelled())
    epochs = results.epochs
    rising = (epochs["fold"] > 1) & (epochs["epoch"] == epochs["epoch"].max())
    epochs = epochs.assign(train_loss=np.where(rising, 0.5 + epochs["fold"], epochs["train_loss"]))
    assert told(replace(results, epochs=epochs), is_rescaled=False) == [
        "the training loss of 2 of 4 folds rose, of repeat 0 fold 3 from 0.5000 to 3.5000: lower train.lr"
    ]


def test_folds_that_differ_by_more_than_chance_are_told():
    labels = labelled()
    folds = run(labels, labels).folds.assignments[0]
    answers = np.where(folds == 2, wrong(labels, 0.10), wrong(labels, 0.03, seed=1))
    (line,) = told(run(labels, answers), is_rescaled=False)
    assert re.match(
        r"the worst fold's accuracy, 0\.8920, is further below the median, 0\.97\d\d, than chance explains: ", line
    )


def test_folds_that_differ_as_models_do_from_seed_to_seed_are_not():
    labels = labelled(200_000)
    folds = run(labels, labels).folds.assignments[0]
    shares = np.array([0.10, 0.09, 0.095, 0.11])
    answers = np.where(np.random.default_rng(0).random(len(labels)) < shares[folds], (labels + 1) % 3, labels)
    doubt = np.float32(np.log(0.9))
    assert not any("worst fold" in line for line in told(run(labels, answers, sure=doubt), is_rescaled=True))


def test_folds_of_few_images_are_not_judged():
    labels = labelled(40)
    folds = run(labels, labels).folds.assignments[0]
    answers = np.where((folds == 2) & (np.arange(40) < 12), (labels + 1) % 3, labels)
    assert not any("folds" in line for line in told(run(labels, answers), is_rescaled=False))


def test_folds_of_groups_differ_by_more_than_chance_and_are_not_told():
    labels = labelled()
    folds = run(labels, labels).folds.assignments[0]
    answers = np.where(folds == 2, wrong(labels, 0.10), wrong(labels, 0.03, seed=1))
    assert len(told(run(labels, answers, units=np.arange(2000)), is_rescaled=False)) == 1
    assert told(run(labels, answers, units=np.arange(2000) // 2), is_rescaled=False) == []


@pytest.mark.parametrize(("size", "is_told"), [(1, False), (2, False), (50, True), (200, True)])
def test_of_images_that_depend_on_each_other_units_count_against_the_commonest_class(size, is_told):
    labels = np.repeat([0, 1, 2], [500, 1000, 500])
    answers = wrong(labels, 0.43)
    lines = told(run(labels, answers, units=np.arange(2000) // size), is_rescaled=True)
    assert any("commonest" in line for line in lines) == is_told
    assert not is_told or lines[0].startswith(f"the accuracy out of fold, {(answers == labels).mean():.4f}, is not ")


@pytest.mark.parametrize(("size", "is_told"), [(1, True), (100, False)])
def test_of_images_that_depend_on_each_other_units_count_against_labels(size, is_told):
    labels = labelled()
    units = np.random.default_rng(1).permutation(2000) // size
    lines = told(run(labels, wrong(labels, 0.08), units=units), is_rescaled=True)
    assert any("contradict" in line for line in lines) == is_told


def test_chance_alone_hardly_ever_tells_of_unlike_folds():
    labels = labelled(800)
    lines = [
        line
        for seed in range(200)
        for line in told(run(labels, wrong(labels, 0.04, seed)), is_rescaled=False)
        if "worst fold" in line
    ]
    assert len(lines) <= 2


def test_probabilities_that_mean_little_are_told_unless_they_are_rescaled():
    labels = labelled()
    results = run(labels, wrong(labels, 0.02), sure=np.float32(np.log(0.8)))
    assert told(results, is_rescaled=True) == []
    assert told(results, is_rescaled=False) == [
        "the calibration error is 0.174, so probabilities mean little as they are: `-S evaluate.temperature=true` "
        "reports them rescaled too"
    ]


@pytest.mark.parametrize("n", [30, 60, 100, 200])
def test_few_images_say_nothing_of_calibration(n):
    lines = [line for seed in range(20) for line in told(calibrated(seed, n=n), is_rescaled=False)]
    assert not any("calibration" in line for line in lines)


def calibrated(seed, *, n=5000, concentration=0.3, classes=3, noise=0.0):
    """A run of models whose probabilities are right: labels are drawn by them, some then made wrong at random."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, concentration), n).clip(1e-6)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = np.array([random.choice(classes, p=row) for row in probabilities])
    wrong = random.random(n) < noise
    labels[wrong] = (labels[wrong] + random.integers(1, classes, wrong.sum())) % classes
    probabilities = (1 - noise) * probabilities + noise * (1 - probabilities) / (classes - 1)
    results = run(np.arange(n) % 3, np.arange(n) % 3)
    scores = results.scores.assign(accuracy=(probabilities.argmax(axis=1) == labels).mean())
    return replace(
        results,
        labels=labels,
        classes=[str(number) for number in range(classes)],
        out_of_fold=np.log(probabilities).astype(np.float32)[None],
        scores=scores,
    )


@pytest.mark.parametrize(("classes", "concentration"), [(2, 1), (2, 0.3), (3, 0.3), (10, 0.3), (10, 0.1), (40, 0.05)])
def test_models_that_are_rightly_in_doubt_accuse_no_labels(classes, concentration):
    for seed in range(3):
        results = calibrated(seed, classes=classes, concentration=concentration)
        assert told(results, is_rescaled=True) == []


@pytest.mark.parametrize(("classes", "concentration"), [(3, 0.01), (10, 0.01), (40, 0.003)])
@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_labels_that_are_wrong_at_random_are_told(classes, concentration, noise):
    results = calibrated(0, classes=classes, concentration=concentration, noise=noise)
    (line,) = told(results, is_rescaled=True)
    found = re.fullmatch(
        r"(.*)% of the labels contradict even the tenth of the answers that the models are surest of, so about as many "
        r"may be wrong: plots/images/label_suspicion.png shows the likeliest",
        line,
    )
    assert float(found[1]) == pytest.approx(100 * noise, abs=6)
