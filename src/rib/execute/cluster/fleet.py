"""Fleet: joiners on a cluster. Each is a driver that shares the work through the leases of the store.

The cluster only starts joiners and reports when one has died. The store holds all other state: the missing steps, their
leases and their records. So records are the same as without a cluster, `rib run` on another machine can join, and a
cluster that disappears leaves nothing to repair.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rib.errors import StepError, UserError
from rib.execute.board import Board
from rib.execute.cluster.joiner import Engine, Joiner
from rib.execute.runtime import Runtime
from rib.execute.schedule import Job
from rib.steps import predictions_of
from rib.store.owners import new_id
from rib.store.store import Store

LOOK = 1.0
"""Seconds between two polls of the store and the joiners."""

FAREWELL = 10.0
"""Seconds that joiners have to exit by themselves when no work is left."""

PATIENCE = 60.0
"""Seconds without a running joiner before RIB reports that the cluster lets them wait."""

TAKEN_ALONG = ("RIB_", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_HOME")
"""Prefixes of environment variables that joiners inherit from the driver unless their machine sets them. None of these
variables is a secret, because engines may write them into files."""

IN_VAIN = 3
"""Give up after replacing every joiner this many times in a row without a finished step."""


def find_engine(runtime: Runtime, store: Store) -> Engine:
    """The engine of a runtime.

    Raises:
        UserError: its package is missing, or only this machine can use the store.
    """
    if store.remote and not runtime.is_here:
        raise UserError(
            f"the executor {runtime.executor} needs a store that all its machines share",
            got=store.remote.url,
            remedy="name a folder on a shared disk, or run other models or suites on each machine (docs/store.md)",
        )
    if runtime.executor == "ray":
        from rib.execute.cluster.ray import RayEngine

        return RayEngine(runtime.ray)
    from rib.execute.cluster.slurm import SlurmEngine

    return SlurmEngine(runtime.slurm, store.root)


PASSES_EACH = 4
"""Minimum passes over a streamed set per joiner, if there are enough nets."""


def share(listed: Sequence[Job], joiners: int, most: int) -> int:
    """The number of nets in one pass over streamed data, small enough that every joiner has passes to do.

    Args:
        listed: the jobs.
        joiners: number of joiners.
        most: maximum nets in one pass.
    """
    asked = Counter(step.data.name for job in listed for step in predictions_of(job.steps))
    return max(1, min(most, max(asked.values(), default=0) // (PASSES_EACH * joiners)))


class Fleet:
    """Keeps joiners running until no work is left.

    Args:
        runtime: the engine and the number of joiners.
        work: the function that each joiner calls: `rib.execute.run.execute`.
        engine: replaces the engine of the runtime.
    """

    def __init__(self, runtime: Runtime, work: Callable[..., Any], engine: Engine | None = None) -> None:
        self._runtime, self._work, self._engine = runtime, work, engine
        self._handles: dict[str, Any] = {}
        self._waiting_since: float | None = None
        self._joiners = 1

    def run(self, board: Board) -> None:
        """Run until every step is done or failed.

        Raises:
            UserError: the cluster cannot be reached, or refuses the joiners.
            StepError: joiners end repeatedly without a finished step.
        """
        engine = self._engine or find_engine(self._runtime.on_device(board.how.device), board.store)
        with engine:
            count = self._joiners = board.outcome.workers = min(board.how.workers or engine.size(), len(board.jobs))
            try:
                self._keep_at_work(board, engine, count)
                end = time.monotonic() + FAREWELL
                while self._handles and time.monotonic() < end:  # joiners exit when they find no work
                    self._see_off(board, engine)
                    time.sleep(LOOK / 4)
            finally:
                for id, handle in self._handles.items():
                    engine.stop(handle)
                    board.leases.dismiss(id)
                board.leases.tidy()
        for number in range(len(board.jobs)):  # the joiners have exited: remove weights that no step needs
            board.end(number)

    def _keep_at_work(self, board: Board, engine: Engine, count: int) -> None:
        left, ends, said = board.settle_elsewhere(), 0, ""
        self._hire(board, engine, count)
        self._waiting_since = time.monotonic()
        while left:
            time.sleep(LOOK)
            before, left = left, board.settle_elsewhere()
            for how in self._see_off(board, engine):
                ends, said = ends + 1, how or "it found nothing to do"
                if how:
                    board.watcher.say(f"a joiner ended: {how}; RIB starts another")
            ends = ends if left == before else 0
            if ends > IN_VAIN * count:
                raise StepError(f"every joiner ended before it finished a step; the last one: {said}")
            if left:
                self._hire(board, engine, count - len(self._handles))
                self._tell(board)

    def _tell(self, board: Board) -> None:
        """Return the number of running joiners. If the cluster lets all of them wait, report it once."""
        at_work = board.leases.signed_up(self._handles)
        board.watcher.now(f"{at_work} of {len(self._handles)} joiners at work")
        if at_work:
            self._waiting_since = None
        if self._waiting_since is not None and time.monotonic() > self._waiting_since + PATIENCE:
            board.watcher.say("no joiner has started yet: they wait for room in the cluster")
            self._waiting_since = None

    def _see_off(self, board: Board, engine: Engine) -> list[str]:
        """Remove the joiners that have ended; return how each ended."""
        ended = {id: how for id, handle in self._handles.items() if (how := engine.ended(handle)) is not None}
        for id in ended:
            del self._handles[id]
            board.leases.dismiss(id)
        return list(ended.values())

    def _hire(self, board: Board, engine: Engine, count: int) -> None:
        if count < 1:
            return
        suite, device = board.plan.suite, board.how.device
        if device == "auto" and self._runtime.on_device(device).gpus == 0:
            device = "cpu"
        at_once = share(board.jobs, self._joiners, board.how.at_once)
        joiner = Joiner(
            self._work,
            suite,
            suite.base.resolve(),
            board.store.root.resolve(),
            replace(board.how, workers=1, device=device, at_once=at_once),
            self._runtime.model_copy(update={"executor": "local"}),
            "",
            tuple(str(Path(folder).resolve()) for folder in sys.path),
            tuple((name, value) for name, value in os.environ.items() if name.startswith(TAKEN_ALONG)),
        )
        joiners = [replace(joiner, id=new_id()) for _ in range(count)]
        for one, handle in zip(joiners, engine.start(joiners), strict=True):
            self._handles[one.id] = handle
