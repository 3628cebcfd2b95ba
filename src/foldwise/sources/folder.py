"""A folder of one's own images: which there are, and what is known of each."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import pandas as pd

from foldwise.base.console import printable
from foldwise.base.copies import original_root
from foldwise.base.errors import FoldwiseError, did_you_mean
from foldwise.sources.pictures import SUFFIXES

TABLE = "metadata.csv"
HELP = "see docs/your-images.md"
_COLUMNS = ("file_name", "label", "group", "split", "fold")
_SPLITS = ("train", "test")
# Folders that others divide their training images by, which folds do here.
_VALIDATION = ("val", "valid", "validation", "dev")
_OTHER_SPLITS = {"training", "testing", *_VALIDATION}
_NOT_PICTURES = {"thumbs.db", "desktop.ini", "__macosx"}


def listing(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """List the images of a folder, by its table where it has one, else by its folders.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    table : DataFrame of str
        A row for each image: `file_name` (within `folder`, parts divided by /), `label`, `split` (train or test), and
        where the table has them `group` (empty: none) and `fold`. In the order of the table, else by file name.
    notes : list of str
        What was passed over.

    Raises
    ------
    FoldwiseError
        If there is nothing to train on, or it cannot be told what belongs to what.
    """
    found, others = _files(folder)
    if os.path.lexists(folder / TABLE):
        table, notes = _of_table(folder, found)
    else:
        table, notes = _of_folders(folder, found), []
        if deep := sum(name.count("/") > 1 + (name.split("/")[0].lower() in _SPLITS) for name in table["file_name"]):
            notes.append(
                f"{deep} images lie in folders within those of their classes: if these are patients, writers or "
                f"series, name them as `group` in {TABLE}, or a model is tested on what it has seen ({HELP})"
            )
    if others:
        notes.append(f"{_named(others)} {'are' if len(others) > 1 else 'is'} no image by name, and left out")
    if linked := _links(folder, table["file_name"]):
        what = f"{_named(linked, 'folders')} {'are links' if len(linked) > 1 else 'is a link'}"
        notes.append(f"{what}, in which DVC sees no change: after one, run `dvc repro -f -s normalize`")
    if not (table["split"] == "train").any():
        raise FoldwiseError(f"{folder} has test images alone: put those to train on in a folder train, or split train")
    classes = table["label"].unique()
    if len(classes) < 2:
        inside = f", or set data.folder to {folder / classes[0]}" if table["file_name"].str.count("/").min() > 1 else ""
        raise FoldwiseError(printable(f"{folder} has one class, {classes[0]}: it takes two or more{inside} ({HELP})"))
    return table, notes


def _files(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the files that may be images, and of what may not, ascending; hidden files are passed over."""
    found: list[str] = []
    others: list[str] = []
    for name in _walk(folder, "", ()):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise FoldwiseError(f"{name!a} in {folder} is no UTF-8 name: rename it") from error
        path = PurePosixPath(name)
        if path.suffix.lower() in SUFFIXES:
            found.append(name)
        elif name != TABLE and path.stem.casefold() == "metadata":
            raise FoldwiseError(f"{folder} has {name}: put its rows in {folder / TABLE}, or rename it ({HELP})")
        elif name != TABLE and not path.name.lower().startswith("readme"):
            others.append(name)
    return sorted(found), sorted(others)


def _walk(folder: Path, within: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Names of the files of a folder and of those in it, through links too; an empty folder's says that it is one."""
    path = folder / within
    try:
        status = path.stat()
        here = status.st_dev, status.st_ino
        if here in above:
            raise FoldwiseError(printable(f"{path} is a link to a folder that it lies in: remove it"))
        entries = sorted(
            (entry.name, entry.is_dir())
            for entry in os.scandir(path)
            if not entry.name.startswith(".") and entry.name.lower() not in _NOT_PICTURES
        )
    except (OSError, ValueError) as error:  # the latter where a name has a NUL
        what = f"{getattr(error, 'filename', None) or path} cannot be read: {getattr(error, 'strerror', None) or error}"
        remedy = "move it away, or let it be read" if above else "set data.folder to the folder of your images"
        raise FoldwiseError(printable(f"{what}: {remedy}{_of_copy()}")) from error
    if not entries and above:
        yield f"{within}(empty)"
    for name, is_folder in entries:
        if is_folder:
            yield from _walk(folder, f"{within}{name}/", (*above, here))
        else:
            yield f"{within}{name}"


def _links(folder: Path, names: Iterable[str]) -> list[str]:
    """Folders within one, in which files lie, that are links."""
    parents = {PurePosixPath(parent) for parent in {name.rpartition("/")[0] for name in names} if parent}
    above = {str(each) for parent in parents for each in (parent, *parent.parents[:-1])}
    return sorted(name for name in above if (folder / name).is_symlink())


def _of_copy() -> str:
    return (
        "; a copy of the repository, as --temp and --queue make, has what Git or DVC tracks: "
        "track the images with DVC, or give data.folder in full"
        if original_root()
        else ""
    )


def _of_folders(folder: Path, found: list[str]) -> pd.DataFrame:
    """Rows of class folders, or of those in `train` and `test`."""
    if not found:
        raise FoldwiseError(
            f"{folder} has no images: put a folder of images there for each class, or a table {TABLE} beside them "
            f"({HELP}){_of_copy()}"
        )
    _refuse_loose(folder, [name for name in found if "/" not in name])
    tops = {name.split("/")[0] for name in found}
    named = {top.lower(): top for top in tops}
    if named.keys() <= _OTHER_SPLITS and all(name.count("/") > 1 for name in found):
        raise FoldwiseError(f"{folder} has folders {', '.join(sorted(tops))}: rename them to train and test ({HELP})")
    if "train" not in named and "test" not in named:
        parts = [("train", name.split("/")[0]) for name in found]
    else:
        if validation := [named[name] for name in _VALIDATION if name in named]:
            raise FoldwiseError(
                f"{folder} has a folder {validation[0]}: move its images to train, as folds take its place"
            )
        if strange := sorted(top for name, top in named.items() if name not in _SPLITS):
            raise FoldwiseError(
                f"{folder} has {_named(strange, 'folders')} beside train or test: have either classes there, or train "
                "and test"
            )
        _refuse_loose(folder, [name for name in found if name.count("/") < 2])
        parts = [(name.split("/")[0].lower(), name.split("/")[1]) for name in found]
    splits, labels = zip(*parts, strict=True)
    return pd.DataFrame({"file_name": found, "label": map(_composed, labels), "split": splits}, dtype=str)


def _refuse_loose(folder: Path, loose: list[str]) -> None:
    if loose:
        lie, them = ("lie", "them") if len(loose) > 1 else ("lies", "it")
        remedy = f"move {them} into one, or write {TABLE} ({HELP})"
        raise FoldwiseError(f"{_named(loose)} in {folder} {lie} in no folder of a class: {remedy}")


def _of_table(folder: Path, found: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the table, checked against the files."""
    path = folder / TABLE
    table, notes = _read(path)
    lines = table.index + 1
    for column in ("file_name", "label"):
        if missing := lines[table[column] == ""].tolist():
            raise FoldwiseError(f"{path} has no {column} in {_lines(missing)}: fill it in, or remove the line")
    # An umlaut may be one character in the table, and two in a file's name.
    files = {_composed(name): name for name in found} | {name: name for name in found}
    written = [PurePosixPath(name).as_posix() for name in table["file_name"]]
    table["file_name"] = [files.get(name) or files.get(_composed(name), name) for name in written]
    names = table["file_name"]
    if twice := names[names.duplicated()].unique().tolist():
        raise FoldwiseError(f"{path} names {_named(twice)} more than once: leave one line of each")
    if outside := [name for name in names if name.startswith("/") or ".." in name.split("/")]:
        raise FoldwiseError(f"{path} names {_named(outside)}, which is not within {folder}: name files from there on")
    if missing := sorted(set(names).difference(found)):
        there = [name for name in missing if (folder / name).is_file()]
        if there:
            raise FoldwiseError(
                f"{path} names {_named(there)}, which is hidden or no image by its ending: use {', '.join(SUFFIXES)}"
            )
        hint = ": write / where it has \\" if "\\" in missing[0] else ": bring them back, or remove their lines"
        raise FoldwiseError(f"{path} names {_named(missing)}, of which there is no file{hint}")
    if unnamed := sorted(set(found).difference(names)):
        notes.append(f"{_named(unnamed)} {'are' if len(unnamed) > 1 else 'is'} not in {TABLE}, and left out")
    for column in {"label", "group"}.intersection(table):
        table[column] = table[column].map(_composed)
    if "split" not in table:
        table["split"] = "train"
    if wrong := lines[~table["split"].isin(_SPLITS)].tolist():
        value = table["split"][wrong[0] - 1]
        raise FoldwiseError(f"{path} has split {value!r} in {_lines(wrong)}: write train or test")
    return table.reset_index(drop=True), notes


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _read(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Values of the columns that are used, by line from 0, and a note on the others."""
    if not path.is_file():
        raise FoldwiseError(f"{path} is no file: move it away, or put the table there ({HELP})")
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        # Spreadsheets write other marks between columns in some languages.
        separator = max(",;\t", key=header.count)
        table = pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            encoding="utf-8-sig",
        )
    except OSError as error:
        raise FoldwiseError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FoldwiseError(f"{path} is not in UTF-8: save it as `CSV UTF-8`") from error
    except (ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).removeprefix("Error tokenizing data. C error: ").split())
        raise FoldwiseError(
            f"{path} is no table ({reason}): name the columns in its first line, and put values with a {separator!r} "
            f'in "..." ({HELP})'
        ) from error
    table = table.apply(lambda column: column.str.strip())
    if any(table[column].str.contains("\0", regex=False).any() for column in table):
        raise FoldwiseError(f"{path} has NUL bytes: save it as `CSV UTF-8`")
    columns = [column.casefold() for column in table.iloc[0]]
    for column in ("file_name", "label"):
        if column not in columns:
            hint = did_you_mean(column, columns, "its first line names the columns")
            raise FoldwiseError(f"{path} has no column {column}: {hint.replace('did you mean', 'is it')} ({HELP})")
    if twice := [column for column in _COLUMNS if columns.count(column) > 1]:
        raise FoldwiseError(f"{path} has the column {twice[0]} twice: remove or rename one")
    table = table[1:][(table[1:] != "").any(axis=1)].set_axis(columns, axis=1)
    if table.empty:
        raise FoldwiseError(f"{path} has no rows: it needs one for each image ({HELP})")
    unused = [column for column in columns if column and column not in _COLUMNS]
    for column in _COLUMNS[2:]:
        alike = [
            name for name in unused if column in re.split("[^a-z]", name) or get_close_matches(column, [name], 1, 0.85)
        ]
        if alike and column not in columns:  # without it, the score would be another one
            raise FoldwiseError(
                f"{path} has a column {alike[0]}: name it {column} if it is one, else otherwise ({HELP})"
            )
    whose = "" if "group" in columns else "; one that says whose image it is must be named group"
    notes = [f"not used in {TABLE}: {_named(unused, 'columns')}{whose}"] if unused else []
    return table[[column for column in _COLUMNS if column in table]].copy(), notes


def _named(names: Iterable[str], what: str = "files") -> str:
    """Name the first of some, and say how many they are."""
    names = [printable(name) for name in names]
    shown = ", ".join(names[:10])
    return f"{len(names):,} {what} ({shown}{', ...' if len(names) > 10 else ''})" if len(names) > 1 else shown


def _lines(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return (
        f"lines {shown}{f' and {len(numbers) - 10} more' if len(numbers) > 10 else ''}"
        if len(numbers) > 1
        else (f"line {shown}")
    )
