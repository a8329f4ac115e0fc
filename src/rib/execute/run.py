"""Run: `execute` runs the missing steps of a plan in this process, in worker processes, or on a cluster."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Protocol

import torch

from rib.data.pack import pack_file
from rib.execute.board import Board, RunOutcome, left_behind
from rib.execute.decode import prepare
from rib.execute.inline import InThisProcess
from rib.execute.progress import Silent, Watcher
from rib.execute.runtime import Runtime
from rib.execute.schedule import LARGE, Job, jobs
from rib.models.flops import kept_count
from rib.plan import Plan, missing
from rib.steps import How, Step, predictions_of
from rib.steps.sweep import sweeps
from rib.steps.workshop import Stopwatch
from rib.store.leases import Leases
from rib.store.owners import Owner
from rib.store.provenance import rib_version
from rib.store.store import Store

__all__ = ["Executor", "RunOutcome", "cores", "execute"]


class Executor(Protocol):
    """Runs jobs."""

    def run(self, board: Board) -> None:
        """Take jobs from the board and report their results, until no job is left that can run."""
        ...


def execute(
    plan: Plan,
    store: Store,
    how: How | None = None,
    watcher: Watcher | None = None,
    runtime: Runtime | None = None,
    id: str | None = None,
) -> RunOutcome:
    """Run every step of a plan that has no record, together with other drivers of the store.

    Args:
        plan, store: the plan, and the store for its records.
        how: workers, device, checkpoints, and which weights to keep.
        watcher: called with the progress.
        runtime: the executor and its settings; default: worker processes of this machine.
        id: prefix of the lease ids, if the caller has chosen one; the caller then handles signals.

    Returns:
        The outcome. An interrupt (Ctrl-C, SIGTERM) stops the workers: finished steps are kept, and the next run
        continues a training from its last checkpoint. RIB waits for steps that other drivers have claimed.

    Raises:
        UserError: the store is not writable, an image cannot be read, or the executor lacks a package.
    """
    watcher, runtime = watcher or Silent(), runtime or Runtime()
    how = replace(how or How(), workers=(how and how.workers) or runtime.workers)
    plan = plan if plan.share == how.share else replace(plan, share=how.share)
    todo = missing(plan.steps, store)
    outcome = RunOutcome(before=len(plan.steps) - len(todo))
    if not todo and not any(left_behind(plan, store, how.keep)):
        return outcome
    store.prepare()
    decoding, working = Stopwatch(), Stopwatch()
    try:
        with _terminable() if id is None else nullcontext(), Leases(store.root, id) as leases:
            _tidy(leases, watcher)
            with decoding:
                how = _decoded(plan, todo, store, watcher, how)
            watcher.begin(len(plan.steps), outcome.before, sum(plan.image_passes(step) for step in todo))
            listed = _jobs(plan, todo, store, how)
            board = Board(plan, store, how, watcher, outcome, listed, leases, _held_back(todo, store, runtime))
            if listed:
                with working:
                    _executor(board, runtime, alone=id is None).run(board)
            board.let_go()
            leases.tidy()
    except KeyboardInterrupt:
        outcome.interrupted = True
    outcome.decoding, outcome.working = decoding.seconds, working.seconds
    return outcome


def _tidy(leases: Leases, watcher: Watcher) -> None:
    """Remove the leases of drivers that no longer run, and report them."""
    for dead in leases.tidy():
        watcher.say(_taken_up(dead, leases.is_stopped(dead)))


def _decoded(plan: Plan, todo: Sequence[Step], store: Store, watcher: Watcher, how: How) -> How:
    """Decode data; return `how` with the names of the packs that are streamed and swept."""
    streamed, swept = prepare(plan, todo, store, watcher, how.pack_budget)
    return replace(how, streamed=streamed, swept=swept)


def _taken_up(dead: Owner, stopped: bool) -> str:
    """A message that an earlier run ended without releasing its leases."""
    how = "has been stopped for long" if stopped else "was killed (out of memory?), or its machine went down"
    return f"an earlier run (process {dead.pid} on {dead.host}) {how}; its steps are taken up where it left them"


def _jobs(plan: Plan, todo: Sequence[Step], store: Store, how: How) -> list[Job]:
    """The steps as jobs. Predictions of swept data form sweeps, which share features without storing them."""

    def swept(step: Step) -> bool:
        return all(pack_file(decoded, store.packs).name in how.swept for decoded in step.looked_at(plan.world))

    work = _work(plan, todo, store)
    if not how.share or not how.swept:
        return jobs(todo, passes=plan.image_passes, work=work)
    kept = [step for step in todo if not (step.optional and swept(step))]
    groups = sweeps([step for step in predictions_of(kept) if swept(step)], how.at_once)
    return jobs(kept, groups, plan.image_passes, work)


def _work(plan: Plan, todo: Sequence[Step], store: Store) -> Callable[[Step], float] | None:
    """FLOPs of a step; None if all steps are too small for their order to matter."""
    if all(plan.image_passes(step) < LARGE for step in todo):
        return None
    flops: dict[str, float] = {}

    def work(step: Step) -> float:
        net = f"{step.start.key} {step.architecture.extension or ''}"
        if net not in flops:
            try:
                flops[net] = kept_count(step.architecture, store.facts).flops
            except Exception:  # a net that cannot be built fails in its own steps
                flops[net] = 0.0
        return plan.image_passes(step) * flops[net]

    return work


def _held_back(todo: Sequence[Step], store: Store, runtime: Runtime) -> dict[str, str]:
    """Reason by key of steps that failed before and would fail again; RIB retries them only on request."""
    if runtime.retry_failed:
        return {}
    failed = store.failed_keys()
    before = {step.key: store.last_failure(step.key) for step in todo if step.key in failed}
    return {
        key: f"{failure.reason} (not tried again without --retry-failed)"
        for key, failure in before.items()
        if failure and not failure.again and failure.rib == rib_version()
    }


def _executor(board: Board, runtime: Runtime, alone: bool) -> Executor:
    if runtime.executor != "local":
        from rib.execute.cluster.fleet import Fleet

        return Fleet(runtime, execute)
    devices = _devices(board.how, len(board.jobs))
    board.outcome.workers = len(devices)
    if len(devices) == 1 and board.how.workers in (None, 1) and runtime.step_minutes is None and alone:
        return InThisProcess(devices[0])
    from rib.execute.pool import Crew

    return Crew(devices, 60 * runtime.step_minutes if runtime.step_minutes else None)


@contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM, which a cluster sends before it takes a node away, as an interrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices(how: How, most: int) -> list[str]:
    """One device per worker: one worker per GPU if there are GPUs, else one per CPU core."""
    device = how.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        count = how.workers or len(devices)
        return [devices[index % len(devices)] for index in range(min(count, most))]
    count = how.workers or (cores() if device == "cpu" else 1)
    return [device] * max(1, min(count, most))
