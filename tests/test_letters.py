import csv
import importlib
import sys
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

FONTS = Path(matplotlib.get_data_path(), "fonts/ttf")


@pytest.fixture
def letters(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("letters")


@pytest.fixture
def main(letters, monkeypatch, tmp_path):
    """Run the script on matplotlib's fonts; gives the folder."""
    monkeypatch.setattr(letters, "FONTS", FONTS)
    monkeypatch.setattr(letters, "FEWEST", 2)

    def run(name):
        monkeypatch.setattr(sys, "argv", ["letters.py", name if name == "--help" else str(tmp_path / name)])
        letters.main()
        return tmp_path / name

    return run


def test_a_font_gives_ten_letters_and_a_family_two_to_six_fonts(letters):
    rows = list(letters.rows(FONTS.glob("*.ttf")))
    fonts = {Path(name).stem: group for name, _, group, _ in rows}
    assert Counter(label for _, label, _, _ in rows) == dict.fromkeys("ABCDEFGHIJ", 10)
    assert Counter(fonts.values()) == {"DejaVu": 6, "STIXGeneral": 4}
    assert {name[:9] for name in fonts} == {"dejavusan", "dejavuser", "stixgener"}


def test_letters_are_whole_in_the_middle_and_of_a_size_for_each_font(letters):
    sizes = {}
    for name, _, _, image in letters.rows(FONTS.glob("*.ttf")):
        ink = np.asarray(image)
        sizes.setdefault(Path(name).stem, set()).add(image.size)
        assert image.mode == "L"
        assert 40 <= min(image.size) <= max(image.size) <= 120
        for lines in (ink.any(axis=0), ink.any(axis=1)):
            first, last = np.flatnonzero(lines)[[0, -1]]
            assert first >= 3
            assert 0 <= len(lines) - 1 - last - first <= 1
    assert all(len(of_font) == 1 for of_font in sizes.values())
    assert len(set.union(*sizes.values())) == len(sizes)


@pytest.mark.parametrize("name", ["cmex10.ttf", "STIXSizOneSymReg.ttf", "LastResortHE-Regular.ttf", "LICENSE_STIX"])
def test_what_does_not_have_the_letters_is_left_out(letters, name):
    assert list(letters.families([FONTS / name, FONTS / "DejaVuSans.ttf"])) == ["DejaVu"]


def test_a_font_and_a_name_are_taken_once(letters, tmp_path):
    for copy, name in {"1/cmr10": "cmr10", "1/text": "cmtt10", "2/copy": "cmr10", "2/TEXT": "cmb10"}.items():
        (tmp_path / copy).parent.mkdir(exist_ok=True)
        (tmp_path / f"{copy}.ttf").write_bytes((FONTS / f"{name}.ttf").read_bytes())
    assert list(letters.families(tmp_path.rglob("*.ttf"))) == ["cmr10", "cmtt10"]


def test_two_runs_write_equal_bytes(main, capsys):
    one, two = main("one"), main("two")
    with (one / "metadata.csv").open() as file:
        table = list(csv.DictReader(file))
    files = sorted(path.relative_to(one) for path in one.rglob("*.*"))
    assert list(table[0]) == ["file_name", "label", "group"]
    assert sorted([*(row["file_name"] for row in table), "metadata.csv"]) == [path.as_posix() for path in files]
    assert all((one / path).read_bytes() == (two / path).read_bytes() for path in files)
    assert Image.open(one / table[0]["file_name"]).mode == "L"
    assert f"{len(table)} images of" in capsys.readouterr().out


def test_too_few_families_are_told_in_one_line(letters, main, monkeypatch, tmp_path):
    monkeypatch.setattr(letters, "FEWEST", 50)
    with pytest.raises(SystemExit, match=r"^letters\.py: \d+ font families in .*, fewer than 50: [^\n]*--help lists$"):
        main("folder")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(main, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    with pytest.raises(SystemExit, match="is there already"):
        main("mine")
    assert (tmp_path / "mine/file").exists()


def test_help_ends_with_a_line_that_installs_fonts(letters, main, capsys):
    with pytest.raises(SystemExit):
        main("--help")
    assert capsys.readouterr().out.splitlines()[-1] == letters.INSTALL
