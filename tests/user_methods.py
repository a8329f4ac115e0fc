"""Methods as a user would bring them, for tests of runs that are disturbed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from rib.methods import Method, Task
from rib.models.weights import Weights


class Slow(Method):
    """Takes its time and changes nothing."""

    name = "slow"
    seconds: float = 1.0

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        time.sleep(self.seconds)
        return dict(start)


class Dies(Method):
    """Kills its own process, as often as it is told."""

    name = "dies"
    deaths: int = 1
    folder: str

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        died = len(list(Path(self.folder).glob("death*")))
        if died < self.deaths:
            (Path(self.folder) / f"death{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {name: tensor * 0.9 for name, tensor in start.items()}
