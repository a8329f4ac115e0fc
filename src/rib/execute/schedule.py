"""Schedule: which steps are to do, in jobs that keep the weights at hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rib.steps import Predict, Step


@dataclass(frozen=True)
class Job:
    """Steps that one worker does one after the other: a model's weights, then what is asked of it.

    Attributes:
        steps: in order.
        needs: the jobs, by their place in the list, that must be done before.
    """

    steps: tuple[Step, ...]
    needs: frozenset[int]


def jobs(steps: Sequence[Step], swept: Iterable[Sequence[Predict]] = ()) -> list[Job]:
    """Steps to do, in jobs. Steps come after their needs.

    Args:
        steps: all of them.
        swept: predictions among them that are made together, in groups; each group is a job.
    """
    together = {step.key: f"sweep {number}" for number, group in enumerate(swept) for step in group}
    grouped: dict[str, list[Step]] = {}
    for step in steps:
        grouped.setdefault(together.get(step.key, step.subject), []).append(step)
    place = {step.key: number for number, group in enumerate(grouped.values()) for step in group}
    return [
        Job(
            tuple(group),
            frozenset(place[need.key] for step in group for need in _before(step) if need.key in place) - {number},
        )
        for number, group in enumerate(grouped.values())
    ]


def _before(step: Step) -> tuple[Step, ...]:
    """What a step needs, and what it reads where it is there."""
    return (*step.needs, step.features) if step.features else step.needs


class Queue:
    """Hands out jobs when the jobs they need are done.

    Args:
        listed: the jobs.
    """

    def __init__(self, listed: Sequence[Job]) -> None:
        self._jobs = listed
        self._left = [len(job.needs) for job in listed]
        self._users: dict[int, list[int]] = {}
        for number, job in enumerate(listed):
            for need in job.needs:
                self._users.setdefault(need, []).append(number)
        self._ready = deque(number for number, left in enumerate(self._left) if left == 0)

    def take(self) -> int | None:
        """The number of the next job; None where every job left waits for one that is under way."""
        return self._ready.popleft() if self._ready else None

    def put_back(self, number: int) -> None:
        """A job that was taken and not done."""
        self._ready.appendleft(number)

    def done(self, number: int) -> None:
        """A job is over, well or not: those that waited for it may begin. Jobs made ready go first."""
        for user in reversed(self._users.get(number, [])):
            self._left[user] -= 1
            if self._left[user] == 0:
                self._ready.appendleft(user)
