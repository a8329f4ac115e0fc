"""Packs: a part of a data set decoded once for one view, as a uint8 file mapped into memory.

Beside `NAME.npy` lie `NAME.crc32`, a checksum of every image, and `NAME.checked`, where it was last found to be whole.
While it is made, its images are in `NAME.part`, and an image whose checksum is 0 has not been decoded: a build that was
killed goes on from there.
"""

from __future__ import annotations

import json
import os
import platform
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from rib.data.ahead import pieces, read_ahead
from rib.data.base import DataSet
from rib.data.examples import Examples, Part, View
from rib.errors import UserError
from rib.files import explained, try_write

Advance = Callable[[int], None]
Say = Callable[[str], None]
Images = NDArray[np.uint8]
Rows = NDArray[np.int64]
Sums = NDArray[np.uint32]

BLOCK = 2**26
"""Bytes that are checked by one thread at a time."""


def open_pack(data: DataSet, part: Part, view: View, folder: Path, advance: Advance | None = None) -> Examples:
    """The examples of a part, decoded on first use. Of a pack that is there, only form and size are looked at.

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
    shape = (len(index), view.size, view.size, 3)
    images = _mapped(file, shape)
    if images is None:
        with explained(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        with explained(file), FileLock(file.with_suffix(".lock")):
            if _mapped(file, shape) is None:
                _build(data, part, view, file, advance or (lambda _: None))
        file.with_suffix(".lock").unlink(missing_ok=True)
        images = _mapped(file, shape)
        assert images is not None
    return Examples.whole(images, index)


def check_pack(
    data: DataSet, part: Part, view: View, folder: Path, advance: Advance | None = None, say: Say | None = None
) -> None:
    """Open a pack, once its checksums were looked at; what is damaged is decoded again.

    A pack that was found whole before is not read again unless its file has changed since, or is a copy.

    Args: as `open_pack`, and
        say: told of damage, in words.

    Raises: as `open_pack`.
    """
    file = pack_file(data, part, view, folder)
    if file.exists() and not is_checked(file):
        damaged = damaged_rows(file)
        if len(damaged):
            (say or (lambda _: None))(
                f"{file.name} is damaged ({data.label}, {part}: {len(damaged):,} images); they are decoded again"
            )
            with explained(file):
                _discard(file, damaged)
        else:
            _note_checked(file)
    open_pack(data, part, view, folder, advance)


def pack_file(data: DataSet, part: Part, view: View, folder: Path) -> Path:
    """The file of a pack: named by content and view. It is there once every image of it is."""
    crop = f"{view.crop:g}".replace(".", "_")
    mode = "" if view.decode == "exact" else f"-{view.decode}"
    return folder / f"{data.fingerprint(part)[:24]}-{view.size}-{crop}-{view.interpolation}{mode}.npy"


def damaged_rows(file: Path) -> Rows:
    """Rows of a pack that are not as they were written: it is read whole, at several GB a second.

    Args:
        file: of the pack. All of its rows are damaged where its checksums are lost.
    """
    images = _mapped(file)
    if images is None:
        return np.arange(1)
    sums = _sums(file, len(images))
    if sums is None:
        return np.arange(len(images))
    return np.flatnonzero(_checksums(images) != sums)


def is_checked(file: Path) -> bool:
    """Whether a pack is there and was found whole, as it is now, by a machine that sees the same file."""
    try:
        return _stamp(file) in dict(json.loads(_marker(file).read_text())).values()
    except (OSError, ValueError, TypeError):
        return False


def _build(data: DataSet, part: Part, view: View, file: Path, advance: Advance) -> None:
    """Decode what is not decoded yet."""
    partial = file.with_suffix(".part")
    images, sums = _begin(partial, (len(data.index(part)), view.size, view.size, 3))
    order = data.reading_order(part)
    left = order[sums[order] == 0]
    if len(left) < len(order):
        advance(len(order) - len(left))
    try:
        with _one_torch_thread(view), partial.open("r+b") as handle:
            for rows, pixels in read_ahead(data, part, view, pieces(left, data.chunk)):
                _write(handle, images.offset, rows, pixels)
                sums[rows] = _checksums(pixels)
                advance(len(rows))
            os.fsync(handle.fileno())
    except UserError:  # the data must change, and with them the pack's name
        partial.unlink()
        _sums_file(file).unlink()
        raise
    sums.flush()
    partial.replace(file)
    _note_checked(file)


def _begin(partial: Path, shape: tuple[int, ...]) -> tuple[np.memmap, np.memmap]:
    """The images and checksums of a pack to be, with those that an earlier build has left whole."""
    images, sums = _mapped(partial, shape, "r+"), _sums(partial, shape[0], "r+")
    if images is None or sums is None:
        try:
            images = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
            _claim(partial)
            sums = np.memmap(_sums_file(partial), np.dtype("<u4"), "w+", shape=shape[:1])
        except OSError:
            partial.unlink(missing_ok=True)
            raise
    else:
        done = np.flatnonzero(sums)
        for rows in pieces(done, max(1, BLOCK // images[0].nbytes)):  # a machine that crashed may not have kept all
            sums[rows[_checksums(images[rows]) != sums[rows]]] = 0
    return cast("np.memmap", images), cast("np.memmap", sums)


def _write(handle: BinaryIO, begin: int, rows: Rows, pixels: Images) -> None:
    """Put images where they belong. Through a map every new page would cost a fault, three times the work."""
    pixels = np.ascontiguousarray(pixels)
    for places in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
        handle.seek(begin + int(rows[places[0]]) * pixels[0].nbytes)
        handle.write(pixels[places[0] : places[-1] + 1].data)
    handle.flush()


def _discard(file: Path, damaged: Rows) -> None:
    """Make a pack one that is not finished, less its damaged rows."""
    images = _mapped(file)
    sums = None if images is None else _sums(file, len(images), "r+")
    if sums is None:
        file.unlink()
        return
    sums[damaged] = 0
    file.replace(file.with_suffix(".part"))


def _mapped(file: Path, shape: tuple[int, ...] | None = None, mode: str = "r") -> Images | None:
    """The images of a file; None where it is not there, is cut off, or has another shape."""
    try:
        images = np.lib.format.open_memmap(file, mode)
    except (OSError, ValueError):
        return None
    fits = images.dtype == np.uint8 and images.ndim == 4 and shape in (None, images.shape)
    if not fits:
        return None
    return images if mode == "r+" else np.asarray(images)


def _sums(file: Path, count: int, mode: str = "r") -> Sums | None:
    """The checksums of a pack; None where they are not there or of another number."""
    path = _sums_file(file)
    if not path.exists() or path.stat().st_size != 4 * count:
        return None
    return cast(Sums, np.memmap(path, np.dtype("<u4"), "r+" if mode == "r+" else "r"))


def _checksums(images: Images) -> Sums:
    """CRC-32 of every image, and 1 where that is 0."""

    def block(rows: range) -> list[int]:
        return [zlib.crc32(images[row]) or 1 for row in rows]

    size = max(1, BLOCK // max(1, images[:1].nbytes))
    blocks = [range(start, min(start + size, len(images))) for start in range(0, len(images), size)]
    if len(blocks) < 2:
        return np.array(block(range(len(images))), np.uint32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a checksum releases the interpreter
        return np.array([one for found in pool.map(block, blocks) for one in found], np.uint32)


def _sums_file(file: Path) -> Path:
    return file.with_suffix(".crc32")


def _marker(file: Path) -> Path:
    return file.with_suffix(".checked")


def _stamp(file: Path) -> list[int]:
    """Changes whenever the file may have."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _note_checked(file: Path) -> None:
    try:
        known = dict(json.loads(_marker(file).read_text()))
    except (OSError, ValueError, TypeError):
        known = {}
    try_write(_marker(file), json.dumps(known | {platform.node(): _stamp(file)}).encode())


def _claim(file: Path) -> None:
    """Take the disk space of a file now: a full disk is an error here, and a killed process when met through a map."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)


@contextmanager
def _one_torch_thread(view: View) -> Iterator[None]:
    """Images are resized side by side, each by one thread."""
    if view.decode == "exact":
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of threads to come, too
    try:
        yield
    finally:
        torch.set_num_threads(threads)
