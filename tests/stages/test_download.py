import runpy
import socket
from pathlib import Path

import pytest

from foldwise.base import params
from foldwise.base.errors import FoldwiseError

ROOT = Path(__file__).parents[2]
download = runpy.run_path(str(ROOT / "stages" / "download.py"))["download"]


def parameters(name, mirror=None):
    default = params.load(ROOT / "params.yaml")
    return default.model_copy(update={"data": default.data.model_copy(update={"name": name, "mirror": mirror})})


@pytest.fixture(autouse=True)
def no_mirror_in_the_environment(monkeypatch):
    monkeypatch.delenv("FOLDWISE_MIRROR", raising=False)


def test_digits_come_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asks the network"))
    download(parameters("digits"), raw=tmp_path / "raw")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["raw/digits/digits.csv"]


def test_the_console_names_the_mirror(tmp_path, capsys):
    download(parameters("digits"), raw=tmp_path / "raw")
    assert "digits.csv.gz: from " in capsys.readouterr().err


def test_the_mirror_of_the_parameters_is_used(tmp_path):
    download(parameters("digits"), raw=tmp_path / "raw")
    mirror = (tmp_path / "raw").rename(tmp_path / "mirror")
    (mirror / "digits").rename(mirror / "elsewhere")
    download(parameters("digits", str(mirror / "elsewhere")), raw=tmp_path / "raw")
    assert (tmp_path / "raw" / "digits" / "digits.csv").stat().st_size == 264_712


def test_an_unknown_data_set_is_told(tmp_path):
    with pytest.raises(FoldwiseError, match=r"data.name is 'digit', which is not known"):
        download(parameters("digit"), raw=tmp_path / "raw")
