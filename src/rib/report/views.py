"""Views: the preprocessing of each model of a plan, its source, and models without a stated one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from rib.models.catalogue import find_row
from rib.models.describe import StatedInputs, stated_inputs
from rib.plan import Plan
from rib.text.names import few


def views(plan: Plan) -> dict[str, StatedInputs]:
    """The preprocessing of every model of a plan, by name.

    The tuned model of a comparison has that of its base.
    """
    suite, classes = plan.suite, plan.world.classes
    names = dict.fromkeys(run.model for run in plan.runs)
    return {name: stated_inputs(find_row(name, suite.model), suite.base, classes) for name in names}


def seen_by_both(plan: Plan, given: Collection[str]) -> StatedInputs:
    """The preprocessing of the two models of a comparison. The source of the fields in `given` is the call."""
    view = next(iter(views(plan).values()))
    return view.stated_by(given, "stated in this call")


def view_lines(plan: Plan) -> Iterator[str]:
    """One line per view, with its models."""
    alike: dict[str, list[str]] = {}
    for name, view in views(plan).items():
        alike.setdefault(view.words, []).append(plan.suite.model_names.short(name))
    for words, names in alike.items():
        yield f"{few(names)}: {words}"


def view_json(plan: Plan) -> dict[str, dict[str, Any]]:
    """The preprocessing of every model as JSON types, with its sources."""
    return {name: dict(view.document) for name, view in views(plan).items()}


def unstated(plan: Plan) -> tuple[str, ...]:
    """One sentence for each thing that no source states although an error in it costs accuracy silently."""
    lacking: dict[str, list[str]] = {}
    for name, view in views(plan).items():
        if view.unstated:
            lacking.setdefault(view.unstated, []).append(plan.suite.model_names.short(name))
    return tuple(
        words.format(models=", ".join(names), have="have" if len(names) > 1 else "has")
        for words, names in lacking.items()
    )
