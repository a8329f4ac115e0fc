"""Plan: a suite as a deduplicated graph of steps."""

import importlib
import sys
from types import ModuleType
from typing import Any

from rib.plan.graph import missing
from rib.plan.plan import AdaptedRun, Look, Merge, Plan, Run
from rib.plan.planner import make_plan
from rib.plan.variants import Swept, swept
from rib.steps.world import World

__all__ = ["AdaptedRun", "Look", "Merge", "Plan", "Run", "Swept", "World", "make_plan", "missing", "swept"]


class _CallablePackage(ModuleType):
    """Makes `rib.plan` both this package and a function of RIB's Python interface: `rib.plan("digits")`."""

    def __call__(self, *words: Any, **options: Any) -> Any:
        return importlib.import_module("rib.api").plan(*words, **options)


sys.modules[__name__].__class__ = _CallablePackage
