"""What is said of the best of many, word for word, and as JSON."""

import json

from small_runs import run

from foldwise.compare import rankings
from foldwise.compare.best import select

A = [0.90, 0.92, 0.91, 0.93, 0.89]
BETTER = [0.95, 0.96, 0.96, 0.97, 0.95]
NEAR = [0.95, 0.96, 0.96, 0.96, 0.95]


def three(**changes):
    return select(
        [
            run(A, "HEAD", commit="0123456789", parameters={"train.lr": 0.1, "cv.k": 5}, **changes),
            run(BETTER, "best", parameters={"train.lr": 0.2, "cv.k": 5}),
            run(NEAR, "near", seed=2, parameters={"train.lr": None, "cv.k": 5}),
        ]
    )


TEXT = """\
best is the best of 3: accuracy 95.80 % (95% 94.76 to 96.84); ALLOWED after
allowing for the choice; 1 of the others cannot be told from it

run             what differs      accuracy, %  95% interval    less the best  p, Holm
best            train.lr=0.2      95.80        94.76 to 96.84                          best
near            train.lr=(empty)  95.60        94.75 to 96.45  -0.20          1.000    cannot be told from it
HEAD (0123456)  train.lr=0.1      91.00        89.04 to 92.96  -4.80          <0.001   worse

Each interval is of its own run, as if it were the only one: that of the
best is flattered by the choice. The score after allowing for it is that of
images left out of bootstraps that choose anew (BBC-CV).

Left out: four: on other folds."""


def test_the_text_has_the_answer_first_then_a_line_for_each():
    found = three()
    allowed = found.allowed
    said = f"{100 * allowed.mean:.2f} % (95% {100 * allowed.low:.2f} to {100 * allowed.high:.2f})"
    text = rankings.text(found, {"four": "on other folds"}, width=200)
    assert text.split("\n\n")[0] == " ".join(TEXT.split("\n\n")[0].split()).replace("ALLOWED", said)
    assert text.split("\n\n")[1] == TEXT.split("\n\n")[1]
    assert [block.split() for block in text.split("\n\n")[2:]] == [block.split() for block in TEXT.split("\n\n")[2:]]


def test_the_markdown_has_the_answer_first_and_a_table():
    blocks = rankings.markdown(three(), {}).split("\n\n")
    assert blocks[0].startswith("**best is the best of 3: accuracy 95.80 %")
    assert blocks[1].splitlines()[2].startswith("| best | train.lr=0.2 | 95.80 |")


def test_the_json_has_the_best_first_and_what_the_choice_leaves():
    found = json.loads(json.dumps(rankings.content(three(), {"x": "gone"}), allow_nan=False))
    assert (found["best"], found["looked_at"], found["left_out"]) == ("best", 3, {"x": "gone"})
    assert [one["standing"] for one in found["runs"]] == ["best", "not_told_apart", "worse"]
    assert found["allowing_for_the_choice"].keys() == {"mean", "low", "high", "draws"}


def test_one_run_is_said_to_be_no_choice():
    said = rankings.sentence(select([run(A, "main")]))
    assert said == "there was no choice: main is the only one on these folds, accuracy 91.00 % (95% 89.04 to 92.96)"


def test_a_score_that_is_no_mean_over_images_is_said_to_be_flattered():
    said = rankings.sentence(select([run(A, primary="f1_macro"), run(BETTER, "b")]))
    assert "how much the choice flatters is known only of scores that are means over images, not of macro F1" in said


def test_where_all_others_are_worse_that_is_said():
    assert rankings.sentence(select([run(A), run(BETTER, "b")])).endswith("; all others are worse")


def test_reasons_that_many_share_are_said_once():
    text = rankings.text(three(), dict.fromkeys("abcde", "on other folds"), width=200)
    assert text.endswith("\n\nLeft out: a, b, c and 2 more: on other folds.")


LISTED = """\
run             what differs  folds  accuracy, %  95% interval
HEAD (0123456)                5      91.00        89.04 to 92.96
b               train.lr=0.2  5      95.80        94.76 to 96.84
twice                         2 x 5  91.00        90.16 to 91.84"""


def test_runs_are_listed_a_line_each_with_what_differs_from_the_first():
    first = run(A, "HEAD", commit="0123456789", parameters={"train.lr": 0.1})
    other = run(BETTER, "b", parameters={"train.lr": 0.2})
    twice = run([0.91] * 10, "twice", repeats=2, parameters={"train.lr": 0.1})
    lines = rankings.listed([first, other, twice], {}).splitlines()
    assert lines[:3] == LISTED.splitlines()[:3]
    assert lines[3].split()[:5] == ["twice", "2", "x", "5", "91.00"]


def test_a_line_is_no_wider_than_the_terminal():
    many = {f"train.{'x' * 20}{number}": number for number in range(3)}
    lines = rankings.listed([run(A, "a"), run(A, "b", parameters=many)], {}, width=80).splitlines()
    assert max(map(len, lines)) == 80
    assert "…  5  " in lines[2]
