"""Decoding: which data RIB decodes into packs before the first step, and which it streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rib.data.budget import divided, pack_bytes, require_room
from rib.data.decoded import Decoded
from rib.data.pack import check_pack, is_checked, pack_file
from rib.execute.progress import Watcher
from rib.plan import Plan
from rib.steps import Step
from rib.store.store import Store

IN_MEMORY = 0.5
"""Share of the memory. A larger pack does not stay in the page cache, so each reader reads it from disk again."""


def pack(plan: Plan, store: Store, watcher: Watcher, budget: int | None = None) -> int:
    """Decode all data of a plan without a pack; return the number of packs checked or written.

    Args:
        plan: the plan.
        store: the store for the packs.
        watcher: called with the progress.
        budget: bytes for all packs; None for all free bytes.

    Raises:
        UserError: the packs do not fit, the store is not writable, or an image cannot be read.
    """
    store.prepare()
    wanted = _unchecked(looked_at(plan, plan.steps), store)
    require_room(wanted, store.packs, budget)
    counts = [float(len(one.index)) for one in wanted]
    watcher.begin(len(wanted), 0, sum(counts))
    for one, count in zip(wanted, counts, strict=True):
        _decode([one], store, watcher)
        watcher.finished(count)
    return len(wanted)


def prepare(
    plan: Plan, steps: Sequence[Step], store: Store, watcher: Watcher, budget: int | None
) -> tuple[frozenset[str], frozenset[str]]:
    """Decode the data of the steps as far as they fit, and check packs that this machine has not verified yet.

    Returns:
        Two sets of names of packs. The first are those that do not fit, whose data are streamed. The second are those
            that many nets read in one pass: the packs of streamed data, and packs that are only scored and too large to
            stay in memory between nets.

    Raises:
        UserError: as `pack`.
    """
    packed, streamed = divided(looked_at(plan, steps), store.packs, budget)
    wanted = _unchecked(packed, store)
    require_room(wanted, store.packs, budget)
    _decode(wanted, store, watcher)
    for one in streamed:
        often = "in every epoch" if one.part == "tune" else "each time it is read"
        what = f"{one.data.label} ({one.part}, {len(one.index):,} {one.data.noun})"
        watcher.say(f"{what} is decoded {often}: no room for its pack")
    left_out = frozenset(pack_file(one, store.packs).name for one in streamed)
    tuned_on = {pack_file(one, store.packs) for one in packed if one.part == "tune"}
    large = {pack_file(one, store.packs) for one in packed if pack_bytes(one) > IN_MEMORY * memory()}
    return left_out, left_out | {file.name for file in large - tuned_on}


def memory() -> int:
    """Bytes of this machine's memory; unlimited if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def looked_at(plan: Plan, steps: Iterable[Step]) -> list[Decoded]:
    """The data that these steps read, each part once."""
    return list(dict.fromkeys(decoded for step in steps for decoded in step.looked_at(plan.world)))


def _unchecked(wanted: Iterable[Decoded], store: Store) -> list[Decoded]:
    """The wanted parts whose pack is missing, or was never verified on this machine.

    Parts that share a pack appear once, such as both parts of a set that is tuned on and tested whole.
    """
    needed: dict[Path, Decoded] = {}
    for one in wanted:
        needed.setdefault(pack_file(one, store.packs), one)
    return [one for file, one in needed.items() if not is_checked(file)]


def _decode(wanted: Sequence[Decoded], store: Store, watcher: Watcher) -> None:
    for one in wanted:
        watcher.now(f"decode {one.data.label} ({one.part})")
        check_pack(one, store.packs, lambda images: watcher.images(images, images), watcher.say)
