import ast
import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import foldwise
from foldwise import learning
from foldwise.base import libraries
from foldwise.base.errors import FoldwiseError
from foldwise.data import pixels, units
from foldwise.data.folds import Fold
from foldwise.execution import fold_store
from foldwise.execution.fold_store import FoldStore, fold_keys, without_words

FOLD, OTHER = Fold(0, 1), Fold(1, 0)
ARRAYS = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "epochs": np.array([[1.0]]), "step": np.array(3)}
PARTS = (np.array([0, 1, 2, 3]), b"bytes", "text", {"lr": 0.1}, None)
PACKAGE = Path(foldwise.__file__).parent
# What a fold's training runs through in other rooms, and does not decide what comes of it: errors, files, and the types
# of parameters, indices and images, whose values are in the key.
COUNTS_NOT = {
    "base/errors.py",
    "base/files.py",
    "base/libraries.py",
    "base/params.py",
    "data/folds.py",
    "data/images.py",
}


@pytest.fixture
def store(tmp_path):
    store = FoldStore(tmp_path / "store", {FOLD: "a" * 32, OTHER: "b" * 32})
    assert store.write(FOLD, "finished", ARRAYS) == ""
    return store


@pytest.fixture
def folds(digits, deal, parameters):
    return deal(digits.train_labels, parameters().cv)


def file_of(store):
    (path,) = store.directory.iterdir()
    return path


def test_what_is_kept_is_read_again_to_the_same_bytes(store):
    arrays = store.read(FOLD, "finished")
    assert {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in ARRAYS.items()
    }


@pytest.mark.parametrize(("fold", "kind"), [(OTHER, "finished"), (FOLD, "epoch")], ids=str)
def test_nothing_is_found_of_another_fold_or_kind(fold, kind, store):
    assert store.read(fold, kind) is None


def test_nothing_is_found_under_another_key(store):
    assert FoldStore(store.directory, {FOLD: "c" * 32}).read(FOLD, "finished") is None


def test_a_file_of_any_other_length_counts_as_none(store):
    whole = file_of(store).read_bytes()
    for length in range(len(whole)):
        file_of(store).write_bytes(whole[:length])
        assert store.read(FOLD, "finished") is None
    file_of(store).write_bytes(whole + b"\0")
    assert store.read(FOLD, "finished") is None


def test_a_file_with_a_changed_byte_counts_as_none(store):
    whole = file_of(store).read_bytes()
    for place in range(len(whole)):
        file_of(store).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert store.read(FOLD, "finished") is None


def test_a_file_of_another_fold_that_was_put_in_its_place_counts_as_none(store):
    shutil.copy(store._path(FOLD, "finished"), store._path(OTHER, "finished"))
    assert store.read(OTHER, "finished") is None


def test_a_finished_fold_needs_no_epoch_any_more(store):
    store.write(OTHER, "epoch", ARRAYS)
    store.write(OTHER, "finished", ARRAYS)
    assert store.read(OTHER, "epoch") is None


def test_a_fold_may_be_kept_again(store):
    store.write(FOLD, "finished", {"weights": np.zeros(2)})
    assert store.read(FOLD, "finished").keys() == {"weights"}


def test_nothing_half_written_remains(store):
    assert [path.name for path in store.directory.iterdir()] == [f"repeat-0-fold-1-{'a' * 32}.finished"]


def test_what_was_used_longest_ago_makes_room(store, monkeypatch):
    size = file_of(store).stat().st_size
    monkeypatch.setattr(fold_store, "LIMIT", 3 * size)
    keys = {Fold(9, number): str(number) * 32 for number in range(4)}
    more = FoldStore(store.directory, keys)
    for seconds, fold in enumerate(list(keys)[:2]):
        more.write(fold, "finished", ARRAYS)
        os.utime(more._path(fold, "finished"), (1000 + seconds, 1000 + seconds))
    os.utime(store._path(FOLD, "finished"), (0, 0))
    assert store.read(FOLD, "finished") is not None  # which is a use
    more.write(Fold(9, 2), "finished", ARRAYS)
    assert store.read(FOLD, "finished") is not None
    assert [more.read(fold, "finished") is not None for fold in keys] == [False, True, True, False]


def test_a_fold_that_is_larger_than_all_room_is_no_mistake(store, monkeypatch):
    monkeypatch.setattr(fold_store, "LIMIT", 10)
    assert store.write(OTHER, "finished", ARRAYS) == ""
    assert list(store.directory.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_and_read_as_empty(tmp_path):
    (tmp_path / "file").touch()
    store = FoldStore(tmp_path / "file" / "store", {FOLD: "a"})
    assert store.write(FOLD, "finished", ARRAYS).endswith("cannot be written: Not a directory")
    assert store.read(FOLD, "finished") is None
    with pytest.raises(FoldwiseError, match=r"cannot be removed \(Not a directory\): remove it, or set compute.reuse"):
        store.forget()


def test_a_full_disk_is_told(store, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert store.write(OTHER, "finished", ARRAYS).endswith("cannot be written: No space left on device")
    assert [path.name for path in store.directory.iterdir()] == [store._path(FOLD, "finished").name]


def test_what_may_only_be_read_is_read(store, monkeypatch):
    def refused(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refused)
    assert store.read(FOLD, "finished") is not None


def test_a_run_forgets_its_own_folds_alone(store):
    FoldStore(store.directory, {OTHER: "c" * 32}).forget()
    assert store.read(FOLD, "finished") is not None
    store.forget()
    assert list(store.directory.iterdir()) == []


def test_equal_things_give_equal_keys(folds):
    assert fold_keys(folds, *PARTS) == fold_keys(folds, *PARTS)


def test_each_fold_has_a_key_of_its_own(folds):
    keys = fold_keys(folds, *PARTS)
    assert (list(keys), len(set(keys.values()))) == (list(folds), len(folds))


@pytest.mark.parametrize(
    "parts",
    [
        (np.array([0, 1, 2, 4]), *PARTS[1:]),
        (PARTS[0], b"other bytes", *PARTS[2:]),
        (*PARTS[:2], "other text", *PARTS[3:]),
        (*PARTS[:3], {"lr": 0.2}, PARTS[4]),
        PARTS[:-1],
        (*PARTS, None),
        PARTS[::-1],
    ],
    ids=["array", "bytes", "text", "parameter", "fewer", "more", "order"],
)
def test_a_change_of_anything_that_counts_gives_all_folds_other_keys(parts, folds):
    before, after = fold_keys(folds, *PARTS), fold_keys(folds, *parts)
    assert set(before.values()) & set(after.values()) == set()


def test_a_fold_depends_on_its_own_images_alone(folds):
    changed = folds.assignments.copy()
    two, three = (np.flatnonzero(changed[0] == fold)[0] for fold in (2, 3))
    changed[0, two], changed[0, three] = 3, 2
    before = fold_keys(folds, *PARTS)
    after = fold_keys(replace(folds, assignments=changed), *PARTS)
    assert [before[Fold(0, fold)] == after[Fold(0, fold)] for fold in range(4)] == [True, True, False, False]


def test_more_repeats_keep_the_keys_of_the_first(digits, deal, parameters):
    one, three = (
        fold_keys(deal(digits.train_labels, parameters({"cv.repeats": repeats}).cv), *PARTS) for repeats in (1, 3)
    )
    assert one.items() <= three.items()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Let the code be a copy's."""
    shutil.copytree(PACKAGE, tmp_path / "foldwise")
    monkeypatch.setattr(learning, "__path__", [str(tmp_path / "foldwise" / "learning")])
    for module in (pixels, units):
        monkeypatch.setattr(module, "__file__", str(tmp_path / "foldwise" / "data" / Path(module.__file__).name))
    return tmp_path / "foldwise"


def edited(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("learning/training.py", "        optimizer.step()\n", "        optimizer.step()\n        optimizer.step()\n"),
        ("learning/training.py", "WATCHED = 4000", "WATCHED = 4001"),
        ("learning/augmentation.py", "\nMAX_SHIFT = 1 / 28", "\nMAX_SHIFT = 1 / 27"),
        ("learning/selection.py", "FEWEST = 10_000", "FEWEST = 10_001"),
        ("learning/models.py", "(form.classes, form.classes + 1)", "(form.classes, form.classes + 2)"),
        ("data/pixels.py", "_BLOCK = 4_000_000", "_BLOCK = 4_000_001"),
        ("data/units.py", "np.lexsort((-pairs, counts))", "np.lexsort((pairs, counts))"),
    ],
)
def test_a_change_of_code_that_counts_gives_other_keys(module, old, new, package, folds):
    before = fold_keys(folds, *PARTS)
    edited(package / module, old, new)
    assert set(before.values()) & set(fold_keys(folds, *PARTS).values()) == set()


def test_a_new_module_gives_other_keys(package, folds):
    before = fold_keys(folds, *PARTS)
    (package / "learning" / "new.py").write_text("")
    assert fold_keys(folds, *PARTS) != before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("learning/training.py", "too few for the split of early stopping", "not enough to stop early"),
        ("learning/training.py", "raise it to 3 or more", "raise it"),
        ("learning/optimization.py", "lower train.lr in params.yaml", "make train.lr smaller"),
        ("learning/training.py", '"""Take every image once', '"""Train on every image once'),
        ("learning/training.py", "# Of nearly equal size", "# About as large"),
        ("base/params.py", "input should be a number", "give a number"),
        ("execution/jobs.py", "goes on after epoch", "continues after epoch"),
        ("ray_backend.py", "HEAD_SECONDS = 15.0", "HEAD_SECONDS = 16.0"),
        ("execution/pool.py", "batch_size=1", "batch_size=2"),
    ],
)
def test_words_comments_and_what_changes_how_fast_keep_the_keys(module, old, new, package, folds):
    before = fold_keys(folds, *PARTS)
    edited(package / module, old, new)
    assert fold_keys(folds, *PARTS) == before


def test_every_module_that_a_folds_training_runs_through_is_judged():
    """Whatever it imports counts, or is known not to."""
    counted = {*PACKAGE.joinpath("learning").glob("*.py"), Path(pixels.__file__), Path(units.__file__)}
    imported, new = set(), set(counted)
    while new:
        path = new.pop()
        imported.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("foldwise"):
                module = PACKAGE.joinpath(*str(node.module).split(".")[1:])
                files = {module.with_suffix(".py"), *(module / f"{alias.name}.py" for alias in node.names)}
                new |= {file for file in files if file.is_file()} - imported
    beyond = {path.relative_to(PACKAGE).as_posix() for path in imported - counted}
    assert beyond == COUNTS_NOT


def test_a_text_counts_where_it_is_no_word_of_an_error():
    assert without_words("f('a')") != without_words("f('b')")
    assert without_words("def f() -> str:\n    return 'a'") != without_words("def f() -> str:\n    return 'b'")
    assert without_words("raise E('a')") == without_words("raise E('b')")
    assert without_words("raise E(1)") != without_words("raise E(2)")
    maybe = "def f() -> FoldwiseError | None:\n    return g({!r})"  # which may end no fold
    assert without_words(maybe.format("a")) != without_words(maybe.format("b"))
    always = "def f() -> FoldwiseError:\n    return g({!r})"
    assert without_words(always.format("a")) == without_words(always.format("b"))


@pytest.mark.parametrize("library", ["torch", "torchvision", "numpy", "scikit-learn"])
def test_another_version_of_a_library_gives_other_keys(library, folds, monkeypatch):
    before, installed = fold_keys(folds, *PARTS), libraries.installed()
    monkeypatch.setattr(libraries, "installed", lambda: installed | {library: "0.0"})
    assert fold_keys(folds, *PARTS) != before


def test_another_kind_of_processor_gives_other_keys(folds, monkeypatch):
    before = fold_keys(folds, *PARTS)
    monkeypatch.setattr(fold_store.platform, "machine", lambda: "vax")
    assert fold_keys(folds, *PARTS) != before
    monkeypatch.undo()
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "vendor_id: a new one\n")
    assert fold_store._processor()[1] == ["vendor_id: a new one"]
    monkeypatch.undo()
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": {"found": ["SSE41"]}})
    assert fold_keys(folds, *PARTS) != before


@pytest.mark.parametrize("setting", ["ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "NPY_DISABLE_CPU_FEATURES"])
def test_what_chooses_the_processors_instructions_gives_other_keys(setting, folds, monkeypatch):
    before = fold_keys(folds, *PARTS)
    monkeypatch.setenv(setting, "AVX2")
    assert fold_keys(folds, *PARTS) != before


def test_which_images_are_trained_on_counts_and_not_only_those_held_out(folds, monkeypatch):
    before = fold_keys(folds, *PARTS)
    training = type(folds).training
    monkeypatch.setattr(type(folds), "training", lambda own, fold: training(own, fold)[::2])
    assert set(fold_keys(folds, *PARTS).values()) & set(before.values()) == set()
