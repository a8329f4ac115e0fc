"""Packs: a part of a data set decoded once for one view, as a uint8 file mapped into memory.

Beside `NAME.npy` lie `NAME.crc32`, a checksum of every image, and `NAME.checked`, where it was last found to be whole.
While it is made, its images are in `NAME.part`; one whose checksum is 0 or another's has not been decoded: a build that
was killed goes on from there.

A lock lets one build a pack while others wait. Not every network file system has locks that other machines see, so
nothing but time depends on it: builders of one pack write the same bytes into the same two files, which are never cut,
and each looks in the end whether they are still those that it opened, and all is in them.
"""

from __future__ import annotations

import errno
import json
import math
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

from rib.data.ahead import pieces, read_ahead
from rib.data.base import DataSet
from rib.data.examples import Examples, Part, View
from rib.errors import StepError, UserError
from rib.files import explained, plain, read_fact, state, write_fact

Advance = Callable[[int], None]
Say = Callable[[str], None]
Images = NDArray[np.uint8]
Rows = NDArray[np.int64]
Sums = NDArray[np.uint32]

BLOCK = 2**26
"""Bytes that are checked by one thread at a time."""

BUILDS = 10
"""So often a pack is built, where its files are taken away meanwhile, before it is given up."""

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What a file system says that has no locks."""

NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
"""What a file system says that gives a file no second name."""


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
        StepError: the disk is full, or others take away what is made.
    """
    index = data.index(part)
    file = pack_file(data, part, view, folder)
    shape = (len(index), view.size, view.size, 3)
    builds = 0
    while (images := _mapped(file, shape)) is None:
        if builds == BUILDS:
            raise StepError(f"{file} could not be built: other processes repeatedly removed the unfinished file")
        with explained(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            with _alone(file):
                if _mapped(file, shape) is None:
                    _build(data, part, view, file, advance or (lambda _: None))
        builds += 1
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
    if len(_damage(file)):
        with explained(file), _alone(file):
            if len(damaged := _damage(file)):  # another may have mended it meanwhile
                (say or (lambda _: None))(
                    f"{file.name} is damaged ({data.label}, {part}: {len(damaged):,} images); they are decoded again"
                )
                _discard(file)
    open_pack(data, part, view, folder, advance)


def _damage(file: Path) -> Rows:
    """Rows of a pack that are damaged; none where it is not there. Read only where nobody has found it whole before."""
    try:
        stamp = state(file.stat())
    except FileNotFoundError:
        return np.arange(0)
    if is_checked(file):
        return np.arange(0)
    damaged = damaged_rows(file)
    if not len(damaged):
        _note_checked(file, stamp)
    return damaged


def pack_file(data: DataSet, part: Part, view: View, folder: Path) -> Path:
    """The file of a pack: named by content and view. It is there once every image of it is."""
    return folder / f"{data.fingerprint(part)[:24]}-{_view_name(view)}.npy"


def _view_name(view: View) -> str:
    """Equal for views with equal pixels alone. What is usual is left out; the crop has six digits if they suffice."""
    short = f"{view.crop:g}"
    enough = math.floor(view.size / float(short)) == math.floor(view.size / view.crop)
    words = [str(view.size), (short if enough else repr(view.crop)).replace(".", "_"), view.interpolation]
    words += [view.decode] if view.decode != "exact" else []
    words += [view.resize] if view.resize else []
    words += ["".join(f"{value:02x}" for value in view.fill)] if view.fill else []
    return "-".join(words)


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
        return state(file.stat()) in dict(json.loads(read_fact(_marker(file)) or "")).values()
    except (OSError, ValueError, TypeError):
        return False


@dataclass(frozen=True)
class _Draft:
    """A pack that is not finished: its files as they were opened, whatever lies at their paths by now.

    Attributes:
        images: in which the pack's pixels are.
        begin: where in it.
        checks: in which the checksums are.
        sums: the checksums, mapped. Others write into them, and maybe into another file of images.
        whole: of shape (images,), which of them were found in this file of images when it was opened.
    """

    images: BinaryIO
    begin: int
    checks: BinaryIO
    sums: Sums
    whole: NDArray[np.bool_]


def _build(data: DataSet, part: Part, view: View, file: Path, advance: Advance) -> None:
    """Decode what is not decoded yet, and put the pack in place if it is still there and whole: who calls looks."""
    order = data.reading_order(part)
    with _draft(file.with_suffix(".part"), (len(data.index(part)), view.size, view.size, 3)) as draft:
        left = order[~draft.whole[order]]
        if len(left) < len(order):
            advance(len(order) - len(left))
        try:
            with _one_torch_thread(view):
                for rows, pixels in read_ahead(data, part, view, pieces(left, data.chunk)):
                    _write(draft.images, draft.begin, rows, pixels)
                    draft.sums[rows] = _checksums(pixels)
                    advance(len(rows))
                os.fsync(draft.images.fileno())
        except UserError:  # the data must change, and with them the pack's name
            file.with_suffix(".part").unlink(missing_ok=True)
            _sums_file(file).unlink(missing_ok=True)
            raise
        cast("np.memmap", draft.sums).flush()
        _finish(draft, file)


def _finish(draft: _Draft, file: Path) -> None:
    """Put a pack in place, unless it lacks something, or is another file by now than the one that was written."""
    if not draft.sums.all() or not _lies_at(_sums_file(file), draft.checks):
        return
    partial = file.with_suffix(".part")
    if _lies_at(partial, draft.images):
        with suppress(FileNotFoundError):  # another that wrote the same was first
            partial.replace(file)
    if stat := _lies_at(file, draft.images):
        _note_checked(file, state(stat))


def _lies_at(path: Path, handle: BinaryIO) -> os.stat_result | None:
    """What the system knows of the file at a path; None where it is not the one that was opened."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found if os.path.samestat(found, os.fstat(handle.fileno())) else None


@contextmanager
def _draft(partial: Path, shape: tuple[int, ...]) -> Iterator[_Draft]:
    """A pack to go on with: what an earlier build has left whole, and what others write into it meanwhile."""

    def blank(aside: Path) -> None:
        np.lib.format.open_memmap(aside, "w+", np.uint8, shape)
        _claim(aside)

    def unset(aside: Path) -> None:
        aside.write_bytes(bytes(4 * shape[0]))

    with (
        _opened(partial, blank, lambda handle: _begin(handle, shape) is not None) as images,
        _opened(_sums_file(partial), unset, lambda handle: _size(handle) == 4 * shape[0]) as checks,
    ):
        begin = _begin(images, shape)
        assert begin is not None
        sums = np.memmap(checks, np.dtype("<u4"), "r+", shape=shape[:1])
        pixels = np.memmap(images, np.uint8, "r", begin, shape)
        whole = np.asarray(sums) != 0
        done = np.flatnonzero(whole)
        for rows in pieces(done, max(1, BLOCK // math.prod(shape[1:]))):  # a machine that crashed may not have kept all
            whole[rows] = _checksums(pixels[rows]) == sums[rows]
        yield _Draft(images, begin, checks, cast(Sums, sums), whole)


def _opened(path: Path, make: Callable[[Path], None], fits: Callable[[BinaryIO], bool]) -> BinaryIO:
    """Open a file to read and write; a new one where there is none, or one that does not fit. None is ever cut: another
    may have mapped it."""
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
    """Make a file aside, and put it where nothing is; where another's is by then, that stays."""
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
            aside.replace(path)  # if another's is there, its maker finds out in the end
    finally:
        aside.unlink(missing_ok=True)


def _begin(handle: BinaryIO, shape: tuple[int, ...]) -> int | None:
    """Where the pixels begin in the file of a pack; None where it is not one of that shape, or is cut off."""
    handle.seek(0)
    try:
        version = np.lib.format.read_magic(handle)
        form = np.lib.format.read_array_header_1_0(handle)
    except ValueError:
        return None
    begin = handle.tell()
    fits = version == (1, 0) and form == (shape, False, np.dtype(np.uint8))
    return begin if fits and _size(handle) == begin + math.prod(shape) else None


def _size(handle: BinaryIO) -> int:
    return os.fstat(handle.fileno()).st_size


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One after the other, of all that want to make or mend a pack; where there are no locks, all at once.

    The lock's file stays: were it taken away, one could hold the old file while the next makes and holds a new one.
    """
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(file.with_suffix(".lock"), fallback_to_soft=False))
        except NotImplementedError:  # older versions of the library; later ones leave it to the system to say
            pass
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


def _write(handle: BinaryIO, begin: int, rows: Rows, pixels: Images) -> None:
    """Put images where they belong. Through a map every new page would cost a fault, three times the work."""
    pixels = np.ascontiguousarray(pixels)
    for places in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
        handle.seek(begin + int(rows[places[0]]) * pixels[0].nbytes)
        handle.write(pixels[places[0] : places[-1] + 1].data)
    handle.flush()


def _discard(file: Path) -> None:
    """Make a pack one that is not finished: whoever goes on with it keeps the images that are not damaged."""
    with suppress(FileNotFoundError):  # another was first
        if _mapped(file) is not None:
            file.replace(file.with_suffix(".part"))
            return
        file.unlink()
        _sums_file(file).unlink()


def _mapped(file: Path, shape: tuple[int, ...] | None = None) -> Images | None:
    """The images of a file; None where it is not there, is cut off, or has another shape."""
    try:
        images = np.lib.format.open_memmap(file, "r")
    except (OSError, ValueError):
        return None
    fits = images.dtype == np.uint8 and images.ndim == 4 and shape in (None, images.shape)
    return np.asarray(images) if fits else None


def _sums(file: Path, count: int) -> Sums | None:
    """The checksums of a pack; None where they are not there or of another number."""
    path = _sums_file(file)
    if not path.exists() or path.stat().st_size != 4 * count:
        return None
    return cast(Sums, np.memmap(path, np.dtype("<u4"), "r"))


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


def _note_checked(file: Path, stamp: list[int]) -> None:
    """Note that a pack was found whole as it was then."""
    try:
        known = dict(json.loads(read_fact(_marker(file)) or ""))
    except (OSError, ValueError, TypeError):
        known = {}
    write_fact(_marker(file), json.dumps(known | {platform.node(): stamp}).encode())


def _claim(file: Path) -> None:
    """Take the disk space of a file now: a full disk is an error here, and a killed process when met through a map."""
    if hasattr(os, "posix_fallocate"):
        with plain(file).open("r+b") as handle:
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
