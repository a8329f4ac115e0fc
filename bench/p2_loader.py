"""P2: batches from a pack, compared with ImageFolder in a DataLoader and with memcpy; and memory over packs of two
sizes.

On a GPU it also measures transfers of batches, alone and during training steps.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.base import Row, Setting, Work, at_least, interleaved, shown
from bench.images import source, tree
from bench.rates import rates
from rib import _compat  # noqa: F401  # before torchvision
from rib.arrays import Rows
from rib.data.catalogue import DataRow, open_data
from rib.data.decoded import Decoded
from rib.data.examples import Examples, Index
from rib.data.feed import Road, Shelf, fed
from rib.data.labels import LabelMap
from rib.data.pack import open_pack
from rib.data.views import Inputs, Pixels
from rib.execute.malloc import keep_freed
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.classifier import Classifier
from rib.models.describe import describe
from rib.models.preprocessing import HALF
from rib.models.small import small_resnet
from rib.recipe import Recipe
from rib.training.loop import train
from rib.training.predict import autocast, batches, predict
from rib.training.training import Training

VIEW = Pixels(224, 0.875)
BATCH = 64
CPU = torch.device("cpu")
MIB = 2**20
TURNS = 3
"""Number of processes whose memory is measured, because the allocator's reserve differs by tens of MiB between them."""

IN_USE = 48
"""Bytes per image in arrays at one time: 24 of labels, sources and rows, and 24 of predictions or of an order."""

ROADS: Mapping[Road, str] = {"resident": "device to device", "pinned": "host to device, pinned"}
"""Ways to a GPU, with the copies of `bench.rates` that each consists of."""

LIMITS: Mapping[Road, str] = {
    "pinned": "one thread gathers a batch in pinned memory before it is copied, both during the previous "
    "step; the waiting time of a step is listed separately"
}
"""What keeps each way from its goal."""


def measure(setting: Setting) -> list[Row]:
    """Measure processor time per image of one process, for shuffled batches of 64 at 224 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        rows, pack = _loading(setting, Path(folder))
        rows.append(_memory(setting, Path(folder)))
        return rows + (_to_device(setting, pack) if setting.gpu else [])


def _loading(setting: Setting, folder: Path) -> tuple[list[Row], Examples]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

    root = tree(folder / "tree", BATCH * (1 if setting.quick else 2))
    data = open_data("bench", DataRow(folder=str(root)), root, None)
    pack = open_pack(Decoded(data, "tune", VIEW), folder / "packs")
    transform = Compose([Resize(256, InterpolationMode.BICUBIC), CenterCrop(224), PILToTensor()])
    theirs = ImageFolder(str(root), transform)
    loaded = torch.cat([images for images, _ in DataLoader(theirs, BATCH)]).permute(0, 2, 3, 1)
    ours = torch.cat(list(fed(pack, batches(len(pack), BATCH), CPU)))
    assert torch.equal(ours, loaded)

    large = tiled(pack, folder / "large.npy", 4 if setting.quick else 24)
    wanted, pixels = shuffled(large), pixels_of(large)
    buffer = np.empty_like(pixels[:BATCH])

    def memcpy() -> None:
        for each in batches(len(large), BATCH):
            np.copyto(buffer, pixels[each])

    works: dict[str, Work] = {
        "pack": lambda: [None for _ in fed(large, wanted, CPU)],
        "memcpy": memcpy,
        "ImageFolder": lambda: [None for _ in DataLoader(theirs, BATCH, shuffle=True)],
    }
    timings = interleaved(works, setting.repeats(7), time.process_time)
    scale = len(large) / len(theirs)
    rate = {name: len(theirs if name == "ImageFolder" else large) / timings.median(name) for name in works}
    note = (
        f"{len(theirs)} JPEGs of {source()}, the pack {pixels.nbytes / 1e6:.0f} MB; pixels bitwise equal; "
        + ", ".join(f"{name} {images:,.0f}" for name, images in rate.items())
        + " images per second"
    )
    share = timings.ratio("memcpy", "pack")
    rows = [
        at_least(
            "P2", "packed loader", "ImageFolder, DataLoader", 150, scale * timings.ratio("ImageFolder", "pack"), note
        ),
        Row("P2", "packed loader, shuffled", "memcpy, in order", "≥ 70 %", f"{100 * share:.0f} %", share >= 0.7),
    ]
    return rows, large


def pixels_of(pack: Examples) -> Inputs:
    """Inputs in memory: uint8 (N, H, W, 3)."""
    assert not callable(pack.images)
    return pack.images


def shuffled(pack: Examples) -> list[Rows]:
    """The examples of every batch of an epoch; the last batch may be smaller."""
    order = np.random.default_rng(0).permutation(len(pack))
    return [order[each] for each in batches(len(pack), BATCH)]


def tiled(pack: Examples, file: Path, times: int) -> Examples:
    """A pack that repeats another one `times` times, mapped from a file."""
    pixels = pixels_of(pack)
    images = np.lib.format.open_memmap(file, "w+", np.uint8, (times * len(pack), *pixels.shape[1:]))
    for turn in range(times):
        images[turn * len(pack) : (turn + 1) * len(pack)] = pixels
    images.flush()
    return mapped(file)


def mapped(file: Path) -> Examples:
    """Examples whose images are mapped from a file, as in a pack."""
    images = np.asarray(np.lib.format.open_memmap(file, "r"))
    rows = np.arange(len(images))
    return Examples.whole(images, Index(rows % 4, rows))


@dataclass
class Forced(Shelf):
    """A shelf that always takes one way, whatever room there is.

    Attributes:
        way: the way to every device.
    """

    way: Road = "resident"

    def road(self, images: Inputs, device: torch.device) -> Road:
        return self.way


def _to_device(setting: Setting, pack: Examples) -> list[Row]:
    """Batches on the GPU, both ways, alone and with a training step on each, compared with steps on a resident
    batch."""
    device, wanted = torch.device(setting.device), shuffled(pack)
    there, steps = torch.from_numpy(pack.batch(wanted[0])).to(device), stepping(setting, device)
    works: dict[str, Work] = {"steps": lambda: steps(repeat(there, len(wanted)))}

    def add(way: Road) -> None:
        shelf = Forced(way=way)
        assert torch.equal(next(iter(fed(pack, wanted, device, shelf))), there)
        works[way] = lambda: [None for _ in fed(pack, wanted, device, shelf)]
        works[f"steps, {way}"] = lambda: steps(fed(pack, wanted, device, shelf))

    for way in ROADS:
        add(way)
    timings = interleaved(works, setting.repeats(7))
    step = timings.median("steps") / len(wanted)
    peer = f"a step of {setting.model}, {setting.precision}, batch {BATCH}, {1e3 * step:.3g} ms"
    rows = []
    for way, copies in ROADS.items():
        share, more = timings.ratio(way, "steps"), timings.ratio(f"steps, {way}", "steps") - 1
        rate = pixels_of(pack).nbytes / timings.median(way)
        note = f"{rate / 1e9:.3g} GB/s, {100 * rate / rates(setting.device).copies[copies]:.0f} % of copies {copies}"
        what = f"a batch to the device, {way}"
        rows += [
            Row("P2", f"{what}, alone", peer, "< 2 %", f"{100 * share:.2g} %", share < 0.02, note, LIMITS.get(way, "")),
            shown("P2", f"{what}, as steps wait for it", peer, f"{100 * more:+.1f} %"),
        ]
    return rows


def stepping(setting: Setting, device: torch.device) -> Callable[[Iterable[Tensor]], None]:
    """A function that runs a training step on each of some batches."""
    net = build(describe(ModelRow(timm=setting.model), classes=10)).to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), 1e-4, 0.9, fused=True)

    def steps(given: Iterable[Tensor]) -> None:
        for images in given:
            labels = torch.zeros(len(images), dtype=torch.int64, device=device)
            with autocast(device, setting.precision):
                loss = F.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps


def _memory(setting: Setting, folder: Path) -> Row:
    """Peak memory of a process that trains and predicts over a pack, and over a pack ten times as large."""
    count = 2_000 if setting.quick else 30_000  # fewer images do not fill the allocator's reserve
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
        f"{own:.0f} and {own_large:.0f} MiB of private memory; {file_pages:.0f} and {file_pages_large:.0f} MiB of "
        "mapped files come on top, which the system can reclaim",
        f"the growth is labels, sources and rows, and predictions or an order: {IN_USE} bytes per image, "
        f"{9 * count * IN_USE / MIB:.0f} MiB more here; the allocator keeps the rest for the next batches",
    )


def taken() -> tuple[float, float]:
    """MiB of this process' private memory, and of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = {
        name: int(rest.split()[0]) / 1024 for name, _, rest in (line.partition(":") for line in lines) if "Rss" in name
    }
    return values["RssAnon"], values["RssFile"]


def run(file: Path) -> None:
    """Predict and train over a pack with a small net; print the peak memory."""
    torch.set_num_threads(1)
    keep_freed()
    classifier = Classifier(small_resnet(num_classes=1000, width=8), 1000, HALF, HALF)
    examples, labels = mapped(file), LabelMap("bench", tuple((label,) for label in range(4)), 1000)
    peak = [0.0, 0.0]

    def look(_: int) -> None:
        peak[:] = map(max, peak, taken())

    predict(classifier, examples, labels, batch_size=BATCH, watch=look)
    train(classifier, Training(examples, labels, Recipe(epochs=1, lr=1e-4), seed=0), watch=look)
    print(*peak)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
