"""Owners: processes that take leases, and whether they still run."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STOPPED_EXPIRY = 30.0
"""Seconds without a heartbeat after which a process of this machine that is stopped (Ctrl-Z) loses what it has."""

ID_LENGTH = 16


@dataclass(frozen=True)
class Owner:
    """A process that owns leases.

    Attributes:
        id: never used again.
        host: the machine's name, for people.
        pid: of the process.
        started: of the process, in the clock of its machine; tells it from a later process with the same number.
        place: where `pid` means this process: a boot of a machine, and a namespace of processes in it.
        workers: number and start of the processes that work for it; they may outlive it for a moment.
    """

    id: str
    host: str
    pid: int
    started: int
    place: str
    workers: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> str:
        """For people, and for records."""
        return f"{self.host}:{self.pid}"

    @property
    def runs(self) -> bool:
        """Whether it, or a process that works for it, is there; asked where their numbers mean them."""
        return any(started_at(pid) == started for pid, started in ((self.pid, self.started), *self.workers))

    @property
    def stopped(self) -> bool:
        """Whether it is there and stopped, by Ctrl-Z or a signal; asked as `runs`."""
        return started_at(self.pid) == self.started and is_stopped(self.pid)

    def outlasts(self, age: float, expiry: float) -> bool:
        """Whether it keeps what it has, so many seconds after its last heartbeat; asked as `runs`.

        A stopped one has no heart that beats. It loses what it has after a while; a little later where a process that
        works for it continues.
        """
        if not self.stopped:
            return self.runs
        working = any(started_at(pid) == started and not is_stopped(pid) for pid, started in self.workers)
        return age < (expiry if working else min(expiry, STOPPED_EXPIRY))


def new_id() -> str:
    """An id that no owner has had."""
    return secrets.token_hex(ID_LENGTH // 2)


@cache
def place() -> str:
    """Identifies the machine or container in which process numbers are valid."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def started_at(pid: int) -> int | None:
    """When a process began, in a unit of its machine's; 0 where that cannot be asked; None where it is no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0


def is_stopped(pid: int) -> bool:
    """Whether a process has been stopped, and may be continued; False where that cannot be asked."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False
