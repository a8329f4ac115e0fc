"""Joiner: a driver on a machine of a cluster; and the engine of a cluster, which starts joiners."""

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
    """A driver on another machine, and what it is given to do.

    Attributes:
        work: `rib.execute.run.execute`, which the machine imports by name.
        suite, base: what is to do.
        store: the store's folder, the same on every machine.
        how: device, checkpoints, retention.
        runtime: limits of a step.
        id: what the id begins with under which it takes leases.
        modules: folders in which the suite's own modules are looked for.
        environment: variables of RIB and of where weights lie.
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
        """Work until nothing is left that may be done, or until it is dismissed."""
        for name, value in self.environment:
            os.environ.setdefault(name, value)
        sys.path.extend(folder for folder in self.modules if folder not in sys.path)
        if not (self.store / "store.json").exists():  # else this joiner would repeat all work in a new store
            raise UserError(
                "the store is not on this machine", got=self.store, valid="a folder that all machines share"
            )
        store = Store(self.store)
        plan = make_plan(self.suite.based_at(self.base), store.facts)
        self.work(plan, store, self.how, runtime=self.runtime, id=self.id)


class Engine(Protocol):
    """Starts joiners."""

    def __enter__(self) -> Engine:
        """Reach the cluster, or start one. Raises UserError where that cannot be."""
        ...

    def __exit__(self, *error: object) -> None:
        """Leave it, or end the one that was started."""
        ...

    def size(self) -> int:
        """How many joiners there are to be where nothing else is said."""
        ...

    def start(self, joiners: Sequence[Joiner]) -> list[Any]:
        """Start joiners; a handle of each. Raises UserError where the cluster refuses them."""
        ...

    def ended(self, handle: Any) -> str | None:
        """How a joiner ended: empty where it ended well; None while it waits to begin or works."""
        ...

    def stop(self, handle: Any) -> None:
        """End a joiner."""
        ...
