"""P2: batches from a pack, beside ImageFolder with a DataLoader and beside memcpy; memory over packs of two sizes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench.base import Row, Setting, at_least, interleaved
from bench.images import source, tree
from rib import _compat  # noqa: F401  # before torchvision
from rib.data.catalogue import DataRow, open_data
from rib.data.examples import Examples, Index, View
from rib.data.feed import fed
from rib.data.labels import LabelMap
from rib.data.pack import open_pack
from rib.execute.memory import keep_freed
from rib.models.classifier import Classifier
from rib.models.loading import HALF
from rib.models.small import small_resnet
from rib.prediction import batches, predict
from rib.recipe import Recipe
from rib.training import train

VIEW = View(224, 0.875)
BATCH = 64
CPU = torch.device("cpu")
MIB = 2**20
TURNS = 3
"""Processes whose memory is measured: what the allocator keeps differs by tens of MiB from one to the next."""


def measure(setting: Setting) -> list[Row]:
    """Processor time of one process an image, shuffled batches of 64 at 224 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        return [*_loading(setting, Path(folder)), _memory(setting, Path(folder))]


def _loading(setting: Setting, folder: Path) -> list[Row]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

    root = tree(folder / "tree", BATCH * (1 if setting.quick else 2))
    data = open_data("bench", DataRow(folder=str(root)), root, None)
    pack = open_pack(data, "tune", VIEW, folder / "packs")
    transform = Compose([Resize(256, InterpolationMode.BICUBIC), CenterCrop(224), PILToTensor()])
    theirs = ImageFolder(str(root), transform)
    loaded = torch.cat([images for images, _ in DataLoader(theirs, BATCH)]).permute(0, 2, 3, 1)
    ours = torch.cat(list(fed(pack, batches(len(pack), BATCH), CPU)))
    assert torch.equal(ours, loaded)

    large = tiled(pack, folder / "large.npy", 4 if setting.quick else 24)
    order = np.random.default_rng(0).permutation(len(large))
    wanted = [order[each] for each in batches(len(large), BATCH)]
    buffer = np.empty_like(large.images[:BATCH])
    works = {
        "pack": lambda: [None for _ in fed(large, wanted, CPU)],
        "memcpy": lambda: [np.copyto(buffer, large.images[each]) for each in batches(len(large), BATCH)],
        "ImageFolder": lambda: [None for _ in DataLoader(theirs, BATCH, shuffle=True)],
    }
    timings = interleaved(works, setting.repeats(7), time.process_time)
    scale = len(large) / len(theirs)
    rate = {name: len(theirs if name == "ImageFolder" else large) / timings.median(name) for name in works}
    note = (
        f"{len(theirs)} JPEGs of {source()}, the pack {large.images.nbytes / 1e6:.0f} MB; pixels bitwise equal; "
        + ", ".join(f"{name} {images:,.0f}" for name, images in rate.items())
        + " images a second"
    )
    share = timings.ratio("memcpy", "pack")
    return [
        at_least(
            "P2", "packed loader", "ImageFolder, DataLoader", 150, scale * timings.ratio("ImageFolder", "pack"), note
        ),
        Row("P2", "packed loader, shuffled", "memcpy, in order", "≥ 70 %", f"{100 * share:.0f} %", share >= 0.7),
    ]


def tiled(pack: Examples, file: Path, times: int) -> Examples:
    """A pack that holds another so many times, mapped from a file."""
    images = np.lib.format.open_memmap(file, "w+", np.uint8, (times * len(pack), *pack.images.shape[1:]))
    for turn in range(times):
        images[turn * len(pack) : (turn + 1) * len(pack)] = pack.images
    images.flush()
    return mapped(file)


def mapped(file: Path) -> Examples:
    """Examples whose images are mapped from a file, as those of a pack are."""
    images = np.asarray(np.lib.format.open_memmap(file, "r"))
    rows = np.arange(len(images))
    return Examples.whole(images, Index(rows % 4, rows))


def _memory(setting: Setting, folder: Path) -> Row:
    """The most memory of a process that trains and predicts over a pack, and over one ten times as large."""
    count = 2_000 if setting.quick else 30_000  # fewer do not fill what the allocator keeps
    generator = np.random.default_rng(0)
    found = []
    for times in (1, 10):
        file = folder / f"memory{times}.npy"
        images = np.lib.format.open_memmap(file, "w+", np.uint8, (times * count, 32, 32, 3))
        for start in range(0, len(images), count):
            images[start : start + count] = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        del images
        command = [sys.executable, "-m", "bench.p2_loader", str(file)]
        turns = [subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True) for _ in range(TURNS)]
        each = [[float(value) for value in turn.stdout.split()] for turn in turns]
        found.append([statistics.median(values) for values in zip(*each, strict=True)])
    (own, file_pages), (own_large, file_pages_large) = found
    grown = own_large - own
    return Row(
        "P2",
        "memory over a pack 10 × as large",
        f"over {count:,} images of {count * 3072 / MIB:.0f} MiB",
        "≤ + 10 %",
        f"{100 * grown / own:+.1f} %",
        grown <= 0.1 * own,
        f"{own:.0f} and {own_large:.0f} MiB of its own; besides, {file_pages:.0f} and {file_pages_large:.0f} MiB of "
        "files are mapped, which the system takes back when it needs them",
    )


def taken() -> tuple[float, float]:
    """MiB that this process has of its own, and of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = {
        name: int(rest.split()[0]) / 1024 for name, _, rest in (line.partition(":") for line in lines) if "Rss" in name
    }
    return values["RssAnon"], values["RssFile"]


def run(file: Path) -> None:
    """Predict and train over a pack with a small net; print the most memory that was taken on the way."""
    torch.set_num_threads(1)
    keep_freed()
    classifier = Classifier(small_resnet(num_classes=1000, width=8), 1000, HALF, HALF)
    examples, labels = mapped(file), LabelMap("bench", tuple((label,) for label in range(4)), 1000)
    peak = [0.0, 0.0]

    def look(_: int) -> None:
        peak[:] = map(max, peak, taken())

    predict(classifier, examples, labels, batch_size=BATCH, watch=look)
    train(classifier, examples, labels, Recipe(epochs=1, lr=1e-4), seed=0, watch=look)
    print(*peak)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
