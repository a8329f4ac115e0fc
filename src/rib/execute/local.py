"""Local: does the missing steps in worker processes of this machine."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from rib.data.pack import pack_file
from rib.execute.packing import prepare
from rib.execute.progress import Silent, Watcher
from rib.execute.schedule import Job, Queue, jobs
from rib.execute.worker import Assignment, do_steps, limit_threads, serve
from rib.plan import Plan, missing
from rib.steps import Embed, Fit, Predict, Pretrain, Step, distinct
from rib.store import Store
from rib.sweep import sweeps
from rib.work import How, Stopwatch, Workshop


@dataclass
class Outcome:
    """What became of a run; two are equal where the same steps came of it, however long they took.

    Attributes:
        done: number of steps done now.
        before: number of steps that were done before.
        failed: reason by title of each step that failed.
        interrupted: whether the user stopped it.
        made: keys of the steps done now.
        workers: how many worked at once.
        decoding: seconds that went into decoding data before the first step.
        working: seconds from then to the end of the last step.
    """

    done: int = 0
    before: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    made: set[str] = field(default_factory=set, compare=False)
    workers: int = field(default=0, compare=False)
    decoding: float = field(default=0.0, compare=False)
    working: float = field(default=0.0, compare=False)


def execute(plan: Plan, store: Store, how: How | None = None, watcher: Watcher | None = None) -> Outcome:
    """Do every step of a plan that has no record.

    Args:
        plan: the plan.
        store: where records are found and left.
        how: workers, device, checkpoints, retention.
        watcher: told of progress.

    Returns:
        What became of it. An interrupt (Ctrl-C) stops the workers and returns; everything finished is kept, and a
        training run under way goes on from its last checkpoint next time.

    Raises:
        UserError: the store cannot be written, or an image cannot be read.
    """
    how, watcher = how or How(), watcher or Silent()
    plan = plan if plan.share == how.share else replace(plan, share=how.share)
    todo = missing(plan.steps, store)
    outcome = Outcome(before=len(plan.steps) - len(todo))
    if not todo:
        return outcome
    store.prepare()
    decoding, working = Stopwatch(), Stopwatch()
    try:
        with decoding:
            how = replace(how, streamed=prepare(plan, todo, store, watcher, how.pack_budget))
        watcher.begin(len(plan.steps), outcome.before, sum(plan.image_passes(step) for step in todo))
        listed = _jobs(plan, todo, store, how)
        board = _Board(plan, store, how, watcher, outcome, listed)
        devices = _devices(how, len(listed))
        outcome.workers = len(devices)
        with working:
            if len(devices) == 1 and how.workers in (None, 1):
                _in_this_process(board, replace(how, device=devices[0]))
            else:
                _Crew(board, devices).run()
    except KeyboardInterrupt:
        outcome.interrupted = True
    outcome.decoding, outcome.working = decoding.seconds, working.seconds
    return outcome


def _jobs(plan: Plan, todo: Sequence[Step], store: Store, how: How) -> list[Job]:
    """The steps in jobs; those that predict streamed data in sweeps, which share features without keeping them."""

    def streamed(step: Step) -> bool:
        return all(
            pack_file(plan.world[part.name], part.part, step.architecture.view, store.packs).name in how.streamed
            for part in step.parts
        )

    if not how.share or not how.streamed:
        return jobs(todo)
    kept = [step for step in todo if not (isinstance(step, Embed) and streamed(step))]
    return jobs(kept, sweeps((step for step in kept if isinstance(step, Predict) and streamed(step)), how.at_once))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices(how: How, most: int) -> list[str]:
    """One device name a worker: a GPU each where there are any, else the CPU as often as there are cores."""
    device = how.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        count = how.workers or len(devices)
        return [devices[index % len(devices)] for index in range(min(count, most))]
    count = how.workers or (cores() if device == "cpu" else 1)
    return [device] * max(1, min(count, most))


class _Board:
    """What is done, under way and to do; keeps the outcome and drops weights that nothing needs."""

    def __init__(
        self, plan: Plan, store: Store, how: How, watcher: Watcher, outcome: Outcome, listed: Sequence[Job]
    ) -> None:
        self.plan, self.store, self.how, self.watcher, self.outcome = plan, store, how, watcher, outcome
        self.jobs, self.queue = listed, Queue(listed)
        self.failed: dict[str, str] = {}
        self._steps = {step.key: step for step in plan.steps}
        self._done: set[str] = set()
        self._reasons: set[str] = set()
        self._read = [{key for step in job.steps for key in _weights_read(step)} & self._steps.keys() for job in listed]
        self._users = Counter(itertools.chain.from_iterable(self._read))

    def begin(self, number: int) -> tuple[Step, ...]:
        """The steps of a job, less those done before a worker died and those that need a failed step of another job."""
        possible = []
        for step in self.jobs[number].steps:
            if step.key in self._done:
                continue
            lost = next((need for need in step.needs if need.key in self.failed), None)
            if lost is None:
                possible.append(step)
            else:
                reason = self.failed[lost.key]
                if isinstance(step, Fit):
                    reason = f"{lost.title} failed: {reason}"  # an ingredient, or the pretraining
                self.store.write_failure(step.key, reason)
                self.fail(step.key, reason)
        return tuple(possible)

    def tell(self, message: tuple[Any, ...]) -> None:
        """Take a worker's message."""
        match message:
            case ("now", title):
                self.watcher.now(title)
            case ("images", count, passes):
                self.watcher.images(count, passes)
            case ("done", key):
                self._done.add(key)
                self.outcome.done += 1
                self.outcome.made.add(key)
                self.watcher.finished(self.plan.image_passes(self._steps[key]))
            case ("failed", key, reason):
                self.fail(key, reason)

    def fail(self, key: str, reason: str) -> None:
        """Note a failed step."""
        step = self._steps[key]
        if reason not in self._reasons:
            self._reasons.add(reason)
            self.watcher.say(f"failed: {step.title}\n  {reason}")
        self.failed[key] = reason
        self.outcome.failed[distinct(step, self.outcome.failed)] = reason
        self.watcher.finished(self.plan.image_passes(step))

    def end(self, number: int) -> None:
        """A job is over: let go of weights that no job to come reads, if they are not to be kept.

        What a failed step reads is kept for the next try.
        """
        self.queue.done(number)
        if any(step.key in self.failed for step in self.jobs[number].steps):
            return
        for key in self._read[number]:
            self._users[key] -= 1
            if not self._users[key]:
                pretrained = isinstance(self._steps[key], Pretrain)
                if self.how.keep == "none" or (self.how.keep == "pretrained" and not pretrained):
                    self.store.drop_weights(key)
                    self.store.drop_features(key)


def _weights_read(step: Step) -> set[str]:
    """Keys of the kept weights that doing a step writes or reads, through merges too; and of features."""
    read: set[str] = {step.features.key} if step.features else set()
    for item in (step, *step.needs):
        if item.keeps_weights:
            read.add(item.key)
        elif item is not step:
            read |= _weights_read(item)
    return read


def _in_this_process(board: _Board, how: How) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(how.threads)
    workshop = Workshop(board.plan.suite, board.store, how, board.watcher.images)
    try:
        with limit_threads(how.threads):
            while (number := board.queue.take()) is not None:
                do_steps(workshop, board.begin(number), board.tell)
                board.end(number)
    finally:
        torch.set_num_threads(threads)


class _Crew:
    """Worker processes, each with a pipe.

    Args:
        board: what is to do.
        devices: one a worker.
    """

    def __init__(self, board: _Board, devices: Sequence[str]) -> None:
        self._board, self._devices = board, devices
        self._context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        if sys.platform == "linux":
            self._context.set_forkserver_preload(["rib.execute.preload"])
        self._processes: dict[Connection, BaseProcess] = {}
        self._device: dict[Connection, str] = {}
        self._busy: dict[Connection, int] = {}
        self._doing: dict[Connection, str] = {}
        self._deaths: dict[int, int] = {}

    def run(self) -> None:
        """Until no job is left."""
        try:
            for device in self._devices:
                self._hire(device)
            self._hand_out()
            while self._busy:
                for connection in wait(list(self._busy)):
                    assert isinstance(connection, Connection)
                    self._listen(connection)
        finally:
            for connection, process in self._processes.items():
                connection.close()
                process.terminate()
            for process in self._processes.values():
                process.join()

    def _hire(self, device: str) -> None:
        here, there = self._context.Pipe()
        board = self._board
        how = replace(board.how, device=device)
        assignment = Assignment(board.plan.suite, board.plan.suite.base, board.store.root, how)
        process = self._context.Process(target=serve, args=(there, assignment), daemon=True)  # type: ignore[attr-defined]
        process.start()
        there.close()
        self._processes[here], self._device[here] = process, device

    def _hand_out(self) -> None:
        for connection in list(self._processes):
            while connection not in self._busy and (number := self._board.queue.take()) is not None:
                steps = self._board.begin(number)
                if not steps:
                    self._board.end(number)
                    continue
                self._busy[connection] = number
                with suppress(BrokenPipeError, ConnectionResetError):  # it died while idle: `_listen` will find out
                    connection.send(steps)

    def _listen(self, connection: Connection) -> None:
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            self._bury(connection)
            return
        if message == ("idle",):
            self._board.end(self._busy.pop(connection))
            self._hand_out()
        else:
            self._doing[connection] = message[1] if message[0] == "now" else self._doing.get(connection, "")
            self._board.tell(message)

    def _bury(self, connection: Connection) -> None:
        """A worker died (killed, out of memory, a crash in native code): its job is tried once more."""
        process, device = self._processes.pop(connection), self._device.pop(connection)
        number = self._busy.pop(connection)
        process.join()
        connection.close()
        self._deaths[number] = self._deaths.get(number, 0) + 1
        doing = self._doing.pop(connection, "")
        how = f"signal {-process.exitcode}" if process.exitcode and process.exitcode < 0 else f"exit {process.exitcode}"
        if self._deaths[number] < 2:
            self._board.watcher.say(f"a worker process died ({how}) at: {doing}; its work is tried once more")
            self._board.queue.put_back(number)
        else:
            finished = self._board.store.keys()
            for step in self._board.jobs[number].steps:
                if step.key not in finished:
                    hint = "out of memory? try fewer workers" if how == "signal 9" else "a crash in native code"
                    reason = f"its worker process died twice ({how}): {hint}"
                    self._board.store.write_failure(step.key, reason)
                    self._board.fail(step.key, reason)
            self._board.end(number)
        self._hire(device)
        self._hand_out()
