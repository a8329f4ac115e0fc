"""Owners: the processes that take leases, and whether they still run."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STOPPED_EXPIRY = 30.0
"""Seconds without a heartbeat after which a stopped process (Ctrl-Z) of this machine loses its leases."""

ID_LENGTH = 16


@dataclass(frozen=True)
class Owner:
    """A process that owns leases.

    Attributes:
        id: unique; never used again.
        host: the machine's name, for messages.
        pid: number of the process.
        started: when the process started, by its machine's clock; distinguishes it from a later process with this pid.
        place: where `pid` is valid: one boot of a machine, and one pid namespace.
        workers: pid and start time of its worker processes, which may outlive it for a moment.
    """

    id: str
    host: str
    pid: int
    started: int
    place: str
    workers: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> str:
        """The owner's name in messages and records."""
        return f"{self.host}:{self.pid}"

    @property
    def runs(self) -> bool:
        """Whether the process or one of its workers exists. Only valid in the same `place`."""
        return any(started_at(pid) == started for pid, started in ((self.pid, self.started), *self.workers))

    @property
    def stopped(self) -> bool:
        """Whether the process exists and is stopped, by Ctrl-Z or a signal. Only valid in the same `place`."""
        return started_at(self.pid) == self.started and is_stopped(self.pid)

    def outlasts(self, age: float, expiry: float) -> bool:
        """Whether the process keeps its leases, given the age of its last heartbeat. Only valid in the same `place`.

        A stopped process sends no heartbeats. It loses its leases after a while, slightly later if a worker continues.
        """
        if not self.stopped:
            return self.runs
        working = any(started_at(pid) == started and not is_stopped(pid) for pid, started in self.workers)
        return age < (expiry if working else min(expiry, STOPPED_EXPIRY))


def new_id() -> str:
    """A new unique id."""
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
    """When a process started, in its machine's unit; 0 if this is unknown; None if the process does not exist."""
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
    """Whether a process is stopped and can be continued; False if this is unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False
