"""RIB, the Robustness Inheritance Benchmark: how much robustness survives fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rib.api import Finished, Studied, compare, recommend, run, study
    from rib.errors import RibError, StepError, UserError
    from rib.steps import How
    from rib.suite.load import load_suite
    from rib.suite.suite import Suite

__version__: str

_HOMES = {
    "Finished": "rib.api",
    "How": "rib.steps.how",
    "RibError": "rib.errors",
    "StepError": "rib.errors",
    "Studied": "rib.api",
    "Suite": "rib.suite.suite",
    "UserError": "rib.errors",
    "compare": "rib.api",
    "load_suite": "rib.suite.load",
    "plan": "rib.api",
    "recommend": "rib.api",
    "run": "rib.api",
    "study": "rib.api",
}

__all__ = [
    "Finished",
    "How",
    "RibError",
    "StepError",
    "Studied",
    "Suite",
    "UserError",
    "compare",
    "load_suite",
    "plan",
    "recommend",
    "run",
    "study",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: importing torch takes seconds, which `rib --help` should not.

    The caller's random numbers stay as they are: some libraries draw one when they are imported.
    """
    import importlib
    import random

    if name == "__version__":
        from importlib.metadata import version

        return version("rib-benchmark")
    if name not in _HOMES:
        raise AttributeError(f"module 'rib' has no attribute {name!r}")
    state = random.getstate()
    try:
        home = importlib.import_module(_HOMES[name])
        return importlib.import_module("rib.plan") if name == "plan" else getattr(home, name)
    finally:
        random.setstate(state)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
