import unicodedata

import pytest
from small_folders import fill, noise, save, write_table

from foldwise.base.errors import FoldwiseError
from foldwise.sources.folder import listing


def rows(folder):
    """The listed rows as tuples of file, label and split."""
    table, _ = listing(folder)
    return list(table[["file_name", "label", "split"]].itertuples(index=False, name=None))


@pytest.fixture
def pair(tmp_path):
    """Give a folder of two loose images, for a table."""
    for seed, name in enumerate(("a.png", "b.png")):
        save(tmp_path / name, noise(seed))
    return tmp_path


def test_folders_are_classes(tmp_path):
    fill(tmp_path, {"dog": 1, "cat": 2})
    assert rows(tmp_path) == [
        ("cat/0.png", "cat", "train"),
        ("cat/1.png", "cat", "train"),
        ("dog/0.png", "dog", "train"),
    ]


def test_class_folders_may_lie_in_train_and_test(tmp_path):
    fill(tmp_path, {"train/cat": 1, "train/dog": 1, "test/cat": 1})
    assert rows(tmp_path) == [
        ("test/cat/0.png", "cat", "test"),
        ("train/cat/0.png", "cat", "train"),
        ("train/dog/0.png", "dog", "train"),
    ]


def test_train_may_stand_alone(tmp_path):
    fill(tmp_path, {"train/cat": 1, "train/dog": 1})
    assert {split for _, _, split in rows(tmp_path)} == {"train"}


def test_train_and_test_may_be_written_in_capitals(tmp_path):
    fill(tmp_path, {"Train/cat": 1, "Train/dog": 1, "TEST/cat": 1})
    table, notes = listing(tmp_path)
    assert (table["split"].tolist(), notes) == (["test", "train", "train"], [])


def test_folders_within_those_of_the_classes_are_read_and_told(tmp_path):
    fill(tmp_path, {"cat/anna/left": 1, "cat/ben": 2, "dog": 1})
    table, notes = listing(tmp_path)
    assert table["label"].tolist() == ["cat", "cat", "cat", "dog"]
    assert len(notes) == 1
    assert notes[0].startswith("3 images lie in folders within those of their classes: if these are patients")


@pytest.mark.parametrize(
    "name", ["a b.png", "Gänse ß.png", "A.PNG", "b.JpEg", "a,b.png", 'it\'s "one".png', "50%.png", "a.b.png", "-.png"]
)
@pytest.mark.parametrize("kind", ["cat", "große Katze, alt", 'the "one"', "0"])
def test_names_may_be_odd(tmp_path, name, kind):
    save(tmp_path / kind / name, noise(0), format="PNG")
    save(tmp_path / "other" / "a.png", noise(1))
    assert (f"{kind}/{name}", kind, "train") in rows(tmp_path)


@pytest.mark.parametrize(
    "name", ["Thumbs.db", ".DS_Store", "desktop.ini", ".a.png", "README.md", "readme", "ReadMe.txt"]
)
@pytest.mark.parametrize("place", ["", "cat/"])
def test_files_that_systems_and_people_leave_are_passed_over_without_a_word(tmp_path, name, place):
    names = fill(tmp_path)
    (tmp_path / f"{place}{name}").write_text("x")
    table, notes = listing(tmp_path)
    assert (table["file_name"].tolist(), notes) == (names, [])


@pytest.mark.parametrize("name", ["__MACOSX", ".git", ".ipynb_checkpoints"])
def test_folders_that_systems_leave_are_passed_over(tmp_path, name):
    names = fill(tmp_path)
    save(tmp_path / name / "a.png", noise(99))
    table, notes = listing(tmp_path)
    assert (table["file_name"].tolist(), notes) == (names, [])


def test_other_files_are_named_in_a_note(tmp_path):
    fill(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    assert listing(tmp_path)[1] == ["cat/notes.txt is no image by name, and left out"]
    (tmp_path / "labels.xlsx").write_text("x")
    assert listing(tmp_path)[1] == ["2 files (cat/notes.txt, labels.xlsx) are no image by name, and left out"]


def test_no_more_than_ten_names_are_told(tmp_path):
    fill(tmp_path)
    for i in range(12):
        (tmp_path / f"{i:02}.txt").write_text("x")
    assert listing(tmp_path)[1][0].startswith("12 files (00.txt, 01.txt,")
    assert "09.txt, ...)" in listing(tmp_path)[1][0]


@pytest.mark.parametrize("name", ["train/metadata.csv", "Metadata.csv", "metadata.tsv", "train/metadata.jsonl"])
def test_a_table_of_another_name_or_place_is_told_as_its_groups_would_be_lost(name, tmp_path):
    fill(tmp_path, {"train/cat": 1, "train/dog": 1})
    (tmp_path / name).write_text("file_name,label,group\n")
    with pytest.raises(FoldwiseError, match=f"has {name}: put its rows in "):
        listing(tmp_path)


def test_links_are_followed(tmp_path):
    fill(tmp_path / "elsewhere", {"cat": 1, "dog": 1})
    (tmp_path / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "bird").symlink_to(tmp_path / "elsewhere" / "cat")
    table, notes = listing(tmp_path / "images")
    assert table["file_name"].tolist() == ["bird/0.png", "cat/0.png", "dog/0.png"]
    assert notes == ["bird is a link, in which DVC sees no change: after one, run `dvc repro -f -s normalize`"]


def test_links_above_folders_are_told_too(tmp_path):
    fill(tmp_path / "elsewhere", {"cat": 1, "dog": 1})
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "dog" / "old").symlink_to(tmp_path / "elsewhere" / "cat")
    assert listing(tmp_path / "images")[1][-1].startswith("2 folders (train, train/dog/old) are links, in which DVC")


def test_a_table_is_kept_in_its_order(pair):
    write_table(pair, "file_name,label", "b.png,dog", "a.png,cat")
    assert rows(pair) == [("b.png", "dog", "train"), ("a.png", "cat", "train")]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["", "\r"])
def test_a_table_may_come_from_any_spreadsheet(pair, separator, encoding, end):
    lines = ["file_name,label,group,split,fold", "a.png,Kätzchen,anna,train,0", "b.png,dog,,test,"]
    write_table(pair, *(line.replace(",", separator) + end for line in lines), encoding=encoding)
    table, notes = listing(pair)
    assert table.to_dict("list") == {
        "file_name": ["a.png", "b.png"],
        "label": ["Kätzchen", "dog"],
        "group": ["anna", ""],
        "split": ["train", "test"],
        "fold": ["0", ""],
    }
    assert notes == []


def test_columns_that_are_not_used_are_told(pair):
    write_table(pair, "age,LABEL,File_Name,patient", "7,cat,a.png,x", "8,dog,b.png,y")
    table, notes = listing(pair)
    assert list(table) == ["file_name", "label", "split"]
    assert notes == [
        "not used in metadata.csv: 2 columns (age, patient); one that says whose image it is must be named group"
    ]


def test_the_column_without_a_name_that_pandas_writes_is_no_matter(pair):
    write_table(pair, ",file_name,label", "0,a.png,cat", "1,b.png,dog")
    assert listing(pair)[1] == []


def test_values_in_quotes_may_hold_the_separator(tmp_path):
    save(tmp_path / 'a, "b".png', noise(0))
    save(tmp_path / "b.png", noise(1))
    write_table(tmp_path, "file_name,label", '"a, ""b"".png","cat, old"', "b.png,dog")
    assert rows(tmp_path)[0] == ('a, "b".png', "cat, old", "train")


def test_spaces_around_values_and_blank_lines_are_no_matter(pair):
    write_table(pair, " file_name , label", "", " a.png, cat ", ",", "b.png,dog", "", "")
    assert rows(pair) == [("a.png", "cat", "train"), ("b.png", "dog", "train")]


@pytest.mark.parametrize("label", ["NA", "nan", "None", "null", "01", "1.0", "True", "-"])
def test_labels_are_text_whatever_they_look_like(pair, label):
    write_table(pair, "file_name,label", f"a.png,{label}", "b.png,dog")
    assert rows(pair)[0][1] == label


def test_a_table_goes_before_folders(tmp_path):
    fill(tmp_path, {"cat": 1, "val": 1})
    write_table(tmp_path, "file_name,label", "./cat/0.png,a", "val//0.png,b")
    assert rows(tmp_path) == [("cat/0.png", "a", "train"), ("val/0.png", "b", "train")]


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_an_umlaut_may_be_written_in_one_or_in_two_characters(tmp_path, on_disk, in_table):
    names = {form: unicodedata.normalize(form, "Kätzchen.png") for form in ("NFC", "NFD")}
    save(tmp_path / names[on_disk], noise(0))
    save(tmp_path / "b.png", noise(1))
    write_table(tmp_path, "file_name,label", f"{names[in_table]},cat", "b.png,dog")
    assert rows(tmp_path)[0][0] == names[on_disk]


def test_files_that_are_not_in_the_table_are_told(pair):
    save(pair / "c.png", noise(2))
    write_table(pair, "file_name,label", "a.png,cat", "b.png,dog")
    table, notes = listing(pair)
    assert (len(table), notes) == (2, ["c.png is not in metadata.csv, and left out"])


def test_a_line_is_named_by_its_number_in_the_file(pair):
    write_table(pair, "file_name,label", "a.png,cat", "", "b.png,")
    with pytest.raises(FoldwiseError, match=r"has no label in line 4: "):
        listing(pair)


def test_no_more_than_ten_lines_are_named(pair):
    write_table(pair, "file_name,label", *["a.png,"] * 12)
    with pytest.raises(FoldwiseError, match=r"has no label in lines 2, 3, .*, 11 and 2 more: "):
        listing(pair)


def test_in_a_copy_of_the_repository_the_remedy_is_told(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "one"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(FoldwiseError, match=r"a copy of the repository, .* has what Git or DVC tracks"):
        listing(copy / "images")
