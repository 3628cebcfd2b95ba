import runpy
from pathlib import Path

import pytest

from foldwise.base.errors import FoldwiseError

ROOT = Path(__file__).parents[2]
check = runpy.run_path(str(ROOT / "stages" / "check.py"))["check"]


def test_the_number_of_parameters_is_told(parameters, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    check(parameters())
    assert " parameters in params.yaml are as they should be" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("copy", "where"), [(False, "here"), (True, "in this copy of the repository: give it in full")]
)
def test_a_folder_of_images_that_is_not_there_is_told_before_dvc_misses_it(
    copy, where, parameters, monkeypatch, tmp_path
):
    folder = tmp_path / ".dvc" / "tmp" / "exps" / "temp" if copy else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    with pytest.raises(FoldwiseError, match=f"data.folder is 'images', and there is no such folder {where}"):
        check(parameters())
