"""Progress: the display of running steps."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from rib.text.terminal import printable, say


class Watcher(Protocol):
    """Receives the events of a run, and may show them."""

    def begin(self, steps: int, done: int, work: float) -> None:
        """Announce `steps` steps in total, `done` of them finished before, and `work` image passes to do."""

    def now(self, title: str) -> None:
        """Announce a step that has started."""

    def images(self, count: int, passes: float) -> None:
        """Count `count` more images through a model, at the cost of `passes` forward passes."""

    def finished(self, work: float) -> None:
        """A step is finished, with `work` image passes."""

    def say(self, line: str) -> None:
        """Show a message on a line of its own."""


class Silent:
    """Shows nothing."""

    def begin(self, steps: int, done: int, work: float) -> None: ...
    def now(self, title: str) -> None: ...
    def images(self, count: int, passes: float) -> None: ...
    def finished(self, work: float) -> None: ...
    def say(self, line: str) -> None: ...


class Announced:
    """A watcher that announces the amount of work and then passes everything to another watcher.

    Args:
        watcher: the other watcher.
        name: name of the work.
    """

    def __init__(self, watcher: Watcher, name: str) -> None:
        self._watcher, self._name = watcher, name
        self.now, self.images, self.finished, self.say = watcher.now, watcher.images, watcher.finished, watcher.say

    def begin(self, steps: int, done: int, work: float) -> None:
        cost = f", {work:,.0f} forward passes" if steps > done else ""
        self.say(f"{self._name}: {steps - done:,} of {steps:,} steps to do{cost}")
        self._watcher.begin(steps, done, work)


class _Tally:
    """The counters that all watchers share."""

    def __init__(self) -> None:
        self.steps = self.done = self.before = 0
        self.work = self.work_done = self.under_way = 0.0
        self.image_count = 0
        self.title = ""
        self.began = time.monotonic()

    @property
    def share(self) -> float:
        """Share of the work that is done, including parts of unfinished steps."""
        return min(1.0, (self.work_done + self.under_way) / self.work) if self.work else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds left, estimated from the share of work that is done."""
        elapsed = time.monotonic() - self.began
        if self.share < 0.02 or elapsed < 2:
            return None
        return elapsed * (1 - self.share) / self.share

    def count(self, images: int, passes: float) -> None:
        """Count images that went through a model."""
        self.image_count += images
        self.under_way += passes

    def settle(self, work: float) -> None:
        """Count a finished step: its true work replaces the estimate."""
        self.done += 1
        self.work_done += work
        self.under_way = max(0.0, self.under_way - work)

    @property
    def rate(self) -> float:
        """Images per second since the start."""
        return self.image_count / max(1e-9, time.monotonic() - self.began)

    def counts(self, unit: str) -> str:
        """Steps, images per second if counted here, and time left."""
        rate = [f"{self.rate:,.0f} {unit}"] if self.image_count else []
        return " · ".join([f"{self.done}/{self.steps} steps", *rate, f"{duration(self.seconds_left)} left"])


class PlainLines:
    """Prints a line from time to time, for outputs that are no terminal.

    Args:
        seconds: minimum time between two lines.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds, self._last = seconds, time.monotonic()
        self._tally = _Tally()

    def begin(self, steps: int, done: int, work: float) -> None:
        self._tally = _Tally()
        self._tally.steps, self._tally.done, self._tally.work = steps, done, work

    def now(self, title: str) -> None:
        self._tally.title = title

    def images(self, count: int, passes: float) -> None:
        self._tally.count(count, passes)
        self._maybe()

    def finished(self, work: float) -> None:
        self._tally.settle(work)
        self._maybe()

    def say(self, line: str) -> None:
        say(line)

    def _maybe(self) -> None:
        if time.monotonic() - self._last < self._seconds:
            return
        self._last = time.monotonic()
        tally = self._tally
        self.say(f"{tally.counts('inputs/s')} · {tally.title}")


class Bar(_Tally):
    """A live bar in a terminal: steps, current step, images per second, time left."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
            _Counts(self),
            TextColumn("{task.fields[title]}", markup=False, table_column=Column(ratio=2, no_wrap=True, min_width=10)),
            console=console,
            transient=True,
            expand=True,
        )
        self._task = self._progress.add_task("run", total=None, title="planning")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, steps: int, done: int, work: float) -> None:
        self.steps, self.done, self.work = steps, done, work
        self.image_count, self.under_way = 0, 0.0  # what was decoded before is no part of the work
        self.began = time.monotonic()
        self._progress.update(self._task, total=max(work, 1e-9), completed=0)

    def now(self, title: str) -> None:
        self._progress.update(self._task, title=title)

    def images(self, count: int, passes: float) -> None:
        self.count(count, passes)
        self._progress.update(self._task, completed=self.share * self.work)

    def finished(self, work: float) -> None:
        self.settle(work)
        self._progress.update(self._task, completed=self.share * self.work)

    def say(self, line: str) -> None:
        self._progress.console.print(printable(line), highlight=False, markup=False, emoji=False)


class _Counts(ProgressColumn):
    """Steps, images per second and time left of a bar."""

    def __init__(self, tally: _Tally) -> None:
        super().__init__()
        self._tally = tally

    def render(self, task: Task) -> Text:
        return Text(self._tally.counts("inputs/s"))


def duration(seconds: float | None) -> str:
    """A duration as text: 8 s, 3 min 20 s, 5 h 10 min."""
    if seconds is None:
        return "…"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
