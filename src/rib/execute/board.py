"""Board: the state of all jobs as one driver sees it: done, running, leased by other drivers, or to do."""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rib.execute.progress import Watcher
from rib.execute.schedule import Job, Queue
from rib.plan import Plan
from rib.steps import How, Step, distinct
from rib.store.leases import Lease, Leases
from rib.store.news import News
from rib.store.owners import STOPPED_EXPIRY
from rib.store.record import Failure
from rib.store.store import Store

SOONEST, LATEST = 0.02, 1.0
"""Seconds between two polls of other drivers; the interval grows while nothing changes."""

SILENT_SECONDS = 3.0
"""Seconds that a driver waits for other drivers before it names them."""

LOOKS, PATIENT = 2000.0, 30.0
"""All waiting drivers together poll at most LOOKS jobs per second; each polls at least every PATIENT seconds."""


@dataclass
class RunOutcome:
    """The outcome of a run. Two outcomes are equal if the same steps were done, whatever time they took.

    Attributes:
        done: number of steps done now.
        before: number of steps that were done before.
        failed: reason by title of each step that failed, now or before.
        interrupted: whether the user stopped it.
        made: keys of the steps done now.
        workers: number of workers.
        decoding: seconds of decoding data before the first step.
        working: seconds from then to the end of the last step.
        elsewhere: number of steps that other drivers did meanwhile.
        doubled: number of steps done twice, with the same result, because another driver took their lease over.
    """

    done: int = 0
    before: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    made: set[str] = field(default_factory=set, compare=False)
    workers: int = field(default=0, compare=False)
    decoding: float = field(default=0.0, compare=False)
    working: float = field(default=0.0, compare=False)
    elsewhere: int = 0
    doubled: int = 0


class Board:
    """Hands out jobs under a lease, receives their results, and removes weights that no step needs any more.

    Args:
        plan: the plan with the steps.
        store: the store for the results.
        how: settings, such as which weights to keep.
        watcher: receives the progress.
        outcome: updated in place.
        listed: the jobs to do.
        leases: leases of the store.
        held_back: reason by key of steps that failed before and are not retried.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        how: How,
        watcher: Watcher,
        outcome: RunOutcome,
        listed: Sequence[Job],
        leases: Leases,
        held_back: dict[str, str] | None = None,
    ) -> None:
        self.plan, self.store, self.how, self.watcher, self.outcome = plan, store, how, watcher, outcome
        self.jobs, self.queue, self.leases = listed, Queue(listed), leases
        self.failed: dict[str, str] = {}
        self._elsewhere: deque[int] = deque()
        self._next_look, self._pause = 0.0, SOONEST
        self._looking: int | None = None  # jobs of other drivers still to check in this poll; None between polls
        self._steps = {step.key: step for step in plan.steps}
        self._settled: set[str] = set()  # done or failed, here or by another driver
        self._left = {step.key for job in listed for step in job.steps}
        self._news = News(store.root / "records", self._left)
        self._unsure: set[str] = set()  # recorded by another driver, with files missing
        self._reasons: set[str] = set()
        self._asked_whether_alone = 0.0
        self._idle_since: float | None = None
        self._told: set[tuple[str, bool]] = set()  # owners already named in a message, by whether they were stopped
        self._read = [{key for step in job.steps for key in _weights_read(step)} & self._steps.keys() for job in listed]
        self._users = Counter(itertools.chain.from_iterable(self._read))
        self._unneeded = set(left_behind(plan, store, how.keep)) - self._users.keys()
        self._before = {key: store.last_failure(key) for key in store.failed_keys()}
        for key, reason in (held_back or {}).items():
            self.fail(key, reason)

    # -- handing out -------------------------------------------------------------------------------------------------

    def take(self) -> int | None:
        """The number of a job whose leases this driver has just taken; None if no job can start now.

        Jobs of other drivers are remembered and polled; `waits` says whether there are any.
        """
        while (number := self._candidate()) is not None:
            if self._is_over(number):
                self.end(number)
            elif self._lease(number):
                self._idle_since = None
                return number
            else:
                self._elsewhere.append(number)
        if self._elsewhere:
            self._say_for_whom()
        return None

    def _say_for_whom(self) -> None:
        """After a while without work, report which drivers it waits for, since when, and what the user can do."""
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        if now - self._idle_since < SILENT_SECONDS or self._looking is not None:
            return
        for key in {step.key for number in self._elsewhere for step in self.jobs[number].steps} & self._left:
            lease = self.leases.lease_of(key)
            if lease is None or lease.owner is None:
                continue
            stopped = self.leases.is_stopped(lease.owner)
            if (lease.owner.id, stopped) not in self._told:
                self._told.add((lease.owner.id, stopped))
                self.watcher.say(_waiting(lease, stopped, self._steps[key].title))

    @property
    def waits(self) -> bool:
        """Whether other drivers run jobs that this driver needs."""
        return bool(self._elsewhere) and not self.leases.dismissed

    @property
    def patience(self) -> float | None:
        """Seconds until the next poll of other drivers; None if there are none."""
        return max(0.0, self._next_look - time.monotonic()) if self._elsewhere else None

    def _candidate(self) -> int | None:
        """A job that can start, as far as this driver knows.

        When a poll of other drivers is due, their jobs come first, each once: finished jobs make others ready, and this
        driver takes over the jobs of dead drivers before new ones.
        """
        if self.leases.dismissed:
            return None
        if self._looking is None and self._elsewhere and time.monotonic() >= self._next_look:
            self._looking = len(self._elsewhere)
        if self._looking:
            self._looking -= 1
            return self._elsewhere.popleft()
        if self._looking == 0:
            self._looking = None
            self._put_off()
        return self.queue.take()

    def _put_off(self) -> None:
        """Set the time of the next poll."""
        self._pause = min(2 * self._pause, LATEST + len(self._elsewhere) / 50)
        all_looks = (1 + self.leases.others()) * len(self._elsewhere)
        self._next_look = time.monotonic() + max(self._pause, min(all_looks / LOOKS, PATIENT))

    def _is_over(self, number: int) -> bool:
        return all(step.key in self._settled or self._was_done(step) for step in self.jobs[number].steps)

    def _lease(self, number: int) -> bool:
        """Take a lease on every remaining step of a job, or on none.

        The name of a lease is the key of its step, because drivers may group steps into jobs differently. Leases are
        taken in the same order by all drivers, so if jobs overlap, one driver can continue.
        """
        taken: list[str] = []
        for key in sorted(step.key for step in self.jobs[number].steps if step.key not in self._settled):
            if not self.leases.take(key):
                for other in taken:
                    self.leases.drop(other)
                return False
            taken.append(key)
        return True

    def begin(self, number: int) -> tuple[Step, ...]:
        """The steps of a job, without finished steps and steps that need a failed step of another job."""
        possible: list[Step] = []
        for step in self.jobs[number].steps:
            if step.key in self._settled or self._was_done(step):
                continue
            if lost := next((need for need in step.needs if need.key in self.failed), None):
                reason = self.failed[lost.key]
                if step.trains:
                    reason = f"{lost.title} failed: {reason}"  # the missing weights: an ingredient, or the pretraining
                self.store.write_failure(step.key, reason, kind="need")
                self.fail(step.key, reason)
            elif failure := self._failed_elsewhere(step.key):
                self.fail(step.key, failure.reason)
            else:
                possible.append(step)
        return tuple(possible)

    def _was_done(self, step: Step) -> bool:
        """Whether another driver has finished a step since this run started."""
        if not self.store.is_done(step.key):
            return False
        if not step.is_left(self.store):
            return False
        self._settle(step, elsewhere=1)
        return True

    def _failed_elsewhere(self, key: str) -> Failure | None:
        """The failure of a step at another driver since this run started; None if there is none."""
        failure = self.store.last_failure(key)
        return failure if failure != self._before.get(key) else None

    def settle_elsewhere(self) -> int:
        """Read the results and failures of other drivers; return the number of remaining steps."""
        self._unsure |= self._news.take()
        for key in sorted(self._unsure & self._left):
            self._was_done(self._steps[key])
        self._unsure &= self._left
        for key in sorted(self.store.failed_keys() & self._left):
            if failure := self._failed_elsewhere(key):
                self.fail(key, failure.reason)
        return len(self._left)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def tell(self, message: tuple[Any, ...]) -> None:
        """Process a message of a worker."""
        match message:
            case ("now", _, title):
                self.watcher.now(title)
            case ("images", count, passes):
                self.watcher.images(count, passes)
            case ("done", key):
                self.outcome.done += 1
                self.outcome.made.add(key)
                self._settle(self._steps[key])
            case ("failed", key, reason):
                self.fail(key, reason)

    def fail(self, key: str, reason: str) -> None:
        """Record a failed step."""
        step = self._steps[key]
        cause = reason.rpartition(" failed: ")[2]  # a step that needed a failed one has its reason
        if cause not in self._reasons:
            self._reasons.add(cause)
            self.watcher.say(f"failed: {step.title}\n  {reason}")
        self.failed[key] = reason
        self.outcome.failed[distinct(step, self.outcome.failed)] = reason
        self._settle(step)

    def _settle(self, step: Step, elsewhere: int = 0) -> None:
        self._settled.add(step.key)
        self._left.discard(step.key)
        self._pause = SOONEST
        self.outcome.elsewhere += elsewhere
        self.watcher.finished(self.plan.image_passes(step))

    def end(self, number: int) -> None:
        """End a job: release its leases, and remove weights that no other job reads, unless they are to be kept.

        Inputs of a failed step are kept for the next try. While other drivers run in the store, nothing is removed,
        because they may need it.
        """
        job = self.jobs[number]
        self.release(number)
        self.queue.done(number)
        if any(step.key in self.failed for step in job.steps):
            return
        for key in self._read[number]:
            self._users[key] -= 1
            if not self._users[key] and not self._steps[key].stays(self.how.keep):
                self._unneeded.add(key)
        if self._unneeded and time.monotonic() > self._asked_whether_alone + 1:
            self.let_go()

    def put_back(self, number: int) -> None:
        """A job was started but not finished: queue it again and keep its leases."""
        self.queue.put_back(number)

    def left(self, number: int) -> list[str]:
        """Keys of the steps of a job that are neither done nor failed."""
        return [
            step.key for step in self.jobs[number].steps if step.key not in self._settled and not self._was_done(step)
        ]

    def title(self, key: str) -> str:
        """Title of a step, for messages."""
        return self._steps[key].title

    def release(self, number: int) -> None:
        """Release a job's leases, and count the steps whose lease another driver has taken over."""
        for step in self.jobs[number].steps:
            if self.leases.has_taken(step.key) and not self.leases.drop(step.key):
                self.outcome.doubled += step.key in self.outcome.made

    def let_go(self) -> None:
        """Remove the weights that no step needs any more, unless other drivers run."""
        if self._unneeded and self.leases.alone():
            for key in self._unneeded:
                self.store.drop_weights(key)
                self.store.drop_features(key)
            self._unneeded.clear()
        self._asked_whether_alone = time.monotonic()


def left_behind(plan: Plan, store: Store, keep: str) -> Iterator[str]:
    """Keys of steps whose weights or features are in the store only until the steps that read them are done.

    After a killed run there may be more of them than those of running jobs.
    """
    if keep == "all":
        return
    for step in plan.steps:
        if step.leaves and not step.stays(keep) and store.path(step.leaves, step.key).exists():
            yield step.key


def _weights_read(step: Step) -> set[str]:
    """Keys of stored weights and features that a step writes or reads, including through merges."""
    read: set[str] = {step.features.key} if step.features else set()
    for item in (step, *step.needs):
        if item.keeps_weights:
            read.add(item.key)
        elif item is not step:
            read |= _weights_read(item)
    return read


def _waiting(lease: Lease, stopped: bool, title: str) -> str:
    """A message with the drivers that this driver waits for, and with what the user can do."""
    assert lease.owner is not None
    since = time.strftime("%H:%M:%S", time.localtime(time.time() - lease.age))
    who = f"process {lease.owner.pid} on {lease.owner.host}"
    if stopped:
        return (
            f"waiting for {who}, which is stopped (Ctrl-Z) and has: {title}\n  its last heartbeat was at {since}; "
            f"{STOPPED_EXPIRY:.0f} seconds after that, this run takes its steps over; `fg` continues it, "
            f"`kill -9 {lease.owner.pid}` ends it"
        )
    return (
        f"waiting for {who}, which runs: {title}\n  its last heartbeat was at {since}; if it "
        "should not continue, end it there, and this run takes its steps over"
    )
