"""Endings: the runs whose training diverged or ended at chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from rib.plan import Run
from rib.steps import Fit
from rib.store.record import Record

Ending = Literal["at_chance", "diverged"]
"""Names of the values of a training's record, which are 0 or 1."""


def ended(records: Mapping[str, Record], runs: Sequence[Run], how: Ending, called: Callable[[str], str]) -> list[str]:
    """Tuned sets on which a training of these runs ended like that; with the seed if there are several.

    Args:
        records: by key of the step.
        runs: of one model, method and size.
        how: the ending.
        called: the name of a set in tables.
    """
    several = len({run.seed for run in runs}) > 1
    found = [run for run in runs if _ended(records, run.fit, how)]
    return [called(str(run.tuned_on)) + (f" (seed {run.seed})" if several else "") for run in found]


def _ended(records: Mapping[str, Record], fit: Fit, how: Ending) -> bool:
    """Whether weights come from such a training: weights that are merged or chosen, if all their trainings are such."""
    record = records.get(fit.key)
    if record is not None and how in record.values:
        return bool(record.values[how])
    trainings = [each for each in fit.ingredients if each.method.needs_data]
    return bool(trainings) and all(_ended(records, each, how) for each in trainings)
