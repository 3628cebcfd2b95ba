"""What is drawn of comparisons and selections, and how it is written."""

import io

import numpy as np
import pytest
from PIL import Image
from small_runs import run

from foldwise.base.errors import FoldwiseError
from foldwise.compare import drawings
from foldwise.compare.best import select
from foldwise.compare.comparison import compare, compare_all
from foldwise.evaluation.plots import png

A = [0.90, 0.92, 0.91, 0.93, 0.89]
BETTER = [0.95, 0.96, 0.96, 0.97, 0.95]
WORSE = [0.80, 0.83, 0.82, 0.82, 0.79]


def drawn(figure):
    """Points of folds, ends of the interval, and mean, of each row."""
    lines = [line for line in figure.axes[0].get_lines() if line.get_label().startswith("_child")]
    values = [np.asarray(line.get_xdata(), dtype=float) for line in lines]
    rows = len(figure.axes[0].get_yticks())
    return [values[3 * row : 3 * row + 3] for row in range(rows)]


def test_a_comparison_has_its_folds_its_interval_and_its_mean():
    compared = compare(run(A, "main"), run(BETTER, "more", seed=1), 0.1)
    figure = drawings.of_comparisons([compared])
    ((folds, interval, mean),) = drawn(figure)
    assert folds == pytest.approx(100 * np.subtract(BETTER, A))
    assert interval == pytest.approx(100 * np.array(compared.pairing.decisive.interval()))
    assert mean == pytest.approx([4.8])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["more less main"]
    assert figure.get_suptitle().startswith("B is better by 4.80 points")


def test_several_have_a_row_each_and_those_that_cannot_be_paired_none():
    compared = compare_all(run(A, "main"), [run(BETTER, "b"), run(WORSE, "c"), run(A, "d", cv_seed=1)], 0.1)
    figure = drawings.of_comparisons(compared)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b less main", "c less main"]


def test_runs_that_cannot_be_paired_are_not_drawn():
    with pytest.raises(FoldwiseError, match=r"^there is nothing to draw: not paired: the folds differ"):
        drawings.of_comparisons([compare(run(A), run(A, "b", cv_seed=1), 0.1)])


def test_a_selection_has_the_best_first_and_what_the_choice_leaves():
    selection = select([run(A, "a", parameters={"train.lr": 1}), run(BETTER, "b", parameters={"train.lr": 2})])
    figure = drawings.of_selection(selection)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b train.lr=2", "a train.lr=1"]
    (band,) = figure.axes[0].patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx(
        (100 * selection.allowed.low, 100 * selection.allowed.high)
    )


def test_no_more_rows_are_drawn_than_a_sheet_has_room_for():
    figure = drawings.of_selection(select([run(A, str(seed), seed=seed) for seed in range(42)]))
    assert len(figure.axes[0].get_yticks()) == 40
    assert figure.get_suptitle().endswith("(2 more are not drawn)")


def test_it_is_written_as_a_picture_of_equal_bytes(tmp_path):
    compared = compare(run(A, "main"), run(BETTER, "more"), 0.1)
    for name in ("one.png", "two.png"):
        drawings.write(drawings.of_comparisons([compared]), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    content = io.BytesIO((tmp_path / "one.png").read_bytes())
    assert Image.open(content).size == Image.open(io.BytesIO(png(drawings.of_comparisons([compared])))).size


@pytest.mark.parametrize(
    ("name", "said"), [("a.pdf", "pictures are written as .png"), ("file/a.png", "a.png cannot be written")]
)
def test_what_cannot_be_written_is_told_in_a_line(tmp_path, name, said):
    (tmp_path / "file").write_text("")
    with pytest.raises(FoldwiseError, match=said) as caught:
        drawings.write(drawings.of_comparisons([compare(run(A), run(BETTER, "b"), 0.1)]), tmp_path / name)
    assert "\n" not in str(caught.value)
