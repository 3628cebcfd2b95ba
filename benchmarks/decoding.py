"""Decoding a folder of images: `normalize`'s one pass beside one of torchvision's `ImageFolder` and a `DataLoader`.

    python benchmarks/decoding.py FOLDER [SIDE]

FOLDER has a folder for each class. Both bring every image to SIDE x SIDE (64), in turn, three times, on all cores; the
median number of images a second is told. Training from the `DataLoader` decodes in every epoch of every fold, Foldwise
once.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import joblib
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from foldwise.base import params
from foldwise.sources import folder, pictures

ROOT = Path(__file__).parents[1]


def by_data_loader(images: Path, side: int) -> int:
    """Pass over the images once, as a training of one epoch does; gives their number."""
    steps = [transforms.Resize((side, side)), transforms.ToTensor()]
    found = datasets.ImageFolder(str(images), transforms.Compose(steps))
    loader = DataLoader(found, batch_size=256, num_workers=joblib.cpu_count())
    return sum(len(labels) for _, labels in loader)


def by_foldwise(images: Path, side: int) -> int:
    """List and decode them, to an array on disk; gives their number."""
    data = params.load(ROOT / "params.yaml").data.model_copy(update={"image_size": side, "resize": "stretch"})
    listed, _ = folder.listing(images)
    with tempfile.TemporaryDirectory() as scratch:
        decoded = pictures.decode(images, listed["file_name"].tolist(), data, Path(scratch) / "pixels.npy")
        return int(decoded.whole.sum())


def main() -> None:
    images, side = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 64
    speeds: dict[str, list[float]] = {}
    for _ in range(3):
        for way in (by_data_loader, by_foldwise):
            start = time.perf_counter()
            count = way(images, side)
            speeds.setdefault(way.__name__, []).append(count / (time.perf_counter() - start))
    for name, values in speeds.items():
        print(f"{name:15} {statistics.median(values):8.0f} images a second ({', '.join(f'{v:.0f}' for v in values)})")


if __name__ == "__main__":
    main()
