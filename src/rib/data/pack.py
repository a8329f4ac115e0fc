"""Packs: a part of a data set, decoded once for one view, as a memory-mapped file.

A pack has three files: `NAME.npy` with the images, `NAME.crc32` with a checksum per image, and `NAME.checked`, which
records the last successful verification. A checksum is a CRC-32 that starts from the CRC-32 of NAME, so the images and
checksums of one pack cannot be confused with those of another. Checksums of earlier versions lack NAME: RIB decodes
such a pack again, unless it was verified before and has not changed since.

A build writes the images into `NAME.part`. An image whose checksum is 0 or wrong is not yet decoded, so a killed build
can be continued.

A lock makes other processes wait for a build. Some network file systems have no locks across machines, so correctness
does not depend on the lock: all builders of a pack write the same bytes into the same two files and never truncate
them. At the end each checks that the files are still those that it opened and that nothing is missing.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from rib.arrays import Rows
from rib.data.ahead import pieces, read_ahead
from rib.data.decoded import Decoded
from rib.data.examples import Examples
from rib.data.views import Inputs, View
from rib.errors import StepError, UserError
from rib.files import explained, plain, read_fact, state, write_fact
from rib.text.progress import Advance

Say = Callable[[str], None]
Sums = NDArray[np.uint32]

BLOCK = 2**26
"""Bytes that one thread verifies at a time."""

BUILDS = 10
"""Number of attempts to build a pack whose files are removed during the build."""

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of a file system without locks."""

NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
"""Errors of a file system without hard links."""


def open_pack(decoded: Decoded, folder: Path, advance: Advance | None = None) -> Examples:
    """The examples of a part; it is decoded if it has no pack yet. Of an existing pack only header and size are read.

    Args:
        decoded: the part and its view.
        folder: holds the packs.
        advance: called with the number of examples decoded since its last call.

    Raises:
        UserError: an image cannot be read, or `folder` cannot be written.
        StepError: the disk is full, or other processes remove the files.
    """
    file = pack_file(decoded, folder)
    builds = 0
    while (images := _mapped(file, decoded)) is None:
        if builds == BUILDS:
            raise StepError(f"{file} could not be built: other processes repeatedly removed the unfinished file")
        with explained(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            with _alone(file):
                if _mapped(file, decoded) is None:
                    _build(decoded, file, advance or (lambda _: None))
        builds += 1
    return Examples.whole(images, decoded.index)


def check_pack(decoded: Decoded, folder: Path, advance: Advance | None = None, say: Say | None = None) -> None:
    """Open a pack after a check of its checksums; damaged images are decoded again.

    A pack that was verified before is read again only if its file has changed or is a copy. Raises as `open_pack`.

    Args: as `open_pack`, and
        say: called with a description of damage.
    """
    file = pack_file(decoded, folder)
    if _fault(file):
        with explained(file), _alone(file):
            if fault := _fault(file):  # another process may have repaired it meanwhile
                (say or (lambda _: None))(f"{file.name} ({decoded.data.label}, {decoded.part}) {fault}")
                _discard(file)
    open_pack(decoded, folder, advance)


def _fault(file: Path) -> str | None:
    """Why a pack must be decoded again; None if it does not exist, or if this machine has already verified it."""
    try:
        stamp = state(file.stat())
    except FileNotFoundError:
        return None
    if is_checked(file):
        return None
    damaged, named = _compared(file)
    if not named:
        return "has checksums of an earlier version, which do not include its name: all of its images are decoded again"
    if len(damaged):
        return f"is damaged: {len(damaged):,} images are decoded again"
    _note_checked(file, stamp)
    return None


def pack_file(decoded: Decoded, folder: Path) -> Path:
    """The file of a pack, named by content and view. It exists only after all its examples are decoded."""
    return folder / f"{decoded.name}.npy"


def damaged_rows(file: Path) -> Rows:
    """Rows of a pack that differ from what was written. The whole file is read, at several GB per second.

    Args:
        file: the pack. If its checksums are missing or belong to another pack, all rows count as damaged.
    """
    return _compared(file)[0]


def _compared(file: Path) -> tuple[Rows, bool]:
    """The damaged rows of a pack, and whether its checksums include its name, which earlier versions lack."""
    images = _mapped(file)
    if images is None:
        return np.arange(1), True
    sums = _sums(file, len(images))
    if sums is None:
        return np.arange(len(images)), True
    damaged = np.flatnonzero(_checksums(images, _start(file)) != sums)
    if len(damaged) < max(1, len(images)):
        return damaged, True
    unnamed = np.flatnonzero(_checksums(images, 0) != sums)
    return (unnamed, False) if len(unnamed) < len(images) else (damaged, True)


def is_checked(file: Path) -> bool:
    """Whether a pack exists and was verified in its current state on this file system."""
    try:
        return state(file.stat()) in dict(json.loads(read_fact(_marker(file)) or "")).values()
    except (OSError, ValueError, TypeError):
        return False


@dataclass(frozen=True)
class _Draft:
    """An unfinished pack. Its files are open and may no longer be the files at their paths.

    Attributes:
        images: the file of the inputs.
        begin: offset of the inputs in it.
        checks: the file of the checksums.
        sums: the mapped checksums. Other processes write to them, perhaps with another file of images.
        whole: bool (images,), which images were valid in this file when it was opened.
    """

    images: BinaryIO
    begin: int
    checks: BinaryIO
    sums: Sums
    whole: NDArray[np.bool_]


def _build(decoded: Decoded, file: Path, advance: Advance) -> None:
    """Decode the missing images and move the pack into place if its files still exist; the caller checks the result."""
    order = decoded.data.reading_order(decoded.part)
    with _draft(file.with_suffix(".part"), decoded) as draft:
        left = order[~draft.whole[order]]
        if len(left) < len(order):
            advance(len(order) - len(left))
        try:
            with _one_torch_thread(decoded.view):
                for rows, inputs in read_ahead(decoded, pieces(left, decoded.data.chunk)):
                    _write(draft.images, draft.begin, rows, inputs)
                    draft.sums[rows] = _checksums(inputs, _start(file))
                    advance(len(rows))
                os.fsync(draft.images.fileno())
        except UserError:  # the data must change, and with them the pack's name
            file.with_suffix(".part").unlink(missing_ok=True)
            _sums_file(file).unlink(missing_ok=True)
            raise
        cast("np.memmap", draft.sums).flush()
        _finish(draft, file)


def _finish(draft: _Draft, file: Path) -> None:
    """Move a pack into place, unless it is incomplete or its path has another file by now."""
    if not draft.sums.all() or not _lies_at(_sums_file(file), draft.checks):
        return
    partial = file.with_suffix(".part")
    if _lies_at(partial, draft.images):
        with suppress(FileNotFoundError):  # another process wrote the same pack first
            partial.replace(file)
    if stat := _lies_at(file, draft.images):
        _note_checked(file, state(stat))


def _lies_at(path: Path, handle: BinaryIO) -> os.stat_result | None:
    """The `stat` of the file at a path; None if it is not the opened file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found if os.path.samestat(found, os.fstat(handle.fileno())) else None


@contextmanager
def _draft(partial: Path, decoded: Decoded) -> Iterator[_Draft]:
    """A pack to continue, with the valid images of an earlier build and those that other processes now write."""
    shape, dtype = decoded.shape, decoded.view.dtype

    def blank(aside: Path) -> None:
        np.lib.format.open_memmap(aside, "w+", dtype, shape)
        _claim(aside)

    def unset(aside: Path) -> None:
        aside.write_bytes(bytes(4 * shape[0]))

    with (
        _opened(partial, blank, lambda handle: _begin(handle, decoded) is not None) as images,
        _opened(_sums_file(partial), unset, lambda handle: _size(handle) == 4 * shape[0]) as checks,
    ):
        begin = _begin(images, decoded)
        assert begin is not None
        sums = np.memmap(checks, np.dtype("<u4"), "r+", shape=shape[:1])
        inputs = np.memmap(images, dtype, "r", begin, shape)
        whole = np.asarray(sums) != 0
        done = np.flatnonzero(whole)
        for rows in pieces(done, max(1, BLOCK // decoded.view.bytes)):  # a crash of the machine may have lost some data
            whole[rows] = _checksums(inputs[rows], _start(partial)) == sums[rows]
        yield _Draft(images, begin, checks, cast(Sums, sums), whole)


def _opened(path: Path, make: Callable[[Path], None], fits: Callable[[BinaryIO], bool]) -> BinaryIO:
    """Open a file to read and write, or create it. It never truncates one, because other processes may map it."""
    for _ in range(BUILDS):
        try:
            handle = plain(path).open("r+b")
        except FileNotFoundError:
            _put(path, make)
            continue
        if fits(handle):
            return handle
        handle.close()
        path.unlink(missing_ok=True)
    raise StepError(f"{path} could not be built: other processes removed it repeatedly")


def _put(path: Path, make: Callable[[Path], None]) -> None:
    """Write a temporary file and move it into place, unless there is another file by then."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        make(aside)
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            aside.replace(path)  # the process that made the other file notices at its end
    finally:
        aside.unlink(missing_ok=True)


def _begin(handle: BinaryIO, decoded: Decoded) -> int | None:
    """Offset of the inputs in a pack's file; None if the file has another form or is truncated."""
    handle.seek(0)
    try:
        version = np.lib.format.read_magic(handle)
        form = np.lib.format.read_array_header_1_0(handle)
    except ValueError:
        return None
    begin = handle.tell()
    fits = version == (1, 0) and form == (decoded.shape, False, decoded.view.dtype)
    return begin if fits and _size(handle) == begin + decoded.bytes else None


def _size(handle: BinaryIO) -> int:
    return os.fstat(handle.fileno()).st_size


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """A lock, so that only one process at a time builds or repairs a pack. Without locks on the file system, none
    waits.

    The lock file stays: if it were removed, one process could hold the old file while another creates a new one.
    """
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(file.with_suffix(".lock"), fallback_to_soft=False))
        except NotImplementedError:  # older versions of the library; later ones pass on the system's error
            pass
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


def _write(handle: BinaryIO, begin: int, rows: Rows, inputs: Inputs) -> None:
    """Write inputs at their offset.

    Writing through a map would cost a page fault per page, which is three times the work.
    """
    inputs = np.ascontiguousarray(inputs)
    for places in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
        handle.seek(begin + int(rows[places[0]]) * inputs[0].nbytes)
        handle.write(inputs[places[0] : places[-1] + 1].data)
    handle.flush()


def _discard(file: Path) -> None:
    """Mark a pack as unfinished; the next build keeps the undamaged images."""
    with suppress(FileNotFoundError):  # another process was first
        if _mapped(file) is not None:
            file.replace(file.with_suffix(".part"))
            return
        file.unlink()
        _sums_file(file).unlink()


def _mapped(file: Path, decoded: Decoded | None = None) -> Inputs | None:
    """The inputs of a file; None if it is missing, truncated, or has another form."""
    try:
        images = np.lib.format.open_memmap(file, "r")
    except (OSError, ValueError):
        return None
    fits = decoded is None or (images.shape, images.dtype) == (decoded.shape, decoded.view.dtype)
    return np.asarray(images) if fits else None


def _sums(file: Path, count: int) -> Sums | None:
    """The checksums of a pack; None if they are missing or their number is wrong."""
    path = _sums_file(file)
    if not path.exists() or path.stat().st_size != 4 * count:
        return None
    return cast(Sums, np.memmap(path, np.dtype("<u4"), "r"))


def _start(file: Path) -> int:
    """CRC-32 of a pack's name, from which the checksums of its images start."""
    return zlib.crc32(file.stem.encode())


def _checksums(images: Inputs, start: int) -> Sums:
    """CRC-32 of every image, and 1 if that is 0."""

    def block(rows: range) -> list[int]:
        return [zlib.crc32(images[row], start) or 1 for row in rows]

    size = max(1, BLOCK // max(1, images[:1].nbytes))
    blocks = [range(start, min(start + size, len(images))) for start in range(0, len(images), size)]
    if len(blocks) < 2:
        return np.array(block(range(len(images))), np.uint32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # zlib.crc32 releases the GIL
        return np.array([one for found in pool.map(block, blocks) for one in found], np.uint32)


def _sums_file(file: Path) -> Path:
    return file.with_suffix(".crc32")


def _marker(file: Path) -> Path:
    return file.with_suffix(".checked")


def _note_checked(file: Path, stamp: list[int]) -> None:
    """Record that a pack was verified in this state."""
    try:
        known = dict(json.loads(read_fact(_marker(file)) or ""))
    except (OSError, ValueError, TypeError):
        known = {}
    write_fact(_marker(file), json.dumps(known | {platform.node(): stamp}).encode())


def _claim(file: Path) -> None:
    """Allocate the disk space of a file. A full disk is an error here; writing through a map would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with plain(file).open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)


@contextmanager
def _one_torch_thread(view: View) -> Iterator[None]:
    """Limit torch to one thread while several examples are decoded in parallel."""
    if not view.one_thread:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # also for threads that start later
    try:
        yield
    finally:
        torch.set_num_threads(threads)
