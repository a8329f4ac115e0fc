"""Several drivers, dead ones, hung steps: what is to be done is done once, and what fails says how."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, TypeGuard

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import PATIENCE, Say, assert_same, document, start, tiny, toml, wait_until
from rib.errors import DivergedError, StepError, UserError
from rib.execute import worker
from rib.execute.board import Board
from rib.execute.progress import Silent
from rib.execute.run import RunOutcome, execute
from rib.execute.runtime import Runtime, read_runtime
from rib.execute.schedule import jobs
from rib.plan import Plan, make_plan
from rib.steps import Embed, Fit, How, Predict, Step
from rib.store import leases as leases_module
from rib.store.leases import Leases
from rib.store.store import Store
from rib.suite.load import load_suite

LIMIT = 3.0
"""Seconds for a step in tests of steps that hang."""


# -- leases ------------------------------------------------------------------------------------------------------------


def test_what_one_has_no_other_takes_until_it_is_given_back(tmp_path: Path) -> None:
    with Leases(tmp_path) as one, Leases(tmp_path) as other:
        assert one.take("work")
        assert one.take("work")  # it has it
        assert not other.take("work")
        assert other.take("more")
        assert one.drop("work")
        assert not one.has_taken("work")
        assert other.take("work")
        assert not one.drop("work")
        assert {lease.name: lease.owner.id if lease.owner else "" for lease in one.listed()} == {
            "more": other.owner.id,
            "work": other.owner.id,
        }
    with Leases(tmp_path) as third:
        assert third.take("work")  # those who leave give back what they have
        assert third.alone()


def racing(root: Path, names: list[str], rivals: int) -> Counter[str]:
    """Owners that want all of some names at once; how many got each."""
    barrier = threading.Barrier(rivals)

    def life(_: int) -> list[str]:
        with Leases(root) as leases:
            barrier.wait()
            got = [name for name in names if leases.take(name)]
            barrier.wait()  # nobody leaves before all have tried
            return got

    with ThreadPoolExecutor(rivals) as pool:
        return Counter(name for got in pool.map(life, range(rivals)) for name in got)


def test_of_many_at_once_one_gets_each(tmp_path: Path) -> None:
    names = [f"{number:02x}ab" for number in range(40)]
    assert racing(tmp_path, names, 8) == dict.fromkeys(names, 1)


def taken_by_the_dead(root: Path, *names: str, id: str | None = None) -> str:
    """A process that takes work and ends without a word; its owner's id."""
    code = (
        "import os, sys; from pathlib import Path; from rib.store.leases import Leases\n"
        "leases = Leases(Path(sys.argv[1])); leases.__enter__()\n"
        "assert all(leases.take(name) for name in sys.argv[2:]); print(leases.owner.id, flush=True); os._exit(1)"
    )
    done = subprocess.run([sys.executable, "-c", code, root, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    return done.stdout.strip()


def test_what_the_dead_had_is_taken_over_by_one(tmp_path: Path) -> None:
    names = [f"{number:02x}ab" for number in range(20)]
    taken_by_the_dead(tmp_path, *names)
    assert [(lease.alive, lease.name) for lease in Leases(tmp_path).listed()] == [(False, name) for name in names]
    assert racing(tmp_path, names, 6) == dict.fromkeys(names, 1)


def test_the_dead_are_tidied_away(tmp_path: Path) -> None:
    dead = taken_by_the_dead(tmp_path, "work")
    with Leases(tmp_path) as leases:
        assert leases.alone()
        leases.tidy()
        assert list(leases.listed()) == []
        assert not (tmp_path / "leases" / "owners" / f"{dead}.json").exists()


def test_a_process_number_that_came_again_is_another_process(tmp_path: Path) -> None:
    with Leases(tmp_path) as one:
        assert one.take("work")
        file = tmp_path / "leases" / "owners" / f"{one.owner.id}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"started": one.owner.started + 1}))
        with Leases(tmp_path) as other:
            assert other.take("work")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time as the lease module sees it: `now` is set by the test, and asking for the date is an error."""

    def ask() -> int:
        raise AssertionError("this machine's own date was asked for: it may be wrong")

    clock = SimpleNamespace(now=1000.0, time=ask, time_ns=ask)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(leases_module, "time", clock)
    return clock


def away(root: Path, monkeypatch: pytest.MonkeyPatch) -> Leases:
    """An owner on another machine, where this one's process numbers mean nothing."""
    with monkeypatch.context() as patch:
        patch.setattr(leases_module, "place", lambda: "another machine")
        return Leases(root, beat=1e6)


def set_heartbeat(root: Path, owner: Leases, seconds_ago: float) -> None:
    """As the file system would have it."""
    file = root / "leases" / "owners" / f"{owner.owner.id}.json"
    now = Leases(root)._now() / 1e9
    os.utime(file, (now - seconds_ago, now - seconds_ago))


def test_an_owner_elsewhere_lives_as_long_as_its_heart_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    """By the file system's clock alone, whatever the date on either machine."""
    with away(tmp_path, monkeypatch) as far, Leases(tmp_path, expiry=120, beat=15) as here:
        assert far.take("work")
        assert not here.take("work")
        set_heartbeat(tmp_path, far, 110)
        clock.now += 1000
        assert not here.take("work")  # late, but not too late
        set_heartbeat(tmp_path, far, 130)
        assert not here.take("work")  # too late, but seen for the first time: a server may have been away
        clock.now += 29
        assert not here.take("work")
        clock.now += 2
        assert here.take("work")
        assert not far.drop("work")


def test_an_old_heart_that_beats_again_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    with away(tmp_path, monkeypatch) as far, Leases(tmp_path, expiry=120, beat=15) as here:
        assert far.take("work")
        set_heartbeat(tmp_path, far, 500)
        assert not here.take("work")
        clock.now += 29
        far.beat()
        clock.now += 1000
        assert not here.take("work")


def test_an_owner_that_is_dismissed_loses_all_at_once_and_notices(tmp_path: Path) -> None:
    with Leases(tmp_path, id="joiner") as joiner, Leases(tmp_path) as driver:
        assert joiner.take("work")
        driver.dismiss("joiner")
        assert driver.take("work")
        joiner.beat()
        assert joiner.dismissed
        assert not joiner.drop("work")


def test_an_owner_taken_for_dead_signs_up_again(tmp_path: Path) -> None:
    with Leases(tmp_path) as one, Leases(tmp_path) as other:
        other.dismiss(one.owner.id)
        assert other.alone()
        one.beat()
        assert not one.dismissed
        assert not other.alone()


# -- a file system that fails ------------------------------------------------------------------------------------------


def failing(
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
    part: str = "work",
    done: bool = False,
    when: Callable[[], bool] = lambda: True,
) -> None:
    """Let a method of Path fail in a folder of the leases; as if it had not been done, or with the answer lost."""
    real: Callable[..., Any] = getattr(Path, call)

    def fails(self: Path, *words: Any, **named: Any) -> Any:
        if part not in self.parts[-4:] or not when():
            return real(self, *words, **named)
        if done:
            real(self, *words, **named)
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, call, fails)


WORDS = {
    errno.ENOSPC: (StepError, "the disk is full"),
    errno.EDQUOT: (StepError, "the disk is full"),
    errno.EACCES: (UserError, "cannot write"),
    errno.EROFS: (UserError, "cannot write"),
    errno.EIO: (StepError, "could not be written"),
}


@pytest.mark.parametrize("code", WORDS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["mkdir", "touch", "rename"])
def test_what_keeps_work_from_being_taken_is_told_unless_another_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    kind, words = WORDS[code]
    taken_by_the_dead(tmp_path, "left")
    with Leases(tmp_path) as one:
        with monkeypatch.context() as patch:
            failing(patch, call, code)
            with pytest.raises(kind, match=words):
                one.take("work")
            if call == "rename":
                with pytest.raises(kind, match=words):
                    one.take("left")
        assert not list((tmp_path / "leases" / "work").glob(".*"))
        assert not one.has_taken("work")
        assert one.take("work")
        assert one.take("left")


@pytest.mark.parametrize("code", [errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT, errno.ESTALE], ids=errno.errorcode.get)
def test_what_another_was_first_at_is_not_taken_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    taken_by_the_dead(tmp_path, "left")
    with Leases(tmp_path) as one:
        with monkeypatch.context() as patch:
            failing(patch, "rename", code)
            assert not one.take("work")
            assert not one.take("left")
        assert one.take("work")
        assert one.take("left")


def test_work_is_taken_where_only_the_answer_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken_by_the_dead(tmp_path, "left")
    with Leases(tmp_path) as one:
        failing(monkeypatch, "rename", errno.EIO, done=True)
        assert one.take("work")
        assert one.take("left")


def test_leases_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Leases(tmp_path) as one, Leases(tmp_path) as other:
        assert other.take("work")
        with monkeypatch.context() as patch:
            failing(patch, "iterdir", errno.EACCES)
            for ask in (lambda: one.take("work"), lambda: list(one.listed()), lambda: list(one.dead())):
                with pytest.raises(UserError, match="cannot read"):
                    ask()
        with monkeypatch.context() as patch:
            failing(patch, "iterdir", errno.EACCES, part="owners")
            with pytest.raises(UserError, match="cannot read"):
                one.alone()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_an_owner_that_cannot_be_looked_at_is_not_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    dead = taken_by_the_dead(tmp_path, "work")
    with Leases(tmp_path) as one:
        with monkeypatch.context() as patch:
            failing(patch, "open", code, part=f"{dead}.json")
            assert not one.take("work")
            assert not one.alone()
            assert [(lease.owner, lease.alive) for lease in one.listed()] == [(None, True)]
            assert list(one.dead()) == []
            one.tidy()
        assert [(lease.owner.id if lease.owner else "", lease.alive) for lease in one.listed()] == [(dead, False)]
        assert one.take("work")


def test_an_owner_whose_file_a_power_cut_emptied_dies_of_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    """It may run all the same, its heart beating."""
    with away(tmp_path, monkeypatch) as far, Leases(tmp_path, expiry=120, beat=15) as here:
        assert far.take("work")
        (tmp_path / "leases" / "owners" / f"{far.owner.id}.json").write_bytes(b"")
        set_heartbeat(tmp_path, far, 110)
        clock.now += 1000
        assert not here.take("work")
        assert [(lease.owner, lease.alive) for lease in here.listed()] == [(None, True)]
        assert list(here.dead()) == []
        set_heartbeat(tmp_path, far, 130)
        assert [(lease.owner, lease.alive) for lease in here.listed()] == [(None, False)]
        assert not here.take("work")  # seen for the first time
        clock.now += 31
        assert here.take("work")


def test_leases_that_are_given_back_meanwhile_are_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = taken_by_the_dead(tmp_path, "abcd", "abef")
    gone = tmp_path / "leases" / "work" / "ab" / "abcd"

    def vanishing(real: Callable[..., Any]) -> Callable[..., Any]:
        def look(path: Any = ".", *words: Any) -> Any:
            if not isinstance(path, int) and Path(path) == gone:
                shutil.rmtree(gone, ignore_errors=True)
            return real(path, *words)

        return look

    for call in (lambda: [lease.name for lease in Leases(tmp_path).listed()], lambda: list(Leases(tmp_path).dead())):
        gone.mkdir(exist_ok=True)
        (gone / dead).touch()
        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", vanishing(os.listdir))
            patch.setattr(os, "scandir", vanishing(os.scandir))
            assert call() in (["abef"], [tmp_path / "leases" / "owners" / f"{dead}.json", gone.parent / "abef" / dead])
            assert not gone.exists()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, 1), (errno.EACCES, 2)], ids=["ENOSPC", "EACCES"])
def test_a_run_whose_leases_cannot_be_written_ends_with_a_word_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rib_says: Say, workers: int, code: int, said: int
) -> None:
    file = suite_file(tmp_path, ["finetune", "linear_probe"], {})
    words = ("run", file, "--store", "store", "--workers", workers)
    store = Store(tmp_path / "store")
    with monkeypatch.context() as patch:
        failing(patch, "mkdir", code, when=lambda: bool(store.keys()))
        stopped, printed = rib_says(*words)
    assert stopped == said
    assert WORDS[code][1] in printed
    assert multiprocessing.active_children() == []
    done = {key: store.record_path(key).stat().st_mtime_ns for key in sorted(store.keys())}
    assert done
    assert list(Leases(store.root).listed()) == []
    assert not list((store.root / "leases" / "owners").glob("*.json"))
    assert rib_says(*words)[0] == 0
    assert len(store.keys()) > len(done)
    assert {key: store.record_path(key).stat().st_mtime_ns for key in done} == done


# -- drivers that group steps differently ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("planned")
    return make_plan(tiny(folder, runs=[{"methods": ["finetune", "linear_probe", "lp_ft", "soup"]}], seeds=(0, 1)))


class Driver:
    """Takes jobs from its own board and pretends to do their steps, a piece at a time.

    Args:
        plan: what is to do.
        store: the one that all drivers share.
        leases: this driver's.
        groups: for each prediction, the job that it is in with others of its number.
        done: how often each step was done, by anyone.
    """

    def __init__(self, plan: Plan, store: Store, leases: Leases, groups: list[int], done: Counter[str]) -> None:
        joined: dict[int, list[Predict]] = {}
        for step, number in zip(filter(is_prediction, plan.steps), groups, strict=True):
            joined.setdefault(number, []).append(step)
        listed = jobs(plan.steps, joined.values())
        self.outcome = RunOutcome()
        self.board = Board(plan, store, How(), Silent(), self.outcome, listed, leases)
        self._done, self._under_way = done, list[tuple[int, list[Step]]]()

    @property
    def over(self) -> bool:
        return not self._under_way and not any(self.board.left(number) for number in range(len(self.board.jobs)))

    def begin(self) -> None:
        """Take a job, if there is one."""
        self.board._next_look = 0.0  # time has passed
        if (number := self.board.take()) is not None:
            self._under_way.append((number, list(self.board.begin(number))))

    def go_on(self, which: int) -> None:
        """Do a step of a job that is under way, or end it."""
        if not self._under_way:
            return
        number, steps = self._under_way[which % len(self._under_way)]
        if not steps:
            self._under_way.remove((number, steps))
            self.board.end(number)
            return
        step, store = steps.pop(0), self.board.store
        if step.keeps_weights:
            store.write_weights(step.key, {})
        if isinstance(step, Embed):
            store.write_features(step.key, 1, [np.zeros((1, 1), np.float32)])
        store.write(step, {"examples": 0}, 0.0, 1, "cpu")
        self._done[step.key] += 1
        self.board.tell(("done", step.key))


def is_prediction(step: Step) -> TypeGuard[Predict]:
    return isinstance(step, Predict)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_no_step_is_done_twice_however_drivers_group_them(planned: Plan, seed: int) -> None:
    """Three drivers with jobs of their own, at any pace, up to three jobs at once."""
    chance = Random(seed)
    count = sum(map(is_prediction, planned.steps))
    done: Counter[str] = Counter()
    with TemporaryDirectory() as folder, ExitStack() as at_work:
        store = Store(Path(folder))
        store.prepare()
        drivers = [
            Driver(
                planned,
                store,
                at_work.enter_context(Leases(store.root)),
                [chance.randrange(6) for _ in range(count)],
                done,
            )
            for _ in range(3)
        ]
        for _ in range(200 * len(planned.steps)):
            driver = chance.choice(drivers)
            if len(driver._under_way) < 3 and chance.random() < 0.3:
                driver.begin()
            else:
                driver.go_on(chance.randrange(3))
        for driver in drivers * 2:
            while driver._under_way:
                driver.go_on(0)
        assert all(driver.over for driver in drivers)
    assert done == Counter(step.key for step in planned.steps)
    assert sum(driver.outcome.done for driver in drivers) == len(planned.steps)
    assert all(driver.outcome.done + driver.outcome.elsewhere == len(planned.steps) for driver in drivers)


# -- drivers as they are -----------------------------------------------------------------------------------------------

METHODS = ["counts", "linear_probe", "lp_ft", "wise_ft"]


def suite_file(
    folder: Path, methods: list[str], method: dict[str, dict[str, Any]], sets: Sequence[str] = (), **fields: Any
) -> Path:
    """A suite with methods of the tests' own, each told the folder, tuned on some sets or all."""
    own = {
        name: {"kind": f"user_methods:{name.capitalize()}", "folder": str(folder)} | row for name, row in method.items()
    }
    runs = [{"methods": methods} | ({"downstream": list(sets)} if sets else {})]
    made = document(folder, ("dropout",), per_class=8, runs=runs, method=own, **fields)
    file = folder / "tiny.toml"
    file.write_text(toml(made))
    return file


def drive(file: Path, store: Path, runtime: Runtime | None = None, watcher: Any = None, **how: Any) -> RunOutcome:
    """Run a suite; what became of it."""
    place = Store(store)
    return execute(make_plan(load_suite(file), place.facts), place, How(**how), watcher, runtime)


def drive_in_child(file: Path, store: Path, gate: Any, told: Any, how: dict[str, Any]) -> None:
    """The life of a driver that begins when all are ready."""
    place = Store(store)
    plan = make_plan(load_suite(file), place.facts)
    gate.wait()
    told.put(execute(plan, place, How(**how)))


def test_two_drivers_share_the_work_and_do_no_step_twice(tmp_path: Path) -> None:
    """One of them packs its data; the other streams what is not packed when it begins."""
    file = suite_file(tmp_path, METHODS, {"counts": {"seconds": 0.4}}, seeds=[0, 1, 2])
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rib.execute.preload"])
    gate, told = context.Barrier(2), context.Queue()
    ways = ({"workers": 1}, {"workers": 1, "pack_budget": 0, "at_once": 2})
    drivers = [context.Process(target=drive_in_child, args=(file, tmp_path / "store", gate, told, how)) for how in ways]
    for driver in drivers:
        driver.start()
    outcomes = [told.get(timeout=PATIENCE) for _ in drivers]
    for driver in drivers:
        driver.join()
    plan = make_plan(load_suite(file))
    keys = {step.key for step in plan.steps}
    assert [outcome.failed for outcome in outcomes] == [{}, {}]
    assert not outcomes[0].made & outcomes[1].made
    assert all(outcome.made and outcome.elsewhere for outcome in outcomes)  # both had a share
    assert keys - (outcomes[0].made | outcomes[1].made) <= {step.key for step in plan.steps if isinstance(step, Embed)}
    assert sum(outcome.doubled for outcome in outcomes) == 0
    assert (
        len((tmp_path / "counts.txt").read_text().splitlines()) == 2 * 3
    )  # sets and seeds: as each driver itself says
    assert not list((tmp_path / "store" / "leases" / "work").rglob("*-*"))
    alone = tmp_path / "alone"
    assert drive(file, alone, workers=1).failed == {}
    assert_same(plan, tmp_path / "store", alone)


def test_a_driver_waits_for_another_and_takes_over_when_it_dies(tmp_path: Path) -> None:
    file = suite_file(tmp_path, ["hangs"], {"hangs": {}}, sets=["part", "whole"])
    store, marks = tmp_path / "store", tmp_path / "hangs.txt"
    first = start(file, store, "--workers", "1")
    wait_until(marks.exists, first)
    plan = make_plan(load_suite(file))
    held = {lease.name for lease in Leases(store).listed()}
    stuck = next(step.key for step in plan.steps if isinstance(step, Fit) and step.key in held)
    second = start(file, store, "--workers", "1")
    others = [step.key for step in plan.steps if stuck not in (step.key, *(need.key for need in step.needs))]
    wait_until(lambda: Store(store).keys() >= set(others), second)
    assert not Store(store).has(stuck)
    assert len(marks.read_text().splitlines()) == 2  # one a set: nobody else tried what hangs
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    out, err = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, (out, err)
    assert Store(store).has(stuck)
    assert len(marks.read_text().splitlines()) == 3


def test_what_a_dead_driver_had_waits_for_its_worker_to_end(tmp_path: Path) -> None:
    """A worker learns of its driver's death a moment later, and may be about to leave a record."""
    file = suite_file(tmp_path, ["hangs"], {"hangs": {}}, sets=["part"])
    store, marks = tmp_path / "store", tmp_path / "hangs.txt"
    process = start(file, store, "--workers", "2")
    wait_until(lambda: marks.exists() and marks.read_text().endswith("\n"), process)
    worker = int(marks.read_text())
    assert worker != process.pid
    os.kill(worker, signal.SIGSTOP)
    held = [lease.name for lease in Leases(store).listed()]
    assert held
    process.kill()
    process.wait()
    with Leases(store) as other:
        assert not any(other.take(name) for name in held)
        assert not other.alone()
        assert all(lease.alive for lease in other.listed())
        os.kill(worker, signal.SIGCONT)
        end = time.monotonic() + 60
        while not other.alone() and time.monotonic() < end:
            time.sleep(0.01)
        assert all(other.take(name) for name in held)
    process.communicate()


def test_status_says_who_does_what(tmp_path: Path, rib_says: Say) -> None:
    file = suite_file(tmp_path, ["hangs"], {"hangs": {}}, sets=["part"])
    store, marks = tmp_path / "store", tmp_path / "hangs.txt"
    process = start(file, store, "--workers", "1")
    wait_until(marks.exists, process)
    code, printed = rib_says("status", file, "--store", "store")
    assert code == 0
    assert f":{process.pid} is at 4 steps\n  hangs dropout on part\n  hangs dropout on part → " in printed
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    code, printed = rib_says("status", file, "--store", "store")
    assert f":{process.pid}, no longer at work, had 4 steps" in printed
    code, printed = rib_says("status", file, "--store", "store", "--json")
    found = json.JSONDecoder().raw_decode(printed)[0]["at work"]  # notes follow, on stderr
    assert (found[0]["step"], found[0]["alive"]) == ("hangs dropout on part", False)


# -- steps that fail ---------------------------------------------------------------------------------------------------


def failure_of(file: Path, store: Path, method: str) -> tuple[Any, Any]:
    """The step of a method on `part`, and how it failed."""
    plan = make_plan(load_suite(file))
    step = next(item for item in plan.steps if item.title.startswith(f"{method} ") and isinstance(item, Fit))
    return step, Store(store).last_failure(step.key)


def test_a_hung_step_is_ended_and_tried_once_more(tmp_path: Path) -> None:
    file = suite_file(tmp_path, ["hangs", "finetune"], {"hangs": {}}, sets=["part"])
    told: list[str] = []

    class Listens(Silent):
        def say(self, line: str) -> None:
            told.append(line)

    outcome = drive(file, tmp_path / "store", Runtime(step_minutes=LIMIT / 60), Listens(), workers=2)
    assert outcome == RunOutcome(done=len(make_plan(load_suite(file)).steps))
    assert told == ["a step took too long at: hangs dropout on part; RIB tries its work once more"]


def test_a_step_that_hangs_again_is_reported_with_the_place_and_the_rest_goes_on(tmp_path: Path, rib_says: Say) -> None:
    file = suite_file(tmp_path, ["hangs", "finetune"], {"hangs": {"times": 9}}, sets=["part"])
    words = ("run", file, "--store", "store", "--workers", 1, "--step-limit", LIMIT / 60)
    code, printed = rib_says(*words)
    assert code == 1
    assert "it took longer than 0.05 minutes, twice" in printed
    step, failure = failure_of(file, tmp_path / "store", "hangs")
    assert failure.kind == "hung"
    assert "user_methods.py" in failure.trace
    assert "in fit" in failure.trace
    assert len((tmp_path / "hangs.txt").read_text().splitlines()) == 2
    plan = make_plan(load_suite(file))
    missing = {item.key for item in plan.steps} - Store(tmp_path / "store").keys()
    assert missing == {item.key for item in plan.steps if step.key in (item.key, *(need.key for need in item.needs))}


@pytest.mark.parametrize(("times", "fails"), [(1, False), (9, True)])
def test_a_step_without_memory_is_tried_once_more_as_it_is(tmp_path: Path, times: int, fails: bool) -> None:
    file = suite_file(tmp_path, ["greedy", "finetune"], {"greedy": {"times": times}}, sets=["part"])
    outcome = drive(file, tmp_path / "store", workers=1)
    steps = make_plan(load_suite(file)).steps
    assert len((tmp_path / "greedy.txt").read_text().splitlines()) == 2
    assert len(outcome.failed) == (4 if fails else 0)  # the model and what was to be predicted with it
    assert outcome.done == len(steps) - len(outcome.failed)
    _, failure = failure_of(file, tmp_path / "store", "greedy")
    assert (failure is not None) == fails
    if fails:
        assert failure.kind == "memory"
        assert failure.again
        assert "the device is out of memory" in failure.reason
        assert "OutOfMemoryError" in failure.trace


def test_a_model_too_large_for_the_device_is_refused_with_a_word(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    workshop: Any = SimpleNamespace(device=torch.device("cpu"), forget=lambda: told.append("forget"))

    def work() -> None:
        told.append("work")
        raise torch.OutOfMemoryError

    def too_large(architecture: Any) -> None:
        told.append("fits")
        torch.empty(1 << 50)

    step = planned.steps[0]
    monkeypatch.setattr(worker, "build", too_large)
    fault = worker.attempt(workshop, step, work)
    assert fault is not None
    assert fault.reason.startswith("the model is too large for cpu: not even one input passes")
    assert not fault.again
    monkeypatch.undo()
    fault = worker.attempt(workshop, step, work)
    assert fault is not None
    assert fault.again
    assert told == ["work", "forget", "work", "forget", "fits", *("work", "forget") * 2]  # nothing else is in memory


def test_a_step_for_which_the_cpu_has_no_memory_is_tried_once_more(planned: Plan) -> None:
    """Of the CPU torch says so by an error of no kind of its own."""
    workshop: Any = SimpleNamespace(device=torch.device("cpu"), forget=lambda: None)
    tries: list[int] = []

    def work() -> None:
        tries.append(1)
        torch.empty(1 << 50 if len(tries) < 2 else 1)

    assert worker.attempt(workshop, planned.steps[0], work) is None
    assert len(tries) == 2
    fault = worker.attempt(workshop, planned.steps[0], lambda: torch.empty(1 << 50))
    assert fault is not None
    assert (fault.kind, fault.again) == ("memory", True)
    assert "allocate memory" in fault.trace


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [
        (DivergedError("nan"), "diverged", False),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "memory", True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory", True),
        (RuntimeError("shapes differ"), "error", True),
        (OSError(errno.EIO, "Input/output error"), "error", True),
        (StepError("no such layer"), "error", False),
        (UserError("no such file"), "error", True),
        (MemoryError(), "memory", True),
        (ValueError("x"), "error", True),
    ],
)
def test_what_would_fail_the_same_way_is_told_apart(planned: Plan, error: Exception, kind: str, again: bool) -> None:
    workshop: Any = SimpleNamespace(device=torch.device("cpu"), forget=lambda: None)

    def work() -> None:
        raise error

    fault = worker.attempt(workshop, planned.steps[0], work)
    assert fault is not None
    assert (fault.kind, fault.again) == (kind, again)
    assert type(error).__name__ in fault.trace


def test_what_diverges_is_told_with_epoch_and_loss_and_waits_until_it_is_asked_for(
    tmp_path: Path, rib_says: Say
) -> None:
    made = document(tmp_path, ("resnet",), runs=[{"methods": ["wild", "linear_probe"], "downstream": ["part"]}])
    made["method"] = {"wild": {"kind": "finetune", "lr": 1e30}}
    file = tmp_path / "tiny.toml"
    file.write_text(toml(made))
    words = ("run", file, "--store", "store", "--workers", 1)
    code, printed = rib_says(*words)
    assert code == 1
    step, failure = failure_of(file, tmp_path / "store", "finetune")
    assert failure.kind == "diverged"
    assert "no longer finite after epoch 1 (losses " in failure.reason
    assert "nan" in failure.reason
    assert "wild" in printed
    assert not Store(tmp_path / "store").has(step.key)  # and so nothing is averaged
    for more, attempts in (((), 1), (("--retry-failed",), 2), ((), 2)):
        code, printed = rib_says(*words, *more)
        assert code == 1
        assert ("not tried again without --retry-failed" in printed) == (not more)
        assert failure_of(file, tmp_path / "store", "finetune")[1].attempt == attempts
    code, printed = rib_says("status", file, "--store", "store")
    assert code == 1
    assert "(diverged, 2 times on " in printed


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_carries_trace_and_log(tmp_path: Path, workers: int) -> None:
    file = suite_file(tmp_path, ["fails", "finetune"], {"fails": {}}, sets=["part"])
    outcome = drive(file, tmp_path / "store", workers=workers)
    assert len(outcome.failed) == 4
    _, failure = failure_of(file, tmp_path / "store", "fails")
    assert failure.reason.startswith("LookupError: of its own (user_methods.py:")
    assert failure.trace.startswith("Traceback")
    assert "raise LookupError" in failure.trace
    assert failure.attempt == 1
    assert failure.rib.startswith("0.")
    if workers == 2:  # in this process, what is printed is the terminal's
        assert failure.log == "what it said before\n"
    assert drive(file, tmp_path / "store", workers=workers).failed == {}  # such a failure is tried again
    assert failure_of(file, tmp_path / "store", "fails")[1] is None


# -- runtime -----------------------------------------------------------------------------------------------------------


def test_a_runtime_file_and_what_is_said_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text('executor = "slurm"\nstep_minutes = 90\n[slurm]\npartition = "gpu"\nminutes = 30\n')
    found = read_runtime(file, executor=None, step_minutes=5.0)
    assert (found.executor, found.step_minutes) == ("slurm", 5.0)
    assert (found.slurm.partition, found.slurm.minutes, found.slurm.gpus) == ("gpu", 30, 1)
    assert read_runtime(None) == Runtime()
    assert Runtime().ray.bind == "127.0.0.1"
    assert not Runtime().ray.dashboard


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("executor = 'kube'", "local"),
        ("step_minutes = 0", "step_minutes"),
        ("[ray]\ngpu = 1", "did you mean 'gpus'?"),
        ("[slurm]\nminutes = 'many'", "slurm.minutes: "),
        ("[ray]\nenvironment = 3", "ray.environment: "),
        ("a = [", "TOML"),
    ],
)
def test_a_wrong_runtime_file_is_refused(tmp_path: Path, rib_says: Say, text: str, says: str) -> None:
    (tmp_path / "lab.toml").write_text(text)
    code, printed = rib_says("run", "digits", "--runtime", "lab.toml", "--store", "store")
    assert code == 2
    assert says in printed
    assert "lab.toml" in printed
    code, printed = rib_says("run", "digits", "--runtime", "none.toml", "--store", "store")
    assert code == 2
    assert "cannot read the runtime file none.toml" in printed
    assert not (tmp_path / "store").exists()
