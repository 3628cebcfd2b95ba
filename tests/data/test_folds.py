import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from foldwise.base.errors import FoldwiseError
from foldwise.base.files import write_array
from foldwise.base.params import CV
from foldwise.data import folds
from foldwise.data.folds import Fold


def cv(**settings):
    default = {"k": 3, "strategy": "stratified", "repeats": 1, "seed": 42, "groups": "together", "copies": "together"}
    return CV(**(default | settings))


@st.composite
def dealings(draw, strategy=None):
    """Labels, and settings that they can be dealt with."""
    strategy = draw(st.sampled_from(["stratified", "kfold"])) if strategy is None else strategy
    sizes = draw(st.lists(st.integers(2, 15), min_size=1, max_size=5))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.random.default_rng(draw(st.integers(0, 9))).permutation(labels)
    k = draw(st.integers(2, min(sizes) if strategy == "stratified" else len(labels)))
    return labels, cv(k=k, strategy=strategy, repeats=draw(st.integers(1, 3)), seed=draw(st.integers(0, 2**32 - 1)))


@given(dealing=dealings())
def test_every_image_is_held_out_exactly_once_per_repeat(dealing):
    labels, settings = dealing
    found = folds.Folds(folds.assign(labels, settings), folds.Description(**settings.model_dump(), sha256=""))
    for repeat in range(settings.repeats):
        held_out = [found.held_out(Fold(repeat, fold)) for fold in range(settings.k)]
        assert sorted(np.concatenate(held_out)) == list(range(len(labels)))


@given(dealing=dealings())
def test_no_image_is_both_trained_on_and_held_out(dealing):
    labels, settings = dealing
    found = folds.Folds(folds.assign(labels, settings), folds.Description(**settings.model_dump(), sha256=""))
    for fold in found:
        assert sorted([*found.training(fold), *found.held_out(fold)]) == list(range(len(labels)))


@given(dealing=dealings())
def test_sizes_of_folds_differ_by_one_at_most(dealing):
    labels, settings = dealing
    sizes = [np.bincount(row, minlength=settings.k) for row in folds.assign(labels, settings)]
    assert np.ptp(sizes) <= 1


@given(dealing=dealings("stratified"))
def test_each_class_is_spread_over_the_folds_to_one_image(dealing):
    labels, settings = dealing
    for row in folds.assign(labels, settings):
        for label in range(labels.max() + 1):
            assert np.ptp(np.bincount(row[labels == label], minlength=settings.k)) <= 1


@given(dealing=dealings())
def test_equal_seeds_give_equal_folds(dealing):
    assert np.array_equal(folds.assign(*dealing), folds.assign(*dealing))


@given(dealing=dealings())
def test_the_first_repeat_is_scikit_learns_own(dealing):
    labels, settings = dealing
    splitter = StratifiedKFold if settings.strategy == "stratified" else KFold
    expected = splitter(settings.k, shuffle=True, random_state=settings.seed).split(labels, labels)
    row = folds.assign(labels, settings)[0]
    for fold, (_, held_out) in enumerate(expected):
        assert np.array_equal(np.flatnonzero(row == fold), held_out)


@given(dealing=dealings())
def test_more_repeats_leave_the_earlier_ones_as_they_are(dealing):
    labels, settings = dealing
    longer = settings.model_copy(update={"repeats": settings.repeats + 1})
    assert np.array_equal(folds.assign(labels, longer)[:-1], folds.assign(labels, settings))


@given(dealing=dealings())
def test_units_of_one_image_each_change_no_byte(dealing):
    labels, settings = dealing
    numbers = np.random.default_rng(0).permutation(len(labels)) + 7
    assert folds.assign(labels, settings, numbers).tobytes() == folds.assign(labels, settings).tobytes()


@pytest.mark.filterwarnings("error")
@given(
    sizes=st.lists(st.integers(1, 9), min_size=6, max_size=25),
    k=st.integers(2, 4),
    strategy=st.sampled_from(["stratified", "kfold"]),
    mixed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_units_are_dealt_as_scikit_learn_deals_groups(sizes, k, strategy, mixed, seed):
    units = np.repeat(np.arange(len(sizes)), sizes)
    labels = (np.arange(len(units)) if mixed else units) % 2
    assume(len(units) > len(sizes))
    settings = cv(k=k, strategy=strategy, seed=seed)
    try:
        (row,) = folds.assign(labels, settings, units)
    except FoldwiseError as error:
        assume("unit" not in str(error))
        raise
    splitter = StratifiedGroupKFold if strategy == "stratified" else GroupKFold
    expected = splitter(k, shuffle=True, random_state=seed).split(labels, labels, units)
    for fold, (_, held_out) in enumerate(expected):
        assert np.array_equal(np.flatnonzero(row == fold), held_out)
    assert np.array_equal(np.unique(row), np.arange(k))


@pytest.mark.parametrize("sizes", [[2], [9, 5, 3, 2, 2], [20]])
def test_many_images_of_their_own_are_dealt_as_evenly_as_by_scikit_learn(sizes):
    units = np.append(np.arange(400), 400 + np.repeat(np.arange(len(sizes)), sizes))
    uneven = []
    for seed in range(20):
        labels = np.random.default_rng(seed).choice(3, len(units), p=[0.6, 0.3, 0.1])
        (row,) = folds.assign(labels, cv(k=4, seed=seed), units)
        assert all(len(set(row[units == unit])) == 1 for unit in range(400, 400 + len(sizes)))
        theirs = np.empty_like(row)
        splitter = StratifiedGroupKFold(4, shuffle=True, random_state=seed)
        for fold, (_, held_out) in enumerate(splitter.split(labels, labels, units)):
            theirs[held_out] = fold
        uneven.append([[np.ptp(np.bincount(dealt[labels == i])) for i in range(3)] for dealt in (row, theirs)])
    ours, other = np.mean(uneven, axis=(0, 2))
    assert ours <= other + 0.25
    assert len(np.unique(folds._bundled(labels, units, 4, np.random.RandomState(0)))) < len(np.unique(units)) - 100


def test_images_of_their_own_meet_others_in_each_repeat():
    labels, units = np.arange(2000) % 2, np.append(np.arange(1999), 0)
    first, second = folds.assign(labels, cv(k=4, repeats=2), units)
    together = np.mean((first[:, None] == first) & (second[:, None] == second))
    assert together == pytest.approx(1 / 16, abs=0.005)


def test_the_order_and_the_numbers_of_units_are_their_own():
    units = np.arange(60) // 4
    first = folds.assign(LABELS, cv(repeats=2), units)
    assert np.array_equal(first, folds.assign(LABELS, cv(repeats=2), units * 3 + 5))
    assert not np.array_equal(*first)


LABELS = np.repeat(np.arange(3), 20)


def test_another_seed_gives_other_folds():
    assert not np.array_equal(folds.assign(LABELS, cv()), folds.assign(LABELS, cv(seed=43)))


def test_repeats_differ():
    first, second = folds.assign(LABELS, cv(repeats=2))
    assert not np.array_equal(first, second)


def test_leaving_one_out_gives_each_image_a_fold_of_its_own():
    row = folds.assign(LABELS, cv(k=60, strategy="kfold"))[0]
    assert sorted(row) == list(range(60))


def test_assignments_are_of_the_type_on_disk():
    assert folds.assign(LABELS, cv(repeats=2)).dtype == np.int32


REFUSED = [
    (
        LABELS,
        {"k": 21},
        "cv.k is 21 but the rarest class has 20 training images: "
        "set cv.k to 20 or less, or cv.strategy to kfold, or raise data.subset where it is set",
    ),
    (
        np.array([0, 0, 0, 0, 2]),
        {"k": 2},
        "cv.k is 2 but the rarest class has 1 training image: "
        "set cv.strategy to kfold, or raise data.subset where it is set",
    ),
    (
        LABELS,
        {"k": 61, "strategy": "kfold"},
        "cv.k is 61 but there are 60 training images: set cv.k to that or less",
    ),
]


UNITS = "(images of one group, or copies, are one unit)"
REFUSED_UNITS = [
    (
        LABELS,
        np.arange(60) // 5,
        {"k": 5},
        f"cv.k is 5 but the rarest class has 4 training units {UNITS}: "
        "set cv.k to 4 or less, or cv.strategy to kfold, or raise data.subset where it is set",
    ),
    (
        LABELS,
        np.minimum(np.arange(60), 40),
        {"k": 2},
        f"cv.k is 2 but the rarest class has 1 training unit {UNITS}: "
        "set cv.strategy to kfold, or raise data.subset where it is set",
    ),
    (
        LABELS,
        np.arange(60) // 12,
        {"k": 6, "strategy": "kfold"},
        f"cv.k is 6 but there are 5 training units {UNITS}: set cv.k to that or less",
    ),
]


@pytest.mark.parametrize(("labels", "units", "settings", "message"), REFUSED_UNITS)
def test_more_folds_than_units_are_told(labels, units, settings, message):
    with pytest.raises(FoldwiseError) as caught:
        folds.assign(labels, cv(**settings), units)
    assert str(caught.value) == message


@pytest.mark.parametrize("first", [0, 1])
def test_given_folds_are_counted_from_0_or_from_1(first):
    values = [str(first + fold) for fold in (2, 0, 1, 1)]
    found = folds.given(values, cv(strategy="given"))
    assert (found.tolist(), found.dtype) == ([[2, 0, 1, 1]], np.int32)


BY_NUMBER = "number the folds of training images from 0"
WITHOUT_A_GAP = f"{BY_NUMBER}, without a gap, or raise data.subset where it is set"
WRONGLY_GIVEN = [
    (None, "cv.strategy is given, but no metadata.csv has a column fold: set it to stratified, or number them there"),
    (["0", "1", "3"], f"metadata.csv has no fold 2 but a fold 3: {WITHOUT_A_GAP}"),
    (["1", "2", "4"], f"metadata.csv has no fold 3 but a fold 4: {WITHOUT_A_GAP}"),
    (["2", "3", "4"], f"metadata.csv has no fold 1 but a fold 4: {WITHOUT_A_GAP}"),
    (["-1", "0", "1"], f"metadata.csv has fold '-1': {BY_NUMBER}"),
    (["0", "--1", "1"], f"metadata.csv has fold '--1': {BY_NUMBER}"),
    (["0", "20260101"], f"metadata.csv has no fold 1 but a fold 20260101: {WITHOUT_A_GAP}"),
    (["0", "one", "2"], f"metadata.csv has fold 'one': {BY_NUMBER}"),
    (["0", "", "2"], f"metadata.csv has fold '': {BY_NUMBER}"),
    (["0", "1.5", "2"], f"metadata.csv has fold '1.5': {BY_NUMBER}"),
    (["0", "\u00b2"], f"metadata.csv has fold '\u00b2': {BY_NUMBER}"),
    (["0", "9" * 30], f"metadata.csv has fold '{'9' * 30}': {BY_NUMBER}"),
    (["0", "1"], "cv.k is 3 but metadata.csv has 2 folds: set cv.k to 2, or raise data.subset where it is set"),
    (["0", "1", "2", "3"], "cv.k is 3 but metadata.csv has 4 folds: set cv.k to 4"),
]


@pytest.mark.parametrize(("values", "message"), WRONGLY_GIVEN)
def test_given_folds_that_are_none_are_told(values, message):
    with pytest.raises(FoldwiseError) as caught:
        folds.given(values, cv(strategy="given"))
    assert str(caught.value) == message


@pytest.mark.parametrize(("labels", "settings", "message"), REFUSED)
def test_more_folds_than_images_are_told(labels, settings, message):
    with pytest.raises(FoldwiseError) as caught:
        folds.assign(labels, cv(**settings))
    assert str(caught.value) == message


def test_a_fold_says_where_it_is():
    assert str(Fold(1, 2)) == "repeat 1 fold 2"


def test_equal_digests_mean_equal_folds():
    one, other = (folds.assign(LABELS, cv(seed=seed)) for seed in (1, 2))
    assert (folds.digest(one) == folds.digest(one.copy()), folds.digest(one) == folds.digest(other)) == (True, False)


@pytest.fixture
def saved(tmp_path):
    settings = cv(repeats=2)
    folds.save(tmp_path / "folds", folds.assign(LABELS, settings), settings)
    return tmp_path / "folds"


def change_description(saved, **changes):
    path = saved / "folds.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_folds_come_back(saved):
    assert np.array_equal(folds.load(saved, 60).assignments, folds.assign(LABELS, cv(repeats=2)))


def test_folds_are_counted_and_listed_repeat_by_repeat(saved):
    found = folds.load(saved, 60)
    assert (len(found), list(found)) == (6, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)])


def test_the_description_holds_the_settings_and_the_digest(saved):
    assert json.loads((saved / "folds.json").read_text()) == {
        "strategy": "stratified",
        "k": 3,
        "repeats": 2,
        "seed": 42,
        "sha256": folds.digest(folds.assign(LABELS, cv(repeats=2))),
        "groups": "none",
        "copies": "none",
    }


def test_units_of_training_and_test_images_come_back(tmp_path):
    units, settings = np.arange(70) // 2, cv()
    kept = {"groups": "together"}
    folds.save(tmp_path, folds.assign(LABELS, settings, units[:60]), settings, units, kept)
    found = folds.load(tmp_path, 60)
    assert (found.units.tolist(), found.test_units.tolist()) == (units[:60].tolist(), units[60:].tolist())
    assert (found.description.groups, found.description.copies) == ("together", "none")


def test_without_units_all_images_are_on_their_own(saved):
    found = folds.load(saved, 60)
    assert (found.units.tolist(), len(found.test_units)) == (list(range(60)), 0)


def test_folds_of_an_older_version_are_of_images_on_their_own(saved):
    (saved / "units.npy").unlink()
    content = json.loads((saved / "folds.json").read_text())
    (saved / "folds.json").write_text(json.dumps({name: content[name] for name in content if name[-1] != "s"}))
    change_description(saved, repeats=2)
    found = folds.load(saved, 60)
    assert (found.units.tolist(), len(found.test_units)) == (list(range(60)), 0)
    assert found.description.groups == found.description.copies == "none"


def test_units_of_other_images_are_told(saved):
    write_array(saved / "units.npy", np.arange(59))
    with pytest.raises(FoldwiseError) as caught:
        folds.load(saved, 60)
    assert str(caught.value) == f"{saved}: units.npy is of fewer images: run `dvc repro -f -s split`"


@pytest.mark.parametrize("changes", [{"k": "3"}, {"repeats": None}, {"seed": 1.5}, {"extra": 1}])
def test_a_description_of_the_wrong_form_is_told(changes, saved):
    change_description(saved, **changes)
    with pytest.raises(FoldwiseError) as caught:
        folds.load(saved, 60)
    assert str(caught.value) == f"{saved / 'folds.json'} has the wrong form: run `dvc repro -f -s split`"


@pytest.mark.parametrize("content", ["[]", "{}", "null", "5"])
def test_a_description_that_is_none_is_told(content, saved):
    (saved / "folds.json").write_text(content)
    with pytest.raises(FoldwiseError, match=r"folds.json has the wrong form"):
        folds.load(saved, 60)


def test_other_assignments_than_described_are_told(saved):
    write_array(saved / "assignments.npy", folds.assign(LABELS, cv(repeats=2, seed=43)))
    with pytest.raises(FoldwiseError) as caught:
        folds.load(saved, 60)
    told = f"{saved}: assignments.npy is not what folds.json describes: run `dvc repro -f -s split`"
    assert str(caught.value) == told


def test_folds_of_other_data_are_told(saved):
    with pytest.raises(FoldwiseError) as caught:
        folds.load(saved, 61)
    counts = "60 images in 2 repeats where 61 in 2 are expected"
    assert str(caught.value) == f"{saved} deals {counts}: run `dvc repro -f -s split`"


@pytest.mark.parametrize("k", [2, 4, 0, -1])
def test_another_number_of_folds_than_dealt_is_told(k, saved):
    change_description(saved, k=k)
    with pytest.raises(FoldwiseError) as caught:
        folds.load(saved, 60)
    assert str(caught.value) == f"{saved}: a repeat has not {k} folds: run `dvc repro -f -s split`"


def test_another_number_of_repeats_than_dealt_is_told(saved):
    change_description(saved, repeats=1)
    with pytest.raises(FoldwiseError, match="deals 60 images in 2 repeats where 60 in 1 are expected"):
        folds.load(saved, 60)
