"""Garbage: files of a store that no step reads, or no step that the user still wants."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rib.data.pack import pack_file
from rib.plan import Plan
from rib.store.leases import Leases, file_time
from rib.store.record import DROPPABLE
from rib.store.store import Store
from rib.upkeep.verify import files_of

GRACE = 3600.0
"""Seconds without a change after which the writer of an unfinished file counts as dead."""


@dataclass(frozen=True)
class Garbage:
    """A file that can be removed.

    Attributes:
        path: the file.
        size: in bytes.
        why: the reason, in words.
    """

    path: Path
    size: int
    why: str


def garbage(store: Store, kept: Sequence[Plan] = (), grace: float = GRACE) -> list[Garbage]:
    """The files that can be removed. Records and predictions are never among them.

    Args:
        store: the store.
        kept: plans of the suites to keep. If there are any, weights, features and packs that none of them needs can
            be removed.
        grace: seconds without a change after which the writer of an unfinished file counts as dead.
    """
    before = file_time(store.root) / 1e9 - grace  # by the file system's clock, like the times of the files
    found = [*_left_behind(store, before), *_of_finished(store, before), *_of_the_dead(store, before)]
    if kept:
        found += [*_made_again(store, kept), *_packs(store, kept)]
    return found


def remove(found: Sequence[Garbage]) -> None:
    """Remove the files."""
    for item in found:
        item.path.unlink(missing_ok=True)


def _left_behind(store: Store, before: float) -> Iterator[Garbage]:
    for place, folders, names in os.walk(store.root):
        folders.sort()
        parts = Path(place).relative_to(store.root).parts
        aside, hidden = parts[:1] == ("damaged",), any(part.startswith(".") for part in parts)
        for name in sorted(names if aside or hidden else (name for name in names if name.startswith("."))):
            path = Path(place, name)
            if path.is_symlink() or not path.is_file():
                continue
            if (hidden or name.startswith(".")) and path.stat().st_mtime < before:
                yield _garbage(path, "left by a writer that died")
            elif aside:
                yield _garbage(path, "put aside as damaged")


def _of_finished(store: Store, before: float) -> Iterator[Garbage]:
    for folder, what in (("failures", "failure"), ("checkpoints", "checkpoint")):
        for path in files_of(store, folder):
            if store.has(path.stem) and path.stat().st_mtime < before:
                yield _garbage(path, f"{what} of a finished step")


def _of_the_dead(store: Store, before: float) -> Iterator[Garbage]:
    for path in Leases(store.root).dead():
        with suppress(FileNotFoundError):  # another driver has taken it over
            if path.stat().st_mtime < before:
                yield _garbage(path, "lease of a process that died")


def _made_again(store: Store, kept: Sequence[Plan]) -> Iterator[Garbage]:
    needed = {step.key for plan in kept for step in plan.steps if step.leaves}
    for folder in DROPPABLE:
        for path in files_of(store, folder):
            if path.stem not in needed:
                yield _garbage(path, f"{folder} that no kept suite has")


def _packs(store: Store, kept: Sequence[Plan]) -> Iterator[Garbage]:
    looked_at = (decoded for plan in kept for step in plan.steps for decoded in step.looked_at(plan.world))
    needed = {pack_file(decoded, store.packs) for decoded in looked_at}
    for path in sorted(store.packs.glob("[!.]*")):  # checksums lie beside their pack
        if path.with_suffix(".npy") not in needed:
            yield _garbage(path, "pack that no kept suite looks at")


def _garbage(path: Path, why: str) -> Garbage:
    return Garbage(path, path.stat().st_size, why)
