"""The shared parts of all benchmarks: how two pieces of work are timed against each other, and the rows of the
table."""

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
        goal: number of the goal, "P2".
        what: the measured work, in a few words.
        against: the peer.
        wanted: the goal in words, "≥ 150 ×".
        measured: the figure in words, with its unit, "289 ×".
        met: whether the goal is reached; None for a figure without a goal.
        note: what a reader should know.
        limit: what keeps it from its goal, and what was tried; shown if the goal is missed.
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
        """The text about this row below the table."""
        return "; ".join(filter(None, (self.note, self.limit if self.met is False else "")))


@dataclass(frozen=True)
class Setting:
    """Settings of a benchmark.

    Attributes:
        device: "cpu" or a torch device.
        quick: less work and fewer repeats, to check that a benchmark runs; the figures are not to be quoted.
    """

    device: str = "cpu"
    quick: bool = False

    @property
    def gpu(self) -> bool:
        """Whether the device is not the CPU."""
        return self.device != "cpu"

    @property
    def model(self) -> str:
        """The ViT whose steps are measured, by timm's name."""
        return "vit_base_patch16_224" if self.gpu else "vit_tiny_patch16_224"

    @property
    def precision(self) -> Precision:
        """Precision of its steps."""
        return "bf16" if self.gpu else "fp32"

    @property
    def clock(self) -> Callable[[], float]:
        """Clock of its steps. On a CPU it is processor time, which other users of the machine do not affect."""
        return time.perf_counter if self.gpu else time.process_time

    def repeats(self, usual: int) -> int:
        """Number of repeats: `usual`, or two with `quick`."""
        return 2 if self.quick else usual


@dataclass
class Timings:
    """Seconds of several pieces of work, round by round.

    Attributes:
        seconds: by name of the work, one figure per round; rounds are paired.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Median seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> float:
        """Median over rounds of slow / fast, each ratio within one round."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        return statistics.median(one / other for one, other in pairs)


def interleaved(
    works: Mapping[str, Work], repeats: int, clock: Callable[[], float] = time.perf_counter, warmup: int = 1
) -> Timings:
    """Time pieces of work in turn, A B A B …, so that a change of the machine's speed affects all of them equally.

    Args:
        works: the work by name.
        repeats: number of rounds that count.
        clock: wall seconds by default; use `time.process_time` if other work shares the machine.
        warmup: number of rounds before, which do not count.
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
    """End times of the steps of a training; on a GPU from events in its stream, because reports run ahead of it.

    Attributes:
        setting: determines the clock.
    """

    setting: Setting
    _events: list[torch.cuda.Event] = field(default_factory=list)
    _seconds: list[float] = field(default_factory=list)
    _began: bool = False

    def watch(self, images: int) -> None:
        """Receive the progress, as `rib.training.loop.train` reports it."""
        if not self._began:  # the first call reports the start of the training
            self._began = True
            return
        if self.setting.gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.setting.device))
            self._events.append(event)
        else:
            self._seconds.append(self.setting.clock())

    def spans(self) -> list[float]:
        """Seconds from each step's end to the next step's end."""
        wait()
        between = [one.elapsed_time(other) / 1e3 for one, other in pairwise(self._events)]
        return between or [after - before for before, after in pairwise(self._seconds)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one torch thread within the block. Several threads wait for each other while others use the machine, and
    that waiting counts as processor time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def wait() -> None:
    """Wait until the GPU, if one is in use, has finished its work."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def at_least(goal: str, what: str, against: str, wanted: float, ratio: float, note: str = "", limit: str = "") -> Row:
    """A row whose ratio must reach a number."""
    return Row(goal, what, against, f"≥ {wanted:g} ×", f"{ratio:.3g} ×", ratio >= wanted, note, limit)


def at_most(goal: str, what: str, against: str, wanted: float, ratio: float, note: str = "", limit: str = "") -> Row:
    """A row whose ratio must not exceed a number."""
    return Row(goal, what, against, f"≤ {wanted:g} ×", f"{ratio:.3g} ×", ratio <= wanted, note, limit)


def share(goal: str, what: str, against: str, wanted: float, ratio: float, note: str = "", limit: str = "") -> Row:
    """A row whose work must reach a share of its limit.

    Args:
        goal: number of the goal.
        what: the measured work.
        against: the limit.
        wanted: the goal in percent.
        ratio: time of the limit / time of the work.
        note: what a reader should know.
        limit: what keeps it from its goal.
    """
    percent = 100 * ratio
    return Row(goal, what, against, f"≥ {wanted:g} %", f"{percent:.3g} %", percent >= wanted, note, limit)


def shown(goal: str, what: str, against: str, measured: str, note: str = "") -> Row:
    """A row without a goal."""
    return Row(goal, what, against, "", measured, None, note)


def total_met(rows: Iterable[Row]) -> tuple[int, int]:
    """The number of goals that are met, and the number of goals."""
    judged = [row.met for row in rows if row.met is not None]
    return sum(judged), len(judged)
