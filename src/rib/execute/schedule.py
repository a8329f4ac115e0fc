"""Schedule: groups the missing steps into jobs that keep weights in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from rib.steps import Predict, Step

LARGE = 500_000
"""Steps with at least this many image passes are separate jobs; building their net again costs little then."""

Work = Callable[[Step], float]


@dataclass(frozen=True)
class Job:
    """Steps that one worker runs in sequence: a model's weights, then its predictions and analyses.

    Attributes:
        steps: in order.
        needs: indices of the jobs that must be done before.
        rank: work of the longest chain of jobs that starts with this one; a higher rank starts first.
    """

    steps: tuple[Step, ...]
    needs: frozenset[int]
    rank: float = 0.0


def jobs(
    steps: Sequence[Step],
    swept: Iterable[Sequence[Predict]] = (),
    passes: Work | None = None,
    work: Work | None = None,
) -> list[Job]:
    """Group steps into jobs, each step after the steps that it needs.

    Args:
        steps: the steps to do.
        swept: groups of predictions that share one pass over the data; each group is a job.
        passes: image passes of a step. A step with very many is a separate job, and so are the readers of its
            features. Then no step waits for a large one that it does not need, and many workers find enough jobs.
            None: no separate jobs.
        work: work of a step in any unit, for the rank; None for ranks of 0, which keep the order of the steps.
    """
    together = {step.key: f"sweep {number}" for number, group in enumerate(swept) for step in group}
    grouped: dict[str, list[Step]] = {}
    for step in steps:
        own = f"large {step.key}" if passes and _is_large(step, passes) else step.subject
        grouped.setdefault(together.get(step.key, own), []).append(step)
    groups = list(grouped.values())
    place = {step.key: number for number, group in enumerate(groups) for step in group}
    needs = [
        frozenset(place[need.key] for step in group for need in _before(step) if need.key in place) - {number}
        for number, group in enumerate(groups)
    ]
    ranks = _ranks(needs, [sum(map(work, group)) for group in groups]) if work else [0.0] * len(groups)
    return [Job(tuple(group), needed, rank) for group, needed, rank in zip(groups, needs, ranks, strict=True)]


def _is_large(step: Step, passes: Work) -> bool:
    return passes(step) >= LARGE or (step.features is not None and passes(step.features) >= LARGE)


def _ranks(needs: Sequence[frozenset[int]], own: Sequence[float]) -> list[float]:
    """Work of the longest chain of jobs that starts with each job."""
    ranks, waiting = list(own), users_of(needs)
    for number in TopologicalSorter(waiting).static_order():
        ranks[number] += max((ranks[user] for user in waiting.get(number, ())), default=0.0)
    return ranks


def users_of(needs: Sequence[frozenset[int]]) -> dict[int, list[int]]:
    """The indices of the jobs that need each job."""
    users: dict[int, list[int]] = {}
    for number, needed in enumerate(needs):
        for need in needed:
            users.setdefault(need, []).append(number)
    return users


def _before(step: Step) -> tuple[Step, ...]:
    """The steps that a step needs, and those whose output it reads if present."""
    return (*step.needs, step.features) if step.features else step.needs


class Queue:
    """Hands out jobs whose needs are done, the one with the longest chain first.

    Args:
        listed: the jobs.
    """

    def __init__(self, listed: Sequence[Job]) -> None:
        self._jobs = listed
        self._left = [len(job.needs) for job in listed]
        self._users = users_of([job.needs for job in listed])
        self._ready = deque(self._ranked(number for number, left in enumerate(self._left) if left == 0))

    def _ranked(self, numbers: Iterable[int]) -> list[int]:
        return sorted(numbers, key=lambda number: -self._jobs[number].rank)

    def take(self) -> int | None:
        """The number of the next job; None if every remaining job waits for a running one."""
        return self._ready.popleft() if self._ready else None

    def put_back(self, number: int) -> None:
        """Queue a job again that was taken but not done."""
        self._ready.appendleft(number)

    def done(self, number: int) -> None:
        """A job has ended or failed: the jobs that waited for it can start. They come first."""
        for user in reversed(self._ranked(self._users.get(number, []))):
            self._left[user] -= 1
            if self._left[user] == 0:
                self._ready.appendleft(user)
