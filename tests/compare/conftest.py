import pytest
import small_repository


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small repository, for tests that change nothing."""
    return small_repository.copy(tmp_path_factory, tmp_path_factory.mktemp("shared") / "small")


@pytest.fixture
def mine(tmp_path_factory, tmp_path):
    """A small repository of the test's own."""
    return small_repository.copy(tmp_path_factory, tmp_path / "mine")
