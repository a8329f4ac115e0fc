"""Journal: notes beside the store which process writes each record, and kills a process at a chosen change of the
store.

Python reports every change of the file system before it happens. Importing this module installs the listener. Drivers
import it, and so do their workers, because the suite uses a method of this module.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rib.methods import Method, Task
from rib.models.weights import Weights

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "os.truncate"}
"""Events of changes of the file system, besides `open`."""


class Noted(Method):
    """Shrinks all weights towards zero. A suite with this method makes every process import this module."""

    name = "noted"
    factor: float = 0.9

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        return {name: tensor * self.factor if tensor.is_floating_point() else tensor for name, tensor in start.items()}


def journal(store: Path) -> Path:
    """The file with the notes on a store; without it nothing is noted."""
    return store.with_name(f"{store.name}.journal")


def written(store: Path) -> dict[str, list[str]]:
    """The notes of each step: which process wrote its record, and when.

    A note precedes its change. If the temporary file of a rename still exists, the change did not happen and its note
    is left out.
    """
    file = journal(store)
    lines = [line.split(" ", 2) for line in file.read_text().splitlines()] if file.exists() else []
    last = {source: number for number, (_, _, source) in enumerate(lines)}
    found: dict[str, list[str]] = {}
    for number, (who, key, source) in enumerate(lines):
        if number != last[source] or not Path(source).exists():
            found.setdefault(key, []).append(who)
    return found


class Fuse:
    """Kills the process with SIGKILL right before its n-th change of a store.

    Args:
        store: the store's folder.
        changes: number of changes that still happen; None only counts.
    """

    def __init__(self, store: Path, changes: int | None) -> None:
        self._prefix, self._last, self.seen = f"{store}{os.sep}", changes, 0

    def see(self, event: str, path: str, flags: int) -> None:
        """Process one event of the interpreter."""
        writes = event in CHANGES or (event == "open" and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if not writes or not path.startswith(self._prefix):
            return
        if self.seen == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen += 1


fuses: list[Fuse] = []
"""The active fuses of this process."""


def _listen(event: str, given: tuple[Any, ...]) -> None:
    if event not in CHANGES and event != "open":
        return
    path = given[0]
    if not isinstance(path, str | os.PathLike):
        return
    for fuse in fuses:
        fuse.see(event, os.fspath(path), given[2] if event == "open" else 0)
    if event == "os.rename" and isinstance(given[1], str | os.PathLike):
        _note(Path(os.fspath(path)), Path(os.fspath(given[1])))


def _note(source: Path, target: Path) -> None:
    if len(target.parents) < 3 or target.parents[1].name != "records":
        return
    file = journal(target.parents[2])
    if not file.exists():
        return
    handle = os.open(file, os.O_WRONLY | os.O_APPEND)
    os.write(
        handle, f"{os.getpid()}@{time.monotonic():.3f} {target.stem} {source}\n".encode()
    )  # a single write keeps lines of several processes whole
    os.close(handle)


sys.addaudithook(_listen)
