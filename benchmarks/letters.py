"""Images of the letters A to J, drawn from installed fonts, with a table of them: file_name, label, group.

The group of an image is its font's family. Folds by group ask for letters of families never seen in training; in other
folds a held-out letter mostly has one like it there, of another style of its family. A family is all fonts whose names
begin with the same word, as one design has many names (DejaVu Sans, DejaVu Sans Condensed, DejaVu Sans Mono); one with
a single font is left out. So are fonts without one of the letters, or with two that look equal, or drawn as another
font is. Equal fonts make equal files.

Debian 12's fonts listed below, 40 MB to fetch, make 166 families. Packages that bring one of their designs under
another name, as TeX Gyre brings URW's, are not among them. Other fonts that are installed are drawn too.
"""

import argparse
import csv
import hashlib
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from foldwise.base.errors import FoldwiseError
from foldwise.base.files import writing

PACKAGES = (
    "3270 adf-accanthis adf-baskervald adf-berenis adf-ikarius adf-irianis adf-libris adf-mekanus adf-oldania "
    "adf-solothurn adf-tribun adf-universalis aenigma anonymous-pro arapey averia-gwf b612 bebas-neue cabin cantarell "
    "comfortaa comic-neue courier-prime crosextra-caladea dejavu-extra dosis dseg dustin ebgaramond essays1743 "
    "eurofurence fanwood ferrite-core georgewilliams gfs-didot gfs-neohellenic go gotico-antiqua hermit jura "
    "league-spartan liberation linuxlibertine lobstertwo monofur monoid mononoki national-park okolaks oldstandard "
    "open-sans paratype quicksand roadgeek roboto-unhinted routed-gothic sil-gentium-basic tiresias tuffy urw-base35 "
    "vollkorn yanone-kaffeesatz"
)
INSTALL = "apt-get install --no-install-recommends " + " ".join(f"fonts-{name}" for name in PACKAGES.split())
FONTS = Path("/usr/share/fonts")
LETTERS = "ABCDEFGHIJ"
UNASSIGNED = "\uffff"
BLANK = (0, 0), b""
FEWEST = 50  # families
STYLES = 6  # of a family at most, so that none outweighs the others
SHORTEST, LONGEST = 40, 120  # sides of an image, in pixels
INK = 0.8  # of a side at most, the rest is margin
# Signs in the letters' places, seven segments for all letters, ornaments, keys, parts of letters, letters lying down.
OTHERS = re.compile("binary|cmex|d050000l|dseg7|initials|keyboard|layer|math|qbicle|symbol|vertigo")
Row = tuple[str, str, str, Image.Image]


def drawn(path: Path, size: float, letters: str = LETTERS) -> list[Image.Image]:
    """Draw letters white on black, cut to their ink."""
    font = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)  # the other one may not be installed
    images = []
    for letter in letters:
        left, top, right, bottom = font.getbbox(letter)
        image = Image.new("L", (round(right - left), round(bottom - top)))
        ImageDraw.Draw(image).text((-left, -top), letter, fill=255, font=font)
        images.append(image.crop(image.getbbox() or (0, 0, 0, 0)))
    return images


def families(files: Iterable[Path]) -> dict[str, list[tuple[str, Path]]]:
    """Give the fonts that have all letters, each under a name of its own, by family."""
    found = defaultdict(list)
    seen: set[object] = set()
    for path in sorted(files):
        name = re.sub(r"\W+", "-", path.stem.lower()).strip("-")  # some fonts give all styles of a family one name
        try:
            family, style = ImageFont.truetype(path).getname()
            *looks, missing = ((image.size, image.tobytes()) for image in drawn(path, 100, LETTERS + UNASSIGNED))
        except OSError:  # not a font, or one of fixed sizes
            continue
        group = re.search(r"[^\W\d_][^\W_]*", family or "")
        different = len(set(looks) - {missing, BLANK}) == len(LETTERS)
        new = not {name, tuple(looks)} & seen
        if group and different and new and not OTHERS.search(f"{family} {style}".lower()):
            seen |= {name, tuple(looks)}
            found[group[0]].append((name, path))
    return dict(sorted(found.items()))


def rows(files: Iterable[Path]) -> Iterator[Row]:
    """Give file name, label, group and image of each letter; all of a font have one size, which follows its name."""
    several = {family: fonts for family, fonts in families(files).items() if len(fonts) > 1}
    for family, fonts in several.items():
        for chosen in np.linspace(0, len(fonts) - 1, min(len(fonts), STYLES)).round().astype(int):
            name, path = fonts[chosen]
            first, second, *_ = hashlib.sha256(name.encode()).digest()
            width = SHORTEST + first % (LONGEST - SHORTEST + 1)
            height = min(max(round(width * (0.75 + second / 512)), SHORTEST), LONGEST)
            widest, highest = np.max([image.size for image in drawn(path, 100)], axis=0)
            size = 100 * INK * min(width / widest, height / highest)
            for label, ink in zip(LETTERS, drawn(path, size), strict=True):
                image = Image.new("L", (width, height))
                image.paste(ink, ((width - ink.width) // 2, (height - ink.height) // 2))
                yield f"{label}/{name}.png", label, family, image


def write(folder: Path, table: Iterable[Row]) -> None:
    """Write images and their table, as a whole folder or not at all."""
    with writing(folder) as temporary:
        for letter in LETTERS:
            (temporary / letter).mkdir(parents=True)
        with (temporary / "metadata.csv").open("w", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(("file_name", "label", "group"))
            for name, label, family, image in table:
                image.save(temporary / name)
                lines.writerow((name, label, family))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=INSTALL, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a new folder for images and metadata.csv")
    folder = parser.parse_args().folder
    if folder.exists():
        sys.exit(f"letters.py: {folder} is there already")
    table = list(rows(path for path in FONTS.rglob("*") if path.suffix.lower() in (".ttf", ".otf")))
    n = len({family for _, _, family, _ in table})
    if n < FEWEST:
        sys.exit(f"letters.py: {n} font families in {FONTS}, fewer than {FEWEST}: install those that --help lists")
    try:
        write(folder, table)
    except FoldwiseError as error:
        sys.exit(f"letters.py: {error}")
    print(f"{len(table)} images of {n} families")


if __name__ == "__main__":
    main()
