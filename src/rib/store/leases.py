"""Leases: drivers on several machines share the work of a store, and no step is done twice.

    leases/owners/ID.json       describes the owner ID; the modification time of this file is ID's heartbeat
    leases/work/ab/NAME/ID      ID has the lease on the step NAME

To take a lease, an owner renames a folder with its one file into place as `NAME`. The rename fails if another owner's
folder exists, so taking is atomic. To take over the lease of a dead owner, it renames the file `NAME/DEAD` to
`NAME/ID`, which fails if another owner was faster. Both are atomic on network file systems too, where an exclusive
create may not be. An id is never used again, so an old lease cannot be confused with a newer one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from rib.errors import StepError, UserError
from rib.files import explained, unreadable
from rib.store.owners import ID_LENGTH, Owner, new_id, place, started_at

EXPIRY = 120.0
"""Seconds without a heartbeat after which an owner on another machine counts as dead. Longer than the minute for which
network file systems cache a modification time."""


BEAT = 15.0
"""Seconds between heartbeats."""

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
"""Errors for a file or folder that no longer exists; network file systems raise the last one soon after a removal."""

NOT_NOW = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT, errno.ESTALE)
"""Errors if another driver has the lease, or has removed the folder that was to become a lease."""


@dataclass(frozen=True)
class Lease:
    """A lease on a step.

    Attributes:
        name: the step's key.
        owner: its owner; None if the owner's file is missing or unreadable.
        alive: whether the owner seems to be running.
        age: seconds since the owner's last heartbeat, by the file system's clock.
    """

    name: str
    owner: Owner | None
    alive: bool
    age: float


class Leases:
    """The leases of a store, from the view of one owner. As a context manager it registers the owner while it is open.

    Args:
        root: the store's folder.
        id: prefix of the owner's id, chosen by the process that started it, which can dismiss the owner by this prefix.
            The rest of the id is new at every start, because a cluster may restart a job on another machine.
        expiry: seconds without a heartbeat after which an owner on another machine counts as dead.
        beat: seconds between heartbeats.
    """

    def __init__(self, root: Path, id: str | None = None, expiry: float = EXPIRY, beat: float = BEAT) -> None:
        self._work, self._owners = root / "leases" / "work", root / "leases" / "owners"
        own = (id or "") + new_id()
        self.owner = Owner(own, socket.gethostname(), os.getpid(), started_at(os.getpid()) or 0, place())
        self._expiry, self._interval = expiry, beat
        self._held: set[str] = set()
        self._watched: dict[str, tuple[int, float]] = {}  # heartbeats of others, and when this process first saw each
        self._over = threading.Event()
        self._dismissible, self.dismissed = id is not None, False

    # -- registration ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with explained(self._file(self.owner.id)):
            self._owners.mkdir(parents=True, exist_ok=True)
            self._sign_up()
        self._thread = threading.Thread(target=self._beats, daemon=True, name="heartbeat")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for name in list(self._held):
            self.drop(name)
        with contextlib.suppress(OSError):  # nothing may be writable, and that may be the reason to exit
            self._file(self.owner.id).unlink()

    def _sign_up(self) -> None:
        aside = self._owners / f".{self.owner.id}"
        aside.write_text(json.dumps(asdict(self.owner)))
        aside.replace(self._file(self.owner.id))

    def employ(self, pids: Iterable[int]) -> None:
        """Register the worker processes of this owner: if it dies, its leases are free once they have ended too."""
        self.owner = replace(self.owner, workers=tuple((pid, started_at(pid) or 0) for pid in pids))
        with contextlib.suppress(OSError):
            if self._file(self.owner.id).exists():  # the owner's file still exists
                self._sign_up()

    def _beats(self) -> None:
        while not self._over.wait(self._interval):
            self.beat()

    def beat(self) -> None:
        """Send a heartbeat; set `dismissed` if this owner has been dismissed."""
        try:
            os.utime(self._file(self.owner.id))  # the file system's clock, not this machine's
        except FileNotFoundError:
            self.dismissed = self._dismissible
            if not self.dismissed:  # others took this owner for dead and may have its leases now
                with contextlib.suppress(OSError):
                    self._sign_up()
        except OSError:
            pass  # the server may be down for a moment; the next beat tries again

    # -- taking ------------------------------------------------------------------------------------------------------

    def take(self, name: str) -> bool:
        """Take the lease on a step if it is free or its owner is dead. False if a running owner has it.

        Raises:
            UserError: leases cannot be read or written.
            StepError: the disk is full, or fails.
        """
        holder = self._holder(name)
        while holder not in (None, self.owner.id):
            assert holder is not None
            if self._is_alive(holder) or not self._take_over(name, holder):
                return False
            holder = self._holder(name)
        if holder is None and not self._take_free(name):
            return False
        self._held.add(name)
        return True

    def _take_free(self, name: str) -> bool:
        made, there = self._work / f".{self.owner.id}-{secrets.token_hex(4)}", self._folder(name)
        try:
            made.mkdir(parents=True)
            (made / self.owner.id).touch()
            with contextlib.suppress(FileNotFoundError):
                made.rename(there)
                return True
            there.parent.mkdir(parents=True, exist_ok=True)
            made.rename(there)
        except OSError as error:
            for left in (made / self.owner.id, made):
                with contextlib.suppress(OSError):
                    left.unlink() if left != made else left.rmdir()
            return self._is_ours(name, error)
        return True

    def _take_over(self, name: str, dead: str) -> bool:
        folder = self._folder(name)
        try:
            (folder / dead).rename(folder / self.owner.id)
        except OSError as error:
            return self._is_ours(name, error)
        return True

    def _is_ours(self, name: str, error: OSError) -> bool:
        """Whether a failed attempt took the lease after all, because the server's reply was lost and the request was
        repeated.

        False if another owner has it. Raises as `take` for every other error, which waiting would not fix.
        """
        if self._holder(name) == self.owner.id:
            return True
        if error.errno not in NOT_NOW:
            with explained(self._folder(name)):
                raise error
        return False

    def has_taken(self, name: str) -> bool:
        """Whether this owner believes that it has the lease on a step."""
        return name in self._held

    def drop(self, name: str) -> bool:
        """Release a lease. False if another owner has taken it over meanwhile."""
        self._held.discard(name)
        folder = self._folder(name)
        try:
            (folder / self.owner.id).unlink()
        except OSError:
            return False
        with contextlib.suppress(OSError):  # an empty folder is free too
            folder.rmdir()
        return True

    def _holder(self, name: str) -> str | None:
        return next((file.name for file in _within(self._folder(name))), None)

    # -- who is alive ------------------------------------------------------------------------------------------------

    def _is_alive(self, id: str) -> bool:
        """Whether an owner runs: its process exists here, or its heartbeat from another machine is recent."""
        try:
            owner, stamp = self._owner(id)
        except OSError:  # unknown now; the file is read again later
            return True
        if stamp is None:
            return False
        if owner is not None and owner.place == self.owner.place:
            return owner.outlasts(self._age(stamp) if owner.stopped else 0.0, self._expiry)
        first = self._watched.get(id)
        if first is None or first[0] != stamp:  # the server may have been down: wait even for an old one
            self._watched[id] = first = (stamp, time.monotonic())
        watched = time.monotonic() - first[1]
        return self._age(stamp) < self._expiry or watched < min(2 * self._interval, self._expiry)

    def _owner(self, id: str) -> tuple[Owner | None, int | None]:
        """An owner and its last heartbeat in nanoseconds.

        The heartbeat is None if the owner's file is missing. The owner is None if the file has no valid content, for
        example after a power cut.

        Raises:
            OSError: the file may exist but cannot be read.
        """
        owner = None
        try:
            with self._file(id).open() as handle:  # opening makes a network file system ask its server
                stamp = os.fstat(handle.fileno()).st_mtime_ns
                with contextlib.suppress(ValueError, TypeError):
                    owner = Owner(**json.load(handle))
        except FileNotFoundError:
            return None, None
        return owner, stamp

    def _age(self, stamp: int) -> float:
        """Seconds since a heartbeat, by the file system's clock."""
        return (self._now() - stamp) / 1e9

    def _now(self) -> int:
        """The file system's time in nanoseconds, from a heartbeat that this owner sends now."""
        mine = self._file(self.owner.id)
        try:
            os.utime(mine)
            return mine.stat().st_mtime_ns
        except OSError:
            return file_time(self._owners)

    def alone(self) -> bool:
        """Whether no other owner runs in the store."""
        return not any(map(self._is_alive, self._others()))

    def others(self) -> int:
        """The number of other registered owners, dead ones included."""
        return len(self._others())

    def dismiss(self, id: str) -> None:
        """Remove the owners whose id has this prefix, which are dead or shall stop. Their leases are then free at once.

        If their files cannot be removed, the leases are free once the heartbeats have expired."""
        for file in self._owners.glob(f"{id}*.json"):
            with contextlib.suppress(OSError):
                file.unlink()

    def signed_up(self, ids: Iterable[str]) -> int:
        """How many of these chosen id prefixes belong to a registered owner."""
        there = {id[:ID_LENGTH] for id in self._others()}
        return sum(id in there for id in ids)

    def tidy(self) -> list[Owner]:
        """Remove dead owners and release their leases, as far as the store is writable; return these owners."""
        dead: list[Owner] = []
        for id in self._others():
            if not self._is_alive(id):
                with contextlib.suppress(OSError):
                    dead += [owner for owner in self._owner(id)[:1] if owner is not None]
                self.dismiss(id)
        for folder in self._folders():
            with contextlib.suppress(UserError, StepError):  # the next owner that needs it takes it over
                if (name := folder.name) not in self._held and self.take(name):
                    self.drop(name)
        for made in self._work.glob(".*-*"):  # its owner died before the folder was in place
            if (id := made.name[1:].partition("-")[0]) != self.owner.id and not self._is_alive(id):
                shutil.rmtree(made, ignore_errors=True)
        return dead

    def _others(self) -> list[str]:
        return [file.stem for file in self._signed() if file.stem != self.owner.id]

    def listed(self) -> Iterator[Lease]:
        """Every lease. Raises UserError if they cannot be read."""
        held = [file for folder in self._folders() for file in _within(folder)]
        now = self._now() if held else 0
        for file in held:
            yield Lease(file.parent.name, *self._seen(file.name, now))

    def dead(self) -> Iterator[Path]:
        """The files of dead owners, and of their leases. Raises as `listed`."""
        found = [*self._signed(), *(file for folder in self._folders() for file in _within(folder))]
        now = self._now() if found else 0
        for file in found:
            if not self._seen(file.name.removesuffix(".json"), now)[1]:
                yield file

    def _signed(self) -> list[Path]:
        return [file for file in _within(self._owners) if file.suffix == ".json"]

    def _folders(self) -> Iterator[Path]:
        return (folder for shard in _within(self._work) for folder in _within(shard))

    def _seen(self, id: str, now: int) -> tuple[Owner | None, bool, float]:
        """An owner, whether it seems to run, and the seconds since its last heartbeat."""
        try:
            owner, stamp = self._owner(id)
        except OSError:
            return None, True, 0.0
        if stamp is None:
            return None, False, 0.0
        age = (now - stamp) / 1e9
        near = owner is not None and owner.place == self.owner.place
        return owner, owner.outlasts(age, self._expiry) if owner is not None and near else age < self._expiry, age

    def lease_of(self, name: str) -> Lease | None:
        """The lease on a step, as in `listed`; None if it is free. Raises UserError."""
        holder = self._holder(name)
        return Lease(name, *self._seen(holder, self._now())) if holder else None

    def is_stopped(self, owner: Owner) -> bool:
        """Whether an owner is a process of this machine that is stopped."""
        return owner.place == self.owner.place and owner.stopped

    def _folder(self, name: str) -> Path:
        return self._work / name[:2] / name

    def _file(self, id: str) -> Path:
        return self._owners / f"{id}.json"


def _within(folder: Path) -> list[Path]:
    """The entries of a folder in order, without unfinished files; empty if it is gone. Raises UserError."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        if error.errno in GONE:
            return []
        raise unreadable(error, folder) from error


def file_time(folder: Path) -> int:
    """The time in nanoseconds of the file system of a folder; this machine's time if the folder is not writable."""
    probe = folder / f".probe-{secrets.token_hex(4)}"
    try:
        probe.touch()
        stamp = probe.stat().st_mtime_ns
        probe.unlink()
    except OSError:
        return time.time_ns()
    return stamp
