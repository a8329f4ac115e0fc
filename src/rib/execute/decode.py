"""Packing: which data are decoded before the first step, and which are streamed."""

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
"""A pack larger than this share of the memory is read from the disk again by each reader."""


def pack(plan: Plan, store: Store, watcher: Watcher, budget: int | None = None) -> int:
    """Decode everything that a plan looks at and no pack holds yet; returns the number of packs looked at or made.

    Args:
        plan: the plan.
        store: where packs are kept.
        watcher: called with the progress.
        budget: bytes that all packs may take; None for as many as are free.

    Raises:
        UserError: there is no room for them, the store cannot be written, or an image cannot be read.
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
    for one in streamed:
        often = "in every epoch" if one.part == "tune" else "each time it is read"
        what = f"{one.data.label} ({one.part}, {len(one.index):,} images)"
        watcher.say(f"{what} is decoded {often}: no room for its pack")
    left_out = frozenset(pack_file(one, store.packs).name for one in streamed)
    tuned_on = {pack_file(one, store.packs) for one in packed if one.part == "tune"}
    large = {pack_file(one, store.packs) for one in packed if pack_bytes(one) > IN_MEMORY * memory()}
    return left_out, left_out | {file.name for file in large - tuned_on}


def memory() -> int:
    """Bytes of this machine's memory; as much as one could want where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def looked_at(plan: Plan, steps: Iterable[Step]) -> list[Decoded]:
    """All that some steps look at, once each."""
    return list(dict.fromkeys(decoded for step in steps for decoded in step.looked_at(plan.world)))


def _unchecked(wanted: Iterable[Decoded], store: Store) -> list[Decoded]:
    """The wanted parts without a pack that this machine has verified.

    Parts with one pack, such as those of a set that plays both roles whole, are named once.
    """
    needed: dict[Path, Decoded] = {}
    for one in wanted:
        needed.setdefault(pack_file(one, store.packs), one)
    return [one for file, one in needed.items() if not is_checked(file)]


def _decode(wanted: Sequence[Decoded], store: Store, watcher: Watcher) -> None:
    for one in wanted:
        watcher.now(f"decode {one.data.label} ({one.part})")
        check_pack(one, store.packs, lambda images: watcher.images(images, images), watcher.say)
