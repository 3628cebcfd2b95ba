from foldwise.evaluation.headline import describe


def test_the_console_gets_the_headline_numbers():
    summary = {
        "cv": {"accuracy": {"mean": 0.98765, "std": 0.001, "ci95_low": 0.98, "ci95_high": 0.99}},
        "out_of_fold": {"n": 60, "errors": 3, "accuracy": 0.95, "log_loss": 0.1, "calibration_error": 0.02},
        "test": {"accuracy": {"mean": 0.9, "std": None}, "ensemble": {"accuracy": 0.91, "errors": 7}},
    }
    assert describe(summary) == (
        "accuracy over folds  0.9877, 95 % interval 0.9800 to 0.9900\n"
        "out of fold          0.9500, 3 errors in 60 images, log loss 0.1000, calibration error 0.0200\n"
        "test set             0.9000 a model, 0.9100 averaged (7 errors)"
    )
