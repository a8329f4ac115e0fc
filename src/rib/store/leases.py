"""Leases: who does what, said in the store's folder, so that several machines share the work and none does it twice.

    leases/owners/ID.json       who ID is; its time of change, by the file system's own clock, is ID's heartbeat
    leases/work/ab/NAME/ID      ID has the work NAME

The folder `NAME` is renamed into place with its one file in it, which fails where another's is there: taking is atomic.
Taking over from a dead owner renames the file `NAME/DEAD` to `NAME/ID`, which fails where another was first. Both hold
on network file systems, where an exclusive create may not. No id ever comes again, so that a lease cannot be mistaken
for a later one.
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
"""Seconds without a heartbeat after which an owner on another machine counts as dead. More than network file systems
remember a time of change, which is a minute."""


BEAT = 15.0
"""Seconds between heartbeats."""

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
"""Errors for a file or folder that no longer exists; the last comes from network file systems soon after a removal."""

NOT_NOW = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT, errno.ESTALE)
"""Errors if another driver has the lease, or has removed the folder that was to become a lease."""


@dataclass(frozen=True)
class Lease:
    """A piece of work that someone has.

    Attributes:
        name: of the work.
        owner: who has it; None where the owner's file is gone, or does not say.
        alive: whether the owner is believed to be at work.
        age: seconds since the owner's last heartbeat, by the file system's clock.
    """

    name: str
    owner: Owner | None
    alive: bool
    age: float


class Leases:
    """The leases of a store, as one owner sees them. Use as a context: it is at work within, and leaves at the end.

    Args:
        root: the store's folder.
        id: what the owner's id begins with, where whoever started it has chosen that; it may then be dismissed by it.
            The rest is new at every start: a cluster may start a job again, on another machine.
        expiry: seconds without a heartbeat after which an owner on another machine counts as dead.
        beat: seconds between heartbeats.
    """

    def __init__(self, root: Path, id: str | None = None, expiry: float = EXPIRY, beat: float = BEAT) -> None:
        self._work, self._owners = root / "leases" / "work", root / "leases" / "owners"
        own = (id or "") + new_id()
        self.owner = Owner(own, socket.gethostname(), os.getpid(), started_at(os.getpid()) or 0, place())
        self._expiry, self._interval = expiry, beat
        self._held: set[str] = set()
        self._watched: dict[str, tuple[int, float]] = {}  # heartbeat of others, and when it was first seen, here
        self._over = threading.Event()
        self._dismissible, self.dismissed = id is not None, False

    # -- being at work ---------------------------------------------------------------------------------------------

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
        with contextlib.suppress(OSError):  # it may be what ends this that nothing can be written any more
            self._file(self.owner.id).unlink()

    def _sign_up(self) -> None:
        aside = self._owners / f".{self.owner.id}"
        aside.write_text(json.dumps(asdict(self.owner)))
        aside.replace(self._file(self.owner.id))

    def employ(self, pids: Iterable[int]) -> None:
        """Say which processes work for this owner: should it die, what it has is free once they have ended too."""
        self.owner = replace(self.owner, workers=tuple((pid, started_at(pid) or 0) for pid in pids))
        with contextlib.suppress(OSError):
            if self._file(self.owner.id).exists():  # it has not been struck off
                self._sign_up()

    def _beats(self) -> None:
        while not self._over.wait(self._interval):
            self.beat()

    def beat(self) -> None:
        """Say that this owner is at work; notes where it has been dismissed."""
        try:
            os.utime(self._file(self.owner.id))  # the file system's time, not this machine's
        except FileNotFoundError:
            self.dismissed = self._dismissible
            if not self.dismissed:  # taken for dead after a long silence; what it had may be another's by now
                with contextlib.suppress(OSError):
                    self._sign_up()
        except OSError:
            pass  # a server that is away for a moment: the next beat tells

    # -- taking ------------------------------------------------------------------------------------------------------

    def take(self, name: str) -> bool:
        """Take a piece of work: free, or of an owner that is dead. False where another has it.

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
        """Whether work that could not be taken is this owner's all the same: an answer was lost, and the server tried
        again. False where it is another's. Raises as `take` what is neither, which waiting would not mend.
        """
        if self._holder(name) == self.owner.id:
            return True
        if error.errno not in NOT_NOW:
            with explained(self._folder(name)):
                raise error
        return False

    def has_taken(self, name: str) -> bool:
        """Whether this owner has taken a piece of work and not given it back, as far as it knows."""
        return name in self._held

    def drop(self, name: str) -> bool:
        """Give a piece of work back. False where it had been taken over meanwhile."""
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
        """Whether an owner is at work: its process is there, or its heartbeat on another machine is not too old."""
        try:
            owner, stamp = self._owner(id)
        except OSError:  # nobody can say just now, and it is looked at again
            return True
        if stamp is None:
            return False
        if owner is not None and owner.place == self.owner.place:
            return owner.outlasts(self._age(stamp) if owner.stopped else 0.0, self._expiry)
        first = self._watched.get(id)
        if first is None or first[0] != stamp:  # even an old heartbeat is watched for a while: a server was away
            self._watched[id] = first = (stamp, time.monotonic())
        watched = time.monotonic() - first[1]
        return self._age(stamp) < self._expiry or watched < min(2 * self._interval, self._expiry)

    def _owner(self, id: str) -> tuple[Owner | None, int | None]:
        """An owner and its last heartbeat, in nanoseconds. No heartbeat where its file is gone; no owner where the file
        does not say who it is, as a power cut may leave it.

        Raises:
            OSError: the file may be there, and cannot be read.
        """
        owner = None
        try:
            with self._file(id).open() as handle:  # opened, so that a network file system asks its server
                stamp = os.fstat(handle.fileno()).st_mtime_ns
                with contextlib.suppress(ValueError, TypeError):
                    owner = Owner(**json.load(handle))
        except FileNotFoundError:
            return None, None
        return owner, stamp

    def _age(self, stamp: int) -> float:
        """Seconds since a heartbeat, as the file system counts them."""
        return (self._now() - stamp) / 1e9

    def _now(self) -> int:
        """The file system's time, in nanoseconds: that of this owner's own heartbeat, made now."""
        mine = self._file(self.owner.id)
        try:
            os.utime(mine)
            return mine.stat().st_mtime_ns
        except OSError:
            return file_time(self._owners)

    def alone(self) -> bool:
        """Whether no one else is at work in the store."""
        return not any(map(self._is_alive, self._others()))

    def others(self) -> int:
        """How many others are at work in the store, or were when they died."""
        return len(self._others())

    def dismiss(self, id: str) -> None:
        """Strike off whoever's id begins so, known to be dead or to be stopped: what they have is free at once; where
        that cannot be written, it is once their hearts have not beaten for long enough."""
        for file in self._owners.glob(f"{id}*.json"):
            with contextlib.suppress(OSError):
                file.unlink()

    def signed_up(self, ids: Iterable[str]) -> int:
        """How many of the ids that were chosen for owners have begun, and not left."""
        there = {id[:ID_LENGTH] for id in self._others()}
        return sum(id in there for id in ids)

    def tidy(self) -> list[Owner]:
        """Strike off the dead, and give back what they had, as far as it can be written; who they were."""
        dead: list[Owner] = []
        for id in self._others():
            if not self._is_alive(id):
                with contextlib.suppress(OSError):
                    dead += [owner for owner in self._owner(id)[:1] if owner is not None]
                self.dismiss(id)
        for folder in self._folders():
            with contextlib.suppress(UserError, StepError):  # it will be taken over by who wants it
                if (name := folder.name) not in self._held and self.take(name):
                    self.drop(name)
        for made in self._work.glob(".*-*"):  # whoever made it died before it was in place
            if (id := made.name[1:].partition("-")[0]) != self.owner.id and not self._is_alive(id):
                shutil.rmtree(made, ignore_errors=True)
        return dead

    def _others(self) -> list[str]:
        return [file.stem for file in self._signed() if file.stem != self.owner.id]

    def listed(self) -> Iterator[Lease]:
        """Every lease there is. Raises UserError: they cannot be read."""
        held = [file for folder in self._folders() for file in _within(folder)]
        now = self._now() if held else 0
        for file in held:
            yield Lease(file.parent.name, *self._seen(file.name, now))

    def dead(self) -> Iterator[Path]:
        """Files of owners who are believed to be no more, and those of their leases. Raises as `listed`."""
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
        """An owner, whether it seems to be alive, and seconds since its last heartbeat."""
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
        """The lease on a piece of work, as `listed` gives it; None where nobody has it. Raises UserError."""
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
    """The time of the file system that a folder lies on, in nanoseconds; this machine's where it cannot be written."""
    probe = folder / f".probe-{secrets.token_hex(4)}"
    try:
        probe.touch()
        stamp = probe.stat().st_mtime_ns
        probe.unlink()
    except OSError:
        return time.time_ns()
    return stamp
