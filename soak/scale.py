"""Scale: the whole paper sweep on very many GPUs that come and go, simulated event by event.

The simulation uses the plan and the jobs that `rib run` makes of `paper-sweep.toml`, each driver's own queue, leases
with their expiry, checkpoints and pre-emption. The time of a step is computed: counted floating-point operations
divided by an assumed rate, plus a measured fixed cost. docs/scale.md says which number is which.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import asdict, dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from random import Random
from typing import Any

from rib.execute.board import LATEST, LOOKS, PATIENT
from rib.execute.cluster.fleet import share
from rib.execute.schedule import Job, Queue, jobs
from rib.identity import key_of
from rib.models.flops import ModelCost
from rib.models.flops import count as count_cost
from rib.plan import Plan, make_plan
from rib.report.plotting import panels, write_drawn
from rib.steps import Embed, Fit, Predict, Step
from rib.steps.how import AT_ONCE
from rib.steps.sweep import backbone, sweeps
from rib.store.leases import EXPIRY
from rib.suite.load import load_suite

SWEEP = Path(__file__).parent / "paper-sweep.toml"

LARGE = "imagenet:c"
"""The set that is streamed if its packs do not fit."""

CHUNK = 7000
"""Images between two checkpoints of a prediction: the number that half of `How.chunk_bytes` holds."""


# -- simulation -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Steps of a job that run together.

    Attributes:
        keys: keys of the steps.
        seconds: their seconds on one GPU.
        parts: number of equal parts, each of which ends with a checkpoint; 1 for none.
    """

    keys: tuple[str, ...]
    seconds: float
    parts: int = 1


Pieces = Callable[[Job], Sequence[Piece]]
"""The pieces of a job, in order."""


@dataclass(frozen=True)
class Setting:
    """The simulated machines.

    Attributes:
        gpus: number of GPUs; each is a node with its own driver.
        up: mean seconds until a node is taken away, exponentially distributed; None for never.
        down: seconds until it is back.
        start: seconds from a new node to its driver's first job.
        expiry: seconds until the leases of a lost driver are free.
        late: whether a driver polls others only when it has nothing else to do, as RIB did before.
    """

    gpus: int
    up: float | None = None
    down: float = 600.0
    start: float = 60.0
    expiry: float = EXPIRY
    late: bool = False


@dataclass(frozen=True)
class Outcome:
    """The result, in GPU seconds except for `wall`.

    Attributes:
        wall: from the start to the end of the last step.
        held: time in which nodes existed.
        busy: time in which steps ran.
        lost: the part of `busy` that was repeated later.
        starting: time in which drivers started.
        losses: number of nodes taken away.
        steps: number of finished steps.
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
        """Share of the existing time in which a step ran."""
        return self.busy / self.held if self.held else 1.0


class Driver:
    """One driver's view, as in `rib.execute.board.Board`: its queue, and jobs that other drivers had."""

    def __init__(self, listed: Sequence[Job], late: bool) -> None:
        self.queue, self.late = Queue(listed), late
        self.elsewhere: dict[int, None] = {}  # jobs of other drivers, in the order in which this one found them
        self.fresh: dict[int, None] = {}  # those that may have changed since

    def candidate(self) -> int | None:
        """The next job to check."""
        if self.late and (first := self.queue.take()) is not None:
            return first
        if self.fresh:
            number = next(iter(self.fresh))
            del self.fresh[number], self.elsewhere[number]
            return number
        return self.queue.take()

    def hear(self, number: int) -> None:
        """Note that a job may have changed."""
        if number in self.elsewhere:
            self.fresh[number] = None


@dataclass
class _Node:
    """A GPU: whether it exists, its driver, and its present piece of work."""

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
        listed: the jobs. Each driver starts with all of them, and skips those that are done by then.
        pieces: gives the pieces of a job.
        setting: the machines.
        seed: seed of the losses.
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
        self._leases: dict[int, tuple[int, int]] = {}  # node, and life of the node, that has a job
        self._kept: dict[str, float] = {}  # share of a piece that a checkpoint has saved
        self._busy = self._lost = self._held = self._starting = 0.0
        self._losses, self._full = 0, 0.0

    def run(self) -> Outcome:
        """Simulate until every step is done."""
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
        node.driver = Driver(self._jobs, self._setting.late)
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
        """Stop the running piece of a lost node, and keep the part that its last checkpoint has."""
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
        """As `Board.take`: take the first job that may start, is not done, and has no step leased by another driver."""
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
        """Idle drivers learn of a job at their next poll; the others when they next have nothing else to do."""
        for number, node in enumerate(self._nodes):
            if node.driver is None:
                continue
            node.driver.hear(job)
            if node.job is None and node.driver.fresh and not node.looks:
                node.looks = True
                others = len(node.driver.elsewhere)
                pause = LATEST + others / 50  # as in `Board`
                if not self._setting.late:
                    pause = max(pause, min(len(self._nodes) * others / LOOKS, PATIENT))
                self._at(self._random.uniform(0, pause), self._look, number, node.life)

    def _look(self, number: int, life: int) -> None:
        node = self._nodes[number]
        if node.life == life and node.job is None:
            node.looks = False
            self._take(number)


# -- cost of a step -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prices:
    """Seconds of work on one GPU. All but `flops` and `training` are measured, by `python -m soak fixed` and bench P3.

    Attributes:
        flops: assumed floating-point operations per second of a GPU.
        training: cost of a training step, in forward passes.
        step: seconds of every step besides its passes: lease, record, small files.
        example: seconds per prediction for scoring and storing it.
        written: seconds per parameter for writing, sealing and syncing weights.
        read: seconds per parameter for building and filling a net.
        decode: images per second that the cores beside one GPU decode for streaming.
    """

    flops: float
    training: float = 3.0
    step: float = 0.0065
    example: float = 3.1e-6
    written: float = 1.4e-8
    read: float = 1.5e-8
    decode: float = 16 * 900.0


class Costs:
    """The jobs of a plan, and their costs.

    Args:
        plan: the plan.
        prices: seconds of work.
        streamed: names of sets whose predictions run in sweeps.
        before: whether to simulate RIB as it was before: jobs of whole models in the order of the suite, sweeps of
            sixteen, and predictions without checkpoints.
    """

    def __init__(self, plan: Plan, prices: Prices, streamed: Container[str] = (), before: bool = False) -> None:
        self.plan, self.prices, self._streamed, self._before = plan, prices, streamed, before
        self._seconds: dict[str, float] = {}
        self._passes: dict[str, float] = {}
        self._models: dict[str, ModelCost] = {}

    def listed(self, gpus: int) -> list[Job]:
        """The jobs that `rib.execute.run` and `rib.execute.cluster.fleet` make for `gpus` drivers."""
        steps: Sequence[Step] = self.plan.steps
        groups: list[tuple[Predict, ...]] = []
        if self._streamed:
            steps = [step for step in steps if not (isinstance(step, Embed) and self._is_streamed(step))]
            at_once = AT_ONCE if self._before else share(jobs(steps), gpus, AT_ONCE)
            groups = sweeps((step for step in steps if isinstance(step, Predict) and self._is_streamed(step)), at_once)
        return jobs(steps, groups) if self._before else jobs(steps, groups, self._image_passes, self._work)

    def pieces(self, job: Job) -> list[Piece]:
        """The pieces of a job."""
        if all(isinstance(step, Predict) and self._is_streamed(step) for step in job.steps):
            return [self._sweep(job)]
        return [Piece((step.key,), self.of(step), self._parts(step)) for step in job.steps]

    def of_job(self, job: Job) -> float:
        """Seconds of a job."""
        return sum(piece.seconds for piece in self.pieces(job))

    def of(self, step: Step) -> float:
        """Seconds of a single step."""
        if step.key not in self._seconds:
            prices, passes, model = self.prices, self.plan.passes(step), self.model(step)
            work = (passes.seen + prices.training * passes.trained) * model.flops / prices.flops
            weights = (prices.written if step.keeps_weights else 0.0) + (prices.read if isinstance(step, Fit) else 0.0)
            examples = self._images(step) if isinstance(step, Predict) else 0
            self._seconds[step.key] = work + prices.step + examples * prices.example + model.parameters * weights
        return self._seconds[step.key]

    def model(self, step: Step) -> ModelCost:
        """Cost of a step's net, counted once for nets of the same structure."""
        if step.start.key not in self._models:
            name = key_of("cost", step.architecture)
            if name not in self._models:
                self._models[name] = count_cost(step.architecture)
            self._models[step.start.key] = self._models[name]
        return self._models[step.start.key]

    def _is_streamed(self, step: Predict | Embed) -> bool:
        return step.data.name in self._streamed

    def _images(self, step: Predict) -> int:
        return len(self.plan.world[step.data.name].index("test"))

    def _image_passes(self, step: Step) -> float:
        if step.key not in self._passes:
            self._passes[step.key] = self.plan.image_passes(step)
        return self._passes[step.key]

    def _work(self, step: Step) -> float:
        return self._image_passes(step) * self.model(step).flops

    def _parts(self, step: Step) -> int:
        """The number of checkpoints: one per epoch of a training, and one per chunk of a prediction."""
        if isinstance(step, Fit) and step.recipe:
            return step.recipe.epochs
        return 1 if self._before or not isinstance(step, Predict) else max(1, self._images(step) // CHUNK)

    def _sweep(self, job: Job) -> Piece:
        """The piece of a sweep. Nets predict a chunk while the next one is decoded; nets that differ only in the
        head cost nothing more."""
        steps, prices = [step for step in job.steps if isinstance(step, Predict)], self.prices
        images, nets = self._images(steps[0]), {backbone(step): self.model(step) for step in steps}
        looked = sum(images * net.flops / prices.flops for net in nets.values())
        own = sum(net.parameters * prices.read for net in nets.values())
        own += len(steps) * (prices.step + images * prices.example)
        keys = tuple(step.key for step in steps)
        return Piece(keys, max(looked, images / prices.decode) + own, max(1, images // CHUNK))


def longest(listed: Sequence[Job], seconds: Callable[[Job], float]) -> float:
    """Seconds of the longest chain of jobs, a lower bound for any number of GPUs."""
    ends: dict[int, float] = {}
    for number in TopologicalSorter({number: job.needs for number, job in enumerate(listed)}).static_order():
        job = listed[number]
        ends[number] = seconds(job) + max((ends[need] for need in job.needs), default=0.0)
    return max(ends.values())


# -- the command -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    tflops: float
    data: str
    way: str
    jobs: int
    work: float
    chain: float
    largest: float
    gpus: int
    found: Outcome


def main(words: Sequence[str]) -> int:
    """Simulate and print a table."""
    options = arguments(words)
    suite = load_suite(SWEEP)
    plan = make_plan(suite, assume=True)
    kinds = Counter(type(step).__name__ for step in plan.steps)
    print(f"{len(plan.runs):,} runs, {len(plan.steps):,} steps: {dict(kinds)}; seed {options.seed}")
    up = 3600 * options.up if options.up else None
    lines = []
    for tflops, data, way in itertools.product(options.tflops, options.data, options.ways):
        costs = Costs(plan, Prices(1e12 * tflops), (LARGE,) if data == "streamed" else (), way == "before")
        for gpus in options.gpus:
            listed = costs.listed(gpus)
            seconds = [costs.of_job(job) for job in listed]
            setting = Setting(gpus, up, 60 * options.down, options.start, options.expiry, late=way == "before")
            found = Simulation(listed, costs.pieces, setting, options.seed).run()
            chain = longest(listed, costs.of_job)
            lines.append(Line(tflops, data, way, len(listed), sum(seconds), chain, max(seconds), gpus, found))
            print(row(lines[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(line) for line in lines], indent=1))
    if options.figure:
        write_drawn([(options.figure.stem, figure(lines))], options.figure.parent, [options.figure.suffix[1:]])
    return 0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m soak scale", description=__doc__)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tflops", type=float, nargs="+", default=[100, 400], help="a GPU achieves; assumed")
    parser.add_argument("--data", nargs="+", choices=("packed", "streamed"), default=["packed", "streamed"])
    parser.add_argument("--ways", nargs="+", choices=("before", "now"), default=["before", "now"])
    parser.add_argument("--up", type=float, default=4.0, help="mean hours until a node is taken away; 0: never")
    parser.add_argument("--down", type=float, default=10.0, help="minutes until it is back")
    parser.add_argument("--start", type=float, default=60.0, help="seconds from a node to its first step")
    parser.add_argument("--expiry", type=float, default=EXPIRY, help="seconds of a lease without a heartbeat")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path, help="PNG, PDF or SVG; of the first rate")
    return parser.parse_args(words)


def row(line: Line) -> str:
    """A line of a Markdown table."""
    found, hours = line.found, 3600.0
    ideal = line.work / line.gpus
    return (
        f"| {line.tflops:g} | {line.data} | {line.way} | {line.gpus} | {line.jobs:,} | {found.wall / hours:,.2f} "
        f"| {max(ideal, line.chain) / hours:,.2f} | {100 * found.utilisation:.1f} % "
        f"| {100 * found.lost / found.busy:.1f} % | {found.losses:,} | {line.chain / hours:.2f} "
        f"| {line.largest / hours:.2f} | {found.full / hours:.2f} |"
    )


def figure(lines: Sequence[Line]) -> Any:
    """Hours and utilisation against GPUs, of the first rate."""
    drawn, (left, right) = panels(2, 3.4, 2.8)
    chosen = [line for line in lines if line.tflops == lines[0].tflops]
    gpus = sorted({line.gpus for line in chosen})
    work = min(line.work for line in chosen)
    left.plot(gpus, [work / 3600 / count for count in gpus], color="0.6", lw=1, label="work / GPUs")
    colours = {"packed": "#0072B2", "streamed": "#D55E00"}
    for data, way in dict.fromkeys((line.data, line.way) for line in chosen):
        some = [line for line in chosen if (line.data, line.way) == (data, way)]
        style = {"color": colours[data], "ls": ":" if way == "before" else "-", "marker": "o", "ms": 3}
        left.plot([s.gpus for s in some], [s.found.wall / 3600 for s in some], label=f"{data}, {way}", **style)
        right.plot([s.gpus for s in some], [100 * s.found.utilisation for s in some], **style)
    left.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="hours")
    right.set(xscale="log", xlabel="GPUs", ylabel="GPU time held that was busy, %", ylim=(0, 102))
    left.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    for axis in (left, right):
        axis.set_xticks(gpus, [str(count) for count in gpus])
        axis.minorticks_off()
    left.legend(fontsize=7)
    return drawn
