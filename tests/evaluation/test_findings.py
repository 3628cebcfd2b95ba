from dataclasses import replace

import numpy as np
import pytest
from small_results import small_results

from foldwise.evaluation.findings import findings

pytestmark = pytest.mark.filterwarnings("error")

SURE = np.float32(-1e-2)  # logarithm of a probability of 0.99


def answering(labels, answers, sure=SURE, classes=3):
    """Log-probabilities of models that give each image one answer."""
    others = np.log((1 - np.exp(sure)) / (classes - 1))
    return np.where(np.arange(classes) == answers[:, None], sure, others).astype(np.float32)[None]


def run(labels, answers, sure=SURE, k=4):
    """A run of given labels and answers, its folds' scores with it."""
    results = small_results(n=len(labels), k=k)
    folds = results.folds.assignments[0]
    right = [float((answers == labels)[folds == fold].mean()) for fold in range(k)]
    scores = results.scores.assign(accuracy=right)
    return replace(results, labels=labels, out_of_fold=answering(labels, answers, sure), scores=scores)


def labelled(n=2000):
    return np.arange(n) % 3


def wrong(labels, share, seed=0):
    chosen = np.random.default_rng(seed).random(len(labels)) < share
    return np.where(chosen, (labels + 1) % 3, labels)


def test_a_good_run_gives_none():
    labels = labelled()
    assert findings(run(labels, wrong(labels, 0.02)), is_rescaled=False) == []


@pytest.mark.parametrize("accuracy", ["below", "equal"])
def test_models_no_better_than_the_commonest_class_are_told(accuracy):
    labels = np.repeat([0, 1, 2], [500, 1000, 500])
    answers = np.ones(2000, int) if accuracy == "equal" else wrong(labels, 0.7)
    (line,) = [line for line in findings(run(labels, answers), is_rescaled=True) if "commonest" in line]
    reached = {"below": f"{(answers == labels).mean():.4f}", "equal": "0.5000"}[accuracy]
    assert line.startswith(
        f"the accuracy out of fold, {reached}, is no better than that of always saying b, the commonest class, 0.5000: "
    )


def test_a_training_loss_that_rises_is_told_with_the_worst_fold():
    results = run(labelled(), labelled())
    epochs = results.epochs
    rising = (epochs["fold"] > 1) & (epochs["epoch"] == epochs["epoch"].max())
    epochs = epochs.assign(train_loss=np.where(rising, 0.5 + epochs["fold"], epochs["train_loss"]))
    assert findings(replace(results, epochs=epochs), is_rescaled=False) == [
        "the training loss of 2 of 4 folds rose, of repeat 0 fold 3 from 0.5000 to 3.5000: lower train.lr"
    ]


def test_folds_that_differ_by_more_than_chance_are_told():
    labels = labelled()
    folds = run(labels, labels).folds.assignments[0]
    answers = np.where(folds == 2, wrong(labels, 0.10), wrong(labels, 0.03, seed=1))
    (line,) = findings(run(labels, answers), is_rescaled=False)
    assert line.startswith("the accuracies of the folds, 0.8920 to 0.97")
    assert "differ by more than chance (p " in line


def test_folds_of_few_images_are_not_judged():
    labels = labelled(40)
    folds = run(labels, labels).folds.assignments[0]
    answers = np.where((folds == 2) & (np.arange(40) < 12), (labels + 1) % 3, labels)
    assert not any("folds" in line for line in findings(run(labels, answers), is_rescaled=False))


def test_chance_alone_hardly_ever_tells_of_unlike_folds():
    labels = labelled(800)
    told = [
        line
        for seed in range(200)
        for line in findings(run(labels, wrong(labels, 0.04, seed)), is_rescaled=False)
        if "chance" in line
    ]
    assert len(told) <= 2


def test_probabilities_that_mean_little_are_told_unless_they_are_rescaled():
    labels = labelled()
    results = run(labels, wrong(labels, 0.02), sure=np.float32(np.log(0.8)))
    assert findings(results, is_rescaled=True) == []
    assert findings(results, is_rescaled=False) == [
        "the calibration error is 0.174, so probabilities mean little as they are: `-S evaluate.temperature=true` "
        "reports them rescaled too"
    ]


@pytest.mark.parametrize(("share", "is_told"), [(0.03, False), (0.08, True)])
def test_labels_that_are_contradicted_with_confidence_are_told(share, is_told):
    right = labelled()
    given = wrong(right, share)
    lines = findings(run(given, right), is_rescaled=True)
    share = f"{(given != right).mean():.1%}"
    told = f"the models contradict {share} of the labels with confidence: some may be wrong; "
    told += "plots/images/label_suspicion.png shows the likeliest"
    assert lines == [told] * is_told


def test_models_in_doubt_contradict_no_label_with_confidence():
    labels = labelled()
    results = run(labels, wrong(labels, 0.2))
    doubtful = np.where(
        (results.out_of_fold.argmax(axis=2) == labels)[..., None], results.out_of_fold, results.out_of_fold / 8
    )
    doubtful -= np.log(np.exp(doubtful).sum(axis=2, keepdims=True))
    assert findings(replace(results, out_of_fold=doubtful.astype(np.float32)), is_rescaled=True) == []
