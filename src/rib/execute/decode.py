"""Packing: what is decoded before any step begins, and what while it is looked at."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rib.data.budget import Wanted, divided, pack_bytes, require_room
from rib.data.pack import check_pack, is_checked, pack_file
from rib.execute.progress import Watcher
from rib.plan import Plan
from rib.steps import Step
from rib.store.store import Store

IN_MEMORY = 0.5
"""A pack that takes more than this share of the memory is read from the disk anew by everyone who looks at it."""


def pack(plan: Plan, store: Store, watcher: Watcher, budget: int | None = None) -> int:
    """Decode everything that a plan looks at and no pack holds yet; returns the number of packs looked at or made.

    Args:
        plan: the plan.
        store: where packs are kept.
        watcher: told of progress.
        budget: bytes that all packs may take; None for as many as are free.

    Raises:
        UserError: there is no room for them, the store cannot be written, or an image cannot be read.
    """
    store.prepare()
    wanted = _unchecked(looked_at(plan, plan.steps), store)
    require_room(wanted, store.packs, budget)
    counts = [float(len(data.index(part))) for data, part, _ in wanted]
    watcher.begin(len(wanted), 0, sum(counts))
    for place, count in zip(wanted, counts, strict=True):
        _decode([place], store, watcher)
        watcher.finished(count)
    return len(wanted)


def prepare(
    plan: Plan, steps: Sequence[Step], store: Store, watcher: Watcher, budget: int | None
) -> tuple[frozenset[str], frozenset[str]]:
    """Decode what the steps look at, as far as there is room; check packs that are new to this machine.

    Returns:
        Names of the packs that are not made: what would be in them is streamed. And of those that many nets are to look
        at in one pass: the same, and what is only scored and would not stay in memory from one net to the next.

    Raises: as `pack`.
    """
    packed, streamed = divided(looked_at(plan, steps), store.packs, budget)
    wanted = _unchecked(packed, store)
    require_room(wanted, store.packs, budget)
    _decode(wanted, store, watcher)
    for data, part, _ in streamed:
        anew = "in every epoch" if part == "tune" else "each time it is read"
        watcher.say(f"{data.label} ({part}, {len(data.index(part)):,} images) is decoded {anew}: no room for its pack")
    left_out = frozenset(pack_file(*one, store.packs).name for one in streamed)
    tuned_on = {pack_file(*one, store.packs) for one in packed if one[1] == "tune"}
    large = {pack_file(*one, store.packs) for one in packed if pack_bytes(*one) > IN_MEMORY * memory()}
    return left_out, left_out | {file.name for file in large - tuned_on}


def memory() -> int:
    """Bytes of this machine's memory; as much as one could want where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def looked_at(plan: Plan, steps: Iterable[Step]) -> list[Wanted]:
    """Data set, part and view of all that some steps look at, once each."""
    places = {(part.name, part.part, step.architecture.view): None for step in steps for part in step.parts}
    return [(plan.world[name], part, view) for name, part, view in places]


def _unchecked(wanted: Iterable[Wanted], store: Store) -> list[Wanted]:
    """Where no pack is that was found whole on this machine.

    Parts with one pack, such as those of a set that plays both roles whole, are named once.
    """
    needed: dict[Path, Wanted] = {}
    for one in wanted:
        needed.setdefault(pack_file(*one, store.packs), one)
    return [one for file, one in needed.items() if not is_checked(file)]


def _decode(wanted: Sequence[Wanted], store: Store, watcher: Watcher) -> None:
    for data, part, view in wanted:
        watcher.now(f"decode {data.label} ({part})")
        check_pack(data, part, view, store.packs, lambda images: watcher.images(images, images), watcher.say)
