"""Merge: copies the steps of another store into this one. If results differ, this store keeps its own."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rib.errors import DamagedError, UserError
from rib.files import Seal, written_aside
from rib.store.record import DROPPABLE, SEALED, Record
from rib.store.store import Store
from rib.text.progress import Advance
from rib.upkeep.verify import file_fault, files_of, record_fault


@dataclass(frozen=True)
class Conflict:
    """A step with different results in two stores.

    Attributes:
        key: of the step.
        title: of the step.
        values: names of the differing values of the record; `weights` or `features` if those files differ.
    """

    key: str
    title: str
    values: tuple[str, ...]


@dataclass
class Merged:
    """Result of a merge.

    Attributes:
        taken: number of copied steps.
        same: number of steps with equal results in both stores.
        conflicts: steps with different results; this store kept its own.
        damaged: files that were not copied because they are damaged, each with its fault.
    """

    taken: int = 0
    same: int = 0
    conflicts: list[Conflict] = field(default_factory=list)
    damaged: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether this store now has every step."""
        return not (self.conflicts or self.damaged)


def merge(other: Store, into: Store, advance: Advance | None = None) -> Merged:
    """Copy the steps that only the other store has.

    Args:
        other: the other store, which stays unchanged.
        into: receives the steps.
        advance: called after each step.

    Raises:
        UserError: both are the same store, `other` is no store, or `into` is not writable.
        StepError: the disk is full.
    """
    if other.root.resolve() == into.root.resolve():
        raise UserError("a store cannot be merged into itself", got=other.root)
    if not (other.root / "records").is_dir():
        raise UserError("not a store, or an empty one", got=other.root, valid="a folder that holds records/")
    into.prepare()
    found = Merged()
    made: list[Path] = []
    try:
        for path in files_of(other, "records"):
            _merge_step(other, into, path, found, made)
            if advance:
                advance(1)
    except BaseException:  # after an error or interrupt, remove the incomplete step
        for path in reversed(made):
            with suppress(OSError):
                path.unlink()
        raise
    return found


def require_whole(store: Store) -> None:
    """Refuse a store if any record or file is damaged. Raises DamagedError."""
    for path in files_of(store, "records"):
        record, fault = record_fault(path)
        if record is None:
            raise DamagedError(path, fault or "")
        for folder in SEALED:
            if fault := file_fault(store, record, folder):
                raise DamagedError(store.path(folder, record.key), fault)


def _merge_step(other: Store, into: Store, path: Path, found: Merged, made: list[Path]) -> None:
    theirs, fault = record_fault(path)
    if theirs is None:
        found.damaged.append((path, fault or ""))
        return
    ours = into.record(theirs.key)
    if ours is not None and (differing := differences(ours, theirs)):
        found.conflicts.append(Conflict(theirs.key, theirs.title, differing))
        return
    try:
        for folder in SEALED:
            _take(other, into, theirs, ours, folder, made)
    except DamagedError as error:
        found.damaged.append((error.path, error.fault))
        return
    if ours is None:
        target = into.path("records", theirs.key)
        with written_aside(target, durable=True) as aside:
            shutil.copyfile(path, aside)
        made.append(target)
        into.share(theirs.key)
        found.taken += 1
    else:
        found.same += 1


def differences(ours: Record, theirs: Record) -> tuple[str, ...]:
    """Names of the values that differ between two records of a step, and of the folders whose files differ.

    Prediction files are not compared, because versions of the Parquet library write equal numbers differently.
    """
    names = dict.fromkeys((*ours.values, *theirs.values))
    values = [name for name in names if _text(ours, name) != _text(theirs, name)]
    return (*values, *(folder for folder in DROPPABLE if _differ(ours.seal(folder), theirs.seal(folder))))


def _differ(ours: Seal | None, theirs: Seal | None) -> bool:
    return ours is not None and theirs is not None and ours != theirs


def _text(record: Record, name: str) -> str:
    return json.dumps(record.values.get(name, "(none)"), sort_keys=True)  # NaN equals NaN this way


def _take(other: Store, into: Store, theirs: Record, ours: Record | None, folder: str, made: list[Path]) -> None:
    """Copy a file of a step if it exists. Raises DamagedError if it does not match its record."""
    source, target = other.fetched(folder, theirs.key), into.path(folder, theirs.key)
    seal = (ours or theirs).seal(folder)
    if ours is not None and (target.exists() or not source.exists() or seal != theirs.seal(folder)):
        return
    if fault := file_fault(other, theirs, folder):
        raise DamagedError(source, fault)
    if not source.exists():
        return
    with written_aside(target, durable=True) as aside:
        shutil.copyfile(source, aside)
        if seal and Seal.of(aside) != seal:
            raise DamagedError(source, "its bytes changed while it was copied")
    made.append(target)
