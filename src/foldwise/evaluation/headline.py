"""The headline numbers in words; it loads no library, so that a look at them takes no time."""

from typing import Any


def describe(summary: dict[str, Any]) -> str:
    """Put the headline numbers in a few lines for the console."""
    cv, pooled, test = summary["cv"]["accuracy"], summary["out_of_fold"], summary["test"]
    return "\n".join(
        (
            f"accuracy over folds  {cv['mean']:.4f}, 95 % interval {cv['ci95_low']:.4f} to {cv['ci95_high']:.4f}",
            f"out of fold          {pooled['accuracy']:.4f}, {pooled['errors']} errors in {pooled['n']} images, "
            f"log loss {pooled['log_loss']:.4f}, calibration error {pooled['calibration_error']:.4f}",
            f"test set             {test['accuracy']['mean']:.4f} a model, {test['ensemble']['accuracy']:.4f} averaged "
            f"({test['ensemble']['errors']} errors)",
        )
    )
