"""Pictures of any kind and size, brought to pixels of one form, on all cores."""

import os
import stat
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from foldwise.base import files, interrupts
from foldwise.base.console import printable, say
from foldwise.base.errors import FoldwiseError, first_line
from foldwise.base.params import Data

# What Pillow decodes by itself: no format that is handed on to another program, as EPS is to Ghostscript.
FORMATS = (
    *("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"),  # the commonest first, as they are tried in turn
    *("AVIF", "DIB", "JPEG2000", "PCX", "PPM", "SGI", "TGA"),
)
SUFFIXES = tuple(sorted(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS))

# Files that a worker reads at a time.
_CHUNK = 200
# Images all of one size, from so many pixels a side to so many, stay as they are; others are brought to `_SIDE`.
_AS_THEY_ARE, _SIDE = (4, 128), 64
# Pixels of more would take gigabytes.
_MOST = 100_000_000
_SECONDS_BETWEEN_LINES = 5.0
# Where Pillow finds how a picture is turned.
_EXIF = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}

# What is known of a picture before its pixels are read; `high` is the highest value of one with more than 8 bits.
_LOOK = np.dtype(
    [("height", "i4"), ("width", "i4"), ("high", "i4"), *((name, "?") for name in ("grey", "clear", "turned"))]
)


class Form(NamedTuple):
    """What pixels are brought to: `highest` is the value that becomes 255 where there are more than 8 bits."""

    height: int
    width: int
    channels: int
    resize: str
    highest: int


class Decoded(NamedTuple):
    """Pixels, (N, C, H, W) uint8, mapped; which of N files could be read, and what they were like; notes on them."""

    pixels: NDArray[np.uint8]
    whole: NDArray[np.bool_]
    looks: NDArray[np.void]
    form: Form
    notes: list[str]


def decode(folder: Path, names: Sequence[str], data: Data, target: Path) -> Decoded:
    """Read pictures into an array on disk, each in its row.

    Parameters
    ----------
    folder : Path
    names : sequence of str
        N files in it.
    data : Data
        Size, channels, and what is done with files that cannot be read.
    target : Path
        Where the array lies.

    Raises
    ------
    FoldwiseError
        If files cannot be read and none is to be skipped; names the first ten.
    """
    looks, broken = look(folder, names)
    _check(broken, folder, names, data)
    whole = np.ones(len(names), bool)
    whole[list(broken)] = False
    form = _form(looks[whole], data)
    broken |= read(folder, names, form, target)
    _check(broken, folder, names, data)
    whole[list(broken)] = False
    notes = [_done(looks[whole], form)]
    if broken:
        notes.append(f"{listed(broken, names)}; left out")
    return Decoded(np.load(target, mmap_mode="r", allow_pickle=False), whole, looks[whole], form, notes)


def look(folder: Path, names: Sequence[str]) -> tuple[NDArray[np.void], dict[int, str]]:
    """Look at pictures, but not at their pixels where these tell nothing.

    Returns
    -------
    looks : (N,) structured array
        `height` and `width`, once it is turned as its EXIF says; `high`, the highest value of one of more than 8 bits;
        whether it is `grey`, `clear` or `turned`.
    broken : dict of int to str
        Which cannot be read, and why.
    """
    looks = np.zeros(len(names), _LOOK)
    broken: dict[int, str] = {}
    for start, (found, wrong) in _on_all_cores(_look_at, folder, names, "looked at"):
        looks[start : start + len(found)] = found
        broken |= {start + place: reason for place, reason in wrong.items()}
    return looks, broken


def read(folder: Path, names: Sequence[str], form: Form, target: Path) -> dict[int, str]:
    """Read pictures in one form into an array on disk, (N, C, H, W) uint8; gives which cannot be read, and why."""
    files.mapped(target, (len(names), form.channels, form.height, form.width))
    broken: dict[int, str] = {}
    for start, wrong in _on_all_cores(_read_into, folder, names, "read", form, target):
        broken |= {start + place: reason for place, reason in wrong.items()}
    return broken


def _on_all_cores(
    task: Callable[..., Any], folder: Path, names: Sequence[str], what: str, *arguments: Any
) -> Iterator[tuple[int, Any]]:
    """Give what a task makes of each chunk of files, with the place of its first, and say how far it is."""
    starts = range(0, len(names), _CHUNK)
    jobs = (joblib.delayed(_quiet)(task, folder, names[start : start + _CHUNK], start, *arguments) for start in starts)
    n_jobs = min(len(starts), int(joblib.effective_n_jobs(-1)))
    told = time.monotonic()
    try:
        with interrupts.unheard_by_new_processes():
            results = joblib.Parallel(n_jobs, return_as="generator", batch_size=1)(jobs)
        for start, result in zip(starts, results, strict=True):
            yield start, result
            if time.monotonic() - told > _SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                say(f"  {min(start + _CHUNK, len(names)):,} of {len(names):,} files {what}")
    except BrokenProcessPool as error:
        raise FoldwiseError(f"a worker that reads images in {folder} was killed: is the memory short?") from error
    if n_jobs > 1:
        get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def _quiet(task: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task without Pillow's warnings of odd files."""
    with warnings.catch_warnings(action="ignore"):
        return task(*arguments)


def _look_at(folder: Path, names: Sequence[str], _: int) -> tuple[NDArray[np.void], dict[int, str]]:
    looks, broken = np.zeros(len(names), _LOOK), {}
    for place, name in enumerate(names):
        try:
            with _opened(os.path.join(folder, name)) as image:  # noqa: PTH118 -- paths cost a tenth of the time
                looks[place] = _look(image)
        except Exception as error:  # on damaged files Pillow raises errors of many types
            broken[place] = _reason(error, folder / name)
    return looks, broken


def _read_into(folder: Path, names: Sequence[str], start: int, form: Form, target: Path) -> dict[int, str]:
    rows, broken = np.load(target, mmap_mode="r+", allow_pickle=False), {}
    for place, name in enumerate(names):
        try:
            with _opened(os.path.join(folder, name)) as image:  # noqa: PTH118 -- paths cost a tenth of the time
                rows[start + place] = pixels(image, form)
        except Exception as error:
            broken[place] = _reason(error, folder / name)
    return broken


class _Refused(Exception):
    """Why a picture is not taken."""


def _opened(path: str) -> Image.Image:
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except FileNotFoundError:
        is_file = False
    if not is_file:
        raise _Refused("is a link to no file" if Path(path).is_symlink() else "is no file")
    image = Image.open(path, formats=FORMATS)
    image.filename = ""  # with a name, Pillow maps raw TIFFs that lie on their side in the wrong width
    if image.width * image.height > _MOST:
        image.close()
        raise _Refused(f"has {image.width:,} x {image.height:,} pixels")
    return image


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "is no image" if path.stat().st_size else "is empty"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {_MOST:,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"is cut off or damaged ({first_line(error) or type(error).__name__})"


def _is_deep(image: Image.Image) -> bool:
    """Whether its pixels are of one channel and more than 8 bits."""
    return image.mode.startswith("I")


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P" and (palette := image.getpalette()):
        return palette[0::3] == palette[1::3] == palette[2::3]
    return image.mode in ("1", "L", "LA", "La") or _is_deep(image)


def _is_clear(image: Image.Image) -> bool:
    """Whether it may let something shine through."""
    has_key = "transparency" in image.info and not _is_deep(image)
    return has_key or image.mode in ("RGBA", "LA", "PA", "RGBa", "La")


def _look(image: Image.Image) -> tuple[int, int, int, bool, bool, bool]:
    # Asked for its EXIF, a PNG that seems to have none would be read to its end.
    has_exif = image.format == "TIFF" or not _EXIF.isdisjoint(image.info)
    orientation = image.getexif().get(ExifTags.Base.Orientation) if has_exif else None
    # The four later orientations lie on their side, which Pillow tells of a TIFF's size by itself.
    lies = orientation in (5, 6, 7, 8) and image.format != "TIFF"
    width, height = image.size[::-1] if lies else image.size
    high = 0
    if _is_deep(image):
        values = np.asarray(image)
        high = int(values.max())
        if values.min() < 0 or high >= 2**16:
            raise _Refused(f"has values from {values.min()} to {high}, which are no 16 bits: save it with 8 or 16")
    elif image.mode == "F":
        raise _Refused("has fractions for pixels: save it with 8 or 16 bits")
    elif any("16" in mode for mode in _raw_modes(image)):  # of which Pillow takes the upper eight
        raise _Refused("has 16 bits in each of several channels: save it with 8")
    return height, width, high, _is_grey(image), _is_clear(image), orientation in range(2, 9)


def _raw_modes(image: Image.Image) -> list[str]:
    """How the pixels lie in the file; beside that Pillow keeps numbers, such as the file's length or its descriptor."""
    kept = [tile[3] for tile in getattr(image, "tile", ())]
    return [part for each in kept for part in (each if isinstance(each, tuple) else (each,)) if isinstance(part, str)]


def _form(looks: NDArray[np.void], data: Data) -> Form:
    sizes = np.unique(looks[["height", "width"]])
    if data.image_size is not None:
        side = data.image_size
        height, width = (side, side) if isinstance(side, int) else side
    elif len(sizes) == 1 and _AS_THEY_ARE[0] <= min(sizes[0]) and max(sizes[0]) <= _AS_THEY_ARE[1]:
        height, width = map(int, sizes[0])
    else:
        height = width = _SIDE
    channels = data.channels or (1 if looks["grey"].all() else 3)
    bits = max(8, int(looks["high"].max(initial=0)).bit_length())
    return Form(height, width, channels, data.resize, 2**bits - 1)


def pixels(image: Image.Image, form: Form) -> NDArray[np.uint8]:
    """Bring a picture to one form: turned as its EXIF says, on white where it is clear, in 8 bits, resized.

    Returns
    -------
    (C, H, W) uint8
    """
    # A JPEG is read no larger than needed; twice the size leaves enough to be averaged.
    image.draft(None, (2 * max(form.height, form.width),) * 2)
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if _is_deep(image):
        deep = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((deep * 510 + form.highest) // (2 * form.highest)).astype(np.uint8))
    mode = "L" if form.channels == 1 else "RGB"
    if _is_clear(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    resized = _resized(image.convert(mode), form)
    values = np.asarray(resized, np.uint8).reshape(form.height, form.width, form.channels)
    return np.moveaxis(values, -1, 0)


def _resized(image: Image.Image, form: Form) -> Image.Image:
    size = form.width, form.height
    if image.size == size:
        return image
    if form.resize == "stretch":
        return image.resize(size, Image.Resampling.BILINEAR)
    if form.resize == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    share = min(form.width / image.width, form.height / image.height)
    within = max(1, round(image.width * share)), max(1, round(image.height * share))
    black = Image.new(image.mode, size)
    place = (form.width - within[0]) // 2, (form.height - within[1]) // 2
    black.paste(image.resize(within, Image.Resampling.BILINEAR), place)
    return black


def _done(looks: NDArray[np.void], form: Form) -> str:
    """Say what was done to how many pictures."""
    height, width, other = looks["height"], looks["width"], 3 if form.channels == 1 else 1
    larger = np.minimum(height / form.height, width / form.width)
    share = np.maximum(height / form.height, width / form.width)
    if form.resize == "crop":
        share = larger
    how = {"pad": "padded", "crop": "cropped", "stretch": "stretched"}[form.resize]
    done = {
        "enlarged": share < 1,
        "made smaller": share > 1,
        how: height * form.width != width * form.height,
        "turned as their EXIF says": looks["turned"],
        "laid on white": looks["clear"],
        f"brought from {form.highest.bit_length()} bits to 8": (looks["high"] > 0) & (form.highest > 255),
        "made grey" if other == 3 else "made of three channels": looks["grey"] != (form.channels == 1),
    }
    parts = [f"{count:,} {what}" for what, hit in done.items() if (count := int(np.count_nonzero(hit)))]
    size = f"{form.height} x {form.width}, {'grey' if form.channels == 1 else 'colours'}"
    return f"{len(looks):,} images, all {size}{': ' if parts else ''}{', '.join(parts)}"


def _check(broken: dict[int, str], folder: Path, names: Sequence[str], data: Data) -> None:
    if broken and (data.broken == "error" or len(broken) == len(names)):
        raise FoldwiseError(
            f"{folder}: {listed(broken, names)}: mend or remove {'them' if len(broken) > 1 else 'it'}"
            f"{', or set data.broken to skip' if data.broken == 'error' else ''}"
        )


def listed(broken: dict[int, str], names: Sequence[str]) -> str:
    """Say which files cannot be used, and why, the first ten by name."""
    first = [printable(f"{names[place]} {broken[place]}") for place in sorted(broken)[:10]]
    more = f", and {len(broken) - 10:,} more" if len(broken) > 10 else ""
    return f"{len(broken):,} of {len(names):,} files cannot be used: {', '.join(first)}{more}"
