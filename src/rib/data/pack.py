"""Packs: a part of a data set decoded once for one view, as a uint8 file mapped into memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from rib.data.base import DataSet
from rib.data.examples import Examples, Part, View
from rib.files import explained, written_aside

Advance = Callable[[int], None]


def open_pack(data: DataSet, part: Part, view: View, folder: Path, advance: Advance | None = None) -> Examples:
    """The examples of a part, decoded on first use.

    Args:
        data: the data set.
        part: which part.
        view: the pixels that the model sees.
        folder: where packs are kept.
        advance: told the number of images decoded since it was last told.

    Raises:
        UserError: an image cannot be read, or `folder` cannot be written.
        StepError: the disk is full.
    """
    index = data.index(part)
    file = pack_file(data, part, view, folder)
    if not file.exists():
        with explained(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        with explained(file), FileLock(file.with_suffix(".lock")):
            if not file.exists():
                _decode(data, part, view, file, advance or (lambda _: None))
        file.with_suffix(".lock").unlink(missing_ok=True)
    images = cast(NDArray[np.uint8], np.load(file, mmap_mode="r"))
    return Examples.whole(images, index)


def pack_file(data: DataSet, part: Part, view: View, folder: Path) -> Path:
    """The file of a pack: named by content and view."""
    crop = f"{view.crop:g}".replace(".", "_")
    return folder / f"{data.fingerprint(part)[:24]}-{view.size}-{crop}-{view.interpolation}.npy"


def _decode(data: DataSet, part: Part, view: View, file: Path, advance: Advance) -> None:
    count = len(data.index(part))
    with written_aside(file) as aside:
        out = np.lib.format.open_memmap(aside, "w+", np.uint8, (count, view.size, view.size, 3))
        _claim(aside)
        order = data.reading_order(part)
        for start in range(0, count, data.chunk):
            chunk = order[start : start + data.chunk]
            out[chunk] = data.pixels(part, chunk.tolist(), view)
            advance(len(chunk))
        out.flush()
        del out


def _claim(file: Path) -> None:
    """Take the disk space of a file now: a full disk is an error here, and a killed process when met through a map."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
