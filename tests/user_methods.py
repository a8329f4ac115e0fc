"""Methods as a user would bring them, for tests of runs that are disturbed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import torch

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


class Marked(Method):
    """Leaves a line in a file whenever it is done, and so tells how often that is; then does as its name says."""

    folder: str

    def tries(self) -> int:
        """How often it was begun, this time included."""
        with (Path(self.folder) / f"{self.name}.txt").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return len((Path(self.folder) / f"{self.name}.txt").read_text().splitlines())


class Counts(Marked):
    """Takes a moment."""

    name = "counts"
    seconds: float = 0.05

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        self.tries()
        time.sleep(self.seconds)
        return {name: tensor * (1 - self.seconds) for name, tensor in start.items()}


class Waits(Marked):
    """Waits until the file `go` is there, and changes nothing."""

    name = "waits"

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        self.tries()
        while not (Path(self.folder) / "go").exists():
            time.sleep(0.05)
        return dict(start)


class Hangs(Marked):
    """Does not come back, so many times."""

    name = "hangs"
    times: int = 1

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        while self.tries() <= self.times:
            time.sleep(1000)
        return dict(start)


class Greedy(Marked):
    """Asks for more memory than there is, so many times."""

    name = "greedy"
    times: int = 1

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        if self.tries() <= self.times:
            raise torch.OutOfMemoryError("as CUDA says it")
        return dict(start)


class Fails(Marked):
    """Says something and fails, so many times."""

    name = "fails"
    times: int = 1

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        print("what it said before")
        if self.tries() <= self.times:
            raise LookupError("of its own")
        return dict(start)


class Hungry(Method):
    """Takes memory until its process is killed, as often as the environment says."""

    name = "hungry"
    factor: float = 0.9

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        meals = [Path(name) for name in os.environ.get("TEST_MEALS", "").split(":") if name]
        for meal in meals:
            if not meal.exists():
                meal.touch()
                held = []
                while True:
                    held.append(b"x" * (32 << 20))
        return {name: tensor * self.factor for name, tensor in start.items()}
