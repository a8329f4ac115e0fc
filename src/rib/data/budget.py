"""The disk space that packs may use. RIB checks it before it decodes anything."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from rib.data.decoded import Decoded
from rib.data.pack import pack_file
from rib.errors import UserError

RESERVE = 5 * 10**9
"""Bytes of the disk that packs leave free, or a twentieth of the disk if that is less."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(text: str) -> int:
    """Parse a number of bytes as people write it: 200GB, 1.5 TB, 512 MiB.

    Raises:
        UserError: the text is not a number of bytes.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", text, re.IGNORECASE)
    if found is None:
        raise UserError("not an amount of disk space", got=text, valid="a number and a unit: 200GB, 1.5TB, 512MiB")
    return int(float(found[1]) * _UNITS[(found[2] or "").lower()])


def shown_bytes(number: float) -> str:
    """A number of bytes as text: "564 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def pack_bytes(decoded: Decoded) -> int:
    """Size of a pack on disk in bytes, including checksums."""
    return decoded.bytes + 4 * len(decoded.index)


def room(folder: Path, budget: int | None = None) -> int:
    """Bytes that new packs may use: the free disk space minus the reserve, and at most the rest of the budget.

    Args:
        folder: holds the packs; it may not exist yet.
        budget: maximum bytes of all packs; None for no limit.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    disk = shutil.disk_usage(there)
    free = disk.free - min(RESERVE, disk.total // 20)
    if budget is None:
        return max(0, free)
    return max(0, min(free, budget - sum(_taken(file) for file in folder.glob("*"))))


def divided(wanted: Sequence[Decoded], folder: Path, budget: int | None = None) -> tuple[list[Decoded], list[Decoded]]:
    """Divide the wanted parts into those to pack, and those to stream because their pack would be too large.

    Tuning parts are always packed, because their images are drawn at random. The other parts are packed in order of
    size, the smallest first, as far as they fit. With a budget of 0, all parts without a pack are streamed.

    Args:
        wanted: the parts.
        folder: holds the packs.
        budget: as `room`.
    """
    files: dict[Path, list[Decoded]] = {}
    for one in wanted:
        files.setdefault(pack_file(one, folder), []).append(one)

    def rank(file: Path) -> tuple[bool, int]:
        return all(one.part == "test" for one in files[file]), pack_bytes(files[file][0])

    packed, streamed = [], []
    space = room(folder, budget)
    for file in sorted(files, key=rank):
        tuned_on, size = not rank(file)[0], _missing_bytes(file, rank(file)[1])
        if size <= space or (tuned_on and budget != 0):
            space -= size
            packed += files[file]
        else:
            streamed += files[file]
    return packed, streamed


def require_room(wanted: Sequence[Decoded], folder: Path, budget: int | None = None) -> None:
    """Refuse packs that do not fit, before decoding.

    Args:
        wanted: the part of each pack.
        folder: holds the packs.
        budget: as `room`.

    Raises:
        UserError: they do not fit.
    """
    needed = {pack_file(one, folder): one for one in wanted}
    missing = {file: _missing_bytes(file, pack_bytes(one)) for file, one in needed.items()}
    total, space = sum(missing.values()), room(folder, budget)
    if total <= space:
        return
    largest = max(missing, key=missing.__getitem__)
    one = needed[largest]
    limit = "free, less a reserve" if budget is None else f"left of a budget of {shown_bytes(budget)} and of the disk"
    raise UserError(
        f"no room for the packs in {folder}",
        got=f"{shown_bytes(total)} to decode, the largest {shown_bytes(missing[largest])} for {one.data.name} "
        f"({one.part}, {one.view.words})",
        valid=f"{shown_bytes(space)} {limit}",
        remedy="free some space, name a larger disk with --store"
        + (", give more with --pack-budget" if budget is not None else "")
        + f", or leave {one.data.name} out of the suite",
    )


def _missing_bytes(file: Path, size: int) -> int:
    """Bytes that a pack still needs; an unfinished pack has its space already."""
    if file.exists():
        return 0
    return max(0, size - sum(_taken(file.with_suffix(suffix)) for suffix in (".part", ".crc32")))


def _taken(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
