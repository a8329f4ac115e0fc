"""Kills: ends drivers and workers with SIGKILL at random moments, and checks that the stores end as if undisturbed.

A round starts with an empty store and ends when the store is finished. One or two drivers at a time, forked or as `rib
run`, each with other settings, are killed and started again. Then every record, prediction and kept weight is compared
with an undisturbed run. It needs Linux.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from random import Random
from typing import Any, cast

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

# ruff: noqa: E402  # no threads may be there when a driver is forked
import torch

from helpers import document, toml
from rib.plan import Plan, make_plan
from rib.store.store import Store
from rib.suite.load import load_suite
from soak import _judge
from soak._drivers import INCOMPLETE, Driver, Way, fork, kill_worker, start_fork_server
from soak._judge import RULES, Faults

VICTIMS = ("driver", "driver, at a change of the store", "worker", "driver and its workers", "all drivers and workers")
PHASES = ("before a new record", "midway", "after the last")
"""Phases of a driver's run, by the number of records: as many as at its start, more, all."""

PATIENCE = 120.0
"""Seconds after which an undisturbed driver should have ended."""

SPAWNED, STREAMS, WORKERS, PAIRS, FUSED, EARLY = 0.15, 0.35, 0.5, 0.4, 0.3, 0.2
"""Probabilities: a driver is `rib run`; it streams; it has two workers; a round has two drivers at once; a driver
kills itself at a change of the store; a kill comes in the first moments."""

FIRST_MOMENTS = 0.15
"""Seconds in which a driver reads the store, packs data and takes its first lease."""


@dataclass(frozen=True)
class Ground:
    """Common facts of all rounds.

    Attributes:
        folder: folder for stores.
        file: the suite file.
        expected: the store of an undisturbed run.
        begin: seconds until a forked driver starts its first step.
        length: seconds for all steps.
        changes: number of changes of the store in a run.
        startup: additional seconds that a spawned driver takes to start.
        seed: seed of all draws.
    """

    folder: Path
    file: Path
    expected: Path
    begin: float
    length: float
    changes: int
    startup: float
    seed: int

    @property
    def stop(self) -> Path:
        """A file that exists once enough kills have happened."""
        return self.folder / "stop"


@dataclass
class Tally:
    """Counts and faults.

    Attributes:
        kills: number of kills by victim and phase.
        spawned: number of kills of `rib run`.
        rounds: number of finished stores.
        counts: compared records, runs in which a step was given up, files of dead processes.
        faults: broken rules with descriptions.
    """

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    spawned: int = 0
    rounds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Faults = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the counts of another tally."""
        self.kills.update(other.kills)
        self.spawned += other.spawned
        self.rounds += other.rounds
        self.counts.update(other.counts)
        self.faults += other.faults

    def __str__(self) -> str:
        broken = Counter(rule for rule, _ in self.faults)
        return (
            f"{self.kills.total():,} kills, {self.rounds:,} stores, {self.counts['compared']:,} records compared: "
            + ", ".join(f"{broken[rule]:,} {rule}" for rule in RULES)
        )

    def table(self) -> str:
        """Kills by victim and phase, as a table."""
        lines = [f"| victim | kills | {' | '.join(PHASES)} |", "|---" * (2 + len(PHASES)) + "|"]
        for victim in VICTIMS:
            counts = [self.kills[victim, phase] for phase in PHASES]
            lines.append(f"| {victim} | {sum(counts):,} | {' | '.join(f'{count:,}' for count in counts)} |")
        return "\n".join(lines)


class Round:
    """A store, from its first driver until it is finished and judged.

    Args:
        ground: common facts of all rounds.
        number: number of the round; with the seed it determines all draws.
        plan: plan of the suite.
    """

    def __init__(self, ground: Ground, number: int, plan: Plan) -> None:
        self.ground, self.number, self.plan = ground, number, plan
        self.chance = Random(f"{ground.seed} {number}")
        self.store = ground.folder / f"round{number}"
        self.told = ground.folder / f"round{number}.told"
        self.keep = self.chance.choice(("all", "pretrained", "none"))
        self.slots = 2 if self.chance.random() < PAIRS else 1
        self.drivers: list[Driver] = []
        self.fused: Driver | None = None
        self.complete = False
        self.seen: frozenset[str] = frozenset()
        self.log: list[str] = []
        self.tally = Tally()

    def play(self) -> Tally:
        """Run the round; return its counts and faults."""
        while not self.tally.faults and not (self.complete and not self.drivers):
            self._turn()
        if self.tally.faults:
            for driver in self.drivers:
                driver.kill_all()
        else:
            self._judge()
        self.tally.rounds = 1
        (self.told / "log.txt").write_text("\n".join(self.log))
        if not self.tally.faults:
            shutil.rmtree(self.store)
            shutil.rmtree(self.told)
        return self.tally

    # -- a turn --------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Start missing drivers, and wait until a driver has ended or it is time for a kill."""
        self._start()
        disturbs = self.fused is None and not self.ground.stop.exists()
        end = time.monotonic() + (self._moment() if disturbs else PATIENCE)
        while time.monotonic() < end and all(driver.code is None for driver in self.drivers):
            time.sleep(0.002)
        if any(driver.code is not None for driver in self.drivers):
            self._take_in()
        elif disturbs:
            self._strike()
        else:
            self._fault("lost", f"a driver that nobody disturbs does not end: {self.drivers[0].said[-2000:]}")

    def _start(self) -> None:
        while not self.complete and len(self.drivers) < self.slots:
            way = Way(
                2 if self.chance.random() < WORKERS else 1,
                self.chance.random() < STREAMS,
                self.chance.random() < SPAWNED,
                self.keep,
            )
            changes = None
            if self.chance.random() < FUSED and way.workers == 1 and not way.spawned and not self.ground.stop.exists():
                changes = self.chance.randrange(20 + round(self.ground.changes * self._left))
            driver = Driver(self.ground.file, self.store, way, self.told, changes)
            self.drivers.append(driver)
            self.log.append(f"{driver.began:.3f} start {driver.pid} {way} {changes}")
            if changes is not None:
                self.fused = driver

    @property
    def _left(self) -> float:
        """Share of the steps that are not done."""
        return 1 - len(self.seen) / len(self.plan.steps)

    def _moment(self) -> float:
        """Seconds to wait before a kill, uniform over the rest of the run."""
        patience = 1.15 + self.tally.kills.total() / 20  # the machine may have become slower
        newest = self.drivers[-1]
        wait = self.chance.uniform(0, patience * (self.ground.begin + self.ground.length * self._left))
        if newest.way.spawned:
            if self.chance.random() < 0.25:
                return self.chance.uniform(0, self.ground.startup)
            self._await_lease(newest)
        return self.chance.uniform(0, FIRST_MOMENTS) if self.chance.random() < EARLY else wait

    def _await_lease(self, driver: Driver) -> None:
        """Wait until a spawned driver has registered in the store."""
        end = time.monotonic() + PATIENCE
        while driver.code is None and time.monotonic() < end:
            owners = list((self.store / "leases" / "owners").glob("[!.]*.json"))
            if any(f'"pid": {driver.pid},' in _text(file) for file in owners):
                return
            time.sleep(0.01)

    # -- kills ---------------------------------------------------------------------------------------------------------

    def _strike(self) -> None:
        """Kill a driver or a worker."""
        driver = self.chance.choice(self.drivers)
        workers = driver.workers() if driver.way.workers > 1 else []
        victims = ["driver"]
        if workers:
            victims += ["worker", "worker", "driver and its workers"]
        if len(self.drivers) > 1:
            victims.append("all drivers and workers")
        victim = self.chance.choice(victims)
        hit = self.drivers if victim.startswith("all") else [driver]
        if victim == "worker":
            kill_worker(self.chance.choice(workers))
            self._count(victim, driver)
            return
        for one in list(hit):
            one.kill() if victim == "driver" else one.kill_all()
            if one.code == -signal.SIGKILL:
                self.drivers.remove(one)
                self._count(victim, one)

    def _count(self, victim: str, driver: Driver) -> None:
        """Count a kill, and check the store for damage."""
        there = Store(self.store).keys()
        phase = PHASES[2 if len(there) >= len(self.plan.steps) else 1 if there > driver.found else 0]
        self.tally.kills[victim, phase] += 1
        self.log.append(f"{time.monotonic():.3f} {victim} {driver.pid} {driver.way} {len(there)}")
        self.tally.spawned += driver.way.spawned
        for key in self.seen - there:
            self._fault("lost", f"the record {key} is gone")
        self.seen |= there
        if not self.drivers:
            self.tally.faults += elsewhere(lambda: _judge.unharmed(self.store, self.seen))

    def _take_in(self) -> None:
        """Handle drivers that have ended: they were done, gave up a step, or killed themselves."""
        for driver in [driver for driver in self.drivers if driver.code is not None]:
            self.drivers.remove(driver)
            if driver is self.fused:
                self.fused = None
            if driver.code == -signal.SIGKILL:
                self._count(VICTIMS[1], driver)
            elif driver.code == 0:
                self.complete = True
            elif driver.code == INCOMPLETE and self._is_excused():
                self.tally.counts["runs that gave a step up"] += 1
            else:
                self._fault("lost", f"a driver ended with {driver.code}: {driver.said[-4000:]}")
            if driver.code in (0, INCOMPLETE) and not driver.way.spawned and driver.outcome["doubled"]:
                self._fault("doubled", f"{driver.outcome['doubled']} steps, as a driver says")

    def _is_excused(self) -> bool:
        """Whether all failures are excused, because two workers were killed during the step."""
        store = Store(self.store)
        failures = [store.last_failure(key) for key in store.failed_keys() if not store.has(key)]
        killed = sum(self.tally.kills["worker", phase] for phase in PHASES)
        return killed >= 2 and all(failure is None or failure.kind in ("died", "need") for failure in failures)

    def _fault(self, rule: str, words: str) -> None:
        self.tally.faults.append((rule, words))

    # -- the end -------------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        """Run once more, which has nothing to do, and then compare everything."""
        last = Driver(self.ground.file, self.store, Way(keep=self.keep), self.told)
        if last.wait(PATIENCE) != 0:
            self._fault("lost", f"the last run ended with {last.code}: {last.said[-4000:]}")
            last.kill_all()
            return
        if last.outcome["done"]:
            self._fault("lost", f"{last.outcome['done']} steps were left when a driver had said that all is done")
        faults, counts = elsewhere(lambda: _judge.judge(self.plan, self.store, self.ground.expected, self.keep))
        self.tally.faults += faults
        self.tally.counts.update(counts)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def elsewhere(work: Any) -> Any:
    """The result of a function, run in a separate process because it may leave threads behind."""
    here, there = Pipe(duplex=False)

    def send() -> int:
        there.send(work())
        return 0

    pid = fork(send)
    there.close()
    try:
        return here.recv()
    finally:
        os.waitpid(pid, 0)


# -- all rounds --------------------------------------------------------------------------------------------------------


def main(words: Sequence[str]) -> int:
    """Run rounds until enough kills have happened; exit code 1 if a rule is broken."""
    options = arguments(words)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    folder = Path(options.folder or tempfile.mkdtemp(prefix="rib-kills-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    start_fork_server()
    ground, plan = prepare(folder, options.seed, WAYS if options.kills >= 100 else WAYS[:1])
    tally = lanes(ground, plan, options.kills, options.jobs, began)
    spent = time.monotonic() - began
    print(f"\nseed {options.seed}, {spent / 60:,.1f} min, {options.jobs} lanes: {tally}\n\n{tally.table()}\n")
    print(f"{tally.spawned:,} of the kills hit `rib run`, the others forked drivers")
    for what, count in sorted(tally.counts.items()):
        print(f"{count:,} {what}")
    if tally.faults:
        print(f"what is left of the rounds that broke a rule is in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m soak kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="minimum number of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="stores at once")
    parser.add_argument("--folder", type=Path, help="where stores go; default a temporary one")
    return parser.parse_args(words)


METHODS = ["finetune", "ewc", "lwf", "linear_probe", "lp_ft", "wise_ft", "soup", "noted"]


WAYS = (Way(2, streams=True), Way(2), Way(spawned=True), Way(keep="none"))
"""Settings of the undisturbed runs besides the plain one; a short soak uses only the first."""


def prepare(folder: Path, seed: int, ways: Sequence[Way]) -> tuple[Ground, Plan]:
    """A suite with short steps of every kind, and its undisturbed results with each of the settings."""
    made = document(folder, ("dropout",), per_class=8, runs=[{"methods": METHODS}])
    made["method"] = {"noted": {"kind": "soak._journal:Noted"}}
    made["analyses"] = [{"names": ["drift"], "methods": ["finetune", "wise_ft"]}]
    for row in made["model"].values():
        row.pop("weights", None)
        row["pretrain"] = {"recipe": {"epochs": 6, "batch_size": 5, "lr": 0.05, "warmup_steps": 2}}
    file, expected = folder / "tiny.toml", folder / "expected"
    file.write_text(toml(made))
    plan = make_plan(load_suite(file))
    alone = undisturbed(file, expected, Way())
    startup = 2.0
    for number, way in enumerate(ways):
        store = folder / f"other{number}"
        took = undisturbed(file, store, way)["took"]
        if way.spawned:
            startup = max(0.0, took - alone["took"])
        faults, _ = elsewhere(lambda: _judge.judge(plan, store, expected, way.keep))  # noqa: B023
        assert not faults, f"{way}: {faults}"
        shutil.rmtree(store)
    begin = alone["took"] - alone["working"]
    ground = Ground(folder, file, expected, begin, alone["working"], alone["changes"], startup, seed)
    print(
        f"{len(plan.steps)} steps take {ground.length:.2f} s after {begin:.2f} s, and {ground.changes:,} changes of "
        f"the store; the same came of {1 + len(ways)} ways of doing them",
        flush=True,
    )
    return ground, plan


def undisturbed(file: Path, store: Path, way: Way) -> dict[str, Any]:
    """A run without kills: its outcome, and its time as `took`."""
    driver = Driver(file, store, way, store.with_suffix(".told"))
    code = driver.wait(PATIENCE)
    took = time.monotonic() - driver.began
    assert code == 0, (code, driver.said)
    return ({} if way.spawned else driver.outcome) | {"took": took}


def lanes(ground: Ground, plan: Plan, kills: int, jobs: int, began: float) -> Tally:
    """Run rounds in parallel, until enough kills have happened in total or a rule is broken."""
    connections: dict[Any, int] = {}
    for lane in range(jobs):
        here, there = Pipe(duplex=False)
        pid = fork(lambda: play(ground, plan, range(lane, sys.maxsize, jobs), there))  # noqa: B023
        there.close()
        connections[here] = pid
    total, printed = Tally(), time.monotonic()
    while connections:
        for ready in wait(list(connections), timeout=1):
            here = cast(Connection, ready)
            try:
                number, tally = here.recv()  # type: ignore[union-attr]
            except EOFError:
                os.waitpid(connections.pop(here), 0)
                continue
            total.add(tally)
            for rule, words in tally.faults:
                print(f"seed {ground.seed}, round {number}: {rule}: {words}", flush=True)
            if total.kills.total() >= kills or total.faults:
                ground.stop.touch()
        if time.monotonic() - printed > 15:
            printed = time.monotonic()
            print(f"{printed - began:5.0f} s: {total}", flush=True)
    if total.kills.total() < kills and not total.faults:
        total.faults.append(("lost", "a lane ended by itself"))
    return total


def play(ground: Ground, plan: Plan, numbers: range, connection: Connection) -> int:
    """The main function of a lane, which runs one round after the other."""
    for number in numbers:
        if ground.stop.exists():
            break
        connection.send((number, Round(ground, number, plan).play()))
    return 0
