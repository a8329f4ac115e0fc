"""Draws: the images of each tuning set and the meaning of labels, which lead from a number back to files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rib.data.splits import tuning_rows
from rib.plan import Plan, Run


@dataclass(frozen=True)
class Drawn:
    """The tuning images of one tuned set, size and seed: the same for every model and method.

    Attributes:
        tuned_on: the data set, as the suite names it.
        size: number of images; None for all.
        seed: seed of the draw.
        tuning: int64 (n,), rows of the tune part; the first k rows are the tuning set of size k.
        held_out: int64 (m,), rows of the held-out images.
    """

    tuned_on: str
    size: int | None
    seed: int
    tuning: NDArray[np.int64]
    held_out: NDArray[np.int64]


def draws(plan: Plan) -> Iterator[Drawn]:
    """Every draw of a plan, once each. Models that were tuned elsewhere have none."""
    places = {(run.tuned_on, run.size, run.seed): run for run in plan.runs if run.tuned_on in plan.suite.roles.tuned}
    for run in places.values():
        yield drawn(plan, run)


def drawn(plan: Plan, run: Run) -> Drawn:
    """The draw of a run, which must be tuned by the suite itself."""
    assert run.tuned_on is not None
    assert run.seed is not None
    index = plan.world[run.tuned_on].index("tune")
    tuning, held_out = tuning_rows(index, run.size, plan.suite.held_out, run.seed, run.tuned_on)
    return Drawn(run.tuned_on, run.size, run.seed, tuning, held_out)


def draw_rows(plan: Plan, one: Drawn) -> Iterator[dict[str, object]]:
    """One row per image of a draw: its file or position, and its class."""
    data = plan.world[one.tuned_on]
    names, index, called = data.names("tune"), data.index("tune"), plan.suite.set_names.short(one.tuned_on)
    for rows, held_out in ((one.tuning, False), (one.held_out, True)):
        for row in rows.tolist():
            yield {
                "tuned_on": called,
                "size": one.size,
                "seed": one.seed,
                "held_out": held_out,
                "example": row,
                "name": names[row],
                "source": int(index.sources[row]),
                "label": int(index.labels[row]),
            }


def draw_csv(plan: Plan, one: Drawn) -> str:
    """The tuning images as CSV, in their order, with the columns row, name and class."""
    data = plan.world[one.tuned_on]
    names, labels = data.names("tune"), data.index("tune").labels
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("example", "name", "class"))
    writer.writerows((row, names[row], data.classes[labels[row]]) for row in one.tuning.tolist())
    return text.getvalue()


def label_rows(plan: Plan) -> Iterator[dict[str, object]]:
    """One row per class of each data set: its label, its name, and the reference classes that it corresponds to."""
    reference = plan.world[plan.suite.reference].classes
    short = plan.suite.set_names.short
    for name in plan.suite.tested:
        groups = plan.world.part(name, "test").label_map.groups
        for label, (each, group) in enumerate(zip(plan.world[name].classes, groups, strict=True)):
            yield {
                "tested_on": short(name),
                "label": label,
                "class": each,
                "reference_labels": list(group),
                "reference_classes": [reference[place] for place in group],
            }


def rows_json(plan: Plan) -> list[dict[str, object]]:
    """The rows of each draw; null for a draw of all images that are not held out."""
    return [
        {
            "tuned_on": plan.suite.set_names.short(one.tuned_on),
            "size": one.size,
            "seed": one.seed,
            "images": len(one.tuning),
            "rows": None if one.size is None else one.tuning.tolist(),
        }
        for one in draws(plan)
    ]


def class_lists(plan: Plan) -> dict[str, Sequence[str]]:
    """The classes of each data set in the order of its labels. The reference set's order is that of the models'
    outputs."""
    return {plan.suite.set_names.short(name): list(plan.world[name].classes) for name in plan.suite.tested}
