"""Decoding a folder of images: `normalize`'s one pass beside those of torchvision's `ImageFolder` and a `DataLoader`.

    python benchmarks/decoding.py FOLDER [SIDE]

FOLDER has a folder for each class. Both bring every image to SIDE x SIDE (64) and hand all of them out in batches, on
all cores: one epoch, in turn, three times, of which the median is told, then ten epochs once. A `DataLoader` decodes in
every epoch, Foldwise once.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from foldwise.base import params
from foldwise.sources import folder, pictures

ROOT = Path(__file__).parents[1]
BATCH = 256


def by_data_loader(images: Path, side: int, epochs: int) -> int:
    """Pass over the images; gives how many were handed out."""
    steps = [transforms.Resize((side, side)), transforms.ToTensor()]
    found = datasets.ImageFolder(str(images), transforms.Compose(steps))
    loader = DataLoader(found, batch_size=BATCH, shuffle=True, num_workers=joblib.cpu_count())
    return sum(len(labels) for _ in range(epochs) for _, labels in loader)


def by_foldwise(images: Path, side: int, epochs: int) -> int:
    """List and decode them, to an array on disk, and pass over that; gives how many were handed out."""
    data = params.load(ROOT / "params.yaml").data.model_copy(update={"image_size": side, "resize": "stretch"})
    listed, _ = folder.listing(images)
    with tempfile.TemporaryDirectory() as scratch:
        decoded = pictures.decode(images, listed["file_name"].tolist(), data, Path(scratch) / "pixels.npy")
        pixels = torch.from_numpy(decoded.pixels)
        count = 0
        for _ in range(epochs):
            order = torch.from_numpy(np.random.default_rng(0).permutation(len(pixels)))
            count += sum(len(pixels[order[at : at + BATCH]].float()) for at in range(0, len(order), BATCH))
        return count


def main() -> None:
    images, side = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 64
    for epochs, times in ((1, 3), (10, 1)):
        speeds: dict[str, list[float]] = {}
        for _ in range(times):
            for way in (by_data_loader, by_foldwise):
                start = time.perf_counter()
                count = way(images, side, epochs)
                speeds.setdefault(way.__name__, []).append(count / (time.perf_counter() - start))
        print(f"epochs: {epochs}")
        for name, values in speeds.items():
            each = ", ".join(f"{value:.0f}" for value in values)
            print(f"{name:15} {statistics.median(values):8.0f} images a second ({each})")


if __name__ == "__main__":
    main()
