"""Profile: the time of a run by kind of step, from the records and from what the run noted about itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from rib.results.results import Results
from rib.steps import KINDS
from rib.store.record import Record


@dataclass(frozen=True)
class ProfileLine:
    """Cost of the finished steps of one kind.

    Attributes:
        kind: "pretraining", "features", "fitting", "predicting", "comparing" or "all".
        what: the method, the data set or the analysis; empty for a whole kind.
        steps: number of finished steps, from any run.
        seconds: their wall time, summed over workers.
        cpu, loading: as in `Record`, summed; None if a record lacks it.
        images: number of images that went through a model.
        now: number of these steps that this run finished.
        seconds_now: wall time of the steps of this run.
    """

    kind: str
    what: str
    steps: int
    seconds: float
    cpu: float | None
    loading: float | None
    images: int
    now: int
    seconds_now: float

    @property
    def title(self) -> str:
        """Human-readable label."""
        return f"{self.kind} {self.what}".strip()


@dataclass(frozen=True)
class Profile:
    """The time of a run by kind of step.

    Attributes:
        lines: one line per kind, in the order in which steps depend on each other.
        total: the sum of all lines.
        workers: number of workers of this run; 0 if nothing was missing.
        decoding: seconds of decoding before the first step.
        working: seconds from then to the end of the last step.
        waiting: seconds of workers outside finished steps: starting, waiting for each other, steps that failed.
    """

    lines: tuple[ProfileLine, ...]
    total: ProfileLine
    workers: int
    decoding: float
    working: float
    waiting: float


def profile(results: Results, made: Set[str], workers: int, decoding: float, working: float) -> Profile:
    """The profile of a run.

    Args:
        results: results of the plan that was run.
        made: keys of the steps that this run finished.
        workers, decoding, working: as in `Profile`.
    """
    found: dict[tuple[str, str], list[Record]] = {(kind.activity, ""): [] for kind in KINDS}
    for step in results.plan.steps:
        if record := results.records.get(step.key):
            found.setdefault((step.activity, step.detail), []).append(record)
    order = [kind.activity for kind in KINDS]
    lines = [_line(*place, records, made) for place, records in found.items() if records]
    lines.sort(key=lambda line: order.index(line.kind))
    total = _line("all", "", [record for records in found.values() for record in records], made)
    return Profile(
        lines=tuple(lines),
        total=total,
        workers=workers,
        decoding=decoding,
        working=working,
        waiting=max(0.0, workers * working - total.seconds_now),
    )


def _line(kind: str, what: str, records: Sequence[Record], made: Set[str]) -> ProfileLine:
    now = [record.seconds for record in records if record.key in made]
    return ProfileLine(
        kind=kind,
        what=what,
        steps=len(records),
        seconds=sum(record.seconds for record in records),
        cpu=_sum(record.cpu for record in records),
        loading=_sum(record.loading for record in records),
        images=sum(record.images for record in records),
        now=len(now),
        seconds_now=sum(now),
    )


def _sum(amounts: Iterable[float | None]) -> float | None:
    """The sum; None if an amount is unknown."""
    listed = list(amounts)
    known = [each for each in listed if each is not None]
    return sum(known) if len(known) == len(listed) else None
