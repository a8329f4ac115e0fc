"""Drivers to kill: forked from a process that has imported everything, or started like a user's command."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import rib.execute.preload  # noqa: F401  # everything that a run imports
from helpers import surroundings
from rib.execute.pool import Crew
from rib.execute.run import execute
from rib.plan import make_plan
from rib.steps import How
from rib.store.store import Store
from rib.suite.load import load_suite
from soak import _journal

INCOMPLETE = 1
"""Exit code for failed steps, as in `rib run`."""

BROKEN = 70
"""Exit code of a process that ended with an exception."""


@dataclass(frozen=True)
class Way:
    """How a driver runs a suite. None of these settings may change a record.

    Attributes:
        workers: number of worker processes; 1 for none.
        streams: whether it streams data without packs, in sweeps of two nets.
        spawned: whether it is a new process with `rib run`, rather than a forked one.
        keep: which weights stay.
    """

    workers: int = 1
    streams: bool = False
    spawned: bool = False
    keep: str = "all"


class Driver:
    """A running driver.

    Args:
        file: the suite file.
        store: the store's folder.
        way: its settings.
        told: folder for its output.
        changes: number of changes of the store after which it kills itself; only for a forked driver.
    """

    def __init__(self, file: Path, store: Path, way: Way, told: Path, changes: int | None = None) -> None:
        self.way, self.began, self.found = way, time.monotonic(), Store(store).keys()
        self._code: int | None = None
        told.mkdir(parents=True, exist_ok=True)
        self._told = told / f"{len(list(told.iterdir()))}"
        self._told.touch()
        _journal.journal(store).touch()
        self.pid = (
            _spawn(file, store, way, self._told)
            if way.spawned
            else fork(lambda: _drive(file, store, way, self._told, changes), self._told)
        )

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, seconds: float) -> int | None:
        """Wait until it has ended, at most `seconds`; return its exit code."""
        end = time.monotonic() + seconds
        while self.code is None and time.monotonic() < end:
            time.sleep(0.002)
        return self.code

    @property
    def outcome(self) -> dict[str, Any]:
        """The outcome of a forked driver that has ended without an error."""
        found: dict[str, Any] = json.loads(self._told.with_suffix(".outcome").read_text())
        return found

    @property
    def said(self) -> str:
        """Everything that it printed."""
        return self._told.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Process numbers of its living workers."""
        if self.way.spawned:
            return [pid for server in children(self.pid) for pid in children(server)]
        server, noted = vars(forkserver._forkserver)["_forkserver_pid"], self._told.with_suffix(".workers")
        mine = set(map(int, noted.read_text().split())) if noted.exists() else set()
        return [pid for pid in children(server) if pid in mine] if server else []

    def kill(self) -> None:
        """Kill the driver alone."""
        os.kill(self.pid, signal.SIGKILL)  # nobody has waited for it yet, so its number is still valid
        self.wait(60)

    def kill_all(self) -> None:
        """Kill the driver and all of its processes."""
        if self.way.spawned:
            os.killpg(self.pid, signal.SIGKILL)
        else:
            for worker in self.workers():
                kill_worker(worker)
            os.kill(self.pid, signal.SIGKILL)
        self.wait(60)


def kill_worker(pid: int) -> None:
    """Kill a worker that may have ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Process numbers of the living children of a process."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = file.read_bytes().rpartition(b")")[2].split()[:2]
            if int(parent) == pid and state not in (b"Z", b"X"):
                found.append(int(file.parent.name))
    return found


def fork(work: Callable[[], int], said: Path | None = None) -> int:
    """Fork a process that runs a function and exits with its result; return the process number."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = BROKEN
    try:
        if said is not None:
            handle = os.open(said, os.O_WRONLY | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def start_fork_server() -> None:
    """Start the process from which workers of forked drivers are forked. Forked drivers use it too."""
    multiprocessing.set_forkserver_preload(["rib.execute.preload", "soak._journal", "soak._server"])
    forkserver.ensure_running()
    names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    others = [name for name in names if name != "jemalloc_bg_thd"]  # jemalloc's thread survives a fork
    assert len(others) == 1, f"threads {others}: what is forked may hang"


def _drive(file: Path, store: Path, way: Way, told: Path, changes: int | None) -> int:
    """The main function of a forked driver."""
    vars(forkserver._forkserver)["ensure_running"] = lambda: (
        None
    )  # the fork server is not this process' child, so it cannot be waited for
    multiprocessing.context.ForkServerContext.set_forkserver_preload = lambda *_: None  # type: ignore[method-assign]
    hire = Crew._hire

    def hire_and_note(crew: Crew, device: str) -> None:
        hire(crew, device)
        pids = [str(worker.process.pid) for worker in crew._workers.values()]
        told.with_suffix(".workers").write_text(" ".join(pids))

    Crew._hire = hire_and_note  # type: ignore[method-assign,assignment]
    fuse = _journal.Fuse(store, changes)
    _journal.fuses.append(fuse)
    place = Store(store)
    plan = make_plan(load_suite(file), place.facts)
    budget = {"pack_budget": 0, "at_once": 2} if way.streams else {}
    outcome = execute(plan, place, How(workers=way.workers, keep=way.keep, checkpoint_seconds=0.0, **budget))
    found = asdict(outcome) | {"made": sorted(outcome.made), "changes": fuse.seen}
    told.with_suffix(".outcome").write_text(json.dumps(found))
    return INCOMPLETE if outcome.failed else 0


def _spawn(file: Path, store: Path, way: Way, told: Path) -> int:
    """Start `rib run` as the leader of its own process group; return its number."""
    words = ["--workers", str(way.workers), "--keep", way.keep]
    words += ["--pack-budget", "0", "--at-once", "2"] if way.streams else []
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "rib", "run", str(file), "--store", str(store), *words],
        surroundings(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            *((os.POSIX_SPAWN_OPEN, stream, str(told), os.O_WRONLY | os.O_APPEND, 0) for stream in (1, 2)),
        ],
        setpgroup=0,
    )
