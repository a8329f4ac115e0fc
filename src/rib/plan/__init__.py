"""Plan: a suite as a deduplicated graph of steps."""

from rib.plan.graph import missing
from rib.plan.plan import Look, Plan, Run
from rib.plan.planner import make_plan
from rib.steps.world import World

__all__ = ["Look", "Plan", "Run", "World", "make_plan", "missing"]
