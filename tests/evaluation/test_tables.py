from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from small_results import small_results

from foldwise.data.folds import Description, Folds
from foldwise.evaluation import tables
from foldwise.evaluation.calibration import reliability
from foldwise.evaluation.inference import wilson
from foldwise.evaluation.results import ENSEMBLE, OUT_OF_FOLD, HeldOut
from foldwise.evaluation.scores import SCORES
from foldwise.evaluation.summary import recalibrate


def log(*rows):
    return np.log(np.array(rows, dtype=np.float32))


@pytest.fixture(scope="module")
def results():
    return small_results()


@pytest.fixture(scope="module")
def made(results):
    return tables.tables(results)


def steps_of(folds, steps):
    rows = [(0, fold, step, fold + 1 / step) for fold in range(folds) for step in range(1, steps + 1)]
    return pd.DataFrame(rows, columns=["repeat", "fold", "step", "loss"])


def test_no_table_is_empty(made):
    assert all(len(table) for table in made.values())


@pytest.mark.filterwarnings("error")
def test_without_a_test_set_no_table_is_empty_and_all_are_out_of_fold():
    results = small_results(n_test=0)
    made = tables.tables(results, recalibrate(results))
    assert all(len(table) for table in made.values())
    named = {name for table in made.values() if "predictions" in table for name in table["predictions"].unique()}
    assert named == {OUT_OF_FOLD, f"{OUT_OF_FOLD}, one temperature"}


def test_intervals_of_reliability_count_units():
    units = np.arange(180) // 4
    results = small_results(units=units)
    bins, alone = (tables.tables(run, recalibrate(run))["reliability"] for run in (results, small_results()))
    columns = ["predictions", "confidence", "accuracy", "images"]
    pd.testing.assert_frame_equal(bins[columns], alone[columns])
    predictions = results.predictions()
    assert bins["predictions"].unique().tolist() == [
        f"{name}{rescaled}" for rescaled in ("", ", one temperature") for name in predictions
    ]
    for name, of in {OUT_OF_FOLD: units[:120], ENSEMBLE: units[120:]}.items():
        curve = reliability(*predictions[name], of)
        rows = bins[bins["predictions"] == name]
        for row, count in zip(rows.itertuples(), curve.effective.round(), strict=True):
            interval = wilson(round(row.accuracy * count), int(count))
            assert (row.low, row.high) == pytest.approx((interval.low, interval.high), abs=1e-6)
    narrower = (alone["high"] - alone["low"]) < (bins["high"] - bins["low"])
    assert narrower.mean() > 0.5


ONE_CLASS = {"one of three classes": ("a", "b", "c"), "one class in all": ("a",)}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", ONE_CLASS.values(), ids=ONE_CLASS.keys())
def test_no_table_of_images_of_one_class_is_empty(results, classes):
    of_one = replace(
        results,
        labels=results.labels * 0,
        test_labels=results.test_labels * 0,
        classes=classes,
        out_of_fold=results.out_of_fold[..., : len(classes)],
        test=results.test[..., : len(classes)],
    )
    made = tables.tables(of_one, recalibrate(of_one))
    assert all(len(table) for table in made.values())
    assert set(made["roc"]["class"]) == {"chance"}


def test_no_more_rows_for_more_images():
    few, many = (tables.tables(small_results(n=n)) for n in (1000, 10_000))
    assert len(many["label_suspicion"]) == tables.ROWS
    assert sum(map(len, many.values())) < sum(map(len, few.values())) + tables.ROWS


def test_curves_of_many_classes_keep_the_table_short():
    names = [f"class {number}" for number in range(100)]
    made = tables.tables(small_results(n=2000, classes=names))
    assert made["roc"].groupby(["predictions", "class"]).size().max() <= tables.ROWS // 100


def test_leave_one_out_of_many_images_keeps_tables_short():
    made = tables.tables(small_results(n=300, k=300))
    assert max(map(len, made.values())) <= tables.ROWS


def test_floats_have_six_decimals(made):
    scores = made["fold_scores"]["score"]
    np.testing.assert_array_equal(scores, [float(f"{score:.6f}") for score in scores])


def test_batch_losses_are_means_of_equal_stretches():
    table = tables.loss_by_batch(steps_of(folds=1, steps=200))
    expected = (1 / np.arange(1, 201)).reshape(100, 2).mean(axis=1)
    np.testing.assert_allclose(table["loss"], expected)
    assert table["step"].tolist() == list(range(2, 201, 2))


def test_last_stretch_may_be_shorter():
    table = tables.loss_by_batch(steps_of(folds=1, steps=205))
    assert table["step"].iloc[-1] == 205
    assert table["loss"].iloc[-1] == pytest.approx(1 / 205)


def test_batch_losses_of_many_folds_are_thinned_further():
    table = tables.loss_by_batch(steps_of(folds=60, steps=200))
    assert table.groupby("fold").size().tolist() == [25] * 60


def test_no_more_than_sixty_folds_are_drawn_first_and_last_among_them():
    table = tables.loss_by_batch(steps_of(folds=150, steps=3))
    drawn = table["fold"].unique()
    assert (len(drawn), drawn[0], drawn[-1]) == (60, "fold 0", "fold 149")


def test_epochs_have_a_row_for_each_fold_and_set_of_images(results, made):
    assert made["accuracy_by_epoch"].groupby(["fold", "images"]).size().tolist() == [4] * 6
    table = made["accuracy_by_epoch"].set_index(["fold", "images", "epoch"])["accuracy"]
    assert table["fold 1", "training", 2] == pytest.approx(0.9)
    assert table["fold 1", "validation", 2] == pytest.approx(0.85)


def test_losses_by_epoch_are_losses(made):
    table = made["loss_by_epoch"].set_index(["fold", "images", "epoch"])["loss"]
    assert table["fold 0", "validation", 3] == pytest.approx(0.2)


def test_many_epochs_are_thinned_but_not_first_and_last():
    table = tables.by_epoch(small_results(epochs=400).epochs, "loss")
    epochs = table["epoch"].unique()
    assert (len(epochs), epochs[0], epochs[-1]) == (100, 1, 400)


def test_folds_of_repeats_are_told_apart():
    table = tables.by_epoch(small_results(repeats=2).epochs, "loss")
    assert list(table["fold"].unique()) == ["r0 f0", "r0 f1", "r0 f2", "r1 f0", "r1 f1", "r1 f2"]


def held_out(primary="accuracy", **columns):
    """Make up three folds of ten images each, with these scores."""
    assignments = np.repeat([[0, 1, 2]], 10, axis=1).astype(np.int32)
    base = {"repeat": [0] * 3, "fold": range(3), "n": [10] * 3}
    return HeldOut(
        folds=Folds(assignments, Description(strategy="kfold", k=3, repeats=1, seed=0, sha256="")),
        labels=np.zeros(30, np.int64),
        out_of_fold=np.zeros((1, 30, 2), np.float32),
        scores=pd.DataFrame(base | dict.fromkeys(SCORES, [np.nan] * 3) | columns),
        primary=SCORES[primary],
    )


def test_interval_of_the_mean_is_corrected_for_overlapping_training_sets():
    table = tables.fold_scores(held_out(f1_macro=[0.5, 0.4, 0.6]))
    table = table[table["measure"] == "macro F1"]
    half = stats.t.ppf(0.975, 2) * 0.1 * np.sqrt(1 / 3 + 1 / 2)
    np.testing.assert_allclose(table[["mean", "low", "high"]], [[0.5, 0.5 - half, 0.5 + half]] * 3)


def test_interval_of_a_log_loss_does_not_go_below_zero():
    table = tables.fold_scores(held_out(log_loss=[0.01, 0.5, 0.02]))
    assert (set(table["low"]), set(table["measure"])) == ({0.0}, {"log loss (lower is better)"})


def test_score_that_fewer_than_two_folds_have_is_left_out():
    table = tables.fold_scores(held_out(accuracy=[0.5, 0.4, 0.6], roc_auc_macro=[0.5, np.nan, np.nan]))
    assert list(table["measure"].unique()) == ["accuracy"]


def test_score_that_some_folds_lack_is_the_mean_of_the_others():
    table = tables.fold_scores(held_out(roc_auc_macro=[0.5, np.nan, 0.7]))
    assert table["fold"].tolist() == ["fold 0", "fold 2"]
    assert set(table["mean"]) == {0.6}


@pytest.mark.parametrize(("primary", "measures"), [("accuracy", []), ("balanced_accuracy", ["balanced accuracy"])])
def test_balanced_accuracy_is_shown_where_it_is_the_primary_score(primary, measures):
    table = tables.fold_scores(held_out(primary, log_loss=[0.1, 0.2, 0.1], balanced_accuracy=[0.5, 0.4, 0.6]))
    assert list(table["measure"].unique()) == [*measures, "log loss (lower is better)"]


def test_confusion_counts_by_actual_and_predicted_class():
    predictions = {"some": (log([0.9, 0.1], [0.2, 0.8], [0.3, 0.7]), np.array([0, 0, 1]))}
    table = tables.confusion(predictions, ["cat", "dog"]).set_index(["actual", "predicted"])["images"]
    assert table.to_dict() == {("cat", "cat"): 1, ("cat", "dog"): 1, ("dog", "cat"): 0, ("dog", "dog"): 1}


def test_confusion_of_many_classes_leaves_empty_pairs_out_and_keeps_their_order():
    names = [f"class {number}" for number in range(99, -1, -1)]
    made = tables.confusion(small_results(n=500, classes=names).predictions(), names)
    assert len(made) < 1000
    for _, one in made.groupby("predictions"):
        assert one["actual"].unique().tolist() == one["predicted"].unique().tolist() == names
    assert made.groupby("predictions")["images"].sum().to_dict() == {OUT_OF_FOLD: 500, ENSEMBLE: 60}


def test_confusion_has_every_image_of_both_sets_once(made):
    assert made["confusion"].groupby("predictions")["images"].sum().to_dict() == {OUT_OF_FOLD: 120, ENSEMBLE: 60}


def test_class_scores_of_a_worked_example():
    answers = log([0.8, 0.2], [0.4, 0.6], [0.3, 0.7])
    table = tables.class_scores({"some": (answers, np.array([0, 0, 1]))}, ["cat", "dog"])
    scores = table.set_index(["measure", "class"])["score"]
    assert scores["precision", "dog"] == pytest.approx(1 / 2)
    assert scores["recall", "cat"] == pytest.approx(1 / 2)
    assert scores["F1", "cat"] == pytest.approx(2 / 3)
    assert scores["ROC AUC", "dog"] == pytest.approx(1)


def test_class_scores_of_an_absent_class_are_missing():
    table = tables.class_scores({"some": (log([0.7, 0.2, 0.1]), np.array([0]))}, ["a", "b", "c"])
    assert table.loc[table["class"] == "c", "score"].isna().all()


def test_area_under_the_roc_points_is_the_area_under_the_curve(results, made):
    log_probabilities, labels = results.predictions()[OUT_OF_FOLD]
    points = made["roc"][(made["roc"]["predictions"] == OUT_OF_FOLD) & (made["roc"]["class"] == "b")]
    area = np.trapezoid(points["true_positive_rate"], points["false_positive_rate"])
    assert area == pytest.approx(roc_auc_score(labels == 1, log_probabilities[:, 1]), abs=1e-5)


def test_thinned_roc_keeps_the_area_and_the_end():
    results = small_results(n=9000)
    log_probabilities, labels = results.predictions()[OUT_OF_FOLD]
    points = tables.roc({"some": (log_probabilities, labels)}, results.classes)
    points = points[points["class"] == "a"]
    area = np.trapezoid(points["true_positive_rate"], points["false_positive_rate"])
    assert len(points) <= tables.POINTS
    assert area == pytest.approx(roc_auc_score(labels == 0, log_probabilities[:, 0]), abs=2e-3)
    assert points.iloc[-1, 2:].tolist() == [1, 1]


def sure(*margins):
    """Give float32 log-probabilities of two classes: of class 0, log p is 0 throughout, as where it saturates."""
    return np.array([[0, -margin] for margin in margins], dtype=np.float32)


def test_roc_tells_sure_images_apart():
    points = tables.roc({"some": (sure(20, 30, 40, 50), np.array([1, 1, 0, 0]))}, ["a", "b"])
    for _, curve in points.groupby("class"):
        assert np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"]) == 1


def test_class_without_images_has_no_roc():
    predictions = {"some": (log([0.7, 0.2, 0.1], [0.3, 0.6, 0.1]), np.array([0, 1]))}
    assert set(tables.roc(predictions, ["a", "b", "c"])["class"]) == {"a", "b"}


def test_reliability_compares_confidence_with_accuracy():
    answers = log(*[[0.8, 0.2]] * 30, *[[0.4, 0.6]] * 20)
    table = tables.reliability_curves({"some": (answers, np.repeat([0, 1, 0], [24, 6, 20]))})
    assert table["images"].tolist() == [20, 30]
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.8])
    assert table["accuracy"].tolist() == [0, 0.8]


def test_reliability_has_wilson_intervals():
    answers = np.repeat(log([0.8, 0.2]), 10, axis=0)
    table = tables.reliability_curves({"some": (answers, np.zeros(10, dtype=int))})
    # Ten of ten: Wilson's lower bound is n / (n + z^2).
    assert table[["low", "high"]].iloc[0].tolist() == pytest.approx([10 / (10 + stats.norm.ppf(0.975) ** 2), 1])


def test_rescaled_predictions_show_in_the_reliability_only(results):
    made, cooler = tables.tables(results, results), f"{OUT_OF_FOLD}, one temperature"
    with_it = [name for name, table in made.items() if "predictions" in table and cooler in set(table["predictions"])]
    assert with_it == ["reliability"]


def test_repeats_are_averaged_by_image(results):
    once, twice = log([0.9, 0.1], [0.1, 0.9]), log([0.2, 0.8], [0.3, 0.7])
    both = replace(results, out_of_fold=np.stack([once, twice]), labels=np.array([0, 0]), classes=["a", "b"])
    log_probabilities, _ = both.predictions()[OUT_OF_FOLD]
    np.testing.assert_allclose(np.exp(log_probabilities), [[0.55, 0.45], [0.2, 0.8]], rtol=1e-6)


def test_mistakes_come_with_the_most_certain_first():
    answers = log([0.6, 0.4], [0.3, 0.7], [0.1, 0.9], [0.2, 0.8])
    table = tables.mistakes(answers, np.array([0, 0, 0, 1]))
    assert table["index"].tolist() == [2, 1]
    assert table["probability"].tolist() == pytest.approx([0.9, 0.7])


def test_sure_mistakes_come_in_order_too():
    assert tables.mistakes(sure(20, 50, 30), np.ones(3, dtype=int))["index"].tolist() == [1, 2, 0]


def test_without_mistakes_there_are_none():
    assert len(tables.mistakes(log([0.6, 0.4]), np.array([0]))) == 0


def test_mistakes_are_no_more_than_the_gallery_holds():
    assert len(tables.mistakes(np.repeat(log([0.6, 0.4]), 100, axis=0), np.ones(100, dtype=int))) == tables.GALLERY


def test_wrong_label_is_suspected_first(results):
    labels = results.labels.copy()
    certain = results.out_of_fold[0].max(axis=1).argmax()
    labels[certain] = (results.out_of_fold[0, certain].argmax() + 1) % 3
    table = tables.label_issues(results.out_of_fold[0], labels, results.classes)
    assert table["index"].iloc[0] == certain
    assert table["given"].iloc[0] == results.classes[labels[certain]]


def test_label_issues_name_the_class_that_models_prefer_with_both_probabilities():
    table = tables.label_issues(log([0.2, 0.7, 0.1], [0.8, 0.1, 0.1]), np.array([0, 0]), ["a", "b", "c"])
    assert table.round(6).to_dict("records") == [
        {
            "rank": 1,
            "index": 0,
            "image": "0",
            "given": "a",
            "suggested": "b",
            "given_probability": 0.2,
            "suggested_probability": 0.7,
        }
    ]


def test_labels_contradicted_for_sure_come_in_order_too():
    table = tables.label_issues(sure(50, 70, 60), np.ones(3, dtype=int), ["a", "b"])
    assert table["index"].tolist() == [1, 2, 0]


def test_every_contradicted_label_is_listed():
    answers = log(*[[0.1, 0.9]] * 300, *[[0.9, 0.1]] * 200)
    table = tables.label_issues(answers, np.zeros(500, dtype=int), ["a", "b"])
    assert sorted(table["index"]) == list(range(300))


def test_without_a_contradicted_label_the_nearest_is_shown():
    table = tables.label_issues(log([0.9, 0.1], [0.6, 0.4], [0.7, 0.3]), np.zeros(3, dtype=int), ["a", "b"])
    assert table["index"].tolist() == [1]


FINDING = {
    "number": 1,
    "kind": "blank",
    "count": 2,
    "says": "2 images are blank",
    "examples": [[{"images": "training", "index": 3, "file_name": "a/b.png"}], [{"images": "test", "index": 0}]],
}


def test_the_audit_is_a_row_for_each_finding_with_its_first_images():
    assert tables.audit([FINDING]).to_dict("records") == [
        {"finding": 1, "kind": "blank", "count": 2, "says": "2 images are blank", "images": "a/b.png"}
    ]


def test_images_without_a_file_are_named_by_their_index():
    pair = [{"images": "training", "index": 3}, {"images": "test", "index": 0}]
    (row,) = tables.audit([FINDING | {"examples": [pair]}]).to_dict("records")
    assert row["images"] == "training image 3 = test image 0"


def test_an_audit_without_findings_says_so():
    assert tables.audit([])["says"].tolist() == ["nothing was found"]


def test_labels_to_check_name_files():
    table = tables.label_issues(sure(50), np.ones(1, dtype=int), ["a", "b"], ["x/y.png"].__getitem__)
    assert table["image"].tolist() == ["x/y.png"]
