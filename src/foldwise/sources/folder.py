"""A folder of one's own images: which there are, and what is known of each."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from foldwise.base.copies import original_root
from foldwise.base.errors import FoldwiseError, did_you_mean
from foldwise.sources.pictures import SUFFIXES

NAME = "folder"
TABLE = "metadata.csv"
HELP = "see docs/your-images.md"
_COLUMNS = ("file_name", "label", "group", "split", "fold")
_SPLITS = ("train", "test")
# Folders that others divide their training images by, which folds do here.
_VALIDATION = ("val", "valid", "validation", "dev")
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
    if (folder / TABLE).exists():
        table, notes = _of_table(folder, found)
    else:
        table, notes = _of_folders(folder, found), []
        if deep := sum(name.count("/") > 1 + (name.split("/")[0] in _SPLITS) for name in table["file_name"]):
            notes.append(
                f"{deep} images lie in folders within those of their classes: if these are patients, writers or "
                f"series, name them as `group` in {TABLE}, or a model is tested on what it has seen ({HELP})"
            )
    if others:
        notes.append(f"{_named(others)} {'are' if len(others) > 1 else 'is'} no image by name, and left out")
    if not (table["split"] == "train").any():
        raise FoldwiseError(f"{folder} has test images alone: put those to train on in a folder train, or split train")
    classes = table["label"].unique()
    if len(classes) < 2:
        raise FoldwiseError(f"{folder} has one class, {classes[0]}: it takes two or more ({HELP})")
    return table, notes


def _files(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the files that may be images, and of those that may not, ascending; hidden ones are passed over."""
    found: list[str] = []
    others: list[str] = []
    for path in _walk(folder, ()):
        name = path.relative_to(folder).as_posix()
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise FoldwiseError(f"{name!a} in {folder} is no UTF-8 name: rename it") from error
        if path.suffix.lower() in SUFFIXES:
            found.append(name)
        elif path.name != TABLE and not path.name.lower().startswith("readme"):
            others.append(name)
    return sorted(found), sorted(others)


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Files of a folder and of those in it, through links too."""
    try:
        status = folder.stat()
        here = status.st_dev, status.st_ino
        if here in above:
            raise FoldwiseError(f"{folder} is a link to a folder that it lies in: remove it")
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise FoldwiseError(f"{folder} cannot be read: {error.strerror}{_of_copy()}") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in _NOT_PICTURES:
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), (*above, here))
        else:
            yield Path(entry.path)


def _of_copy() -> str:
    return (
        "; a copy of the repository, as --temp and --queue make, has what Git or DVC tracks: "
        "`dvc add` the images, or give data.folder in full"
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
    loose = [name for name in found if "/" not in name]
    if loose:
        raise FoldwiseError(f"{_named(loose)} in {folder} lies in no folder of a class: move it, or write {TABLE}")
    tops = {name.split("/")[0] for name in found}
    named = {top.lower(): top for top in tops}
    if "train" not in named and "test" not in named:
        parts = [("train", name.split("/")[0]) for name in found]
    else:
        if validation := [named[name] for name in _VALIDATION if name in named]:
            raise FoldwiseError(
                f"{folder} has a folder {validation[0]}: move its images to train, as folds take its place"
            )
        if strange := sorted(top for name, top in named.items() if name not in _SPLITS):
            raise FoldwiseError(
                f"{folder} has {_named(strange)} beside train or test: have either classes there, or train and test"
            )
        loose = [name for name in found if name.count("/") < 2]
        if loose:
            raise FoldwiseError(f"{_named(loose)} in {folder} lies in no folder of a class: move it, or write {TABLE}")
        parts = [(name.split("/")[0].lower(), name.split("/")[1]) for name in found]
    splits, labels = zip(*parts, strict=True)
    return pd.DataFrame({"file_name": found, "label": labels, "split": splits}, dtype=str)


def _of_table(folder: Path, found: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the table, checked against the files."""
    path = folder / TABLE
    table = _read(path)
    notes = []
    lines = table.index + 2
    for column in ("file_name", "label"):
        if missing := lines[table[column] == ""].tolist():
            raise FoldwiseError(f"{path} has no {column} in {_lines(missing)}: fill it in, or remove the line")
    table["file_name"] = [PurePosixPath(name).as_posix() for name in table["file_name"]]
    names = table["file_name"]
    if twice := names[names.duplicated()].unique().tolist():
        raise FoldwiseError(f"{path} names {_named(twice)} more than once: leave one line of each")
    if outside := [name for name in names if name.startswith("/") or ".." in name.split("/") or "\0" in name]:
        raise FoldwiseError(f"{path} names {_named(outside)}, which is not within {folder}: name files from there on")
    if missing := sorted(set(names).difference(found)):
        there = [name for name in missing if (folder / name).is_file()]
        if there:
            raise FoldwiseError(
                f"{path} names {_named(there)}, which is no image by its ending: use {', '.join(SUFFIXES)}"
            )
        hint = ": write / where it has \\" if "\\" in missing[0] else ": bring them back, or remove their lines"
        raise FoldwiseError(f"{path} names {_named(missing)}, of which there is no file{hint}")
    if unnamed := sorted(set(found).difference(names)):
        notes.append(f"{_named(unnamed)} {'are' if len(unnamed) > 1 else 'is'} not in {TABLE}, and left out")
    if "split" not in table:
        table["split"] = "train"
    if wrong := lines[~table["split"].isin(_SPLITS)].tolist():
        value = table["split"][wrong[0] - 2]
        raise FoldwiseError(f"{path} has split {value!r} in {_lines(wrong)}: write train or test")
    return table, notes


def _read(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        # Spreadsheets write other marks between columns in some languages.
        separator = max(",;\t", key=header.count)
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise FoldwiseError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FoldwiseError(f"{path} is not in UTF-8: save it as `CSV UTF-8`") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise FoldwiseError(f"{path} is no CSV table: {' '.join(str(error).split())}") from error
    table.columns = table.columns.str.strip()
    for column in ("file_name", "label"):
        if column not in table:
            hint = did_you_mean(column, list(table.columns), "its first line names the columns")
            raise FoldwiseError(f"{path} has no column {column}: {hint.replace('did you mean', 'is it')}")
    if table.empty:
        raise FoldwiseError(f"{path} has no rows: it needs one for each image")
    if not isinstance(table.index, pd.RangeIndex):
        raise FoldwiseError(f"{path} has lines with more values than there are columns: quote values with commas")
    table = table[[column for column in _COLUMNS if column in table]]
    return pd.DataFrame({column: table[column].str.strip() for column in table})


def _named(names: Iterable[str]) -> str:
    """Name the first of some, and say how many they are."""
    names = list(names)
    shown = ", ".join(names[:10])
    return f"{len(names):,} files ({shown}{', ...' if len(names) > 10 else ''})" if len(names) > 1 else shown


def _lines(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return (
        f"lines {shown}{f' and {len(numbers) - 10} more' if len(numbers) > 10 else ''}"
        if len(numbers) > 1
        else (f"line {shown}")
    )


def counts(values: Iterable[str]) -> dict[str, int]:
    """Count equal values, commonest first."""
    return dict(Counter(values).most_common())
