"""Metadata: the cost of a store's records when there are very many. Needs POSIX, and strace to count system calls.

`Store.write` fills the store with the steps of the paper's sweep without ImageNet-C, with enough seeds for the wanted
number of records. Right and wrong answers are random bits, as many as the published sets have images. A small sealed
Parquet file stands for the predictions of each record.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rib import identity
from rib.execute.board import Board, RunOutcome
from rib.execute.progress import Silent
from rib.execute.schedule import jobs
from rib.files import write_aside
from rib.plan import Plan, make_plan, missing
from rib.report.plan_status import status_json
from rib.steps import DataPart, How, Predict, Step
from rib.store.leases import Leases
from rib.store.record import pack_bits
from rib.store.store import Store
from rib.suite.load import load_suite
from rib.upkeep.garbage import garbage
from rib.upkeep.verify import verify

SWEEP = Path(__file__).parent / "paper-sweep.toml"

BEGIN, END = "/marks-the-beginning", "/marks-the-end"
"""Files that do not exist. Asking for them marks a place in a trace of system calls."""


def main(words: Sequence[str]) -> int:
    """Fill a store in stages and print the measurements at each size."""
    options = arguments(words)
    if options.only:
        print(json.dumps(MEASURES[options.only](options.store, options.seeds)))
        return 0
    for count in options.records:
        seeds = seeds_for(count)
        print(f"# {count:,} records: {seeds} seeds", flush=True)
        show(run_apart(options.store, seeds, "fill"))
        for name in options.measures:
            traced = ("keys", "lease", "board", "driver") if shutil.which("strace") and options.trace else ()
            for cold in (False, True) if name in COLD and options.cold else (False,):
                if cold:
                    drop_caches()
                show(
                    run_apart(options.store, seeds, name, traced=name in traced) | ({"caches": "cold"} if cold else {})
                )
    if options.delete:
        shutil.rmtree(options.store)
    return 0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m soak metadata", description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="a folder of its own, that need not be there")
    parser.add_argument("--records", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--measures", nargs="*", default=[name for name in MEASURES if name != "fill"])
    parser.add_argument("--cold", action="store_true", help="some once more with empty caches; needs root")
    parser.add_argument("--trace", action="store_true", help="count system calls, with strace")
    parser.add_argument("--delete", action="store_true", help="remove the store at the end")
    parser.add_argument("--only", choices=list(MEASURES), help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def show(found: dict[str, Any]) -> None:
    """Print one line per measurement."""
    print(json.dumps(found), flush=True)


def drop_caches() -> None:
    """Make the system drop its cache of files and folders."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def run_apart(store: Path, seeds: int, name: str, traced: bool = False) -> dict[str, Any]:
    """Run a measurement in a separate process, so that its memory can be measured."""
    words = [sys.executable, "-m", "soak", "metadata", "--store", str(store), "--only", name, "--seeds", str(seeds)]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    if traced:
        log = store.parent / "strace.log"
        subprocess.run(["strace", "-f", "-o", str(log), *words], check=True, capture_output=True)
        found["calls"] = calls(log.read_text(errors="replace"))
        log.unlink()
    return {"what": name} | found


def calls(log: str) -> dict[str, int]:
    """Numbers of file system calls between the marks, by name."""
    between = log.partition(BEGIN)[2].partition(END)[0]
    wanted = (
        "openat|getdents64|newfstatat|fstat|statx|stat|unlink|unlinkat|rename|mkdir|rmdir|utimensat|close|read|write"
    )
    names = re.findall(rf"^\d+ +({wanted})\(", between, flags=re.MULTILINE)
    return {name: names.count(name) for name in sorted(set(names))}


class Taken:
    """Measures the seconds of a block and marks it in a trace."""

    def __enter__(self) -> Taken:
        Path(BEGIN).exists()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._began
        Path(END).exists()


def megabytes() -> float:
    """Peak memory of this process; `getrusage` would include its parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return round(int(found[1]) * 1024 / 1e6, 1)


# -- filling -----------------------------------------------------------------------------------------------------------


def plan_of(seeds: int) -> Plan:
    """The plan of the sweep without ImageNet-C, with `seeds` seeds."""
    suite = load_suite(SWEEP)
    changed = suite.model_copy(update={"seeds": tuple(range(seeds)), "evaluate": ()}).based_at(suite.base)
    return make_plan(changed, assume=True)


def seeds_for(count: int) -> int:
    """The smallest number of seeds that gives at least `count` steps."""
    one, two = (len(plan_of(seeds).steps) for seeds in (1, 2))
    return 1 + max(0, -(-(count - one) // (two - one)))


def fill(root: Path, seeds: int) -> dict[str, Any]:
    """Write a record for every step without one."""
    store, plan = Store(root), plan_of(seeds)
    store.prepare()
    there, began, written = store.keys(), time.perf_counter(), 0
    predictions = stand_in()
    before = os.statvfs(root)
    with canonical_once():
        for step in plan.steps:
            if step.key not in there:
                record(store, plan, step, predictions)
                written += 1
    seconds = time.perf_counter() - began
    os.sync()
    after = os.statvfs(root)
    return {
        "records": len(there) + written,
        "written": written,
        "seconds per record": seconds / max(1, written),
        "disk bytes per record": (before.f_bfree - after.f_bfree) * after.f_frsize / max(1, written),
        "inodes per record": (before.f_ffree - after.f_ffree) / max(1, written),
    }


@contextmanager
def canonical_once() -> Iterator[None]:
    """Cache the JSON types of label maps instead of computing them for each record; the bytes are the same."""
    plain, known = identity.canonical, dict[int, Any]()

    def canonical(value: Any) -> Any:
        if not isinstance(value, DataPart):
            return plain(value)
        if id(value) not in known:
            known[id(value)] = plain(value)
        return known[id(value)]

    identity.canonical = canonical
    try:
        yield
    finally:
        identity.canonical = plain


@cache
def flags(count: int) -> tuple[str, str]:
    """Random bits for `count` images."""
    generator = np.random.default_rng(count)
    return pack_bits(generator.random(count) < 0.8), pack_bits(generator.random(count) < 0.7)


def stand_in() -> bytes:
    """A small Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"right": [True]}), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def record(store: Store, plan: Plan, step: Step, predictions: bytes) -> None:
    """Write everything that a worker leaves of a step, except its weights."""
    values: dict[str, Any] = {"first_loss": 1.5, "last_loss": 0.5}
    if isinstance(step, Predict):
        count = len(plan.world[step.data.name].index("test"))
        masked, unmasked = flags(count)
        values = {"examples": count, "masked_right": masked, "unmasked_right": unmasked, "ece": 0.05, "brier": 0.3}
        write_aside(store.predictions_path(step.key), predictions)
        store._seal("predictions", step.key)
    store.write(step, values, 0.5, 0, "cpu", 0.5, 0.1)


# -- measuring ---------------------------------------------------------------------------------------------------------


def keys(root: Path, seeds: int) -> dict[str, Any]:
    """List the names of all records."""
    store = Store(root)
    with Taken() as taken:
        found = store.keys()
    return {"seconds": taken.seconds, "records": len(found), "MB": megabytes()}


def planning(root: Path, seeds: int) -> dict[str, Any]:
    """Plan a finished sweep, find its missing steps, and compute its status."""
    store = Store(root)
    with Taken() as made:
        plan = plan_of(seeds)
        count = len(plan.steps)
        _ = [step.key for step in plan.steps]
    planned = megabytes()
    with Taken() as sought:
        left = missing(plan.steps, store)
    assert not left
    sought_mb = megabytes()
    with Taken() as told:
        found = status_json(plan, store, list(Leases(root).listed()))
    assert found["done"] == count
    return {
        "steps": count,
        "seconds to plan": made.seconds,
        "seconds for what is missing": sought.seconds,
        "seconds for status": told.seconds,
        "MB planned": planned,
        "MB with what is missing": sought_mb,
        "MB": megabytes(),
    }


def verifying(root: Path, seeds: int) -> dict[str, Any]:
    """Run `rib store verify`."""
    with Taken() as taken:
        found = verify(Store(root))
    assert not found.faults, found.faults[:3]
    return {"seconds": taken.seconds, "files": found.files, "bytes": found.size, "MB": megabytes()}


def collecting(root: Path, seeds: int) -> dict[str, Any]:
    """Run `rib store gc` without deleting."""
    with Taken() as taken:
        found = garbage(Store(root))
    return {"seconds": taken.seconds, "found": len(found), "MB": megabytes()}


def lease(root: Path, seeds: int) -> dict[str, Any]:
    """Take a lease and release it: the median of a thousand, and the system calls of one."""
    with Leases(root) as leases:
        taken = [_lease(leases, f"{number:040x}") for number in range(1000)]
        with Taken():
            _lease(leases, f"{1000:040x}")
    return {"seconds": statistics.median(taken), "MB": megabytes()}


def _lease(leases: Leases, name: str) -> float:
    began = time.perf_counter()
    assert leases.take(name)
    assert leases.drop(name)
    return time.perf_counter() - began


def write(root: Path, seeds: int) -> dict[str, Any]:
    """Write a record with its predictions: the median of a thousand existing ones that are written again."""
    store, plan = Store(root), plan_of(1)
    predictions, seconds = stand_in(), []
    steps = [step for step in plan.steps if isinstance(step, Predict)][:1000]
    for step in steps:
        began = time.perf_counter()
        record(store, plan, step, predictions)
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds), "MB": megabytes()}


def elsewhere(root: Path, joiners: int, jobs_taken: Sequence[Sequence[str]]) -> list[Leases]:
    """Owners on other machines, `joiners` in number, each with leases on the steps of a job."""
    owners = []
    for number in range(joiners):
        leases = Leases(root)
        leases.owner = replace(leases.owner, place=f"machine {number}")
        leases._owners.mkdir(parents=True, exist_ok=True)
        leases._sign_up()
        for name in jobs_taken[number]:
            assert leases.take(name)
        owners.append(leases)
    return owners


def boards(root: Path) -> tuple[Board, list[Leases], Leases]:
    """The board of a driver beside 511 others. There are 511 jobs, and each of the others runs one."""
    suite = load_suite(SWEEP)
    changed = suite.model_copy(update={"seeds": (10_000,), "evaluate": ()}).based_at(suite.base)  # none of them is done
    plan = make_plan(changed, assume=True)
    listed = [replace(job, needs=frozenset()) for job in jobs(missing(plan.steps, Store(root)))][:511]
    assert len(listed) == 511, len(listed)
    others = elsewhere(root, 511, [[step.key for step in job.steps] for job in listed])
    own = Leases(root)
    own.owner = replace(own.owner, place="this machine")
    own.__enter__()
    return Board(plan, Store(root), How(), Silent(), RunOutcome(), listed, own), others, own


def board(root: Path, seeds: int) -> dict[str, Any]:
    """An idle joiner polls the jobs of 511 others: the time of one poll, and the polls in 30 s without a finished
    job."""
    found, others, own = boards(root)
    try:
        assert found.take() is None
        looks, end = 0, time.monotonic() + 30
        spent = 0.0
        with Taken() as taken:
            _look(found)
        while time.monotonic() < end:
            time.sleep(found.patience or 0)
            began = time.perf_counter()
            _look(found)
            spent, looks = spent + time.perf_counter() - began, looks + 1
    finally:
        for each in (*others, own):
            _leave(each)
    return {
        "seconds per poll": taken.seconds,
        "polls in 30 s": looks,
        "seconds spent in 30 s": spent,
        "MB": megabytes(),
    }


def _look(found: Board) -> None:
    found._next_look = 0.0
    assert found.take() is None


def _leave(leases: Leases) -> None:
    for name in list(leases._held):
        leases.drop(name)
    leases._over.set()
    leases._file(leases.owner.id).unlink(missing_ok=True)


def driver(root: Path, seeds: int) -> dict[str, Any]:
    """A fleet's driver polls the records of its joiners: the first poll, and later polls with one new record."""
    found, others, own = boards(root)
    plan, predictions = found.plan, stand_in()
    new = [step for job in found.jobs for step in job.steps if isinstance(step, Predict)][:5]
    try:
        with Taken() as first:
            found.settle_elsewhere()
        time.sleep(3)
        found.settle_elsewhere()
        seconds = []
        for step in new:
            record(found.store, plan, step, predictions)
            with Taken() as taken:
                found.settle_elsewhere()
            seconds.append(taken.seconds)
        done = found.outcome.elsewhere
    finally:
        for each in (*others, own):
            _leave(each)
        for step in new:
            found.store.record_path(step.key).unlink(missing_ok=True)
            found.store.predictions_path(step.key).unlink(missing_ok=True)
    assert done == len(new)
    return {"seconds of the first": first.seconds, "seconds": statistics.median(seconds), "MB": megabytes()}


MEASURES: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "fill": fill,
    "keys": keys,
    "lease": lease,
    "write": write,
    "board": board,
    "driver": driver,
    "gc": collecting,
    "planning": planning,
    "verify": verifying,
}
"""The measurements by name."""

COLD = ("keys", "planning")
"""Measurements that are also made with empty caches."""
