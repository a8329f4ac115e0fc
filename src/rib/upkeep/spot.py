"""Spot check: repeats some steps of another store here and compares the results with its records.

A valid digest shows that a record is unchanged, not that it is right. Before an import, RIB can repeat some of the
steps with the receiver's own data and pretrained weights. It takes nothing but the suite from the sender.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from rib.errors import UserError
from rib.execute.decode import prepare
from rib.execute.progress import Silent, Watcher
from rib.execute.speed import find_device
from rib.execute.worker import do_steps, limit_threads
from rib.files import Seal
from rib.plan import Plan, World, make_plan
from rib.plan.graph import in_order
from rib.steps import How, Step, Workshop
from rib.store.record import DROPPABLE, Record, unpack_bits
from rib.store.store import Store
from rib.suite.suite import Suite
from rib.upkeep.merge import differences

POINTS = 1.0
"""Tolerance of an accuracy, in points, if another kind of machine made the record."""

KIND = ("torch", "timm", "numpy", "machine", "processor", "rib")
"""Facts of a record that two machines must share for results that are equal bit for bit."""

EXAMPLES = ("example", "source", "label", "cell")
"""Columns of predictions that must be equal on all machines."""

FLAGS = ("masked_right", "unmasked_right")

COUNTS = ("examples", "width")
"""Values that must be equal on all machines."""


@dataclass(frozen=True)
class Wanted:
    """The steps to repeat.

    Attributes:
        count: number of steps.
        seed: seed of their random choice.
        device: device that runs them.
        points: tolerance of an accuracy, in points, if another kind of machine made the record; for other numbers the
            same tolerance in percent.
    """

    count: int
    seed: int
    device: str = "auto"
    points: float = POINTS


@dataclass
class Spotted:
    """Result of the repeated steps.

    Attributes:
        checked: titles of the steps whose repeated results agree with their records, including needed steps.
        chosen: number of drawn steps among them; the drawn steps need the others.
        exact: number of steps that were compared bit for bit.
        unchecked: number of steps that cannot be repeated here, by reason.
    """

    checked: list[str] = field(default_factory=list)
    chosen: int = 0
    exact: int = 0
    unchecked: dict[str, int] = field(default_factory=dict)


def spot(theirs: Store, suite: Suite, own: Store, wanted: Wanted, watcher: Watcher | None = None) -> Spotted:
    """Repeat random steps of another store, with all steps that they need.

    Args:
        theirs: the other store, complete; only its records and predictions are read, for the comparison.
        suite: its suite.
        own: the store of this machine, which provides packs and facts.
        wanted: number of steps, seed and device.
        watcher: receives the progress.

    Raises:
        UserError: a step has another result here, or no step can be repeated here.
    """
    plan, lost = _plan(suite, own)
    known = {step.key: step for step in plan.steps} if plan else {}
    keys = sorted(theirs.keys())
    queue = [keys[at] for at in np.random.default_rng(wanted.seed).permutation(len(keys))]
    found, again = Spotted(), _Again(plan, theirs, own, wanted, watcher or Silent())
    for key in queue:
        if found.chosen == wanted.count:
            break
        reason = again.check(known[key], found) if key in known else lost
        if reason is None:
            found.chosen += 1
        else:
            found.unchecked[reason] = found.unchecked.get(reason, 0) + 1
    if not found.chosen:
        raise UserError(
            "no step can be repeated here, so nothing is known about these records",
            got="; ".join(found.unchecked) or "no steps",
            remedy="name your data (--data) or your own copy of the suite (--suite), or leave out --spot",
        )
    return found


class _Again:
    """Repeats steps in a separate store inside the other one.

    Args:
        plan: the plan with the steps; None if there is none.
        theirs, own, wanted, watcher: as in `spot`.
    """

    def __init__(self, plan: Plan | None, theirs: Store, own: Store, wanted: Wanted, watcher: Watcher) -> None:
        self.plan, self.theirs, self.wanted, self.watcher = plan, theirs, wanted, watcher
        self.scratch = _Scratch(theirs, own)
        self.failed: dict[str, str] = {}

    def check(self, step: Step, found: Spotted) -> str | None:
        """Repeat a step and the steps that it needs, and compare; return why this is impossible here, or None.

        Raises:
            UserError: a result differs.
        """
        todo = [one for one in in_order([step]) if not self.scratch.has(one.key) and one.key not in self.failed]
        self._do(todo)
        for one in todo:
            if one.key in self.failed:
                continue
            theirs, ours = _with_seals(self.theirs, one.key), self.scratch.record(one.key)
            assert ours is not None
            if theirs is not None:
                exact = same_kind(theirs, ours)
                said = difference(theirs, ours, None if exact else self.wanted.points)
                if said := said or self._other_predictions(ours, exact):
                    raise _differs(one, said, exact, self.wanted.points)
                found.checked.append(one.title)
                found.exact += exact
        return self.failed.get(step.key)

    def _other_predictions(self, ours: Record, exact: bool) -> tuple[str, str, str] | None:
        """The first difference of a step's predictions, in the form of `difference`."""
        if ours.kind != "Predict":
            return None
        mine = self.scratch.predictions(ours.key)
        columns = mine.column_names if exact else list(EXAMPLES)
        try:
            table = self.theirs.predictions(ours.key).select(columns)
        except (KeyError, OSError, pa.ArrowException) as error:
            return "predictions", f"a file that cannot be read ({error})", "a file with its columns"
        return _other_row(table, mine.select(columns))

    def _do(self, steps: Sequence[Step]) -> None:
        if not steps:
            return
        assert self.plan is not None
        device = str(find_device(self.wanted.device))
        try:
            streamed, swept = prepare(self.plan, steps, self.scratch, self.watcher, None)
        except UserError as error:
            self.failed |= dict.fromkeys((step.key for step in steps), error.problem)
            return
        how = How(workers=1, device=device, share=False, streamed=streamed, swept=swept)
        workshop = Workshop(self.plan.suite, self.scratch, how, self.watcher.images)
        with _one_thread():
            do_steps(workshop, tuple(steps), self._hear)

    def _hear(self, message: tuple[Any, ...]) -> None:
        if message[0] == "failed":
            self.failed[message[1]] = message[2]


def _with_seals(store: Store, key: str) -> Record | None:
    """A step's record, with size and digest of each file; a forged record may lack them."""
    record = store.record(key)
    if record is None:
        return None
    left = {folder: path for folder in DROPPABLE if (path := store.path(folder, key)).exists()}
    seals = {folder: Seal.of(path) for folder, path in left.items() if folder not in record.files}
    return replace(record, files=record.files | {name: [seal.size, seal.digest] for name, seal in seals.items()})


class _Scratch(Store):
    """A store inside another one, with the packs and facts of a third store: those of this machine's data."""

    def __init__(self, theirs: Store, own: Store) -> None:
        super().__init__(theirs.root / "again")
        self._packs, self._facts = own.packs, own.facts

    @property
    def packs(self) -> Any:
        return self._packs

    @property
    def facts(self) -> Any:
        return self._facts


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread, as workers do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with limit_threads(1):
            yield
    finally:
        torch.set_num_threads(before)


# -- what can run here ---------------------------------------------------------------------------------------------


def _plan(suite: Suite, own: Store) -> tuple[Plan | None, str]:
    """The part of a suite that can run here, and why the rest cannot."""
    try:
        return make_plan(suite, own.facts), "no step of this suite as it stands here has its key"
    except UserError as error:
        first = _line(error)
    lost = {name: reason for name in _sets(suite) if (reason := _fault(lambda: _open(suite, own, name)))}  # noqa: B023
    left = suite.without_sets(tuple(lost))
    models = {name: _fault(lambda: make_plan(left.with_models([name]), own.facts)) for name in suite.models}  # noqa: B023
    there = [name for name, reason in models.items() if reason is None]
    reasons = [*lost.values(), *(reason for reason in models.values() if reason)] or [first]
    why = "it needs what is not here: " + "; ".join(dict.fromkeys(reasons))
    if not there:
        return None, why
    return make_plan(left.with_models(there), own.facts), why


def _sets(suite: Suite) -> tuple[str, ...]:
    """The data sets that can be left out of a suite."""
    return tuple(dict.fromkeys((*suite.downstream, *suite.evaluate)))


def _open(suite: Suite, own: Store, name: str) -> None:
    world = World(suite, own.facts)
    world.part(name, "test")
    world.part(name, "tune")


def _fault(look: Callable[[], object]) -> str | None:
    try:
        look()
    except UserError as error:
        return _line(error)
    return None


def _line(error: UserError) -> str:
    return error.problem if error.got is None else f"{error.problem} ({str(error.got)[:100]})"


# -- what differs ------------------------------------------------------------------------------------------------------


def same_kind(theirs: Record, ours: Record) -> bool:
    """Whether two records were made on machines whose results are equal bit for bit."""
    mine, other = ours.made_by, theirs.made_by
    return all(name in mine and mine[name] == other.get(name) for name in KIND) and _device(ours) == _device(theirs)


def _device(record: Record) -> str:
    """The kind of a record's device. An Apple GPU and its CPU have the same processor name."""
    return str(record.made_by.get("device")).partition(":")[0]


def difference(theirs: Record, ours: Record, points: float | None) -> tuple[str, str, str] | None:
    """The first difference of two records of a step: its name, their value and ours.

    Args:
        theirs, ours: the records.
        points: tolerance of accuracies in points, and of other numbers in percent; None for exact equality.
    """
    if theirs.kind != ours.kind:
        return "kind of step", theirs.kind, ours.kind
    if points is None:
        names = differences(ours, theirs)
        return (names[0], _shown(theirs, names[0]), _shown(ours, names[0])) if names else None
    for name in (*COUNTS, *sorted({*theirs.values, *ours.values}.difference(COUNTS))):
        if not _close(theirs, ours, name, points):
            return name, _shown(theirs, name), _shown(ours, name)
    return None


def _other_row(theirs: pa.Table, ours: pa.Table) -> tuple[str, str, str] | None:
    """The first difference of two tables of predictions: NaN equals NaN."""
    if theirs.num_rows != ours.num_rows or not theirs.schema.equals(ours.schema):
        return "predictions", f"{theirs.num_rows} rows, or other types", f"{ours.num_rows} rows"
    for name in ours.column_names:
        one, other = (table[name].to_numpy() for table in (theirs, ours))
        if one.tobytes() != other.tobytes():
            row = next(row for row in range(len(one)) if one[row].tobytes() != other[row].tobytes())
            return f"predictions, {name} in row {row}", str(one[row]), str(other[row])
    return None


def _close(theirs: Record, ours: Record, name: str, points: float) -> bool:
    if name in FLAGS and ours.kind == "Predict":
        one, other = _accuracy(theirs, name), _accuracy(ours, name)
        return abs(one - other) <= max(
            points, 200.0 / ours.values["examples"]
        )  # a difference of two images is always tolerated
    if name not in theirs.values and name not in ours.values:
        return True
    if name not in theirs.values or name not in ours.values:  # another version records more values, or fewer
        return theirs.made_by.get("rib") != ours.made_by.get("rib")
    return near(theirs.values[name], ours.values[name], 0.0 if name in COUNTS else points / 100)


def near(one: Any, other: Any, share: float) -> bool:
    """Whether two values agree: numbers within a share of max(|a|, |b|, 1), everything else exactly."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(near(one[name], other[name], share) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(near(*pair, share) for pair in zip(one, other, strict=True))
    if _is_number(one) and _is_number(other):
        if not (math.isfinite(one) and math.isfinite(other)):
            return repr(float(one)) == repr(float(other))
        return abs(one - other) <= share * max(1.0, abs(one), abs(other))
    return type(one) is type(other) and bool(one == other)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _accuracy(record: Record, name: str) -> float:
    """The accuracy in percent."""
    return 100.0 * float(unpack_bits(record.values[name], record.values["examples"]).mean())


def _shown(record: Record, name: str) -> str:
    """A value of a record as text: an accuracy, a digest, or the value itself."""
    if name in FLAGS and record.kind == "Predict":
        return f"{_accuracy(record, name):.2f} % right ({record.values[name][:16]}…)"
    if name in record.files and name not in record.values:
        return f"a file with digest {record.files[name][1]}"
    text = json.dumps(record.values.get(name, "(none)"))
    return text if len(text) <= 100 else text[:97] + "…"


def _differs(step: Step, said: tuple[str, str, str], exact: bool, points: float) -> UserError:
    name, theirs, ours = said
    rule = "equal bit for bit: the same kind of machine made both" if exact else f"equal to {points:g} points"
    return UserError(
        f"a repeated step has another result here: {step.title} ({step.key[:12]}), {name}",
        got=f"{theirs}, in the archive; {ours}, repeated here",
        valid=rule,
        remedy="nothing of it was imported; ask its sender how it was made, and whether data and weights are the same",
    )
