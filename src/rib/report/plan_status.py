"""Overview: the steps of a plan and their progress."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from rib.plan import Plan, missing
from rib.plan.cost import Cost
from rib.report.settings import settings_json
from rib.report.unshared import unshared
from rib.report.views import unstated, view_json
from rib.results.failures import alike
from rib.steps import distinct
from rib.store.store import Store
from rib.text.wording import about

if TYPE_CHECKING:
    from rib.store.leases import Lease


def status_json(plan: Plan, store: Store, leases: Sequence[Lease] = ()) -> dict[str, Any]:
    """Numbers of done, missing and failed steps by kind; reasons of failures; and the owner of each running step.

    Args:
        plan: the plan.
        store: the store with its records.
        leases: leases of the store. Those of steps of other plans are ignored.
    """
    finished = store.keys()
    kinds = {kind: {"done": 0, "to do": 0} for kind in dict.fromkeys(step.key_name for step in plan.steps)}
    failed: dict[str, str] = {}
    failures: dict[str, dict[str, Any]] = {}
    for step in plan.steps:
        done = step.key in finished
        kinds[step.key_name]["done" if done else "to do"] += 1
        if not done and (failure := store.last_failure(step.key)):
            title = distinct(step, failed)
            failed[title], failures[title] = failure.reason, asdict(failure)
    return {
        "suite": plan.suite.name,
        "steps": len(plan.steps),
        "done": sum(count["done"] for count in kinds.values()),
        "to do": sum(count["to do"] for count in kinds.values()),
        "kinds": kinds,
        "failed": failed,
        "failures": failures,
        "at work": _at_work(plan, finished, leases),
    }


def _at_work(plan: Plan, finished: Container[str], leases: Sequence[Lease]) -> list[dict[str, Any]]:
    """The owners of running steps, in the order of the plan."""
    order = {step.key: number for number, step in enumerate(plan.steps)}
    held = [lease for lease in leases if lease.name in order and lease.name not in finished]
    return [
        {
            "step": plan.steps[order[lease.name]].title,
            "by": lease.owner.name if lease.owner else "",
            "alive": lease.alive,
            "heartbeat": round(lease.age, 1) if lease.owner else None,
        }
        for lease in sorted(held, key=lambda lease: order[lease.name])
    ]


def status_lines(facts: dict[str, Any]) -> str:
    """The status as text."""
    lines = [f"{facts['suite']}: {facts['done']} of {facts['steps']} steps done"]
    lines += [f"  {kind:9} {count['done']:6} done {count['to do']:6} to do" for kind, count in facts["kinds"].items()]
    for by, held in itertools.groupby(sorted(facts["at work"], key=_by), key=_by):
        lines += _work_lines(*by, [one["step"] for one in held])
    failures = facts["failures"]
    for one in alike({title: failure["reason"] for title, failure in failures.items()}):
        lines.append(f"failed: {one.who}\n  {_told(failures[one.titles[0]])}")
    return "\n".join(lines)


def _by(one: dict[str, Any]) -> tuple[str, bool]:
    return one["by"], one["alive"]


MOST_NAMED = 3
"""Maximum number of steps that are named per process."""


def _work_lines(by: str, alive: bool, steps: list[str]) -> list[str]:
    who = by or "someone unknown"
    said = f"{who} is at" if alive else f"{who}, no longer at work, had"
    more = [f"  and {len(steps) - MOST_NAMED} more"] if len(steps) > MOST_NAMED else []
    return [
        f"{said} {len(steps)} {'step' if len(steps) == 1 else 'steps'}",
        *(f"  {step}" for step in steps[:MOST_NAMED]),
        *more,
    ]


def _told(failure: dict[str, Any]) -> str:
    times = f"{failure['attempt']} times" if failure["attempt"] > 1 else "once"
    where = f" on {failure['by']}, {failure['when']}" if failure["by"] else ""
    again = "" if failure["again"] else "; not tried again without --retry-failed"
    return f"{failure['reason']}\n  ({failure['kind']}, {times}{where}{again})"


def plan_table(plan: Plan, store: Store, every: bool) -> Table:
    """Steps with their cost, by kind and method, or one by one if `every`."""
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
        groups.setdefault(step.group, []).append(step)
    table.add_column("step", no_wrap=True)
    for column in ("all", "to do", about(plan.noun, "image passes to do")):
        table.add_column(column, justify="right")
    for name, steps in [*groups.items(), ("all", list(plan.steps))]:
        left = [step for step in steps if step.key in todo]
        passes = sum(plan.image_passes(step) for step in left)
        table.add_row(name, f"{len(steps):,}", f"{len(left):,}", f"{passes:,.0f}", end_section=name != "all")
    return table


def plan_json(plan: Plan, store: Store, cost: Cost) -> dict[str, Any]:
    """Every step with its key, its dependencies and whether it is missing; and the cost of the missing ones."""
    todo = {step.key for step in missing(plan.steps, store)}
    return {
        "suite": plan.suite.name,
        "counts": dict(Counter(step.group for step in plan.steps)),
        "cost": asdict(cost),
        "settings": settings_json(plan),
        "views": view_json(plan),
        "unstated": list(unstated(plan)),
        "unshared": {model: list(heads) for model, heads in unshared(plan).items()},
        "steps": [
            {
                "key": step.key,
                "kind": step.key_name,
                "title": step.title,
                "needs": [need.key for need in step.needs],
                "to do": step.key in todo,
                "image_passes": plan.image_passes(step),
            }
            for step in plan.steps
        ],
    }
