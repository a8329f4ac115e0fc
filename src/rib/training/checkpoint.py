"""Checkpoints: the state of an unfinished training or prediction, from which a later run continues."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from rib.files import is_stamped, plain, stamp, written_aside


class Checkpoint(Protocol):
    """Stores the state of a training or a prediction, which resumes from it."""

    def load(self) -> dict[str, Any] | None:
        """The stored state; None if there is none."""
        ...

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Store a state. The callable is only called if a checkpoint is due."""
        ...


class FileCheckpoint:
    """A checkpoint in a file. Writing takes at most a twentieth of the time.

    Args:
        path: the file; `clear` removes it when its run is done.
        seconds: minimum time between two writes; 0 for every state.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        self._last, self._pause = time.monotonic(), seconds

    def load(self) -> dict[str, Any] | None:
        """The stored state; None if there is none or it is damaged (torch does not notice flipped bits)."""
        try:
            if not is_stamped(self.path):
                return None
            state: dict[str, Any] = torch.load(plain(self.path), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError):
            return None
        return state

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state, unless the last write was too recent."""
        began = time.monotonic()
        if began - self._last < self._pause:
            return
        with written_aside(self.path) as aside:
            with aside.open("wb") as file:  # with a file name, torch hides why a write failed
                torch.save(state(), file)
            stamp(aside, self.path.name)
        self._last = time.monotonic()
        self._pause = max(self.seconds, 20 * (self._last - began)) if self.seconds else 0.0

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
