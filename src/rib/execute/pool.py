"""Crew: worker processes of this machine, each with a pipe."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rib.execute.board import Board
from rib.execute.signals import no_second_interrupt as _no_second_interrupt
from rib.execute.worker import Assignment, serve, trace_file
from rib.suite.suite import Suite

TRIES = 2
"""Attempts before a dying worker fails its step."""

START_SECONDS = 60.0
"""Seconds for a process to start a job before the time limit of its step applies."""

LISTEN_SECONDS = 2.0
"""Seconds to listen to workers before checking again whether the run continues."""

END_SECONDS = 10.0
"""Seconds that a worker has to exit after a request."""

TRACE_SECONDS = 2.0
"""Seconds that a worker has to report its stack before its step is aborted."""


@dataclass
class _Worker:
    """A worker process.

    Attributes:
        process: the process.
        device: its device.
        job: number of its job; None while it is idle.
        steps: keys of the steps that it reports as running: one step, or those of a sweep.
        since: when they started, by this process's clock; later than now until the worker reports the start.
        hung: whether it was stopped because its step exceeded the time limit.
    """

    process: BaseProcess
    device: str
    job: int | None = None
    steps: tuple[str, ...] = ()
    since: float = 0.0
    hung: bool = False


class Crew:
    """Runs jobs in worker processes.

    Args:
        devices: one per worker.
        step_seconds: time limit of a step; None for no limit.
    """

    def __init__(self, devices: Sequence[str], step_seconds: float | None = None) -> None:
        self._devices, self._limit = devices, step_seconds
        self._context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        if sys.platform == "linux":
            self._context.set_forkserver_preload(["rib.execute.preload"])
        self._workers: dict[Connection, _Worker] = {}
        self._deaths: dict[str, int] = {}

    def run(self, board: Board) -> None:
        """Run until no job is left, or until another driver dismisses this one and takes over its jobs."""
        self._board = board
        self._traces = Path(tempfile.mkdtemp(prefix="rib-"))
        try:
            for device in self._devices:
                self._hire(device)
            self._hand_out()
            while (self._busy or board.waits) and not board.leases.dismissed:
                for connection in wait(self._busy, timeout=self._patience()):
                    assert isinstance(connection, Connection)
                    self._listen(connection)
                self._end_hung()
                self._hand_out()
        finally:
            with _no_second_interrupt():
                self._dismiss_all()

    def _dismiss_all(self) -> None:
        for connection, worker in self._workers.items():
            connection.close()
            worker.process.terminate()
        for worker in self._workers.values():
            worker.process.join(END_SECONDS)
            if worker.process.is_alive():  # a stopped process reacts to no other signal
                worker.process.kill()
                worker.process.join()
        shutil.rmtree(self._traces, ignore_errors=True)

    @property
    def _busy(self) -> list[Connection]:
        return [connection for connection, worker in self._workers.items() if worker.job is not None]

    def _patience(self) -> float:
        """Seconds to listen: until the next poll if a worker is idle, or until a step exceeds its time limit."""
        idle = len(self._busy) < len(self._workers)
        until = [LISTEN_SECONDS, self._board.patience if idle else None]
        if self._limit is not None:
            ends = (self._end_of(worker) for worker in self._workers.values() if worker.job is not None)
            until += [max(0.0, end - time.monotonic()) for end in ends]
        return min(seconds for seconds in until if seconds is not None)

    def _hire(self, device: str) -> None:
        here, there = self._context.Pipe()
        board = self._board
        how, suite = replace(board.how, device=device), board.plan.suite
        assignment = Assignment(suite, suite.base, board.store.root, how, self._traces)
        process = self._context.Process(target=serve, args=(there, assignment), daemon=True)  # type: ignore[attr-defined]
        with _no_interrupts(), _without_main(suite):
            process.start()
        there.close()
        self._workers[here] = _Worker(process, device)
        board.leases.employ(worker.process.pid or 0 for worker in self._workers.values())

    def _hand_out(self) -> None:
        for connection, worker in self._workers.items():
            while worker.job is None and (number := self._board.take()) is not None:
                steps = self._board.begin(number)
                if not steps:
                    self._board.end(number)
                    continue
                worker.job, worker.steps, worker.since = number, (steps[0].key,), time.monotonic() + START_SECONDS
                with suppress(BrokenPipeError, ConnectionResetError):  # it died while idle, which `_listen` will notice
                    connection.send(steps)

    def _listen(self, connection: Connection) -> None:
        worker = self._workers[connection]
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            self._bury(connection)
            return
        if message == ("idle",):
            assert worker.job is not None
            self._board.end(worker.job)
            worker.job = None
            return
        if message[0] == "now":
            worker.steps, worker.since = message[1], time.monotonic()
        self._board.tell(message)

    def _end_of(self, worker: _Worker) -> float:
        """The time at which a worker exceeds its limit; a sweep has the time of all its steps together."""
        return worker.since + (self._limit or math.inf) * max(1, len(worker.steps))

    def _end_hung(self) -> None:
        """Stop the workers whose step exceeds its limit, after they have reported their stack."""
        if self._limit is None:
            return
        for worker in self._workers.values():
            if worker.job is not None and self._end_of(worker) < time.monotonic() and not worker.hung:
                worker.hung = True
                self._ask_where(worker)
                worker.process.kill()

    def _ask_where(self, worker: _Worker) -> None:
        with suppress(ProcessLookupError):
            os.kill(worker.process.pid or 0, signal.SIGUSR1)
        end = time.monotonic() + TRACE_SECONDS
        while time.monotonic() < end and "most recent call first" not in self._trace(worker):
            time.sleep(0.02)

    def _trace(self, worker: _Worker) -> str:
        """The stack of a worker when it crashed or was stopped; empty if unknown."""
        with suppress(OSError):
            return trace_file(self._traces, worker.process.pid or 0).read_text()
        return ""

    def _bury(self, connection: Connection) -> None:
        """Handle the death of a worker (killed, out of memory, a crash in native code): retry its job once."""
        worker = self._workers.pop(connection)
        worker.process.join()
        connection.close()
        assert worker.job is not None
        left = self._board.left(worker.job)
        at = [key for key in worker.steps if key in left] or left[:1]
        for key in at:
            self._deaths[key] = self._deaths.get(key, 0) + 1
        code = worker.process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit {code}"
        if not at or self._deaths[at[0]] < TRIES:
            what = "a step took too long" if worker.hung else f"a worker process died ({how})"
            title = self._board.title((at or worker.steps)[0])
            self._board.watcher.say(f"{what} at: {title}; RIB tries its work once more")
        else:
            self._give_up(at, worker, how)
        self._hire(worker.device)
        self._board.put_back(worker.job)

    def _give_up(self, at: Sequence[str], worker: _Worker, how: str) -> None:
        """Record the failure of steps that reached the maximum number of attempts."""
        hint = "out of memory? try fewer workers" if how == "signal 9" else "a crash in native code"
        kind, reason = "died", f"its worker process died twice ({how}): {hint}"
        if worker.hung:
            kind, reason = "hung", f"it took longer than {(self._limit or 0) / 60:g} minutes, twice"
        for key in at:
            self._board.store.write_failure(key, reason, kind=kind, trace=self._trace(worker))
            self._board.fail(key, reason)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Start processes that ignore Ctrl-C in the terminal from the first moment, because this process stops them
    itself."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would enable interrupts again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main(suite: Suite) -> Iterator[None]:
    """Start processes that do not run the caller's script again, with or without `if __name__ == "__main__":` in it.

    A suite that names code of the script itself needs this guard.
    """
    main = sys.modules.get("__main__")
    if main is None or "__main__:" in suite.model_dump_json():
        yield
        return
    known: dict[str, Any] = {name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)}
    try:
        vars(main).pop("__file__", None)
        main.__spec__ = None
        yield
    finally:
        vars(main).update(known)
