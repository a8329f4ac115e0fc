"""News: the records that other drivers write into a store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from rib.files import unreadable

GRAIN = 2.0
"""Resolution of modification times on some file systems, in seconds: two changes within it may look like one."""


class News:
    """Reports new keys in a sharded folder of the store; lists a shard again only if it has changed.

    Args:
        folder: the folder; it may not exist yet.
        wanted: keys of the steps for which the driver waits.
    """

    def __init__(self, folder: Path, wanted: Iterable[str]) -> None:
        self._folder = folder
        self._wanted: dict[str, set[str]] = {}
        for key in wanted:
            self._wanted.setdefault(key[:2], set()).add(key)
        self._known: dict[
            str, tuple[int, float, bool]
        ] = {}  # modification time, when this process first saw it, and whether it is final

    def take(self) -> set[str]:
        """Return the new names, each once."""
        return {key for shard in list(self._wanted) for key in self._of(shard)}

    def _of(self, shard: str) -> set[str]:
        folder = self._folder / shard
        try:
            handle = os.open(folder, os.O_RDONLY)  # opening makes a network file system ask its server
        except PermissionError as error:  # waiting would not fix it
            raise unreadable(error, folder) from error
        except OSError:
            return set()
        try:
            if not self._may_differ(shard, os.fstat(handle).st_mtime_ns):
                return set()
            with os.scandir(handle) as entries:
                found = {entry.name[:-5] for entry in entries if entry.name.endswith(".json")} & self._wanted[shard]
        finally:
            os.close(handle)
        self._wanted[shard] -= found
        if not self._wanted[shard]:
            del self._wanted[shard]
        return found

    def _may_differ(self, shard: str, changed: int) -> bool:
        """Whether to list a folder. If it has just changed, it may change again within the resolution of
        modification times."""
        now = time.monotonic()
        before, since, settled = self._known.get(shard, (-1, now, False))
        if before != changed:
            since, settled = now, False
        self._known[shard] = (changed, since, now - since >= GRAIN)
        return not settled
