"""The headline numbers in words; it loads no library, so that a look at them takes no time."""

from typing import Any


def describe(summary: dict[str, Any]) -> str:
    """Put the headline numbers in a few lines for the console: the accuracy, and the primary score if it is another."""
    cv, pooled, test = summary["cv"], summary["out_of_fold"], summary.get("test")
    primary = [name for name in cv if name != "accuracy" and "ci95_low" in cv[name]]
    lines = {
        **{f"{name.replace('_', ' ')} over folds": _interval(cv[name]) for name in ("accuracy", *primary)},
        "out of fold": f"{pooled['accuracy']:.4f}, {pooled['errors']} errors in {pooled['n']} images, "
        f"log loss {pooled['log_loss']:.4f}, calibration error {pooled['calibration_error']:.4f}",
    }
    if test:
        lines["test set"] = (
            f"{test['accuracy']['mean']:.4f} a model, {test['ensemble']['accuracy']:.4f} averaged "
            f"({test['ensemble']['errors']} errors)"
        )
        if apart := test.get("apart"):
            lines["test set apart"] = (
                f"{apart['accuracy']:.4f} averaged, on the {apart['n']} images whose copy or group is not in training"
            )
    width = max(map(len, lines))
    return "\n".join(f"{title:{width}}  {text}" for title, text in lines.items())


def _interval(score: dict[str, Any]) -> str:
    if score["ci95_low"] is None:
        return "undefined in all folds or all but one"
    return f"{score['mean']:.4f}, 95 % interval {score['ci95_low']:.4f} to {score['ci95_high']:.4f}"
