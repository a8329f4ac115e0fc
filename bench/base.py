"""What every benchmark shares: how two pieces of work are timed beside each other, and what a row of the table says."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import torch

from rib.recipe import Precision

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        goal: its number, "P2".
        what: what was measured, in a few words.
        against: the peer that it was measured beside.
        wanted: the goal in words, "≥ 150 ×".
        measured: the figure in words, with its unit, "289 ×".
        met: whether the goal is reached; None for a figure that has no goal of its own.
        note: what a reader should know.
        limit: what keeps it from its goal, and what was tried; told where the goal is not reached.
    """

    goal: str
    what: str
    against: str
    wanted: str
    measured: str
    met: bool | None
    note: str = ""
    limit: str = ""

    @property
    def told(self) -> str:
        """What is said of it below the table."""
        return "; ".join(filter(None, (self.note, self.limit if self.met is False else "")))


@dataclass(frozen=True)
class Setting:
    """What a benchmark is run with.

    Attributes:
        device: "cpu" or a torch device.
        quick: smaller work, fewer repeats: to see that a benchmark runs, not to quote.
    """

    device: str = "cpu"
    quick: bool = False

    @property
    def gpu(self) -> bool:
        """Whether it is not the processor that is measured."""
        return self.device != "cpu"

    @property
    def model(self) -> str:
        """The ViT whose steps are measured, as timm calls it."""
        return "vit_base_patch16_224" if self.gpu else "vit_tiny_patch16_224"

    @property
    def precision(self) -> Precision:
        """Of its steps."""
        return "bf16" if self.gpu else "fp32"

    @property
    def clock(self) -> Callable[[], float]:
        """Of its steps: of the processor's time others that share the machine take none."""
        return time.perf_counter if self.gpu else time.process_time

    def repeats(self, usual: int) -> int:
        """How often to measure: at least three times, less when quick."""
        return 2 if self.quick else usual


@dataclass
class Timings:
    """Seconds of several pieces of work, round by round.

    Attributes:
        seconds: by the name of the work, one figure a round; rounds are paired.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Median seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> float:
        """Median over the rounds of slow / fast, each ratio within one round."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        return statistics.median(one / other for one, other in pairs)


def interleaved(
    works: Mapping[str, Work], repeats: int, clock: Callable[[], float] = time.perf_counter, warmup: int = 1
) -> Timings:
    """Time pieces of work in turn, A B A B …, so that a machine that drifts slows all of them alike.

    Args:
        works: by name.
        repeats: rounds that count.
        clock: wall seconds by default; `time.process_time` where other work shares the machine.
        warmup: rounds that do not count.
    """
    timings = Timings({name: [] for name in works})
    for turn in range(warmup + repeats):
        for name, work in works.items():
            gc.collect()
            wait()
            began = clock()
            work()
            wait()
            if turn >= warmup:
                timings.seconds[name].append(clock() - began)
    return timings


@dataclass
class Marks:
    """When the steps of a training were done: on a GPU by events in its order of work, for reports are ahead of it.

    Attributes:
        setting: which clock.
    """

    setting: Setting
    _events: list[torch.cuda.Event] = field(default_factory=list)
    _seconds: list[float] = field(default_factory=list)
    _began: bool = False

    def watch(self, images: int) -> None:
        """Called with progress, as `rib.training.loop.train` calls it."""
        if not self._began:  # the first call says where the training stands
            self._began = True
            return
        if self.setting.gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.setting.device))
            self._events.append(event)
        else:
            self._seconds.append(self.setting.clock())

    def spans(self) -> list[float]:
        """Seconds from each step's end to the next one's."""
        wait()
        between = [one.elapsed_time(other) / 1e3 for one, other in pairwise(self._events)]
        return between or [after - before for before, after in pairwise(self._seconds)]


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread within: several wait for each other at work while others use the machine, and it is counted."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def wait() -> None:
    """Until the GPU, if there is one in use, has done what it was asked."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def at_least(goal: str, what: str, against: str, wanted: float, ratio: float, note: str = "", limit: str = "") -> Row:
    """A row whose ratio must reach a number."""
    return Row(goal, what, against, f"≥ {wanted:g} ×", f"{ratio:.3g} ×", ratio >= wanted, note, limit)


def at_most(goal: str, what: str, against: str, wanted: float, ratio: float, note: str = "", limit: str = "") -> Row:
    """A row whose ratio may not exceed a number."""
    return Row(goal, what, against, f"≤ {wanted:g} ×", f"{ratio:.3g} ×", ratio <= wanted, note, limit)


def shown(goal: str, what: str, against: str, measured: str, note: str = "") -> Row:
    """A row without a goal of its own."""
    return Row(goal, what, against, "", measured, None, note)


def total_met(rows: Iterable[Row]) -> tuple[int, int]:
    """How many goals are met, of how many."""
    judged = [row.met for row in rows if row.met is not None]
    return sum(judged), len(judged)
