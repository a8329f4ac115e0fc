"""Worker: a process that runs jobs and reports their progress."""

from __future__ import annotations

import faulthandler
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

import torch

from rib.errors import DamagedError, DivergedError, RibError, StepError, is_memory, told
from rib.execute.malloc import keep_freed
from rib.models.build import build
from rib.models.catalogue import Architecture
from rib.steps import How, Predict, Step, Workshop
from rib.steps.sweep import sweep, swept
from rib.store.store import Store
from rib.suite.suite import Suite

Tell = Callable[[tuple[Any, ...]], None]
"""Takes ("now", keys, title), ("images", count, passes), ("done", key), ("failed", key, reason) and ("idle",)."""

LOG_PIECES = 200
"""Number of printed pieces of text that are kept for the report of a failed step."""


@dataclass(frozen=True)
class Assignment:
    """Constant inputs of a worker: the suite, the store's folder, its device, and the file for its stack traces."""

    suite: Suite
    base: Path
    store: Path
    how: How
    traces: Path | None = None


@dataclass(frozen=True)
class StepFault:
    """How a step failed.

    Attributes:
        reason, kind, again, trace: as in the store's `Failure`.
    """

    reason: str
    kind: str = "error"
    again: bool = True
    trace: str = ""


def do_steps(workshop: Workshop, steps: tuple[Step, ...], tell: Tell, printed: deque[str] | None = None) -> None:
    """Run the steps of a job and report each; a step that needs a failed one fails too.

    Args:
        workshop: runs the steps.
        steps: the steps, each after those that it needs.
        tell: receives the reports.
        printed: the last text that the process printed; None if it is not kept.
    """
    printed = deque() if printed is None else printed
    if together := swept(workshop, steps):
        do_sweep(workshop, together, tell, printed)
        return
    failed: dict[str, str] = {}
    for step in steps:
        tell(("now", (step.key,), step.title))
        printed.clear()
        cause = next((failed[need.key] for need in step.needs if need.key in failed), None)
        fault = StepFault(cause, "need") if cause else attempt(workshop, step, partial(workshop.do, step))
        if fault is not None:
            failed[step.key] = fault.reason
        _tell(workshop, step, fault, tell, printed)


def do_sweep(workshop: Workshop, steps: Sequence[Predict], tell: Tell, printed: deque[str]) -> None:
    """Run predictions that share one pass over their data."""
    tell(("now", tuple(step.key for step in steps), f"{len(steps)} models → {steps[0].data.label}"))
    printed.clear()
    failed: dict[str, RibError] = {}
    fault = attempt(workshop, steps[0], lambda: failed.update(sweep(workshop, steps)))
    for step in steps:
        error = failed.get(step.key)
        _tell(workshop, step, fault or (StepFault(str(error)) if error else None), tell, printed)


def _tell(workshop: Workshop, step: Step, fault: StepFault | None, tell: Tell, printed: deque[str]) -> None:
    if fault is None:
        tell(("done", step.key))
    else:
        workshop.store.write_failure(step.key, **asdict(fault), log="".join(printed))
        tell(("failed", step.key, fault.reason))


def attempt(workshop: Workshop, step: Step, work: Callable[[], object]) -> StepFault | None:
    """Run a function for a step; return how it failed, or None.

    If the device runs out of memory, its memory is freed and the work is retried once. The batch size stays the same,
    because it can change the last bit of a result, so smaller batches would be another step.
    """
    fault = _attempt(work)
    if fault is None or fault.kind != "memory":
        return fault
    workshop.forget()
    fault = _attempt(work)
    if fault is not None and fault.kind == "memory":
        workshop.forget()  # the traceback would hold memory that the second try needs
        if not fits(step.architecture, workshop.device):
            reason = f"the model is too large for {workshop.device}: not even one input passes. {ONE_DEVICE}"
            return replace(fault, reason=reason, again=False)
    return fault


ONE_DEVICE = "A step is never split over devices; take one with more memory"


def _attempt(work: Callable[[], object]) -> StepFault | None:
    try:
        work()
    except DivergedError as error:
        return StepFault(str(error), "diverged", again=False, trace=traceback.format_exc())
    except StepError as error:  # worth a retry if the cause is outside the step: a disk, a file, a network
        again = isinstance(error, DamagedError) or error.__cause__ is not None
        return StepFault(str(error), again=again, trace=traceback.format_exc())
    except RibError as error:
        return StepFault(str(error), trace=traceback.format_exc())
    except torch.OutOfMemoryError:
        reason = "the device is out of memory; try a smaller batch size or fewer workers"
        return StepFault(reason, "memory", trace=traceback.format_exc())
    except Exception as error:  # an error in a user's method or model must not end the run
        if is_memory(error):
            return StepFault("out of memory; try fewer workers", "memory", trace=traceback.format_exc())
        return StepFault(told(error), trace=traceback.format_exc())
    return None


def fits(architecture: Architecture, device: torch.device) -> bool:
    """Whether a device has the memory for a model and one image."""
    try:
        classifier = build(architecture).to(device).eval()
        with torch.inference_mode():
            classifier(torch.from_numpy(architecture.view.batch(1)).to(device))
    except Exception as error:
        if is_memory(error):
            return False
        raise
    return True


def limit_threads(threads: int) -> AbstractContextManager[Any]:
    """Limit the BLAS threads of numpy and scipy; as a context manager, until the block ends."""
    import scipy.linalg  # noqa: F401  # only a library that is loaded can be limited
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(threads, user_api="blas")
    return limits


class _Copied(io.TextIOBase):
    """A stream that also keeps its last text."""

    def __init__(self, shown: TextIO, kept: deque[str]) -> None:
        self._shown, self._kept = shown, kept

    def write(self, text: str) -> int:
        self._kept.append(text)
        return self._shown.write(text)

    def flush(self) -> None:
        self._shown.flush()


def serve(connection: Connection, assignment: Assignment) -> None:
    """The main function of a worker process: runs jobs from the connection until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interrupts
    keep_freed()
    torch.set_num_threads(assignment.how.threads)
    limit_threads(assignment.how.threads)
    _leave_traces(assignment.traces)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    printed: deque[str] = deque(maxlen=LOG_PIECES)
    sys.stdout, sys.stderr = _Copied(sys.stdout, printed), _Copied(sys.stderr, printed)
    images = _Throttled(connection)
    suite = assignment.suite.based_at(assignment.base)
    workshop = Workshop(suite, Store(assignment.store), assignment.how, images.add)
    try:
        while True:
            steps = connection.recv()
            do_steps(workshop, steps, connection.send, printed)
            images.flush()
            connection.send(("idle",))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the parent has exited


def _end_with_parent() -> None:
    """The parent has exited: exit at once, so that another driver can take over the running step."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _leave_traces(folder: Path | None) -> None:
    """Write the stacks of all threads into a file on a crash in native code, and on request."""
    if folder is None:
        return
    with suppress(OSError):  # the parent was stopped meanwhile
        file = trace_file(folder, os.getpid()).open("w")
        faulthandler.enable(file)
        if hasattr(faulthandler, "register"):
            faulthandler.register(signal.SIGUSR1, file)


def trace_file(folder: Path, pid: int) -> Path:
    """The file for a worker's stack."""
    return folder / f"{pid}.txt"


class _Throttled:
    """Sends image counts a few times per second instead of at every batch."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._count, self._passes, self._last = connection, 0, 0.0, time.monotonic()

    def add(self, images: int, passes: float) -> None:
        self._count += images
        self._passes += passes
        if time.monotonic() - self._last > 0.25:
            self.flush()

    def flush(self) -> None:
        try:
            self._connection.send(("images", self._count, self._passes))
        except OSError:
            os._exit(0)  # the parent has exited, which is no failure of a step
        self._count, self._passes, self._last = 0, 0.0, time.monotonic()
