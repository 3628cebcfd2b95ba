from pathlib import Path

import pytest

from foldwise.base.copies import named_by_user, original_root

COPIES = [".dvc/tmp/exps/tmpx1", ".dvc/tmp/exps/standalone/tmpx1", ".dvc/tmp/exps/temp/tmpx1/sub"]


@pytest.fixture(params=COPIES)
def root(request, tmp_path, monkeypatch):
    """A repository; the current folder is a copy of it, as DVC makes them for experiments."""
    copy = tmp_path / "repository" / request.param
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    return tmp_path / "repository"


def test_a_copy_of_dvcs_knows_the_repository_that_it_was_made_for(root):
    assert original_root() == root


def test_a_repository_is_no_copy_of_dvcs(tmp_path, monkeypatch):
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / ".dvc/tmp"):
        monkeypatch.chdir(folder)
        assert original_root() is None


def test_a_file_that_the_copy_lacks_is_that_of_the_repository(root):
    assert named_by_user("mine/weights.pth") == root / "mine" / "weights.pth"


def test_a_file_that_the_copy_has_is_its_own(root):
    Path("weights.pth").touch()
    assert named_by_user("weights.pth") == Path("weights.pth")


def test_a_folder_that_is_gone_is_no_copy(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert original_root() is None


@pytest.mark.parametrize("place", ["/data/weights.pth", "~/weights.pth"])
def test_an_absolute_path_stays_as_it_is(root, place, monkeypatch):
    monkeypatch.setenv("HOME", "/data")
    assert named_by_user(place) == Path("/data/weights.pth")


@pytest.mark.parametrize("place", ["weights.pth", "~nobody-of-this-name/weights.pth"])
def test_elsewhere_a_relative_path_stays_as_it_is(place):
    assert named_by_user(place) == Path(place)


@pytest.mark.parametrize("place", ["a" * 5000, "a\0b"], ids=["long", "null"])
def test_a_path_that_cannot_be_is_left_to_whoever_opens_it(root, place):
    assert named_by_user(place).name == place
