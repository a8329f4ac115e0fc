"""Fleet: joiners on a cluster. Each is a driver of its own that shares the work through the store's leases.

The cluster starts joiners and says when one has died, and no more: what is to do, who does it and what is done is in
the store. So the records are the same as anywhere, `rib run` on another machine joins in, and a cluster that is taken
away leaves nothing to be repaired.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from rib.errors import StepError
from rib.execute.board import Board
from rib.execute.leases import new_id
from rib.execute.runtime import Runtime
from rib.execute.schedule import Job
from rib.steps import Predict
from rib.suite import Suite
from rib.work import How

LOOK = 1.0
"""Seconds between two looks at the store and the joiners."""

FAREWELL = 10.0
"""Seconds that joiners have to end by themselves when nothing is left to do."""

IN_VAIN = 3
"""So often in a row every joiner's place is filled anew, with no step settled in between, before it is given up."""


@dataclass(frozen=True)
class Joiner:
    """What a joiner is told.

    Attributes:
        suite, base: what is to do.
        store: the store's folder, the same on every machine.
        how: device, checkpoints, retention.
        runtime: limits of a step.
        id: under which it takes leases.
    """

    suite: Suite
    base: Path
    store: Path
    how: How
    runtime: Runtime
    id: str

    def __call__(self) -> None:
        """Work until nothing is left that may be done, or until it is dismissed."""
        from rib.execute.local import execute
        from rib.plan import make_plan
        from rib.store import Store

        store = Store(self.store)
        plan = make_plan(self.suite.based_at(self.base), store.facts)
        execute(plan, store, self.how, runtime=self.runtime, id=self.id)


class Engine(Protocol):
    """What starts joiners."""

    def __enter__(self) -> Engine:
        """Reach the cluster, or start one."""
        ...

    def __exit__(self, *error: object) -> None:
        """Leave it, or end the one that was started."""
        ...

    def size(self) -> int:
        """How many joiners there are to be where nothing else is said."""
        ...

    def start(self, joiners: Sequence[Joiner]) -> list[Any]:
        """Start joiners; a handle of each."""
        ...

    def ended(self, handle: Any) -> str | None:
        """How a joiner ended: empty where it ended well; None while it waits to begin or works."""
        ...

    def stop(self, handle: Any) -> None:
        """End a joiner."""
        ...


def find_engine(runtime: Runtime, store: Path) -> Engine:
    """The engine of a runtime. Raises UserError where its package is missing."""
    if runtime.executor == "ray":
        from rib.execute.on_ray import RayEngine

        return RayEngine(runtime.ray)
    from rib.execute.on_slurm import SlurmEngine

    return SlurmEngine(runtime.slurm, store)


PASSES_EACH = 4
"""So many passes over a streamed set there are at least for each joiner, as far as there are nets."""


def share(listed: Sequence[Job], joiners: int, most: int) -> int:
    """Nets in one pass over streamed data, such that every joiner finds passes to make.

    Args:
        listed: the jobs.
        joiners: how many share them.
        most: nets in one pass.
    """
    asked = Counter(step.data.name for job in listed for step in job.steps if isinstance(step, Predict))
    return max(1, min(most, max(asked.values(), default=0) // (PASSES_EACH * joiners)))


class Fleet:
    """Keeps joiners at work until nothing is left to do.

    Args:
        runtime: the engine, and how many joiners.
        engine: in its place.
    """

    def __init__(self, runtime: Runtime, engine: Engine | None = None) -> None:
        self._runtime, self._engine = runtime, engine
        self._at_work: dict[str, Any] = {}
        self._joiners = 1

    def run(self, board: Board) -> None:
        """Until every step is settled. Raises StepError where joiners end again and again with nothing done."""
        engine = self._engine or find_engine(self._runtime, board.store.root)
        with engine:
            count = self._joiners = board.outcome.workers = min(board.how.workers or engine.size(), len(board.jobs))
            try:
                self._keep_at_work(board, engine, count)
                end = time.monotonic() + FAREWELL
                while self._at_work and time.monotonic() < end:  # they find nothing more to do
                    self._see_off(board, engine)
                    time.sleep(LOOK / 4)
            finally:
                for id, handle in self._at_work.items():
                    engine.stop(handle)
                    board.leases.dismiss(id)

    def _keep_at_work(self, board: Board, engine: Engine, count: int) -> None:
        left, ends, said = board.settle_elsewhere(), 0, ""
        self._hire(board, engine, count)
        while left:
            time.sleep(LOOK)
            before, left = left, board.settle_elsewhere()
            for how in self._see_off(board, engine):
                ends, said = ends + 1, how or "it found nothing to do"
                if how:
                    board.watcher.say(f"a joiner ended: {how}; another takes its place")
            ends = ends if left == before else 0
            if ends > IN_VAIN * count:
                raise StepError(f"every joiner ends before anything is done; the last one: {said}")
            if left:
                self._hire(board, engine, count - len(self._at_work))

    def _see_off(self, board: Board, engine: Engine) -> list[str]:
        """Strike off the joiners that have ended; how each did."""
        ended = {id: how for id, handle in self._at_work.items() if (how := engine.ended(handle)) is not None}
        for id in ended:
            del self._at_work[id]
            board.leases.dismiss(id)
        return list(ended.values())

    def _hire(self, board: Board, engine: Engine, count: int) -> None:
        how = replace(board.how, workers=1, at_once=share(board.jobs, self._joiners, board.how.at_once))
        runtime = self._runtime.model_copy(update={"executor": "local"})
        suite = board.plan.suite
        root = board.store.root.resolve()
        joiners = [Joiner(suite, suite.base.resolve(), root, how, runtime, new_id()) for _ in range(max(0, count))]
        for joiner, handle in zip(joiners, engine.start(joiners) if joiners else [], strict=True):
            self._at_work[joiner.id] = handle
