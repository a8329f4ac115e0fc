"""Judge: faults of a store after processes were killed, and the files that they left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from helpers import difference
from rib.errors import RibError
from rib.plan import Plan
from rib.steps import Embed, Pretrain
from rib.store.leases import Leases
from rib.store.record import DROPPABLE
from rib.store.store import Store
from rib.upkeep.garbage import garbage, remove
from rib.upkeep.verify import files_of, verify
from soak import _journal

Faults = list[tuple[str, str]]
"""The name of the broken rule in `RULES`, and a description of the fault."""

RULES = ("lost", "different", "doubled", "damaged", "left")
""""lost": an existing record is gone, or a step was never done. "different": a record differs from the reference.
"doubled": a step was done twice. "damaged": a file has changed. "left": files of dead processes remain."""


def unharmed(store: Path, before: Iterable[str]) -> Faults:
    """The damage of a kill to a store: missing records, and changed files.

    Args:
        store: the store's folder, which stays unchanged.
        before: keys of the records that existed before.
    """
    place = Store(store)
    there = place.keys()
    faults = [("lost", f"the record {key} is gone") for key in before if key not in there]
    faults += [("damaged", f"{fault.path}: {fault.what}") for fault in verify(place).faults]
    faults += [("damaged", f"{path} was put aside") for path in (store / "damaged").rglob("*") if path.is_file()]
    return faults


def judge(plan: Plan, store: Path, expected: Path, keep: str) -> tuple[Faults, Counter[str]]:
    """The faults of a finished store, and counts of its content.

    Args:
        plan: plan of the suite.
        store: the finished store's folder; files of dead processes are removed.
        expected: folder of a store of the same suite, with all weights, from an undisturbed run.
        keep: which weights were to be kept.
    """
    mine, theirs = Store(store), Store(expected)
    faults, counts = unharmed(store, ()), Counter[str]()
    for step in plan.steps:
        if isinstance(step, Embed) and not (mine.has(step.key) and theirs.has(step.key)):
            continue  # exists only if several pending steps read it
        counts["compared"] += 1
        try:
            found = difference(step, mine, theirs, trimmed=keep != "all")
        except RibError as error:
            found = str(error)
        if found:
            faults.append(("lost" if found == "not done" else "different", f"{step.title}: {found}"))
    faults += _doubled(plan, mine) + _not_dropped(plan, mine, keep)
    counts.update(leftovers(mine))
    remove(garbage(mine, [plan], grace=0.0))
    faults += [("left", f"{what}, after garbage was removed") for what in _of_the_dead(mine)]
    return faults + unharmed(store, mine.keys()), counts


def _doubled(plan: Plan, store: Store) -> Faults:
    titles = {step.key: step.title for step in plan.steps}
    times = _journal.written(store.root)
    faults = [("doubled", f"{titles[key]}: by {', '.join(who)}") for key, who in times.items() if len(who) > 1]
    return faults + [("lost", f"{titles[key]}: nobody said that it was done") for key in store.keys() - times.keys()]


def leftovers(store: Store) -> Counter[str]:
    """Counts of what dead processes left: unfinished files, leases, files of finished steps."""
    found = Counter({"leases": sum(1 for _ in Leases(store.root).listed())})
    found["temporary files"] = sum(path.name[0] == "." and path.is_file() for path in store.root.rglob("*"))
    for folder in ("checkpoints", "failures"):
        found[f"{folder} of finished steps"] = sum(store.has(path.stem) for path in files_of(store, folder))
    return +found


def _not_dropped(plan: Plan, store: Store, keep: str) -> Faults:
    if keep == "all":
        return []
    stays = {step.key for step in plan.steps if isinstance(step, Pretrain) and keep == "pretrained"}
    files = [file for folder in DROPPABLE for file in files_of(store, folder)]
    return [("left", f"{file}, though --keep is {keep}") for file in files if file.stem not in stays]


def _of_the_dead(store: Store) -> list[str]:
    found = [str(path) for path in store.root.rglob("*") if path.name[0] == "." and path.is_file()]
    found += [f"lease of {lease.name}" for lease in Leases(store.root).listed()]
    return found + [str(path) for path in (store.root / "leases" / "owners").glob("*")]
