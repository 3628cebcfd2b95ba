import pytest

from foldwise.evaluation.headline import describe

ACCURACY = {"mean": 0.98765, "std": 0.001, "ci95_low": 0.98, "ci95_high": 0.99}
REST = {
    "out_of_fold": {"n": 60, "errors": 3, "accuracy": 0.95, "log_loss": 0.1, "calibration_error": 0.02},
    "test": {"accuracy": {"mean": 0.9, "std": None}, "ensemble": {"accuracy": 0.91, "errors": 7}},
}


def test_the_console_gets_the_headline_numbers():
    assert describe({"cv": {"accuracy": ACCURACY, "log_loss": {"mean": 0.1, "std": 0.01}}, **REST}) == (
        "accuracy over folds  0.9877, 95 % interval 0.9800 to 0.9900\n"
        "out of fold          0.9500, 3 errors in 60 images, log loss 0.1000, calibration error 0.0200\n"
        "test set             0.9000 a model, 0.9100 averaged (7 errors)"
    )


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ({"ci95_low": 0.97, "ci95_high": 0.99}, "0.9800, 95 % interval 0.9700 to 0.9900"),
        ({"ci95_low": None, "ci95_high": None}, "undefined in all folds or all but one"),
    ],
)
def test_a_primary_score_that_is_not_accuracy_is_named_too(interval, text):
    primary = {"mean": 0.98, "std": 0.01} | interval
    lines = describe({"cv": {"accuracy": ACCURACY, "balanced_accuracy": primary}, **REST}).splitlines()
    assert lines[0] == "accuracy over folds           0.9877, 95 % interval 0.9800 to 0.9900"
    assert lines[1] == f"balanced accuracy over folds  {text}"


def test_without_a_test_set_none_is_named():
    lines = describe({"cv": {"accuracy": ACCURACY}, "out_of_fold": REST["out_of_fold"]}).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["accuracy over folds", "out of fold"]


def test_test_images_apart_from_training_are_named():
    test = REST["test"] | {"apart": {"n": 48, "errors": 9, "accuracy": 0.8125, "calibration_error": 0.1}}
    line = describe({"cv": {"accuracy": ACCURACY}, **REST, "test": test}).splitlines()[-1]
    assert line == ("test set apart       0.8125 averaged, on the 48 images whose copy or group is not in training")
