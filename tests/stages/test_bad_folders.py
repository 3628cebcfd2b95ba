"""Folders, tables and pictures that are wrong: each is told in a line, or is no matter."""

import io
import os
import re
import runpy
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from small_folders import fill, noise, save, write_table

from foldwise.base import params
from foldwise.base.errors import FoldwiseError
from foldwise.data import images

ROOT = Path(__file__).parents[2]
normalize, split = (runpy.run_path(str(ROOT / "stages" / f"{stage}.py"))[stage] for stage in ("normalize", "split"))

# By name: what makes a folder bad, the parameters that are other than usual, and what the one line matches; in it,
# FOLDER is the path. `TOLD` are lines of the console, where the stages end well.
BAD, TOLD = {}, {}


def bad(message, **changes):
    def register(build):
        BAD[build.__name__] = build, _dotted(changes), message
        return build

    return register


def told(line, **changes):
    def register(build):
        TOLD[build.__name__] = build, _dotted(changes), line
        return build

    return register


def _dotted(changes):
    return {name.replace("__", "."): value for name, value in changes.items()}


@pytest.fixture
def run(parameters, tmp_path, capsys):
    """Load parameters, then normalize and split; give the lines of the console."""

    def run(changes):
        content = parameters().model_dump(mode="json")
        for name, value in ({"data.name": "folder", "data.folder": str(tmp_path / "images")} | changes).items():
            section, _, parameter = name.partition(".")
            content[section][parameter] = value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        settings = params.load(tmp_path / "params.yaml")
        normalize(settings, raw=tmp_path / "raw", normalized=tmp_path / "out" / "normalized")
        split(settings, normalized=tmp_path / "out" / "normalized", folds=tmp_path / "out" / "folds")
        return capsys.readouterr().err.splitlines()

    return run


@pytest.fixture
def refused(run, tmp_path):
    """Run what ends in an error; give its message, with the folder's path in it as FOLDER."""

    def refused(changes):
        with pytest.raises(FoldwiseError) as caught:
            run(changes)
        return str(caught.value).replace(str(tmp_path / "images"), "FOLDER")

    return refused


# Folders.


@bad(r"^FOLDER cannot be read: No such file or directory: set data\.folder to the folder of your images$")
def no_folder(folder):
    pass


@bad(r"^FOLDER cannot be read: Not a directory: set data\.folder to the folder")
def folder_is_a_file(folder):
    folder.write_bytes(b"")


@bad(r"^FOLDER cannot be read: No such file or directory: set data\.folder to the folder")
def folder_is_a_link_to_nothing(folder):
    folder.symlink_to("nowhere")


@bad(r"^FOLDER cannot be read: Too many levels of symbolic links: set data\.folder to the folder")
def folder_is_a_link_to_itself(folder):
    folder.symlink_to(folder)


@bad(r"^a\\x00b cannot be read: .*null.*: set data\.folder to the folder", data__folder="a\0b")
def folder_with_a_nul_in_its_name(folder):
    pass


@bad(r"params\.yaml: data\.folder is '': string should have at least 1 character", data__folder="")
def folder_without_a_name(folder):
    pass


@bad(r"params\.yaml: unknown parameter data\.foldr; did you mean data\.folder\?", data__foldr="images")
def parameter_misspelt(folder):
    fill(folder)


@bad(r"pictures cannot be read: No such file or directory: set data\.folder to the", data__folder="no/such/pictures")
def folder_misspelt(folder):
    fill(folder)


@bad(r"^FOLDER has no images: put a folder of images there for each class, or a table metadata\.csv beside them \(see")
def empty_folder(folder):
    folder.mkdir()


@bad(r"^FOLDER has no images: ")
def folder_of_empty_folders(folder):
    (folder / "cat").mkdir(parents=True)
    (folder / "dog").mkdir()


@bad(r"^FOLDER has no images: ")
def folder_of_text_files(folder):
    for kind in ("cat", "dog"):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "a.txt").write_text("x")


@bad(r"^FOLDER has no images: ")
def folder_of_hidden_images(folder):
    save(folder / "cat" / ".a.png", noise(0))
    save(folder / ".dog" / "a.png", noise(1))


@bad(r"^FOLDER has one class, cat: it takes two or more \(see docs/your-images\.md\)$")
def one_class(folder):
    fill(folder, {"cat": 5})


@bad(r"^FOLDER has one class, animals: it takes two or more, or set data\.folder to FOLDER/animals \(see ")
def folder_around_the_classes(folder):
    fill(folder, {"animals/cat": 5, "animals/dog": 5})


@bad(r"^FOLDER has one class, cat\\n: it takes two or more")
def one_class_with_a_line_break_in_its_name(folder):
    fill(folder, {"cat\n": 5})


@bad(r"^FOLDER has training images of one class, dog, after what is left out: it takes two classes or more$")
def other_class_in_test_alone(folder):
    fill(folder, {"train/dog": 5, "test/cat": 5})


@bad(r"^a\.png in FOLDER lies in no folder of a class: move it into one, or write metadata\.csv \(see ")
def loose_image_beside_classes(folder):
    fill(folder)
    save(folder / "a.png", noise(99))


@bad(r"^3 files \(0\.png, 1\.png, 2\.png\) in FOLDER lie in no folder of a class: move them into one, or write met")
def loose_images_alone(folder):
    for i in range(3):
        save(folder / f"{i}.png", noise(i))


@bad(r"^train/a\.png in FOLDER lies in no folder of a class: move it into one")
def loose_image_in_train(folder):
    fill(folder, {"train/cat": 5, "train/dog": 5})
    save(folder / "train" / "a.png", noise(99))


@bad(r"^FOLDER has a folder Val: move its images to train, as folds take its place$")
def val_beside_train(folder):
    fill(folder, {"train/cat": 5, "train/dog": 5, "Val/cat": 1})


@bad(r"^FOLDER has 2 folders \(bus, tram\) beside train or test: have either classes there, or train and test$")
def classes_beside_train(folder):
    fill(folder, {"bus": 5, "tram": 5, "train/cat": 5})


@bad(r"^FOLDER has test images alone: put those to train on in a folder train, or split train$")
def folder_of_test_images(folder):
    fill(folder, {"test/cat": 5, "test/dog": 5})


@bad(r"^FOLDER has folders testing, training: rename them to train and test \(see ")
def training_and_testing(folder):
    fill(folder, {"training/cat": 5, "training/dog": 5, "testing/cat": 5})


@bad(r"^FOLDER/cat/more is a link to a folder that it lies in: remove it$")
def links_in_a_circle(folder):
    fill(folder)
    (folder / "cat" / "more").symlink_to(folder)


@bad(r"^FOLDER/cat/a/b is a link to a folder that it lies in: remove it$")
def links_in_a_circle_of_two(folder):
    fill(folder)
    (folder / "cat" / "a").symlink_to("../dog")
    (folder / "dog" / "b").symlink_to("../cat")


@bad(r"^FOLDER/cat/a\.png cannot be read: Too many levels of symbolic links: move it away, or let it be read$")
def link_to_itself(folder):
    fill(folder)
    (folder / "cat" / "a.png").symlink_to("a.png")


@bad(r"^'cat/\\udcfc\.png' in FOLDER is no UTF-8 name: rename it$")
def name_in_latin_1(folder):
    fill(folder)
    Path(os.fsdecode(os.fsencode(folder) + b"/cat/\xfc.png")).write_bytes(b"")


# Pictures.


def other(name, content):
    """Put a file beside good images."""

    def build(folder):
        fill(folder)
        (folder / "cat" / name).write_bytes(content)

    return build


def of_picture(picture, kind, **how):
    content = io.BytesIO()
    picture.save(content, kind, **how)
    return content.getvalue()


def png_head(width, height):
    """A PNG that claims a size and has no pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (head, pixels, b"IEND")
    )


def zipped():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.txt", "x")
    return content.getvalue()


JPEG = of_picture(Image.fromarray(noise(50, 64, 64)), "JPEG")
PNG = of_picture(Image.fromarray(noise(50, 64, 64)), "PNG")
WHOLE = np.full((8, 8), 7, np.int32)
USED = r"^FOLDER: 1 of 11 files cannot be used: cat/"
MEND = r": mend or remove it, or set data\.broken to skip$"
PICTURES = {
    "empty_file": ("a.png", b"", "is empty"),
    "text_named_png": ("a.png", b"a cat", "is no image"),
    "page_named_jpg": ("a.jpg", b"<!DOCTYPE html><html>404 not found</html>", "is no image"),
    "zip_named_jpg": ("a.jpg", zipped(), "is no image"),
    "drawing_named_png": ("a.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no image"),
    "postscript_named_png": ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "is no image"),
    "pointer_of_git_lfs": (
        "a.jpg",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "is no image",
    ),
    "bomb": ("a.png", png_head(60_000, 60_000), "has more than 100,000,000 pixels"),
    "too_many_pixels": ("a.png", png_head(11_000, 10_000), "has 11,000 x 10,000 pixels"),
    "png_without_pixels": ("a.png", png_head(8, 8), r"is cut off or damaged \(.+\)"),
    "jpeg_cut_off": ("a.jpg", JPEG[: len(JPEG) // 2], r"is cut off or damaged \(.+\)"),
    "png_cut_off": ("a.png", PNG[: len(PNG) // 2], r"is cut off or damaged \(.+\)"),
    "png_cut_off_in_its_head": ("a.png", PNG[:20], r"is (no image|cut off or damaged \(.+\))"),
    "png_damaged": ("a.png", PNG[:60] + bytes(200) + PNG[260:], r"is cut off or damaged \(.+\)"),
    "gif_of_a_head_alone": ("a.gif", b"GIF89a", r"is (no image|cut off or damaged \(.+\))"),
    "fractions": (
        "a.tif",
        of_picture(Image.fromarray(WHOLE / np.float32(9)), "TIFF"),
        r"has fractions for pixels: save.*",
    ),
    "whole_numbers_too_high": (
        "a.tif",
        of_picture(Image.fromarray(WHOLE * 100_000), "TIFF"),
        "has values from 700000 to 700000, which are no 16 bits: save it with 8 or 16",
    ),
    "negative_numbers": ("a.tif", of_picture(Image.fromarray(-WHOLE), "TIFF"), "has values from -7 to -7, which .*"),
}
for case, (name, content, reason) in PICTURES.items():
    BAD[case] = other(name, content), {}, f"{USED}{re.escape(name)} {reason}{MEND}"


@bad(USED + r"a\.png is a link to no file" + MEND)
def link_to_nothing(folder):
    fill(folder)
    (folder / "cat" / "a.png").symlink_to("nowhere.png")


@bad(USED + r"a\.png is no file" + MEND)
def pipe_named_png(folder):
    fill(folder)
    os.mkfifo(folder / "cat" / "a.png")


@bad(USED + r"a\\x1b\[2J\\nb\.png is empty" + MEND)
def bad_picture_whose_name_would_clear_the_screen(folder):
    fill(folder)
    (folder / "cat" / "a\x1b[2J\nb.png").write_bytes(b"")


@bad(r"12 of 12 files cannot be used: cat/0\.png is empty, .*cat/9\.png is empty, and 2 more: mend or remove them")
def many_bad_pictures(folder):
    for kind in ("cat", "cat2"):
        (folder / kind).mkdir(parents=True)
        for i in range(10 if kind == "cat" else 2):
            (folder / kind / f"{i}.png").write_bytes(b"")


@bad(r"^FOLDER: 10 of 10 files cannot be used: .*: mend or remove them$", data__broken="skip")
def nothing_left_after_bad_pictures(folder):
    for name in fill(folder):
        (folder / name).write_bytes(b"")


@bad(r"^FOLDER has training images of one class, cat, after what is left out: it takes two", data__broken="skip")
def class_of_bad_pictures(folder):
    for name in fill(folder)[5:]:
        (folder / name).write_bytes(b"")


@bad(r"^FOLDER has no training images, after what is left out: it takes two classes", data__broken="skip")
def train_of_bad_pictures(folder):
    for name in fill(folder, {"train/cat": 1, "train/dog": 1, "test/cat": 1})[:2]:
        (folder / name).write_bytes(b"")


@bad(r"^FOLDER: all training images have one value in all pixels: look at them$")
def all_blank(folder):
    for kind in ("cat", "dog"):
        for i in range(5):
            save(folder / kind / f"{i}.png", np.full((8, 8), 9, np.uint8))


@bad(r"^FOLDER: all training images have one value in green in all pixels: look at them, or set data\.channels to 1$")
def one_colour_alone(folder):
    for seed in range(10):
        save(folder / f"{seed % 2}" / f"{seed}.png", noise(seed, 8, 8, 3) * np.array([1, 0, 0], np.uint8))


# Tables.


def table(*lines, encoding="utf-8", ending="\n"):
    """Put a table beside four images."""

    def build(folder):
        for seed, name in enumerate(("a.png", "b.png", "c.png", "d.png")):
            save(folder / name, noise(seed))
        write_table(folder, *lines, encoding=encoding)

    return build


HEAD, GOOD = "file_name,label", ("a.png,cat", "b.png,cat", "c.png,dog", "d.png,dog")
IN_TABLE = r"^FOLDER/metadata\.csv "
TABLES = {
    "file_missing": (
        (HEAD, *GOOD, "e.png,cat"),
        r"names e\.png, of which there is no file: bring them back, or remove",
    ),
    "files_missing": ((HEAD, "x.png,cat", "y.png,dog"), r"names 2 files \(x\.png, y\.png\), of which there is no file"),
    "label_missing": ((HEAD, "a.png,", *GOOD[1:]), r"has no label in line 2: fill it in, or remove the line$"),
    "label_of_spaces": ((HEAD, *GOOD[1:], 'a.png," "'), r"has no label in line 5: fill it in"),
    "name_missing": ((HEAD, *GOOD, ",cat"), r"has no file_name in line 6: fill it in, or remove the line$"),
    "row_too_short": ((HEAD, "a.png", "b.png", *GOOD[2:]), r"has no label in lines 2, 3: fill it in"),
    "row_too_long": (
        (HEAD, *GOOD, "a.png,cat,1"),
        r'is no table \(Expected 2 fields in line 6, saw 3\): .* in "\.\.\."',
    ),
    "rows_all_too_long": ((HEAD, *(f"{row},1" for row in GOOD)), r"is no table \(Expected 2 fields in line 2, saw 3\)"),
    "quote_left_open": ((HEAD, '"a.png,cat', *GOOD[1:]), r"is no table \(EOF inside string starting at row 1\)"),
    "file_twice": ((HEAD, *GOOD, GOOD[0]), r"names a\.png more than once: leave one line of each$"),
    "file_twice_in_other_words": ((HEAD, *GOOD, "./a.png,dog"), r"names a\.png more than once"),
    "no_rows": ((HEAD,), r"has no rows: it needs one for each image \(see "),
    "rows_of_commas": ((HEAD, ",", ","), r"has no rows: it needs one for each image"),
    "no_lines": ((), r"is no table \(No columns to parse from file\): name the columns in its first line"),
    "blank_line_first": (("", HEAD, *GOOD), r"is no table \(No columns to parse from file\): name the columns"),
    "no_header": (GOOD, r"has no column file_name: its first line names the columns \(see docs/your-images\.md\)$"),
    "column_misspelt": (("file_name,labels", *GOOD), r"has no column label: is it labels\?"),
    "group_misspelt": (
        ("file_name,label,Groups", *(f"{row},x" for row in GOOD)),
        r"has a column groups: name it group",
    ),
    "group_in_words": (
        ("file_name,label,group id", *(f"{row},x" for row in GOOD)),
        r"has a column group id: name it g",
    ),
    "split_misspelt": (
        ("file_name,label,splits", *(f"{row},x" for row in GOOD)),
        r"has a column splits: name it split",
    ),
    "column_twice": ((f"{HEAD},label", *(f"{row},x" for row in GOOD)), r"has the column label twice: remove or rename"),
    "column_twice_with_a_space": ((f"{HEAD}, label", *(f"{row},x" for row in GOOD)), r"has the column label twice"),
    "one_label": ((HEAD, "a.png,cat", "b.png,cat"), None),
    "nul": ((HEAD, "a.png,cat\0", *GOOD[1:]), r"has NUL bytes: save it as `CSV UTF-8`$"),
    "nul_in_a_name": ((HEAD, "a\0.png,cat", *GOOD[1:]), r"has NUL bytes: save it as `CSV UTF-8`$"),
    "unknown_split": (
        (f"{HEAD},split", "a.png,cat,train", "b.png,cat,val", "c.png,dog,test"),
        r"has split 'val' in line 3: write train or test$",
    ),
    "split_in_capitals": (
        (f"{HEAD},split", "", "a.png,cat,Train"),
        r"has split 'Train' in line 3: write train or test",
    ),
    "split_missing": (
        (f"{HEAD},split", "a.png,cat,", "b.png,dog,train"),
        r"has split '' in line 2: write train or test",
    ),
    "path_above": (
        (HEAD, *GOOD, "../e.png,cat"),
        r"names \.\./e\.png, which is not within FOLDER: name files from there",
    ),
    "path_above_in_the_middle": ((HEAD, "x/../a.png,cat"), r"names x/\.\./a\.png, which is not within FOLDER"),
    "path_in_full": (
        (HEAD, "/etc/a.png,cat"),
        r"names /etc/a\.png, which is not within FOLDER: name files from there on",
    ),
    "path_of_windows": (
        (HEAD, "cat\\a.png,cat"),
        r"names cat\\a\.png, of which there is no file: write / where it has \\$",
    ),
    "table_names_itself": (
        (HEAD, "metadata.csv,cat"),
        r"names metadata\.csv, which is hidden or no image by its ending: use",
    ),
}
for case, (lines, reason) in TABLES.items():
    BAD[case] = (
        table(*lines),
        {},
        f"{IN_TABLE}{reason}" if reason else r"^FOLDER has one class, cat: it takes two or more",
    )
for encoding in ("latin-1", "utf-16"):
    BAD[f"table_in_{encoding}"] = (
        table(HEAD, "a.png,Kätzchen", encoding=encoding),
        {},
        IN_TABLE + r"is not in UTF-8: save it as `CSV UTF-8`$",
    )
BAD["table_in_utf-16_without_a_mark"] = (
    table(HEAD, *GOOD, encoding="utf-16-le"),
    {},
    IN_TABLE + "has NUL bytes: save it",
)


@bad(r"^FOLDER has test images alone: put those to train on in a folder train, or split train$")
def table_of_test_images_alone(folder):
    table(f"{HEAD},split", *(f"{row},test" for row in GOOD))(folder)


@bad(IN_TABLE + r"names \.e\.png, which is hidden or no image by its ending: use ")
def table_that_names_a_hidden_file(folder):
    table(HEAD, *GOOD, ".e.png,cat")(folder)
    save(folder / ".e.png", noise(9))


@bad(IN_TABLE + r"names e\.heic, which is hidden or no image by its ending: use .*\.jpeg, .*\.png")
def table_that_names_another_kind_of_file(folder):
    table(HEAD, *GOOD, "e.heic,cat")(folder)
    (folder / "e.heic").write_bytes(b"x")


@bad(IN_TABLE + r"names x\.png, of which there is no file")
def table_that_names_a_folder(folder):
    table(HEAD, *GOOD, "x.png,cat")(folder)
    (folder / "x.png").mkdir()


@bad(IN_TABLE + r"is not in UTF-8: save it as `CSV UTF-8`$")
def table_that_is_a_picture(folder):
    fill(folder)
    (folder / "metadata.csv").write_bytes(JPEG)


@bad(IN_TABLE + r"is no file: move it away, or put the table there \(see ")
def table_that_is_a_folder(folder):
    fill(folder)
    (folder / "metadata.csv").mkdir()


@bad(IN_TABLE + r"is no file: move it away")
def table_that_is_a_pipe(folder):
    fill(folder)
    os.mkfifo(folder / "metadata.csv")


@bad(IN_TABLE + r"is no file: move it away")
def table_that_is_a_link_to_nothing(folder):
    fill(folder)
    (folder / "metadata.csv").symlink_to("nowhere.csv")


# Folds.


def folds(*values, column="fold", head=HEAD):
    """Have a table of so many images, each with a value, of two classes by turns."""

    def build(folder):
        lines = [f"{head},{column}"]
        for seed, value in enumerate(values):
            save(folder / f"{seed}.png", noise(seed))
            lines.append(f"{seed}.png,{'cat' if seed % 2 else 'dog'},{value}")
        write_table(folder, *lines)

    return build


GIVEN = {"cv.strategy": "given", "cv.k": 2, "data.test_share": 0}
NUMBER = "number the folds of training images from 0"
FOLDS = {
    "folds_with_a_gap": (
        [0, 0, 2, 2],
        rf"^metadata\.csv has no fold 1 but a fold 2: {NUMBER}, without a gap, or raise data.subset where it is set$",
    ),
    "folds_from_two": ([2, 2, 3, 3], rf"^metadata\.csv has no fold 1 but a fold 3: {NUMBER}"),
    "fold_negative": ([-1, -1, 0, 0], rf"^metadata\.csv has fold '-1': {NUMBER}$"),
    "fold_of_text": (["one", "one", 1, 1], rf"^metadata\.csv has fold 'one': {NUMBER}$"),
    "fold_of_a_fraction": (["0.0", "0.0", "1.0", "1.0"], rf"^metadata\.csv has fold '0\.0': {NUMBER}$"),
    "fold_of_a_half": ([0, 0, "0.5", 1], rf"^metadata\.csv has fold '0\.5': {NUMBER}$"),
    "fold_of_two_signs": (["--1", 0, 1, 1], rf"^metadata\.csv has fold '--1': {NUMBER}$"),
    "fold_with_an_underscore": (["1_0", 0, 1, 1], rf"^metadata\.csv has fold '1_0': {NUMBER}$"),
    "fold_missing": (["", 0, 1, 1], rf"^metadata\.csv has fold '': {NUMBER}$"),
    "fold_beyond_all_numbers": (["9" * 30, 0, 1, 1], rf"^metadata\.csv has fold '9{{30}}': {NUMBER}$"),
    "fold_far_off": ([999_999_999, 0, 1, 1], r"^metadata\.csv has no fold 2 but a fold 999999999: "),
    "more_folds_than_k": ([0, 1, 2, 2], r"^cv\.k is 2 but metadata\.csv has 3 folds: set cv\.k to 3$"),
    "one_fold": (
        [0, 0, 0, 0],
        r"^metadata\.csv has one fold, 0: it takes two or more, or raise data.subset where it is set$",
    ),
}
for case, (values, message) in FOLDS.items():
    BAD[case] = folds(*values), GIVEN, message
BAD["fewer_folds_than_k"] = (
    folds(1, 1, 2, 2),
    GIVEN | {"cv.k": 5},
    r"^cv\.k is 5 but metadata\.csv has 2 folds: set cv\.k to 2, or raise data.subset where it is set$",
)
WITHOUT = r"^cv\.strategy is given, but no metadata\.csv has a column fold: set it to stratified, or number them there$"
BAD["given_without_a_table"] = fill, GIVEN, WITHOUT
BAD["given_without_a_column"] = table(HEAD, *GOOD), GIVEN, WITHOUT
BAD["given_with_repeats"] = (
    folds(0, 0, 1, 1),
    GIVEN | {"cv.repeats": 2},
    r"params\.yaml: cv\.strategy given has one way of dealing: set cv\.repeats to 1$",
)


@bad(r"^cv\.k is 4 but the rarest class has 1 training image: set cv\.strategy to kfold, or raise data\.subset")
def class_of_one_image(folder):
    fill(folder, {"cat": 8, "dog": 1})


@bad(r"^cv\.k is 6 but the rarest class has 4 training images: set cv\.k to 4 or less, or cv\.strategy to", cv__k=6)
def more_folds_than_images_of_a_class(folder):
    fill(folder)


@bad(r"^cv\.k is 20 but there are 8 training images: set cv\.k to that or less$", cv__k=20, cv__strategy="kfold")
def more_folds_than_images(folder):
    fill(folder)


@bad(r"^cv\.k is 4 but the rarest class has 3 training units \(images of one group, or copies, are one unit\): set cv")
def more_folds_than_groups_of_a_class(folder):
    folds(*(f"dog {seed}" if seed % 2 == 0 else f"cat {seed // 8}" for seed in range(32)), column="group")(folder)


@bad(r"^data\.subset is 9 but must be from 2, one image per class, to 8, all training images", data__subset=9)
def subset_too_large(folder):
    fill(folder)


@bad(r"^data\.subset is 1 but must be from 2, one image per class, to 8, all training images", data__subset=1)
def subset_too_small(folder):
    fill(folder)


PARAMETERS = {
    "image_size_too_small": ("data.image_size", 2, r"params\.yaml: data\.image_size.*greater than or equal to 4"),
    "image_width_too_small": ("data.image_size", [64, 3], r"params\.yaml: data\.image_size"),
    "image_size_of_text": ("data.image_size", "64 x 64", r"params\.yaml: data\.image_size"),
    "two_channels": ("data.channels", 2, r"params\.yaml: data\.channels is 2: input should be 1 or 3"),
    "unknown_resize": ("data.resize", "fit", r"params\.yaml: data\.resize is 'fit': input should be 'pad', 'crop' or"),
    "test_share_of_all": ("data.test_share", 1, r"params\.yaml: data\.test_share is 1: input should be less than 1"),
    "unknown_way_with_broken": (
        "data.broken",
        "ignore",
        r"params\.yaml: data\.broken is 'ignore': input should be 'err",
    ),
}
for case, (parameter, value, message) in PARAMETERS.items():
    BAD[case] = fill, {parameter: value}, message


@pytest.mark.parametrize("case", BAD)
def test_what_is_bad_is_told_in_one_line_and_nothing_is_left(case, refused, tmp_path):
    build, changes, expected = BAD[case]
    build(tmp_path / "images")
    message = refused(changes)
    assert re.search(expected, message), message
    assert re.search(r"FOLDER|metadata\.csv|params\.yaml|\b(data|cv)\.\w+|cannot be read", message)
    assert message.isprintable()
    left = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("**/*")}
    assert not [name for name in left if "normalized" not in name or ".part" in name]
    if left:  # what split refuses, normalize has written
        images.load(tmp_path / "out" / "normalized")


def test_there_are_many_bad_cases():
    assert len(BAD) >= 100


def test_a_folder_that_may_not_be_read_is_told(refused, tmp_path, monkeypatch):
    fill(tmp_path / "images")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert refused({}) == "FOLDER/dog cannot be read: Permission denied: move it away, or let it be read"


def test_a_table_that_may_not_be_read_is_told(refused, tmp_path, monkeypatch):
    table(HEAD, *GOOD)(tmp_path / "images")
    opened = Path.open

    def refuse(path, *arguments, **how):
        if path.name == "metadata.csv":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **how)

    monkeypatch.setattr(Path, "open", refuse)
    assert refused({}) == "FOLDER/metadata.csv cannot be read: Permission denied"


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="macOS cannot take a place on the disk beforehand")
def test_a_full_disk_is_told_before_it_kills(refused, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    fill(tmp_path / "images")
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert refused({}) == f"{tmp_path}/out/normalized cannot be written: No space left on device"
    assert list((tmp_path / "out").iterdir()) == []


# What is odd, and no more than told.


@told("normalize: e.png is not in metadata.csv, and left out", cv__k=2, data__test_share=0)
def file_not_in_the_table(folder):
    table(HEAD, *GOOD)(folder)
    save(folder / "e.png", noise(9))


@told("normalize: not used in metadata.csv: patient", cv__k=2, data__test_share=0)
def column_not_used(folder):
    folds(0, 1, 0, 1, column="patient")(folder)


@told("normalize: 10 images lie in folders within those of their classes: if these are patients, writers or series, ")
def folders_in_class_folders(folder):
    fill(folder, {"cat/anna": 5, "dog/ben": 5})


@told("normalize: dog/notes.txt is no image by name, and left out")
def text_beside_images(folder):
    other("b.png", PNG)(folder)
    (folder / "dog" / "notes.txt").write_text("x")


@told("normalize: bird/(empty) is no image by name, and left out")
def class_without_images(folder):
    fill(folder)
    (folder / "bird").mkdir()


@told("normalize: cat/x.png/(empty) is no image by name, and left out")
def folder_named_png(folder):
    fill(folder)
    (folder / "cat" / "x.png").mkdir()


@told(r"normalize: cat/a\x1b[2J\nb.txt is no image by name, and left out")
def name_that_would_clear_the_screen(folder):
    fill(folder)
    (folder / "cat" / "a\x1b[2J\nb.txt").write_text("x")


@told("finding 1: groups in training and test: 1; test.apart is without them", cv__k=2)
def group_on_both_sides(folder):
    folds("a,train", "b,train", "c,train", "d,train", "a,test", "e,test", column="group,split")(folder)


@told("groups in several folds: 2 of 2, as cv.strategy is given; scores are not of new groups", **{
    name.replace(".", "__"): value for name, value in GIVEN.items()
})  # fmt: skip
def group_in_two_folds(folder):
    folds("a,0", "a,1", "b,0", "b,1", column="group,fold")(folder)


@told("no test image is of dog", cv__k=2)
def class_without_test_images(folder):
    fill(folder, {"train/cat": 2, "train/dog": 2, "test/cat": 1})


@told("no training image is of bird", cv__k=2)
def class_without_training_images(folder):
    fill(folder, {"train/cat": 2, "train/dog": 2, "test/cat": 1, "test/bird": 1})


@told("not every fold holds out an image of dog", cv__strategy="kfold", data__test_share=0)
def class_of_one_image_dealt_plainly(folder):
    fill(folder, {"train/cat": 16, "train/dog": 1})


@told("images with copies of another label: 1; at most one label is right", cv__k=2)
def copies_with_two_labels(folder):
    fill(folder, {"train/cat": 4, "train/dog": 4, "test/cat": 1})
    save(folder / "train" / "dog" / "copy.png", noise(0))


@told("blank images, all pixels of one value: 1")
def one_blank_image(folder):
    fill(folder)
    save(folder / "cat" / "blank.png", np.zeros((8, 8), np.uint8))


@told("too few images or groups to set some aside: there is no test set", data__test_share=0.01)
def share_that_leaves_nothing(folder):
    fill(folder)


@told("1 of 11 files cannot be used: cat/a.png is empty; left out", data__broken="skip")
def bad_picture_that_is_skipped(folder):
    other("a.png", b"")(folder)


@told("normalize: 10 images, all 64 x 64, grey: 10 enlarged")
def images_of_one_pixel(folder):
    for seed in range(10):
        save(folder / f"{seed % 2}" / f"{seed}.png", np.full((1, 1), 20 * seed, np.uint8))


@told("normalize: 11 images, all 64 x 64, grey: 10 enlarged, 1 made smaller, 1 padded")
def image_of_two_rows_of_ten_thousand(folder):
    fill(folder)
    save(folder / "cat" / "long.png", noise(99, 2, 10_000))


def beside(name, content):
    """Put a picture beside others of its size."""

    def build(folder):
        fill(folder)
        (folder / "cat" / name).write_bytes(content)

    return build


FRAMES = [Image.fromarray(noise(seed)) for seed in (90, 91)]
MANY = {"save_all": True, "append_images": FRAMES[1:]}
WELL = {
    "pages": ("a.tif", of_picture(FRAMES[0], "TIFF", **MANY)),
    "moving_gif": ("a.gif", of_picture(FRAMES[0], "GIF", **MANY)),
    "moving_png": ("a.apng", of_picture(FRAMES[0], "PNG", **MANY)),
    "jpeg_named_png": ("a.png", of_picture(FRAMES[0], "JPEG")),
    "png_named_jpg_in_capitals": ("A.JPG", of_picture(FRAMES[0], "PNG")),
    "bytes_after_the_end": ("a.jpg", of_picture(FRAMES[0], "JPEG") + bytes(100)),
}
for case, (name, content) in WELL.items():
    TOLD[case] = other(name, content), {}, "normalize: 11 images, all 8 x 8, grey"
TOLD["moving_webp"] = (
    other("a.webp", of_picture(FRAMES[0], "WEBP", lossless=True, **MANY)),
    {"data.channels": 1},
    "normalize: 11 images, all 8 x 8, grey: 1 laid on white, 1 made grey",
)


@pytest.mark.parametrize("case", TOLD)
def test_what_is_odd_is_told_and_the_folds_are_dealt(case, run, tmp_path):
    build, changes, expected = TOLD[case]
    build(tmp_path / "images")
    lines = run(changes)
    assert any(expected in line for line in lines), lines
    assert all(line.isprintable() and line.startswith(("normalize: ", "split: ")) for line in lines)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["folds", "normalized"]
