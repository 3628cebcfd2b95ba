"""Folders of a few small images."""

from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, *shape: int) -> np.ndarray:
    """Give pixels that no other seed gives, 8 x 8 grey ones by default."""
    return np.random.default_rng(seed).integers(0, 256, shape or (8, 8), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, **how) -> Path:
    """Write pixels as an image of the kind that the path's ending or `format` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return path


def fill(folder: Path, counts: dict[str, int] | None = None, first: int = 0) -> list[str]:
    """Write so many images of each class, each another, in a folder of its name; give their names."""
    names = [f"{kind}/{i}.png" for kind, count in (counts or {"cat": 5, "dog": 5}).items() for i in range(count)]
    for seed, name in enumerate(names, first):
        save(folder / name, noise(seed))
    return names


def write_table(folder: Path, *lines: str, encoding: str = "utf-8") -> None:
    """Write `metadata.csv` line by line."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
