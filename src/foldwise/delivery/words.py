"""`card.md`: the card for people to read."""

from textwrap import indent

import yaml

from foldwise.delivery.card import Card, Scores

NOTHING = """\
There is no model here, as `final.model` is `none`. After a run, one of these makes it; nothing else runs again:

    dvc exp run -S final.model=refit       # one model of the same recipe, trained on all images
    dvc exp run -S final.model=ensemble    # the folds' models, averaged
"""


def page(card: Card) -> str:
    """Put a card into Markdown."""
    parts = [_title(card), _type_this(), _how_good(card), _takes(card), _classes(card), _calibration(card)]
    return "\n\n".join([*parts, _audit(card), _recipe(card), _files(card)]) + "\n"


def _title(card: Card) -> str:
    of = f"{card.network.name}, trained on {card.data.name}: {len(card.classes)} classes"
    if card.kind == "refit":
        what = f"One model, trained on all {card.data.images:,} training images, for {card.data.epochs} epochs."
    else:
        what = (
            f"The {len(card.network.members)} models of the folds, whose probabilities are averaged; each was trained "
            f"without its fold of the {card.data.images:,} training images."
        )
    return f"# {of}\n\n{what}"


def _type_this() -> str:
    return (
        "    foldwise predict --model THIS_FOLDER PICTURE_OR_FOLDER...    # class and probability of each; or --csv\n"
        "    make page                                                    # in the repository: a page to draw on"
    )


def _how_good(card: Card) -> str:
    known = card.cross_validation
    accuracy, folds = known.accuracy, known.k * known.repeats
    interval = ""
    if accuracy["ci95_low"] is not None:
        interval = f" (95 % interval {_percent(accuracy['ci95_low'])} to {_percent(accuracy['ci95_high'])})"
    lines = [
        "## How good it is",
        "",
        f"Cross-validated accuracy: **{_percent(accuracy['mean'])} %**{interval}, over {folds} folds.",
    ]
    if card.kind == "refit":
        lines.append(
            f"That is of the procedure: models of the same recipe that learnt from {_share(known.k)} of these images, "
            "on images that they had not seen. This model learnt from all of them, so none is left to measure it. More "
            "images seldom harm, so it is expected to be as good or a little better; that is no promise."
        )
    else:
        lines.append(
            "That is the mean of the folds' models, each on images that it had not seen. Averaged they are mostly "
            "better; by how much, only images that none of them has seen can tell."
        )
    lines.append(
        f"On the test set this very model is right in **{_percent(card.test.accuracy)} %**, with {card.test.errors:,} "
        f"errors in {card.test.n:,} images; nothing was selected on it."
        if card.test
        else "There is no test set, so there is no figure of this very model."
    )
    lines.append(
        "All of this holds for images that come about as these did. Of others, from another camera, place or time, it "
        "says nothing."
    )
    return "\n".join(lines)


def _takes(card: Card) -> str:
    images, pictures = card.images, card.images.pictures
    how = {
        "pad": "all of the picture, black around it",
        "crop": "its middle",
        "stretch": "all of the picture, out of proportion",
    }[images.resize]
    colours = {(True, False): "grey", (False, True): "coloured", (True, True): "grey and coloured"}
    return (
        "## What it takes\n\n"
        f"`model.onnx`: `pixels`, uint8, (B, {images.channels}, {images.height}, {images.width}), 0 to 255, not "
        "normalised; it gives `logits` and `probabilities`, (B, classes)"
        f"{', and `folds`, (B, models, classes)' if card.kind == 'ensemble' else ''}. Normalisation and temperature "
        "are inside. `foldwise predict FILE` brings any picture to that: turned as EXIF says, on white where clear, "
        f"{'grey' if images.channels == 1 else 'of three channels'}, {images.height} x {images.width}, {how}.\n\n"
        f"The pictures that it learnt from were {_sides(pictures.heights)} high, {_sides(pictures.widths)} wide, "
        f"{colours[pictures.grey, pictures.coloured]}."
    )


def _classes(card: Card) -> str:
    rows = [
        f"| {_cell(each.name)} | {each.images:,} | "
        + " | ".join(map(_score, (each.precision, each.recall, each.f1)))
        + " |"
        for each in card.cross_validation.by_class
    ]
    head = "| class | training images | precision, % | recall, % | F1, % |\n| --- | --- | --- | --- | --- |"
    return "## Classes, out of fold\n\n" + "\n".join([head, *rows])


def _calibration(card: Card) -> str:
    known = card.cross_validation
    text = (
        f"## Calibration\n\nLogits are divided by a temperature of {card.network.temperature:.3f}, fitted to the "
        f"out-of-fold predictions. The calibration error out of fold is {_points(known.out_of_fold)} points with it "
        f"(each fold's temperature fitted to the others), {100 * known.calibration_error_before:.2f} without"
    )
    if card.test:
        text += f"; on the test set, of this very model, {_points(card.test)}"
    return f"{text}."


def _audit(card: Card) -> str:
    found = "\n".join(f"{number}. {says}" for number, says in enumerate(card.audit, 1))
    return f"## Audit of the data\n\n{found or 'It found nothing.'}"


def _recipe(card: Card) -> str:
    return "## Recipe\n\n" + indent(yaml.safe_dump(card.recipe, sort_keys=False), "    ").rstrip()


def _files(card: Card) -> str:
    lines = [f"    {digest}  {name}" for name, digest in card.sha256.items()]
    data = f"    {card.data.sha256}  training images and labels"
    proof = (
        f"The probabilities of `model.onnx` are within {card.onnx.largest_difference:.1g} of PyTorch's on "
        f"{card.onnx.images:,} images."
    )
    return "\n".join(["## Files (SHA-256)", "", *lines, data, "", proof])


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.2f}"


def _score(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _points(scores: Scores) -> str:
    return f"{100 * scores.calibration_error:.2f}"


def _share(k: int) -> str:
    return "half" if k == 2 else f"{k - 1} of {k} parts"


def _sides(sides: tuple[int, int]) -> str:
    return f"{sides[0]} to {sides[1]} pixels" if sides[0] < sides[1] else f"{sides[0]} pixels"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
