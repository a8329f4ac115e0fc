"""Checkpoints: the state of a training or a prediction under way, from which a later run continues."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from rib.files import is_stamped, plain, stamp, written_aside


class Checkpoint(Protocol):
    """The store of a training's or a prediction's state, from which it resumes."""

    def load(self) -> dict[str, Any] | None:
        """The state that was kept; None without one."""
        ...

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep a state; the callable is called only when it is time for a checkpoint."""
        ...


class FileCheckpoint:
    """A checkpoint in a file. Writing is limited in frequency, and to a twentieth of the time.

    Args:
        path: the file; removed with `clear` when its run is done.
        seconds: least time between two writes; 0 writes always.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        self._last, self._pause = time.monotonic(), seconds

    def load(self) -> dict[str, Any] | None:
        """The state that was kept; None without one, or with one that is not whole (torch sees no flipped bit)."""
        try:
            if not is_stamped(self.path):
                return None
            state: dict[str, Any] = torch.load(plain(self.path), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError):
            return None
        return state

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state, unless one was written not long ago."""
        began = time.monotonic()
        if began - self._last < self._pause:
            return
        with written_aside(self.path) as aside:
            with aside.open("wb") as file:  # given a name, torch does not say why it could not write
                torch.save(state(), file)
            stamp(aside, self.path.name)
        self._last = time.monotonic()
        self._pause = max(self.seconds, 20 * (self._last - began)) if self.seconds else 0.0

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
