"""The profile of a run as text and as JSON types."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.text import Text

from rib.report.grid import ABSENT, cut, duration, grid, wrapped
from rib.results.profile import Profile, ProfileLine

HEADS = ("steps", "wall", "share", "CPU", "loading", "now", "wall now")


def summary(found: Profile) -> str:
    """Summarise this run in a sentence or two."""
    if not found.total.now:
        return "This run made no step: all of them were there."
    before = found.total.steps - found.total.now
    held = found.workers * found.working
    workers = "1 worker" if found.workers == 1 else f"{found.workers} workers"
    share = 100 * found.waiting / held if held else 0.0
    return (
        f"This run made {found.total.now:,} of these steps in {_time(found.working)} with {workers}"
        + (f" ({before:,} were there)" if before else "")
        + f": {_time(found.total.seconds_now)} at work, {_time(found.waiting)} starting or waiting ({share:.0f} %)."
        + (f" Decoding before: {_time(found.decoding)}." if found.decoding >= 0.05 else "")
    )


def profile_lines(found: Profile, width: int) -> list[Text]:
    """The profile for a terminal with `width` columns."""
    lines = [*found.lines, found.total]
    cells = [[Text(cell) for cell in row_cells(line, found.total)] for line in lines]
    table = grid("where the time went", [line.title for line in lines], HEADS, cells, width)
    said = wrapped(f"{summary(found)} Times of steps are added up over workers.", width, "dim")
    return [cut(line, width) for line in [Text(), *table, Text(), *said]]


def row_cells(line: ProfileLine, total: ProfileLine) -> tuple[str, ...]:
    """Cells of a line: steps, wall time, share of all time, CPU, loading; steps and time of this run."""
    return (
        f"{line.steps:,}",
        _time(line.seconds),
        f"{100 * line.seconds / total.seconds:z.1f} %" if total.seconds else ABSENT,
        _time(line.cpu),
        _time(line.loading),
        f"{line.now:,}",
        _time(line.seconds_now),
    )


def _time(seconds: float | None) -> str:
    return ABSENT if seconds is None else duration(seconds)


def profile_json(found: Profile) -> dict[str, Any]:
    """The profile as JSON types."""
    return asdict(found)
