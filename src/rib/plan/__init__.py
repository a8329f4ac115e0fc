"""Plan: a suite as a deduplicated graph of steps."""

from rib.plan.graph import missing
from rib.plan.plan import Look, Merge, Plan, Run
from rib.plan.planner import make_plan
from rib.plan.variants import Swept, swept
from rib.steps.world import World

__all__ = ["Look", "Merge", "Plan", "Run", "Swept", "World", "make_plan", "missing", "swept"]
