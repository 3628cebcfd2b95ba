import pytest
from clones import Clone


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """Give a clone in which nothing has run."""
    return Clone.of_the_working_tree(tmp_path_factory.mktemp("pristine") / "foldwise")


@pytest.fixture(scope="session")
def reference(pristine, tmp_path_factory):
    """Give a clone after an undisturbed run, committed."""
    clone = pristine.copy(tmp_path_factory.mktemp("reference") / "foldwise")
    clone.dvc("repro")
    clone.commit()
    return clone


@pytest.fixture(scope="session")
def three_folds(reference, tmp_path_factory):
    """Give a clone after an experiment of three folds, and what DVC told of it."""
    clone = reference.copy(tmp_path_factory.mktemp("three-folds") / "foldwise")
    return clone, clone.dvc("exp", "run", "-S", "cv.k=3")


@pytest.fixture
def clone(pristine, tmp_path):
    """Give a clone of the test's own in which nothing has run."""
    return pristine.copy(tmp_path / "foldwise")


@pytest.fixture
def repeated(reference, tmp_path):
    """Give a clone of the test's own after an undisturbed run, committed."""
    return reference.copy(tmp_path / "foldwise")
