import struct
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from small_results import small_results

from foldwise.evaluation import plots
from foldwise.evaluation.galleries import short
from foldwise.evaluation.scores import confusion
from foldwise.evaluation.tables import tables

MANY = [str(number) for number in range(100)]
FORMS = {
    "plain": {},
    "two folds": {"k": 2},
    "leave-one-out": {"n": 60, "k": 60},
    "repeats": {"repeats": 3},
    "no mistakes": {"mistakes": 0},
    "nothing but mistakes": {"mistakes": 1},
    "one epoch of one step": {"epochs": 1, "steps": 1},
    "test set without class c": {"n_test": 2},
    "no test set": {"n_test": 0},
    "two channels": {"channels": 2},
    "two classes": {"classes": ("no", "yes")},
    "long class names": {"classes": ("ankle boot", "automobile", "T-shirt/top", "dog", "recreational vehicle " * 9)},
    "names with dollars": {"classes": ("$x^$", "a_$b$", "\\frac")},
    "forty classes": {"classes": [f"class {number}" for number in range(40)], "n": 400},
    "a hundred classes": {"classes": MANY, "n": 1000, "n_test": 500},
}


@pytest.fixture(autouse=True)
def no_sheet_instead(monkeypatch):
    """Let an error in a drawing fail the test, and not become a sheet that tells it."""
    monkeypatch.setattr(plots.console, "say", pytest.fail)


def draw(channels=1, size=8, curve=None, **form):
    results = small_results(**form)
    if curve is not None:
        results = replace(results, steps=curve)
    images = np.random.default_rng(0).integers(0, 256, (len(results.labels), channels, size, size), dtype=np.uint8)
    return plots.figures(results, tables(results), images)


@pytest.fixture(scope="module")
def drawn():
    return draw()


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))


def chunks(png):
    position = 8
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        yield png[position + 4 : position + 8].decode()
        position += length + 12


def test_there_are_an_overview_and_three_galleries(drawn):
    assert list(drawn) == ["overview", "worst_mistakes", "label_suspicion", "audit"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_run_is_drawn_without_a_warning(form):
    assert all(plots.png(figure).startswith(b"\x89PNG") for figure in draw(**form).values())


@pytest.mark.filterwarnings("error")
def test_images_of_one_class_are_drawn_without_a_warning():
    results = small_results()
    of_one = replace(results, labels=results.labels * 0, test_labels=results.test_labels * 0)
    drawn = plots.figures(of_one, tables(of_one), np.zeros((120, 1, 8, 8), dtype=np.uint8))
    assert all(plots.png(figure) for figure in drawn.values())


def test_equal_runs_give_equal_bytes(drawn):
    again = draw()
    assert all(plots.png(figure) == plots.png(again[name]) for name, figure in drawn.items())


def test_one_figure_gives_the_same_bytes_again(drawn):
    assert plots.png(drawn["overview"]) == plots.png(drawn["overview"])


def test_png_tells_neither_software_nor_date(drawn):
    assert set(chunks(plots.png(drawn["overview"]))) == {"IHDR", "pHYs", "IDAT", "IEND"}


def test_settings_of_the_user_change_nothing(drawn):
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 30, "axes.facecolor": "red"}):
        foreign = plots.png(draw()["overview"])
    assert foreign == plots.png(drawn["overview"])


def test_settings_of_the_user_are_left_as_they_were():
    before = dict(matplotlib.rcParams)
    plots.png(draw()["overview"])
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_loaded():
    code = "import sys, foldwise.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_gallery_shows_grey_pixels_as_they_are():
    images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 1, 8, 8)
    figure = plots.gallery([images[1]], ["some"], "title")
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), images[1, 0])


def test_gallery_shows_three_channels_in_colour():
    images = np.arange(3 * 64, dtype=np.uint8).reshape(1, 3, 8, 8)
    figure = plots.gallery([images[0]], ["some"], "title")
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array()[..., 2], images[0, 2])


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_gallery_shows_the_mean_of_other_channels(channels):
    images = np.arange(channels * 64, dtype=np.uint8).reshape(1, channels, 8, 8)
    figure = plots.gallery([images[0]], ["some"], "title")
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), images[0].mean(axis=0))


@pytest.mark.parametrize(("mistakes", "title"), [(0.1, "Labels to check: "), (0.9, "Labels to check, 24 of ")])
def test_gallery_of_labels_tells_how_many_there_are(mistakes, title):
    figure = draw(mistakes=mistakes)["label_suspicion"]
    assert figure.get_suptitle().startswith(title)
    assert sum(len(axes.images) for axes in figure.axes) <= 24


def test_more_labels_than_the_table_holds_are_not_counted():
    title = draw(n=4000, mistakes=0.9)["label_suspicion"].get_suptitle()
    assert title.startswith("Labels to check, 24 of 1500 or more: ")


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(plots.console, "say", lines.append)
    return lines


def spoil(*_):
    raise ValueError("no\nroom")


TOLD = "overview.png could not be drawn: ValueError: no room"


def test_a_picture_that_cannot_be_drawn_becomes_a_sheet_that_says_why(monkeypatch, said):
    monkeypatch.setattr(plots, "overview", spoil)
    drawn = draw()
    assert [text.get_text() for text in drawn["overview"].texts] == [TOLD]
    assert said == [f"aggregate: {TOLD}"]
    assert all(plots.png(figure) for figure in drawn.values())
    assert len(drawn["worst_mistakes"].axes) >= 6


def test_a_picture_that_cannot_be_rendered_becomes_a_sheet_that_says_why(monkeypatch, said):
    figure = draw()["overview"]
    monkeypatch.setattr(figure.axes[0], "draw", spoil)
    assert plots.png(figure).startswith(b"\x89PNG")
    assert said == [f"aggregate: {TOLD}"]


def test_gallery_captions_name_classes_probability_and_index():
    results = small_results()
    figure = plots.figures(results, tables(results), np.zeros((120, 1, 8, 8), dtype=np.uint8))["label_suspicion"]
    row = tables(results)["label_suspicion"].iloc[0]
    expected = f"{row['given']} → {row['suggested']}\n{row['suggested_probability']:.1%}  #{row['index']}"
    assert figure.axes[0].get_title() == expected


def test_gallery_of_few_images_leaves_the_other_places_empty():
    figure = plots.gallery(list(np.zeros((2, 1, 8, 8), dtype=np.uint8)), ["some", "other"], "title")
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 0, 0, 0, 0]


def test_gallery_of_no_images_says_so():
    figure = plots.gallery([], [], "title")
    assert [text.get_text() for text in figure.texts if text.get_text() != "title"] == ["none"]


def test_few_folds_have_a_legend(drawn):
    legend = panel(drawn["overview"], "Training loss").get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["fold 0", "fold 1", "fold 2"]


def test_many_folds_have_no_legend():
    assert panel(draw(n=60, k=60)["overview"], "Training loss").get_legend() is None


def test_accuracy_has_a_line_for_each_fold_and_set_of_images(drawn):
    lines = panel(drawn["overview"], "Accuracy by epoch").get_lines()
    assert sum(len(line.get_xdata()) > 0 for line in lines) == 6


def test_halving_the_errors_is_as_far_anywhere(drawn):
    axes = panel(drawn["overview"], "Accuracy by epoch")
    place = axes.transData.transform([(0, 0.04), (0, 0.02), (0, 0.01)])[:, 1]
    assert place[2] - place[1] == pytest.approx(place[1] - place[0], rel=0.05)
    assert place[2] > place[1]


def test_accuracy_axis_is_labelled_with_accuracies(drawn):
    axes = panel(drawn["overview"], "Accuracy by epoch")
    labels = {label.get_text(): tick for label, tick in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    assert labels["90%"] == pytest.approx(0.1)


def test_labels_of_an_axis_do_not_touch(drawn):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1e-4, 1], [0, 1, 2])
    plots._stretch(axes.xaxis)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    boxes.sort(key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("last", [0.5, 0.21, 0.19, 0.05, 0.005, 0.0015, 1e-4, 1e-9])
def test_losses_of_any_range_have_numbers_that_do_not_touch(last):
    steps = small_results().steps
    fall = last ** np.linspace(0, 1, steps["step"].max())
    figure = draw(curve=steps.assign(loss=2 * fall[steps["step"] - 1]))["overview"]
    figure.draw_without_rendering()
    axes = panel(figure, "Training loss")
    low, high = axes.get_ylim()
    labels = [*axes.get_yticklabels(), *axes.get_yticklabels(minor=True)]
    shown = [label for label in labels if label.get_text() and low <= label.get_position()[1] <= high]
    edges = sorted((box.y0, box.y1) for box in (label.get_window_extent() for label in shown))
    assert len(edges) >= 2
    assert all(top < bottom for (_, top), (bottom, _) in pairwise(edges))


def test_fold_scores_tell_mean_and_interval(drawn):
    row = tables(small_results())["fold_scores"].iloc[0]
    expected = f"mean {row['mean']:.4f}, 95 % {row['low']:.4f} to {row['high']:.4f}"
    assert expected in panel(drawn["overview"], "Accuracy of the held-out folds").get_xlabel()


def test_confusion_colours_only_mistakes(drawn):
    colours = panel(drawn["overview"], "Confusion").images[0].get_array()
    assert not np.diag(colours).any()
    assert colours.max() > 0


def test_confusion_numbers_are_the_counts(drawn):
    texts = {
        tuple(int(at) for at in text.get_position()): int(text.get_text())
        for text in panel(drawn["overview"], "Confusion").texts
    }
    table = tables(small_results())["confusion"]
    assert texts[0, 0] == table["images"].iloc[0]
    assert texts[1, 0] == table["images"].iloc[1]


def test_confusion_of_very_many_classes_is_in_its_place():
    results = small_results(classes=MANY, n=1000)
    with matplotlib.style.context(plots.STYLE):
        drawn = panel(plots.overview(tables(results)), "Confusion").images[0].get_array()
    log_probabilities, labels = results.predictions()["out of fold"]
    wrong = confusion(log_probabilities, labels) * (1 - np.eye(100))
    assert np.array_equal(drawn > 0, wrong > 0)


def test_roc_has_a_curve_for_each_class(drawn):
    legend = panel(drawn["overview"], "ROC").get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]


@pytest.mark.parametrize(("classes", "numbers"), [(MANY[:15], True), (MANY[:16], False)])
def test_confusion_of_many_classes_has_no_numbers(classes, numbers):
    assert bool(panel(overview(classes=classes), "Confusion").texts) == numbers


def overview(**form):
    with matplotlib.style.context(plots.STYLE):
        return plots.overview(tables(small_results(**form)))


LONG = [f"aquarium fish {name}" for name in MANY]


@pytest.mark.parametrize("classes", [LONG[:3], LONG[:10], MANY[:40], LONG], ids=["3", "10", "40", "100"])
def test_names_of_classes_do_not_touch_and_leave_the_panels_room(classes):
    figure = overview(classes=classes, n=1000)
    figure.draw_without_rendering()
    axes = panel(figure, "Confusion")
    boxes = sorted(label.get_window_extent().y0 for label in axes.get_yticklabels())
    height = axes.get_yticklabels()[0].get_window_extent().height
    assert all(high - low > 0.9 * height for low, high in pairwise(boxes))
    assert min(axes.get_window_extent().width, axes.get_window_extent().height) > 180


def test_roc_of_many_classes_is_a_band_and_their_mean():
    axes = panel(overview(classes=MANY, n=1000), "ROC")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["lowest to\nhighest", "mean of\n100 classes"]
    assert len(axes.get_lines()) == 1


def test_captions_do_not_reach_into_the_next_image():
    figure = draw(classes=LONG, n=1000)["label_suspicion"]
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes[:6]]
    assert all(left.x1 + 2 < right.x0 for left, right in pairwise(boxes))


def test_picture_is_as_large_as_drawn(drawn):
    assert matplotlib.image.imread(BytesIO(plots.png(drawn["overview"]))).shape[:2] == (740, 1200)


def test_the_gallery_of_the_audit_shows_images_of_both_sides_with_finding_letter_and_name():
    pair = [{"images": "training", "index": 1, "file_name": "a/very/long/name.png"}, {"images": "test", "index": 0}]
    findings = [{"number": 2, "kind": "copies_in_test", "count": 1, "says": "", "examples": [pair]}]
    results = replace(small_results(), audit=findings)
    train, test = np.zeros((120, 1, 8, 8), np.uint8), np.full((60, 1, 8, 8), 7, np.uint8)
    figure = plots.figures(results, tables(results), train, test)["audit"]
    assert [axes.get_title() for axes in figure.axes][:3] == ["2a  training\na/very/long/name.png", "2a  test\n#0", ""]
    assert figure.axes[1].images[0].get_array().max() == 7


def test_names_that_would_steer_a_terminal_or_break_a_line_are_escaped_in_captions():
    assert short("a\nb\x1b") == "a\\nb\\x1b"


@pytest.mark.parametrize("classes", [2, 300, 1000])
def test_two_to_a_thousand_classes_are_drawn(classes, said):
    names = [f"class $_{{{number}}}^ &<b>" for number in range(classes)]
    results = small_results(n=3 * classes, n_test=classes, classes=names)
    figures = plots.figures(results, tables(results), np.zeros((3 * classes, 1, 8, 8), dtype=np.uint8))
    assert all(plots.png(figure).startswith(b"\x89PNG") for figure in figures.values())
    assert said == []
