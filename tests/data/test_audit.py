from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from foldwise.base.params import CV
from foldwise.data import audit, near_copies
from foldwise.data.audit import EXAMPLES, Known
from foldwise.data.images import Images

N, M, CLASSES = 24, 6, ("a", "b", "c")
FOLDS = np.tile(np.arange(4), N // 4)[None].astype(np.int32)


def cv(**settings):
    default = {"k": 4, "strategy": "stratified", "repeats": 1, "seed": 42, "groups": "together", "copies": "together"}
    return CV(**(default | settings))


def clean(n=N, m=M):
    """Images of noise, all unlike each other; each fold holds out some of each class."""
    pixels = np.random.default_rng(0).integers(0, 256, (n + m, 1, 8, 8), np.uint8)
    labels = np.arange(n + m) // 4 % 3
    return Images.measured("made up", CLASSES, (pixels[:n], labels[:n]), (pixels[n:], np.arange(m) % 3))


def tables(data, **columns):
    """Tables of files that are named by their number."""
    n = len(data.train_labels)
    names = [f"{number}.png" for number in range(n + len(data.test_labels))]
    table = pd.DataFrame({"file_name": names} | columns)
    return table[:n], table[n:]


def audited(data, files=None, folds=FOLDS, **settings):
    """The findings, and the lines about them."""
    known = Known.of(data, files)
    findings = audit.audit(data, known, folds, cv(**settings))
    return findings, audit.lines(findings, data, known)


def only(data, files=None, folds=FOLDS, **settings):
    """The one finding."""
    (finding,), _ = audited(data, files, folds, **settings)
    return finding


def groups(**members):
    """The column of groups: a="0 1 2" are the first three images."""
    column = [""] * (N + M)
    for name, numbers in members.items():
        for number in numbers.split():
            column[int(number)] = name
    return column


CHECKED = "audit of 30 images (copies, labels, classes, blank images, near copies)"


def test_where_nothing_is_found_one_line_says_what_was_checked():
    assert audited(clean()) == ([], [f"{CHECKED}: nothing found"])


def test_groups_are_checked_where_there_are_any():
    data = clean()
    column = groups(a="0 4", b="1 5", c="2 6", d="3 7")
    _, lines = audited(data, tables(data, group=column), k=4)
    assert lines[0].startswith("audit of 30 images (copies, groups, labels, classes, blank images, near copies)")
    _, lines = audited(data, tables(data, group=[""] * 30))
    assert lines == [f"{CHECKED}: nothing found"]


def test_near_copies_are_left_out_of_many_images(monkeypatch):
    monkeypatch.setattr(near_copies, "MOST", 29)
    monkeypatch.setattr(audit, "MOST", 29)
    data = clean()
    data.train_images[4] = data.train_images[0] // 2
    assert audited(data)[1] == ["audit of 30 images (copies, labels, classes, blank images): nothing found"]


@pytest.mark.parametrize(
    ("torn", "settings", "how"),
    [
        (False, {}, "are held out together"),
        (True, {"copies": "ignore"}, "are trained on and held out at once, as cv.copies is ignore"),
        (True, {"strategy": "given"}, "are trained on and held out at once, as cv.strategy is given"),
    ],
)
def test_copies_in_training_are_counted(torn, settings, how):
    data = clean()
    data.train_images[[4, 12]] = data.train_images[0]
    data.train_images[13] = data.train_images[1]
    data = replace(data, train_labels=np.where(np.isin(np.arange(N), [4, 12, 13]), 0, data.train_labels))
    folds = FOLDS.copy()
    folds[:, [4, 12, 13]] = folds[:, [1, 1, 0]] if torn else folds[:, [0, 0, 1]]
    finding = only(data, folds=folds, **settings)
    assert (finding.kind, finding.count) == ("copies_in_training", 5)
    assert finding.says == f"training images that are copies: 5, of 2 different ones; they {how}"
    assert finding.examples == ((0, 4, 12), (1, 13))


def test_copies_of_training_images_in_test_are_counted():
    data = clean()
    data.test_images[[1, 4]] = data.train_images[4]
    finding = only(data)
    assert (finding.kind, finding.count, finding.examples) == ("copies_in_test", 2, ((4, N + 1, N + 4),))
    assert finding.says == "test images that are copies of training images: 2; test.apart is without them"


def test_copies_within_the_test_set_are_none_of_training():
    data = clean()
    data.test_images[3] = data.test_images[0]
    assert audited(data)[0] == []


def test_copies_of_several_labels_are_told():
    data = clean()
    data.train_images[4] = data.train_images[0]
    data.test_images[2] = data.train_images[1]
    kinds = {finding.kind: finding for finding in audited(data)[0]}
    assert list(kinds) == ["copies_in_training", "copies_in_test", "contrary_labels"]
    finding = kinds["contrary_labels"]
    assert (finding.count, finding.examples) == (2, ((0, 4), (1, N + 2)))
    assert finding.says == "images with copies of another label: 2; at most one label is right"


def test_groups_in_training_and_test_are_told():
    data = clean()
    column = groups(a="0 4 24 27", b="5", c="6", d="7", e="8", f="9", g="10 25", h="26", i="1 2 3 11")
    folds = FOLDS.copy()
    folds[0, [0, 4]], folds[0, [1, 2, 3, 11]] = 0, 3
    finding = audited(data, tables(data, group=column), folds)[0][0]
    assert (finding.kind, finding.count, finding.examples) == ("groups_in_test", 2, ((0, 27), (10, 25)))
    assert finding.says == "groups in training and test: 2; test.apart is without them"


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"groups": "ignore"}, "cv.groups is ignore"), ({"strategy": "given"}, "cv.strategy is given")],
)
def test_groups_that_are_torn_are_told(settings, why):
    data = clean()
    column = groups(a="0 4 8", b="1 2", c="3 5 6", d="7")
    finding = audited(data, tables(data, group=column), **settings)[0][0]
    assert (finding.kind, finding.count) == ("groups_in_several_folds", 2)
    assert finding.says == f"groups in several folds: 2 of 4, as {why}; scores are not of new groups"


def of_classes(train=None, test=None, classes=CLASSES):
    data = clean()
    train = data.train_labels if train is None else np.array(train)
    test = data.test_labels if test is None else np.array(test)
    return replace(data, classes=classes, train_labels=train, test_labels=test)


LACKING = {
    "training": (of_classes(train=np.arange(N) // 4 % 2), "no training image is of c"),
    "test": (of_classes(test=[0] * M), "no test image is of b, c"),
    "a_fold": (of_classes(train=np.where(np.arange(N) < 2, 2, np.arange(N) // 4 % 2)), "not every fold holds out an "),
}


@pytest.mark.parametrize(("what", "says"), [(name, says) for name, (_, says) in LACKING.items()])
def test_classes_that_a_part_lacks_are_told(what, says):
    finding = only(LACKING[what][0])
    assert finding.kind == f"classes_lacking_in_{what}"
    assert finding.says == (says if what != "a_fold" else "not every fold holds out an image of c")
    assert finding.count == len(finding.says.split(" of ")[1].split(", "))


def test_without_a_test_set_no_class_is_lacking_in_it():
    data = clean(m=0)
    assert audited(data) == (
        [],
        ["audit of 24 images (copies, labels, classes, blank images, near copies): nothing found"],
    )


def test_a_class_is_lacking_in_a_fold_of_any_repeat():
    folds = np.concatenate([FOLDS, FOLDS])
    folds[1, np.arange(N) // 4 % 3 == 1] = 2
    _, lacking = audited(clean(), folds=folds)[0]  # after the finding that the folds are uneven
    assert lacking.says == "not every fold holds out an image of b"


def test_classes_of_too_few_groups_are_told():
    data = clean()
    data = replace(data, train_labels=np.arange(N) % 3)
    column = groups(a="0 3", b="6 9", c="12", d="15", e="1 4", f="7 10", g="13")
    folds = FOLDS.copy()
    folds[0] = np.arange(N) // 3 % 4
    for one in ([0, 3], [6, 9], [1, 4], [7, 10]):
        folds[0, one] = folds[0, one[0]]
    finding = only(data, tables(data, group=column), folds)
    assert (finding.kind, finding.count) == ("classes_lacking_in_groups", 1)
    assert finding.says == "there are groups, but fewer than 4, of b"


def test_of_many_classes_ten_are_named():
    names = tuple(f"class {number}" for number in range(15))
    finding = audited(of_classes(classes=names))[0][0]
    named = ", ".join(names[3:13])
    assert (finding.count, finding.says) == (12, f"no training image is of {named} and 2 more classes")


def test_blank_images_are_told():
    data = clean()
    data.train_images[3], data.train_images[20], data.test_images[5] = 0, 77, 78
    finding = only(data)
    assert (finding.kind, finding.count, finding.examples) == ("blank", 3, ((3,), (20,), (N + 5,)))
    assert finding.says == "blank images, all pixels of one value: 3"


def test_an_image_of_one_colour_is_blank_and_one_with_a_dot_is_not():
    pixels = np.random.default_rng(0).integers(0, 256, (N, 3, 8, 8), np.uint8)
    pixels[5] = np.array([9, 80, 200])[:, None, None]
    pixels[6] = 0
    pixels[6, 1, 4, 4] = 1
    data = Images.measured("made up", CLASSES, (pixels, clean().train_labels), (pixels[:0], np.empty(0, np.int64)))
    assert only(data).examples == ((5,),)


def test_near_copies_are_told_and_are_no_copies():
    data = clean()
    data.train_images[7] = data.train_images[2] // 2 + 60
    data.test_images[1] = data.train_images[9] // 3
    finding = only(data)
    assert (finding.kind, finding.count) == ("near_copies", 2)
    assert sorted(finding.examples) == [(2, 7), (9, N + 1)]
    assert finding.says == "pairs of images that look alike: 2; name those that are one as a group, if there are any"


@pytest.mark.parametrize(
    ("settings", "more", "examples"),
    [
        ({}, ", as 15 are of one group, or copies", ((0, 1, 2, 3),)),
        ({"groups": "ignore"}, "", ()),
        ({"strategy": "given"}, "", ()),
        (
            {"strategy": "kfold"},
            ", as kfold deals groups whatever their sizes; cv.strategy stratified evens them out",
            (),
        ),
    ],
)
def test_uneven_folds_are_told_and_why(settings, more, examples):
    data = clean()
    folds = np.array([[0] * 15 + [1, 2, 3] * 3, [0, 1, 2, 3] * 6], np.int32)
    files = tables(data, group=["large"] * 15 + [""] * 15)
    (finding,) = [one for one in audited(data, files, folds, **settings)[0] if one.kind == "uneven_folds"]
    assert finding.says == f"folds are uneven: they hold out 3 to 15 images{more}"
    assert (finding.count, finding.examples) == (15, examples)


def test_folds_of_twice_the_images_are_even_enough():
    folds = np.array([[0] * 8 + [1] * 8 + [2] * 4 + [3] * 4], np.int32)
    assert "uneven_folds" not in [one.kind for one in audited(clean(), folds=folds)[0]]


def test_too_many_near_copies_are_not_counted(monkeypatch):
    for module in (audit, near_copies):
        monkeypatch.setattr(module, "ENOUGH", 2)
    data = clean()
    data.train_images[[7, 8, 9]] = data.train_images[2] // 2 + np.arange(3, dtype=np.uint8)[:, None, None, None]
    assert only(data).says.startswith("pairs of images that look alike: 2 or more; ")


def test_lines_number_findings_from_1_and_name_files():
    data = clean()
    data.train_images[[4, 12]] = data.train_images[0]
    data.train_images[13] = data.train_images[1]
    data.train_images[5] = 3
    data = replace(data, train_labels=np.where(np.isin(np.arange(N), [4, 12, 13]), 0, data.train_labels))
    findings, lines = audited(data, tables(data))
    assert lines == [
        f"{CHECKED}: {len(findings)} findings",
        f"finding 1: {findings[0].says} (0.png = 4.png = 12.png, ...)",
        f"finding 2: {findings[1].says} (5.png)",
    ]
    assert audited(data)[1] == [lines[0], f"finding 1: {findings[0].says}", f"finding 2: {findings[1].says}"]


def test_one_finding_is_one():
    data = clean()
    data.train_images[5] = 3
    assert audited(data)[1][0] == f"{CHECKED}: 1 finding"


def test_examples_are_few():
    data = clean()
    copied = clean(n=N * 4)
    copied.train_images[:] = np.repeat(data.train_images, 4, axis=0)
    copied = replace(copied, train_labels=np.zeros(4 * N, np.int64))
    finding = audited(copied, folds=np.zeros((1, 4 * N), np.int32))[0][0]
    assert (finding.count, sum(map(len, finding.examples))) == (4 * N, EXAMPLES)
    copied.train_images[:] = data.train_images[0]
    finding = audited(copied, folds=np.zeros((1, 4 * N), np.int32))[0][0]
    assert (finding.count, finding.examples) == (4 * N, ((0, 1, 2, 3),))


def test_the_content_of_the_file_says_which_images():
    data = clean()
    data.test_images[2] = data.train_images[4]
    data.train_images[5] = 3
    data = replace(data, test_labels=np.array([0, 1, 1, 0, 1, 2]))
    known = Known.of(data, tables(data))
    findings = audit.audit(data, known, FOLDS, cv())
    assert audit.content(findings, data, known) == {
        "images": 30,
        "findings": [
            {
                "number": 1,
                "kind": "copies_in_test",
                "count": 1,
                "says": "test images that are copies of training images: 1; test.apart is without them",
                "examples": [
                    [
                        {"images": "training", "index": 4, "file_name": "4.png"},
                        {"images": "test", "index": 2, "file_name": "26.png"},
                    ]
                ],
            },
            {
                "number": 2,
                "kind": "blank",
                "count": 1,
                "says": "blank images, all pixels of one value: 1",
                "examples": [[{"images": "training", "index": 5, "file_name": "5.png"}]],
            },
        ],
    }
    without = audit.content(findings, data, Known.of(data, None))
    assert without["findings"][1]["examples"] == [[{"images": "training", "index": 5}]]
    assert audit.content([], data, known) == {"images": 30, "findings": []}


def test_what_is_known_comes_from_the_tables():
    data = clean()
    known = Known.of(data, tables(data, group=groups(x="3 25", y="4"), fold=[*"0123" * 6, *[""] * M]))
    assert (known.groups[3], known.groups[25], known.groups[4], known.groups[0]) == (0, 0, 1, -1)
    assert (known.given, known.names[-1]) == ([*"0123" * 6], "29.png")
    assert Known.of(data, None).given is Known.of(data, tables(data)).given is None


@pytest.mark.parametrize(
    ("groups", "kept"),
    [
        ([-1, -1, -1, -1], {}),
        ([0, 1, 2, -1], {}),
        ([0, 2, 0, -1], {"groups": "together"}),
        ([0, 0, 1, 2], {"groups": "torn"}),
        ([3, 1, 2, 3], {"groups": "torn"}),
    ],
)
def test_groups_are_together_where_no_fold_of_any_repeat_tears_one(groups, kept):
    known = Known(np.array(groups), np.full(4, -1), None, None)
    assert audit.kept(known, np.array([[0, 1, 0, 1], [1, 0, 1, 0]], np.int32)) == kept


def test_where_no_test_image_is_apart_that_is_said():
    data = clean()
    data.test_images[:] = data.train_images[[0, 4, 8, 0, 4, 8]]
    says = {finding.kind: finding.says for finding in audited(data)[0]}
    assert says["copies_in_test"].endswith("; no test image is without any, so its score says nothing of new images")
