"""Overview: what a plan holds and how far it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.table import Table

from rib.plan import Plan, missing
from rib.report.cost import Cost
from rib.steps import Compare, Fit, distinct
from rib.store import Store


def status_json(plan: Plan, store: Store) -> dict[str, Any]:
    """Steps done, to do and failed, by kind, with the reasons of the failures."""
    finished = store.keys()
    kinds = {kind: {"done": 0, "to do": 0} for kind in dict.fromkeys(type(step).__name__ for step in plan.steps)}
    failed: dict[str, str] = {}
    for step in plan.steps:
        done = step.key in finished
        kinds[type(step).__name__]["done" if done else "to do"] += 1
        if not done and (reason := store.failure(step.key)):
            failed[distinct(step, failed)] = reason
    return {
        "suite": plan.suite.name,
        "steps": len(plan.steps),
        "done": sum(count["done"] for count in kinds.values()),
        "to do": sum(count["to do"] for count in kinds.values()),
        "kinds": kinds,
        "failed": failed,
    }


def status_lines(facts: dict[str, Any]) -> str:
    """The status for people."""
    lines = [f"{facts['suite']}: {facts['done']} of {facts['steps']} steps done"]
    lines += [f"  {kind:9} {count['done']:6} done {count['to do']:6} to do" for kind, count in facts["kinds"].items()]
    lines += [f"failed: {title}\n  {reason}" for title, reason in facts["failed"].items()]
    return "\n".join(lines)


def plan_table(plan: Plan, store: Store, every: bool) -> Table:
    """Steps by kind and method with what they cost, or every single one."""
    todo = {step.key for step in missing(plan.steps, store)}
    table = Table(box=None, padding=(0, 2, 0, 0))
    if every:
        for column in ("step", "state", "key"):
            table.add_column(column, overflow="fold" if column == "step" else "ellipsis", no_wrap=column != "step")
        for step in plan.steps:
            table.add_row(step.title, "to do" if step.key in todo else "done", step.key[:12])
        return table
    groups: dict[str, list[Any]] = {}
    for step in plan.steps:
        groups.setdefault(_group(step), []).append(step)
    table.add_column("step", no_wrap=True)
    for column in ("all", "to do", "image passes to do"):
        table.add_column(column, justify="right")
    for name, steps in [*groups.items(), ("all", list(plan.steps))]:
        left = [step for step in steps if step.key in todo]
        passes = sum(plan.image_passes(step) for step in left)
        table.add_row(name, f"{len(steps):,}", f"{len(left):,}", f"{passes:,.0f}", end_section=name != "all")
    return table


def _group(step: Any) -> str:
    match step:
        case Fit():
            return f"Fit {step.method.name}"
        case Compare():
            return f"Compare {step.analysis.name}"
    return type(step).__name__


def plan_json(plan: Plan, store: Store, cost: Cost) -> dict[str, Any]:
    """Every step with its key, what it needs and whether it is to do; and what those to do cost."""
    todo = {step.key for step in missing(plan.steps, store)}
    return {
        "suite": plan.suite.name,
        "counts": dict(Counter(_group(step) for step in plan.steps)),
        "cost": asdict(cost),
        "steps": [
            {
                "key": step.key,
                "kind": type(step).__name__,
                "title": step.title,
                "needs": [need.key for need in step.needs],
                "to do": step.key in todo,
                "image_passes": plan.image_passes(step),
            }
            for step in plan.steps
        ],
    }
