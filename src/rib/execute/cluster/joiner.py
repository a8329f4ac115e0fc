"""Joiner: a driver on a machine of a cluster; and `Engine`, the interface that starts joiners."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rib.errors import UserError
from rib.execute.runtime import Runtime
from rib.plan import make_plan
from rib.steps import How
from rib.store.store import Store
from rib.suite.suite import Suite


@dataclass(frozen=True)
class Joiner:
    """A driver on another machine, with its arguments.

    Attributes:
        work: `rib.execute.run.execute`, imported by name on that machine.
        suite, base: the suite, and the folder to which its paths are relative.
        store: the store's folder, the same on every machine.
        how: device, checkpoints, and which weights to keep.
        runtime: limits of a step.
        id: prefix of the id of its leases.
        modules: folders with the suite's user modules.
        environment: environment variables of RIB, and those that locate weights.
    """

    work: Callable[..., Any]
    suite: Suite
    base: Path
    store: Path
    how: How
    runtime: Runtime
    id: str
    modules: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    def __call__(self) -> None:
        """Run steps until none is left that can run, or until another driver dismisses this joiner."""
        for name, value in self.environment:
            os.environ.setdefault(name, value)
        sys.path.extend(folder for folder in self.modules if folder not in sys.path)
        if not (self.store / "store.json").exists():  # otherwise this joiner would repeat all work in a new store
            raise UserError(
                "the store is not on this machine", got=self.store, valid="a folder that all machines share"
            )
        store = Store(self.store)
        plan = make_plan(self.suite.based_at(self.base), store.facts)
        self.work(plan, store, self.how, runtime=self.runtime, id=self.id)


class Engine(Protocol):
    """Starts joiners."""

    def __enter__(self) -> Engine:
        """Connect to the cluster or start one. Raises UserError if neither works."""
        ...

    def __exit__(self, *error: object) -> None:
        """Disconnect, or stop the cluster that was started."""
        ...

    def size(self) -> int:
        """The default number of joiners."""
        ...

    def start(self, joiners: Sequence[Joiner]) -> list[Any]:
        """Start joiners and return their handles. Raises UserError if the cluster refuses them."""
        ...

    def ended(self, handle: Any) -> str | None:
        """How a joiner ended; empty if it ended without an error, None while it waits or runs."""
        ...

    def stop(self, handle: Any) -> None:
        """Stop a joiner."""
        ...
