"""P3: decoding bit for bit, and decoding into a pack, compared with Pillow and torchvision; processor time."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from bench.base import Row, Setting, at_least, interleaved, share, shown
from bench.images import source, tree
from rib import _compat  # noqa: F401  # before torchvision
from rib.data.catalogue import DataRow, open_data
from rib.data.decoded import Decoded
from rib.data.images import decode_pixels
from rib.data.pack import open_pack, pack_file
from rib.data.views import Pixels

VIEW = Pixels(224, 0.875)

DECODE_SHARE = 85
"""The goal of decoding, in percent of the speed of libjpeg-turbo alone. Pillow decodes with it too, and pixels are
Pillow's bit for bit, so nothing can decode them faster. The rest of the time checks a file's size and number of scans,
so that no hostile file takes all memory or time."""


def measure(setting: Setting) -> list[Row]:
    """Measure processor time over images of 224 × 224, as in the published ImageNet-C, and of full size."""
    count = 50 if setting.quick else 300
    with tempfile.TemporaryDirectory() as folder:
        rows = _rows(setting, tree(Path(folder) / "224", count, 224), "224 px", goal=True)
        return rows + _rows(setting, tree(Path(folder) / "full", count), "full size", goal=False)


def _rows(setting: Setting, root: Path, title: str, goal: bool) -> list[Row]:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    transform = Compose([Resize(256, InterpolationMode.BICUBIC), CenterCrop(224)])
    theirs = ImageFolder(str(root), transform)
    contents = [Path(file).read_bytes() for file, _ in theirs.samples]
    data = open_data("bench", DataRow(folder=str(root)), root, None)
    data.fingerprint("tune")
    packs, by_hand = root.parent / "packs", root.parent / "theirs.npy"

    def build() -> None:
        """Decode as in a run, with checksums."""
        for file in packs.glob("*"):
            file.unlink()
        open_pack(Decoded(data, "tune", VIEW), packs)

    def peer() -> None:
        """Fill the same file from ImageFolder, with as many threads."""
        images = np.lib.format.open_memmap(by_hand, "w+", np.uint8, (len(theirs), 224, 224, 3))

        def one(row: int) -> None:
            images[row] = np.asarray(theirs[row][0])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(one, range(len(theirs))))
        images.flush()

    def decode(one: Callable[[bytes], object]) -> None:
        for content in contents:
            one(content)

    works = {
        "libjpeg": lambda: decode(simplejpeg.decode_jpeg),
        "decode": lambda: decode(lambda content: decode_pixels(content, "")),
        "their decode": lambda: decode(pillow),
        "pack": build,
        "their pack": peer,
    }
    timings = interleaved(works, setting.repeats(5), time.process_time)
    made = np.load(pack_file(Decoded(data, "tune", VIEW), packs), mmap_mode="r")
    assert np.array_equal(made, np.load(by_hand, mmap_mode="r"))
    for content in contents:
        assert np.array_equal(decode_pixels(content, ""), pillow(content))
    same = f"{len(theirs)} JPEGs of {source()}; pixels bitwise equal"
    found = [
        share("P3", f"decode, {title}", "libjpeg-turbo alone", DECODE_SHARE, timings.ratio("libjpeg", "decode"), same)
    ]
    for what, name, against, wanted in (
        ("decode", "decode", "Pillow", None),
        ("pack", "decode, resize, crop and pack", "ImageFolder into a file, same threads", 1.15 if goal else None),
    ):
        ratio = timings.ratio(f"their {what}", what)
        rates = [len(theirs) / timings.median(name) for name in (what, f"their {what}")]
        note = f"{same}; ours {rates[0]:.0f}, theirs {rates[1]:.0f} images per second and core"
        row = f"{name}, {title}"
        found.append(
            at_least("P3", row, against, wanted, ratio, note)
            if wanted
            else shown("P3", row, against, f"{ratio:.3g} ×", note)
        )
    return found


def pillow(content: bytes) -> np.ndarray:
    """Pixels as torchvision's loader returns them."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
