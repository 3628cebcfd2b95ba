"""What is said of a comparison, word for word, and as JSON."""

import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
import yaml
from dvc.cli.parser import get_main_parser
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML
from scipy import stats
from small_runs import run

from foldwise.compare import reports
from foldwise.compare.comparison import compare, compare_all
from foldwise.evaluation.inference import Estimate, McNemar, Posterior

A = [0.90, 0.92, 0.91, 0.93, 0.89]
BETTER = [0.95, 0.96, 0.96, 0.97, 0.95]
NOISE = [0.91, 0.90, 0.93, 0.92, 0.90]
WORSE = [0.80, 0.83, 0.82, 0.82, 0.79]
NONE = [np.nan] * 5


def compared(b=BETTER, name="more", **changes):
    recipe = {"cv.k": 5} | ({"train.seed": 0} if "train.seed" in changes.get("parameters", {}) else {})
    found = compare(run(A, "main", commit="0123456789", parameters=recipe), run(b, name, **changes), 0.1)
    if found.pairing is None:
        return found
    told = replace(found.pairing, posterior=Posterior(0.0004, 0.2, 0.7996), mcnemar=McNemar(3, 14, 0.0127))
    return replace(found, pairing=told)


def with_interval(mean, low, high, p=0.01):
    found = compared()
    error = (high - low) / 2 / stats.t.ppf(0.975, 4999)
    estimate = Estimate(mean, std=0.01, error=error, df=4999, scatter=error / 1.5)
    pairing = replace(found.pairing, decisive=estimate, p=p, posterior=estimate.posterior(0.001))
    return replace(found, pairing=pairing)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (with_interval(0.0012, 0.0005, 0.0019), "B is better by 0.12 points (95% 0.05 to 0.19)"),
        (with_interval(-0.0012, -0.0019, -0.0005), "B is worse by 0.12 points (95% 0.05 to 0.19)"),
        (with_interval(0.0012, 0.00002, 0.0024), "B is better by 0.120 points (95% 0.001 to 0.239)"),
        (
            with_interval(0.0001, -0.0007, 0.0009, p=0.9),
            "practically the same: B - A is +0.01 points (95% -0.07 to +0.09), within 0.1 points",
        ),
        (
            with_interval(0.0001, -0.0014, 0.0016, p=0.9),
            "undecided: B is better with 12.0%, worse with 7.5%, practically the same with 80.5%; a true difference of "
            "0.19 points has an 80% chance of being seen with these folds, one of 0.16 with cv.repeats=3; "
            "about 3 times as many images would decide it",
        ),
        (
            with_interval(0.0012, -0.0001, 0.0025, p=0.07),
            "undecided: B is better with 61.9%, worse with <0.1%, practically the same with 38.1%; a true difference "
            "of 0.17 points has an 80% chance of being seen with these folds, one of 0.14 with cv.repeats=3; "
            "cv.repeats=3 would decide it, if it stays as large",
        ),
    ],
)
def test_one_sentence_says_the_verdict(found, said):
    assert reports.sentence(found) == said


def test_no_repeats_are_advised_where_they_would_deal_no_other_folds():
    found = with_interval(0.0012, -0.0001, 0.0025, p=0.07)
    fixed = replace(found, pairing=replace(found.pairing, can_repeat=False))
    assert "cv.repeats" not in reports.sentence(fixed)
    assert reports.sentence(fixed).endswith("; about 2 times as many images would decide it")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"cv_seed": 1, "parameters": {"cv.k": 4, "train.seed": 1}},
            "not paired: the folds differ, so it cannot be said whether B is better; "
            "run B again with A's, in a checkout of A: `dvc exp run -S cv.k=5 -S train.seed=1`",
        ),
        (
            {"cv_seed": 1, "parameters": {"cv.k": 4, "train.new": 1}},
            "not paired: the folds differ, so it cannot be said whether B is better; "
            "run both again with the same code and original files",
        ),
        (
            {"digests": {"normalized": "x"}, "parameters": {"cv.k": 5, "data.mirror": "/own"}},
            "not paired: the data differ, so it cannot be said whether B is better; "
            "run both again with the same code and original files",
        ),
        (
            {"digests": {"normalized": "x"}, "parameters": {"cv.k": 5}},
            "not paired: the data differ, so it cannot be said whether B is better; "
            "run both again with the same code and original files",
        ),
    ],
)
def test_one_sentence_says_why_not_paired_and_what_to_do(changes, said):
    assert reports.sentence(compared(**changes)) == said


RECIPE = {"data": {"subset": None, "mirror": "/a"}, "cv": {"k": 5}, "train": {"lr": 0.1, "names": ["a"], "old": True}}
TEXTS = ["", "null", "True", "12", "1e3", "a b", "a,b", "it's", 'say "x"', r"\\", r"\"", "x=1:{y}[z]", "$HOME `x`", "é"]


@pytest.mark.parametrize("text", TEXTS)
def test_the_command_to_run_again_gives_the_recipe_of_b_on_the_folds_of_a(tmp_path, text):
    def changed(**train):
        return {"data": {"subset": 100, "mirror": "/b"}, "cv": {"k": 4}, "train": RECIPE["train"] | train}

    theirs = changed(lr=3e-05, names=[text, "b"], old=False)
    a, b = ({f"{x}.{y}": value for x in tree for y, value in tree[x].items()} for tree in (RECIPE, theirs))
    said = reports.sentence(compare(run(A, parameters=a), run(A, "b", cv_seed=1, parameters=b), 0.1))
    words = shlex.split(said[said.index("`") + 1 : said.rindex("`")])
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    options = get_main_parser().parse_args(words[1:])
    ((file, overrides),) = to_path_overrides(options.set_param).items()
    apply_overrides(path, overrides)
    assert (file, YAML(typ="safe").load(path)) == ("params.yaml", RECIPE | {"train": theirs["train"]})


def test_the_same_predictions_are_practically_the_same_beyond_doubt():
    compared = compare(run(A, "main"), run(A, "b", digests={"predictions": "main"}), 0.1)
    assert compared.pairing.posterior == Posterior(p_worse=0, p_same=1, p_better=0)
    assert reports.sentence(compared) == "practically the same: A and B made the same predictions, to the bit"
    told = reports.text([compared])
    assert told.startswith("practically the same: A and B made the same predictions, to the bit\n\n")
    assert "practically the same (within 0.1 points) 100.0%" in told


TEXT = """\
B is better by 4.80 points (95% 3.76 to 5.84)

   run             folds  accuracy, %  95% interval
A  main (0123456)  5      91.00        89.04 to 92.96
B  more            5      95.80        94.76 to 96.84

parameter  A  B
cv.k       5  (no such parameter)

score                       A       B       B - A    95% interval        p
accuracy, %                 91.00   95.80   +4.80    +3.76 to +5.84      <0.001
macro F1, %                 91.00   95.80   +4.80    +3.24 to +6.36      0.001
log loss (lower is better)  0.9100  0.9580  +0.0480  +0.0328 to +0.0632  <0.001
macro ROC AUC, %            91.000

Same folds: paired, and corrected for overlapping training sets.

class   images  A      B      B - A  95% interval    p, Holm
second  1667    90.46  95.62  +5.16  +2.81 to +7.51  0.004
third   1666    91.00  96.04  +5.04  +3.35 to +6.73  0.002
first   1667    91.54  95.74  +4.20  +2.75 to +5.65  <0.001

Of 3 classes these are seen to change, by the share of their images that is right (p adjusted by
Holm's method).

Probability that B is better 80.0%, practically the same (within 0.1 points) 20.0%, worse <0.1%.

Out of fold, 3 images are right in A alone and 14 in B alone: McNemar's exact p 0.013; it speaks of
these models only, and does not decide."""


def test_the_text_has_the_answer_first_then_runs_parameters_and_scores():
    found = compared(scores={"roc_auc_macro": NONE})
    assert reports.text([found]) == TEXT


BY_LOG_LOSS = """\
B is worse by 0.0480 nats (95% 0.0376 to 0.0584)

   run  folds  log loss (lower is better)  95% interval
A  a    5      0.9100                      0.8892 to 0.9308
B  b    5      0.9580                      0.9373 to 0.9787

No parameter differs.

score                       A       B       B - A    95% interval        p
accuracy, %                 91.00   91.20   +0.20    -1.84 to +2.24      0.799
macro F1, %                 91.00   91.20   +0.20    -2.86 to +3.26      0.865
log loss (lower is better)  0.9100  0.9580  +0.0480  +0.0376 to +0.0584  <0.001
macro ROC AUC, %            91.000  91.200  +0.200   -2.860 to +3.260    0.865

Same folds: paired, and corrected for overlapping training sets.

Of 3 classes none is seen to change, by the share of their images that is right (p adjusted by
Holm's method).

Probability that B is better <0.1%, practically the same (within 0.002 nats) <0.1%, worse >99.9%."""


def test_where_log_loss_is_primary_the_text_is_in_nats():
    a, b = run(A, primary="log_loss"), run(NOISE, "b", primary="log_loss", scores={"log_loss": BETTER})
    compared = compare(a, b, 0.2)
    assert reports.text([compared]).startswith(f"{BY_LOG_LOSS}\n\nOut of fold, ")


@pytest.mark.parametrize(
    ("primary", "title", "sentence"),
    [
        ("balanced_accuracy", "balanced accuracy, %", "B is better by 4.80 points (95% 3.24 to 6.36)"),
        ("f1_macro", "macro F1, %", "B is better by 4.80 points (95% 3.24 to 6.36)"),
        ("roc_auc_macro", "macro ROC AUC, %", "B is better by 4.800 points (95% 3.242 to 6.358)"),
    ],
)
def test_each_primary_score_has_the_first_table_and_the_sentence(primary, title, sentence):
    blocks = reports.text([compare(run(A, primary=primary), run(BETTER, "b", primary=primary), 0.1)]).split("\n\n")
    assert blocks[1].splitlines()[0].split("  ")[2:4] == ["folds", title]
    assert (title in blocks[3], blocks[0]) == (True, sentence)


def test_an_undecided_difference_in_log_loss_is_in_nats():
    compared = compare(run(A, primary="log_loss"), run(NOISE, "b", primary="log_loss"), 0.1)
    assert "a true difference of 0.0266 nats has an 80% chance" in reports.sentence(compared)


def test_json_names_the_primary_score_and_has_its_intervals():
    content = reports.content([compare(run(A, primary="log_loss"), run(WORSE, "b", primary="log_loss"), 0.1)])
    assert (content["primary"], content["verdict"], content["sentence"].split(" by ")[0]) == (
        "log_loss",
        "better",
        "B is better",
    )
    assert content["a"]["log_loss"]["mean"] == content["a"]["accuracy"]["mean"] == pytest.approx(0.91)


def test_the_markdown_has_the_sentence_first_and_tables():
    blocks = reports.markdown([compared()]).split("\n\n")
    assert blocks[0] == "**B is better by 4.80 points (95% 3.76 to 5.84)**"
    assert blocks[1].splitlines() == [
        "|  | run | folds | accuracy, % | 95% interval |",
        "|---|---|---|---|---|",
        "| A | main (0123456) | 5 | 91.00 | 89.04 to 92.96 |",
        "| B | more | 5 | 95.80 | 94.76 to 96.84 |",
    ]


def test_a_bar_in_a_value_does_not_break_a_table_of_markdown():
    found = compared(parameters={"cv.k": 5, "data.mirror": "a|b"})
    assert "| data.mirror | (no such parameter) | a&#124;b |" in reports.markdown([found])


def test_a_commit_named_by_its_hash_is_not_named_twice():
    a = run(A, "01234567", commit="0123456789")
    assert "A  01234567  5" in reports.text([compare(a, run(A, "b"), 0.1)])


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ("No parameter differs.", {"parameters": {"cv.k": 5}}),
        ("Code that differs: x.py.", {"sources": {"x.py": "1"}}),
        ("changed after its results were made", {"changed": ("train.lr",)}),
        ("Each interval is of its own run; whether they overlap is no test.", {"cv_seed": 1}),
    ],
)
def test_the_text_says(expected, changes):
    assert expected in reports.text([compared(**changes)])


@pytest.mark.parametrize("form", [reports.text, reports.markdown])
def test_unpaired_runs_have_no_difference(form):
    assert "B - A" not in form([compared(cv_seed=1)])


def test_flags_and_empty_parameters_are_shown_as_in_params_yaml():
    a = run(A, parameters={"model.freeze": True, "data.subset": None})
    b = run(A, "b", parameters={"model.freeze": False, "data.subset": 100})
    lines = reports.text([compare(a, b, 0.1)]).splitlines()
    assert [line.split() for line in lines if "." in line.split(" ")[0]] == [
        ["data.subset", "(empty)", "100"],
        ["model.freeze", "true", "false"],
    ]


def test_repeats_are_told():
    a, b = run(A * 2, repeats=2), run(BETTER * 2, "b", repeats=2)
    said = reports.text([compare(a, b, 0.1)])
    assert "2 x 5" in said
    assert "Out of fold, in the first repeat, " in said


def test_near_certainty_is_not_rounded_to_certainty():
    found = compared()
    sure = replace(found.pairing, posterior=Posterior(1e-5, 1e-5, 1 - 2e-5), p=1e-9)
    said = reports.text([replace(found, pairing=sure)])
    assert "better >99.9%, practically the same (within 0.1 points) <0.1%" in said


MANY = """\
of 3 runs against main: 1 better, 1 undecided, 1 not paired

run                what differs  accuracy, %  less A, points  95% interval    p, Holm  against A
A: main (0123456)                91.00
more               train.lr=0.1  95.80        +4.80           +3.76 to +5.84  <0.001   better
noise              train.py      91.20        +0.20           -1.84 to +2.24  0.799    undecided
folds                            95.80                                                 not paired

Same folds: paired, and corrected for overlapping training sets. Better and worse follow p adjusted
by Holm's method for several comparisons; practically the same follows the interval, which is not
adjusted.

folds: not paired: the folds differ, so it cannot be said whether B is better; run both again with
the same code and original files."""


def test_several_runs_are_judged_by_the_primary_score():
    a, b = run(A, "main", primary="log_loss"), run(BETTER, "more", primary="log_loss")
    rows = [re.split("  +", line) for line in reports.text(compare_all(a, [b, b], 0.1)).splitlines()]
    assert rows[0] == ["of 2 runs against main: 2 worse"]
    assert rows[2][2:4] == ["log loss (lower is better)", "less A, nats"]
    assert (rows[4][1:3], rows[4][-1]) == (["0.9580", "+0.0480"], "worse")


def test_what_differs_is_named_as_far_as_a_cell_holds_it():
    parameters = {f"train.{name}": 1 for name in "abcd"} | {"data.subset": None}
    a, b = run(A, "main"), run(NOISE, "many", parameters=parameters)
    row = reports.text(compare_all(a, [b, b], 0.1)).splitlines()[4]
    assert "  data.subset=(empty) train.a=1 train.b=1 and 2 more  " in row


def several():
    a = run(A, "main", commit="0123456789")
    return compare_all(
        a,
        [
            run(BETTER, "more", parameters={"train.lr": 0.1}),
            run(NOISE, "noise", sources={"train.py": "x"}),
            run(BETTER, "folds", cv_seed=1),
        ],
        0.1,
    )


def test_several_runs_are_a_table_against_the_first():
    assert reports.text(several()) == MANY


def test_the_markdown_of_several_is_a_table_with_a_verdict_each():
    answer, table = reports.markdown(several()).split("\n\n")[:2]
    assert answer == "**of 3 runs against main: 1 better, 1 undecided, 1 not paired**"
    rows = table.splitlines()[2:]
    assert [row.split(" | ")[-1] for row in rows] == [" |", "better |", "undecided |", "not paired |"]


def test_json_has_the_verdict_and_the_sentence():
    found = json.loads(json.dumps(reports.content([compared()]), allow_nan=False))
    assert (found["verdict"], found["sentence"]) == ("better", "B is better by 4.80 points (95% 3.76 to 5.84)")


def test_json_has_the_differences_as_fractions():
    found, estimate = compared(), compared().pairing.decisive
    low, high = estimate.interval()
    assert reports.content([found])["scores"]["accuracy"] == {
        "a": pytest.approx(0.91),
        "b": pytest.approx(0.958),
        "difference": estimate.mean,
        "ci95_low": low,
        "ci95_high": high,
        "p": estimate.p,
        "smallest_visible": estimate.seen(),
    }


def test_json_has_nothing_for_a_score_that_cannot_be_had():
    found = reports.content([compared(scores={"roc_auc_macro": NONE})])["scores"]["roc_auc_macro"]
    assert (found["b"], found["p"]) == (None, None)


def test_json_of_unpaired_runs_keeps_the_keys():
    paired, unpaired = reports.content([compared()]), reports.content([compared(cv_seed=1)])
    assert (unpaired["verdict"], unpaired["mcnemar"], unpaired.keys()) == ("not_paired", None, paired.keys())


def test_json_of_differences_without_spread_is_whole():
    shifted = run(A, "b", scores={"log_loss": np.array(A) + 0.5})
    json.dumps(reports.content([compare(run(A), shifted, 0.1)]), allow_nan=False)


def test_json_of_several_has_a_verdict_each():
    found = json.loads(json.dumps(reports.content(several()), allow_nan=False))
    assert [one["verdict"] for one in found["comparisons"]] == ["better", "undecided", "not_paired"]
