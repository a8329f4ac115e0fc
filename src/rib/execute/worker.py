"""Worker: a process that does jobs and tells how they go."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import torch

from rib.errors import RibError
from rib.steps import Predict, Step
from rib.store import Store
from rib.suite import Suite
from rib.work import How, Workshop

Tell = Callable[[tuple[Any, ...]], None]
"""Takes ("now", title), ("images", count, passes), ("done", key), ("failed", key, reason) and ("idle",)."""


@dataclass(frozen=True)
class Assignment:
    """What a worker is told once: the suite, the store's folder, its device."""

    suite: Suite
    base: Path
    store: Path
    how: How


def do_steps(workshop: Workshop, steps: tuple[Step, ...], tell: Tell) -> None:
    """Do the steps of a job, telling of each; a step that needs a failed one fails too."""
    if steps and workshop.how.share and all(workshop.is_streamed(step) for step in steps):
        do_sweep(workshop, cast("tuple[Predict, ...]", steps), tell)
        return
    failed: dict[str, str] = {}
    for step in steps:
        tell(("now", step.title))
        cause = next((failed[need.key] for need in step.needs if need.key in failed), None)
        reason = cause or attempt(lambda step=step: workshop.do(step))  # type: ignore[misc]
        if reason is not None:
            failed[step.key] = reason
        _tell(workshop, step, reason, tell)


def do_sweep(workshop: Workshop, steps: tuple[Predict, ...], tell: Tell) -> None:
    """Do predictions that are made in one pass over their data."""
    tell(("now", f"{len(steps)} models → {steps[0].data.label}"))
    failed: dict[str, RibError] = {}
    reason = attempt(lambda: failed.update(workshop.sweep(steps)))
    for step in steps:
        error = failed.get(step.key)
        _tell(workshop, step, reason or (str(error) if error else None), tell)


def _tell(workshop: Workshop, step: Step, reason: str | None, tell: Tell) -> None:
    if reason is None:
        tell(("done", step.key))
    else:
        workshop.store.write_failure(step.key, reason)
        tell(("failed", step.key, reason))


def attempt(work: Callable[[], object]) -> str | None:
    """Do something; the reason where it failed."""
    try:
        work()
    except RibError as error:
        return str(error)
    except torch.OutOfMemoryError:
        return "the device is out of memory; try a smaller batch size or fewer workers"
    except MemoryError:
        return "out of memory; try fewer workers"
    except Exception as error:  # a fault in the user's own method or model must not take the run along
        return f"{type(error).__name__}: {error}{_place(error)}"
    return None


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})" if trace else ""


def limit_threads(threads: int) -> AbstractContextManager[Any]:
    """Let numpy's and scipy's own BLAS use so many threads; until the block ends, where it begins one."""
    import scipy.linalg  # noqa: F401  # only a library that is loaded can be limited
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(threads, user_api="blas")
    return limits


def serve(connection: Connection, assignment: Assignment) -> None:
    """The life of a worker process: take jobs from the connection until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    torch.set_num_threads(assignment.how.threads)
    limit_threads(assignment.how.threads)
    images = _Throttled(connection)
    suite = assignment.suite.based_at(assignment.base)
    workshop = Workshop(suite, Store(assignment.store), assignment.how, images.add)
    try:
        while True:
            steps = connection.recv()
            do_steps(workshop, steps, connection.send)
            images.flush()
            connection.send(("idle",))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the parent is gone, and with it all reason to go on


class _Throttled:
    """Sends image counts a few times a second rather than at every batch."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._count, self._passes, self._last = connection, 0, 0.0, time.monotonic()

    def add(self, images: int, passes: float) -> None:
        self._count += images
        self._passes += passes
        if time.monotonic() - self._last > 0.25:
            self.flush()

    def flush(self) -> None:
        self._connection.send(("images", self._count, self._passes))
        self._count, self._passes, self._last = 0, 0.0, time.monotonic()
