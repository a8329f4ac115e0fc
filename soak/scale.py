"""Scale: the whole paper sweep on very many GPUs that come and go, simulated event by event.

What is simulated are the plan and the jobs that `rib run` makes of `paper-sweep.toml`, each driver's own queue of them,
leases with their expiry, checkpoints and pre-emption. How long a step takes is computed: floating-point operations that
are counted, over a rate that is assumed, and a fixed cost that is measured. docs/scale.md says which is which.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from random import Random
from typing import Any

from rib.execute.board import LATEST, LOOKS, PATIENT
from rib.execute.leases import EXPIRY
from rib.execute.schedule import Job, Queue, jobs
from rib.identity import key_of
from rib.plan import Plan, make_plan
from rib.report.cost import ModelCost
from rib.report.cost import count as count_cost
from rib.steps import Embed, Fit, Predict, Step
from rib.suite import load_suite
from rib.sweep import AT_ONCE, backbone, sweeps

SWEEP = Path(__file__).parent / "paper-sweep.toml"

LARGE = "imagenet:c"
"""The set that is streamed where there is no room for its packs."""


# -- what is simulated -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Steps of a job that are done in one go.

    Attributes:
        keys: of the steps.
        seconds: that they take on one GPU.
        parts: equal parts, after each of which a checkpoint is written; 1 for none.
    """

    keys: tuple[str, ...]
    seconds: float
    parts: int = 1


Pieces = Callable[[Job], Sequence[Piece]]
"""What a job consists of, in order."""


@dataclass(frozen=True)
class Setting:
    """Where it runs.

    Attributes:
        gpus: how many; a node each, with a driver of its own.
        up: mean seconds after which a node is taken away, exponentially distributed; None for never.
        down: seconds until it is back.
        start: seconds from a node to its driver's first job.
        expiry: seconds until what a lost driver had is free.
    """

    gpus: int
    up: float | None = None
    down: float = 600.0
    start: float = 60.0
    expiry: float = EXPIRY


@dataclass(frozen=True)
class Outcome:
    """What came of it, in seconds of one GPU but for `wall`.

    Attributes:
        wall: from the beginning to the end of the last step.
        held: nodes were there.
        busy: steps were under way.
        lost: of those, done anew later.
        starting: drivers started.
        losses: nodes taken away.
        steps: steps done.
        full: seconds until a driver first had nothing to do.
    """

    wall: float
    held: float
    busy: float
    lost: float
    starting: float
    losses: int
    steps: int
    full: float

    @property
    def utilisation(self) -> float:
        """Share of the time held in which a step was under way."""
        return self.busy / self.held if self.held else 1.0


class Driver:
    """One driver's view, as `rib.execute.board.Board` has it: its queue, and the jobs that others had."""

    def __init__(self, listed: Sequence[Job]) -> None:
        self.queue = Queue(listed)
        self.elsewhere: dict[int, None] = {}  # in the order in which they were found taken
        self.fresh: dict[int, None] = {}  # of those, what may have changed

    def candidate(self) -> int | None:
        """The next job to look at."""
        if self.fresh:
            number = next(iter(self.fresh))
            del self.fresh[number], self.elsewhere[number]
            return number
        return self.queue.take()

    def hear(self, number: int) -> None:
        """Something has changed about a job."""
        if number in self.elsewhere:
            self.fresh[number] = None


@dataclass
class _Node:
    """A GPU: whether it is there, who drives it, and what it does."""

    up: bool = False
    life: int = 0
    since: float = 0.0
    driver: Driver | None = None
    job: int | None = None
    pieces: tuple[Piece, ...] = ()
    began: float = 0.0
    looks: bool = False


class Simulation:
    """A sweep on nodes that come and go.

    Args:
        listed: the jobs. Each driver begins with all of them, and passes over those that are done by then.
        pieces: of a job.
        setting: where.
        seed: of the losses.
    """

    def __init__(self, listed: Sequence[Job], pieces: Pieces, setting: Setting, seed: int = 0) -> None:
        self._jobs, self._pieces, self._setting, self._random = listed, [*map(pieces, listed)], setting, Random(seed)
        self._keys = [[step.key for step in job.steps] for job in listed]
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self._now = 0.0
        self._nodes = [_Node() for _ in range(setting.gpus)]
        self._left = {key for keys in self._keys for key in keys}
        self._count = len(self._left)
        self.done: Counter[str] = Counter()
        self._leases: dict[int, tuple[int, int]] = {}  # node and life of who has a job
        self._kept: dict[str, float] = {}  # share of a piece that a checkpoint holds
        self._busy = self._lost = self._held = self._starting = 0.0
        self._losses, self._full = 0, 0.0

    def run(self) -> Outcome:
        """Until every step is done."""
        for number in range(len(self._nodes)):
            self._arrive(number)
        while self._left:
            self._now, _, what, words = heapq.heappop(self._events)
            what(*words)
        self._held += sum(self._now - node.since for node in self._nodes if node.up)
        self._busy += sum(self._now - node.began for node in self._nodes if node.job is not None and node.pieces)
        return Outcome(
            self._now, self._held, self._busy, self._lost, self._starting, self._losses, self._count, self._full
        )

    def _at(self, seconds: float, what: Callable[..., None], *words: Any) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._numbers), what, words))

    def _arrive(self, number: int) -> None:
        node = self._nodes[number]
        node.up, node.since = True, self._now
        if self._setting.up is not None:
            self._at(self._random.expovariate(1 / self._setting.up), self._lose, number)
        self._at(self._setting.start, self._drive, number, node.life)

    def _drive(self, number: int, life: int) -> None:
        node = self._nodes[number]
        if node.life != life:
            return
        self._starting += self._now - node.since
        node.driver = Driver(self._jobs)
        self._take(number)

    def _lose(self, number: int) -> None:
        node, setting = self._nodes[number], self._setting
        self._losses += 1
        self._held += self._now - node.since
        if node.driver is None:
            self._starting += self._now - node.since
        if node.job is not None:
            self._cut_off(node)
            self._at(setting.expiry, self._expire, node.job, (number, node.life))
        self._nodes[number] = _Node(life=node.life + 1)
        self._at(setting.down, self._arrive, number)

    def _cut_off(self, node: _Node) -> None:
        """Of the piece under way, what its last checkpoint holds stays."""
        piece = node.pieces[0]
        spent, before = self._now - node.began, self._share(piece)
        reached = before + (spent / piece.seconds if piece.seconds else 0.0)
        kept = int(reached * piece.parts + 1e-9) / piece.parts if piece.parts > 1 else 0.0
        for key in piece.keys:
            self._kept[key] = kept
        self._busy += spent
        self._lost += (reached - kept) * piece.seconds

    def _share(self, piece: Piece) -> float:
        return min(self._kept.get(key, 0.0) for key in piece.keys)

    def _expire(self, job: int, owner: tuple[int, int]) -> None:
        if self._leases.get(job) == owner:
            del self._leases[job]
            self._tell(job)

    def _take(self, number: int) -> None:
        """As `Board.take`: the first job that may be begun, is not over, and of which no step is another's."""
        node = self._nodes[number]
        driver = node.driver
        assert driver is not None
        while (place := driver.candidate()) is not None:
            left = [key for key in self._keys[place] if key not in self.done]
            if not left:
                driver.queue.done(place)
            elif place in self._leases:
                driver.elsewhere[place] = None
            else:
                self._leases[place] = (number, node.life)
                node.job = place
                node.pieces = tuple(piece for piece in self._pieces[place] if piece.keys[0] not in self.done)
                self._begin(number)
                return
        self._full = self._full or self._now

    def _begin(self, number: int) -> None:
        node = self._nodes[number]
        node.began = self._now
        piece = node.pieces[0]
        self._at((1 - self._share(piece)) * piece.seconds, self._finish, number, node.life, piece)

    def _finish(self, number: int, life: int, piece: Piece) -> None:
        node = self._nodes[number]
        if node.life != life:
            return
        self._busy += self._now - node.began
        self.done.update(piece.keys)
        self._left.difference_update(piece.keys)
        node.pieces = node.pieces[1:]
        if node.pieces:
            self._begin(number)
            return
        assert node.driver is not None
        assert node.job is not None
        job, node.job = node.job, None
        del self._leases[job]
        node.driver.queue.done(job)
        self._tell(job)
        self._take(number)

    def _tell(self, job: int) -> None:
        """Idle drivers find out when they next look; the others when they next have nothing else to do."""
        for number, node in enumerate(self._nodes):
            if node.driver is None:
                continue
            node.driver.hear(job)
            if node.job is None and node.driver.fresh and not node.looks:
                node.looks = True
                others = len(node.driver.elsewhere)
                pause = max(LATEST + others / 50, min(len(self._nodes) * others / LOOKS, PATIENT))  # as `Board` has it
                self._at(self._random.uniform(0, pause), self._look, number, node.life)

    def _look(self, number: int, life: int) -> None:
        node = self._nodes[number]
        if node.life == life and node.job is None:
            node.looks = False
            self._take(number)


# -- what a step costs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prices:
    """Seconds of work on one GPU.

    Attributes:
        flops: a second that a GPU achieves: assumed.
        training: forward passes that a training step costs.
        step: seconds that every step takes beside its passes: lease, record, files.
        example: seconds for each prediction that is judged and written.
        weights: seconds a parameter, for weights that are written, and for a net that is built and filled with them.
        decode: images a second that the cores beside one GPU decode, where a set is streamed.
    """

    flops: float
    training: float = 3.0
    step: float = 0.01
    example: float = 0.0
    weights: float = 0.0
    decode: float = 16 * 900.0


class Costs:
    """What jobs of a plan cost.

    Args:
        plan: the plan.
        prices: of the work.
        streamed: names of sets whose predictions are made in sweeps.
    """

    def __init__(self, plan: Plan, prices: Prices, streamed: Container[str] = ()) -> None:
        self.plan, self.prices, self._streamed = plan, prices, streamed
        self._known: dict[str, float] = {}
        self._passes = {step.key: plan.image_passes(step) for step in plan.steps}
        self._models: dict[str, ModelCost] = {}

    def model(self, step: Step) -> ModelCost:
        """Of a step's net, counted once for those that are built alike."""
        if step.start.key not in self._models:
            name = key_of("cost", step.architecture)
            if name not in self._models:
                self._models[name] = count_cost(step.architecture)
            self._models[step.start.key] = self._models[name]
        return self._models[step.start.key]

    def is_streamed(self, step: Step) -> bool:
        """Whether a step is a prediction of a streamed set."""
        return isinstance(step, Predict) and step.data.name in self._streamed

    def listed(self) -> list[Job]:
        """Jobs of what is left, as `rib.execute.local` makes them."""
        left = self.plan.steps
        passes = {"passes": lambda step: self._passes.get(step.key, 0.0)} if self.split else {}
        work = {"work": self.work} if self.ranked else {}
        if not self._streamed:
            return jobs(left, **passes, **work)
        kept = [s for s in left if not (isinstance(s, Embed) and s.data.name in self._streamed)]
        groups = sweeps((s for s in kept if isinstance(s, Predict) and self.is_streamed(s)), self.at_once)
        return jobs(kept, groups, **passes, **work)

    def work(self, step: Step) -> float:
        return self._passes[step.key] * (self.model(step).flops if self.ranked == "flops" else 1)

    def pieces(self, job: Job) -> list[Piece]:
        """What a job consists of."""
        if all(map(self.is_streamed, job.steps)):
            return [self._sweep(job)]
        return [Piece((step.key,), self.seconds(step), self._parts(step)) for step in job.steps]

    def seconds(self, step: Step) -> float:
        """Of a step by itself."""
        if step.key not in self._known:
            prices, passes, model = self.prices, self.plan.passes(step), self.model(step)
            work = (passes.seen + prices.training * passes.trained) * model.flops / prices.flops
            examples = len(self.plan.world[step.data.name].index("test")) if isinstance(step, Predict) else 0
            nets = 2 if step.keeps_weights else 1 if isinstance(step, Fit | Embed) else 0
            self._known[step.key] = (
                work + prices.step + examples * prices.example + nets * model.parameters * prices.weights
            )
        return self._known[step.key]

    def _parts(self, step: Step) -> int:
        """Checkpoints are written after an epoch."""
        return step.recipe.epochs if isinstance(step, Fit) and step.recipe else 1

    def _sweep(self, job: Job) -> Piece:
        """Nets see each chunk while the next one is decoded; what differs in its head rides along."""
        first, prices = job.steps[0], self.prices
        assert isinstance(first, Predict)
        images = len(self.plan.world[first.data.name].index("test"))
        nets = {backbone(step): self.model(step) for step in job.steps if isinstance(step, Predict)}
        looked = sum(images * net.flops / prices.flops for net in nets.values())
        own = sum(prices.step + images * prices.example + net.parameters * prices.weights for net in nets.values())
        chunks = max(1, images // 7000)
        return Piece(tuple(step.key for step in job.steps), max(looked, images / prices.decode) + own, chunks)


def longest(listed: Sequence[Job], seconds: Callable[[Job], float]) -> float:
    """Seconds of the longest chain of jobs: no number of GPUs is done sooner."""
    ends: dict[int, float] = {}
    for number in TopologicalSorter({number: job.needs for number, job in enumerate(listed)}).static_order():
        job = listed[number]
        ends[number] = seconds(job) + max((ends[need] for need in job.needs), default=0.0)
    return max(ends.values())


def longest_chain(steps: Sequence[Step], seconds: Callable[[Step], float]) -> float:
    """Seconds of the longest chain of steps, were each a job of its own."""
    ends: dict[str, float] = {}
    for step in steps:
        before = (*step.needs, step.features) if step.features else step.needs
        ends[step.key] = seconds(step) + max((ends.get(need.key, 0.0) for need in before), default=0.0)
    return max(ends.values())
