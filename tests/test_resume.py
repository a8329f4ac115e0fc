"""Runs that are killed, interrupted, moved or short of files end as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

import rib
from helpers import PATIENCE, assert_same, document, start, toml, wait_until
from rib.execute.pool import Crew
from rib.execute.progress import Silent
from rib.execute.run import RunOutcome, execute
from rib.plan import make_plan
from rib.steps import Fit, How, Predict, Pretrain
from rib.store.store import Store
from rib.suite.load import load_suite

METHODS = ["finetune", "ewc", "lwf", "linear_probe", "lp_ft", "wise_ft", "soup", "greedy_soup"]
Finished = tuple[Path, Path]


def suite_file(folder: Path, models: tuple[str, ...] = ("dropout",), **fields: Any) -> Path:
    """A suite that pretrains a net with dropout and BatchNorm, and tunes it."""
    made = document(folder, models, per_class=8, **{"runs": [{"methods": METHODS}]} | fields)
    for row in made["model"].values():
        row.pop("weights", None)
        row["pretrain"] = {"recipe": {"epochs": 6, "batch_size": 5, "lr": 0.05, "warmup_steps": 2}}
    file = folder / "tiny.toml"
    file.write_text(toml(made))
    return file


def do(file: Path, store: Path, watcher: Any = None, **how: Any) -> RunOutcome:
    """Run a suite in this process; what became of it."""
    place = Store(store)
    plan = make_plan(load_suite(file), place.facts)
    return execute(plan, place, How(**{"workers": 1, "checkpoint_seconds": 0.0} | how), watcher)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A suite file, the store of a run of it that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = suite_file(folder)
    outcome = do(file, folder / "store")
    assert outcome.failed == {}
    assert outcome.before == 0
    return file, folder / "store"


def copied(store: Path, folder: Path) -> Path:
    """The store again, to be changed."""
    shutil.copytree(store, folder / "store")
    return folder / "store"


# -- killed ------------------------------------------------------------------------------------------------------------


def run_in_child(file: Path, store: Path, workers: int) -> None:
    """The life of a process that is to be killed."""
    do(file, store, workers=workers)


def test_killed_at_random_moments_equals_uninterrupted(finished: Finished, tmp_path: Path) -> None:
    """Eight kills of a process; every fourth has workers, who go on for a while and find out by themselves."""
    file, expected = finished
    plan = make_plan(load_suite(file))
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rib.execute.preload"])
    chance = random.Random(7)
    stores, kills, half_done = [tmp_path / "store0"], 0, 0
    for attempt in range(30):
        if kills == 8:
            break
        before = len(Store(stores[-1]).keys())
        least = before + chance.randrange((len(plan.steps) - before) // 2)  # records there when the moment comes
        child = context.Process(target=run_in_child, args=(file, stores[-1], 2 if attempt % 4 == 3 else 1))
        child.start()
        while child.is_alive() and len(Store(stores[-1]).keys()) < least:
            child.join(0.005)
        child.join(chance.uniform(0, 0.1))
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
            half_done += 0 < len(Store(stores[-1]).keys()) < len(plan.steps)
        else:
            assert child.exitcode == 0
        child.join()
        if len(Store(stores[-1]).keys()) > 0.7 * len(plan.steps):
            stores.append(tmp_path / f"store{len(stores)}")
    assert kills == 8
    assert half_done >= 3
    for store in stores:
        assert do(file, store).failed == {}
        assert_same(plan, store, expected)


def test_the_command_killed_with_all_its_processes(finished: Finished, tmp_path: Path) -> None:
    file, expected = finished
    store = tmp_path / "store"
    chance = random.Random(3)
    for least in (1, 12):  # records that are there when the moment comes
        process = start(file, store)
        wait_until(lambda least=least: len(Store(store).keys()) >= least, process)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.1))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert all(Store(store).record(key) for key in Store(store).keys())  # noqa: SIM118
    assert do(file, store).failed == {}
    assert_same(make_plan(load_suite(file)), store, expected)


def die_after(file: Path, store: Path, examples: int) -> None:
    """Run a suite until its first training has seen this many examples."""

    class Die(Silent):
        seen = 0

        def images(self, count: int, passes: float) -> None:
            self.seen += count
            if self.seen > examples:
                os.kill(os.getpid(), signal.SIGKILL)

    do(file, store, Die())


@pytest.mark.parametrize(("family", "objective"), [("text", "masked"), ("causal", "next")])
def test_pretraining_on_hidden_tokens_killed_in_mid_epoch_ends_bit_equal(
    family: str, objective: str, tmp_path: Path
) -> None:
    """The tokens that an epoch hides are drawn by seed and epoch, so those after a kill are the same ones."""
    file = suite_file(tmp_path, (family,), runs=[])
    made = tomllib.loads(file.read_text("utf-8"))
    stage = {"data": "clean", "probe": {"epochs": 1}, "finetune": {"epochs": 1}}
    made["model"][family]["pretrain"] |= {"objective": objective, "reference": stage}
    file.write_text(toml(made), "utf-8")
    assert do(file, tmp_path / "whole").failed == {}
    store = tmp_path / "killed"
    shutil.copytree(tmp_path / "whole" / "packs", store / "packs")
    context: Any = multiprocessing.get_context("forkserver")
    child = context.Process(target=die_after, args=(file, store, 3 * 16 + 5))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    (checkpoint,) = (store / "checkpoints").rglob("*.pt")
    state = torch.load(checkpoint, weights_only=True)
    assert (state["stage"], state["epoch"]) == (0, 3)
    assert do(file, store).failed == {}
    assert_same(make_plan(load_suite(file)), store, tmp_path / "whole")


def test_a_checkpoint_is_taken_up_in_mid_training(finished: Finished, tmp_path: Path) -> None:
    """A run that is stopped in its fourth epoch goes on from the third's end, and not from the beginning."""
    file, expected = finished
    store = tmp_path / "store"
    shutil.copytree(expected / "packs", store / "packs")

    class Stop(Silent):
        seen = 0

        def images(self, count: int, passes: float) -> None:
            self.seen += count
            if self.seen > 3 * 16 + 5:
                raise KeyboardInterrupt

    class Counts(Silent):
        def __init__(self) -> None:
            self.counts: list[int] = []

        def images(self, count: int, passes: float) -> None:
            self.counts.append(count)

    assert do(file, store, Stop()).interrupted
    checkpoints = list((store / "checkpoints").rglob("*.pt"))
    assert len(checkpoints) == 1
    assert torch.load(checkpoints[0], weights_only=True)["epoch"] == 3
    watcher = Counts()
    assert do(file, store, watcher).failed == {}
    assert watcher.counts[:2] == [3 * 16, 5]  # three epochs were done before
    assert_same(make_plan(load_suite(file)), store, expected)
    assert not list((store / "checkpoints").rglob("*.pt"))


@pytest.mark.parametrize("torn", [b"", b"\0" * 200, b"PK\x03\x04 half of it"])
def test_files_cut_off_by_a_crash_of_the_machine(finished: Finished, tmp_path: Path, torn: bytes) -> None:
    file, expected = finished
    store = copied(expected, tmp_path)
    plan = make_plan(load_suite(file))
    fit = next(step for step in plan.steps if isinstance(step, Fit) and step.method.name == "ewc")
    predict = next(step for step in plan.steps if isinstance(step, Predict))
    for step in (fit, predict):
        (store / "records" / step.key[:2] / f"{step.key}.json").write_bytes(torn)
    checkpoint = Store(store).checkpoint_path(fit.key)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_bytes(torn)
    outcome = do(file, store)
    assert outcome.done == 2
    assert outcome.failed == {}
    assert_same(plan, store, expected)


# -- done is done ------------------------------------------------------------------------------------------------------


def test_run_again_does_nothing_wherever_store_and_data_are(finished: Finished, tmp_path: Path) -> None:
    file, expected = finished
    steps = len(make_plan(load_suite(file)).steps)
    assert do(file, expected) == RunOutcome(done=0, before=steps)
    shutil.copytree(file.parent, tmp_path / "elsewhere" / "data", ignore=shutil.ignore_patterns("store"))
    shutil.copytree(expected, tmp_path / "another" / "store")
    for data in (tmp_path / "elsewhere" / "data").glob("*.npz"):
        os.utime(data, (1, 1))
    moved = tmp_path / "elsewhere" / "data" / file.name
    assert do(moved, tmp_path / "another" / "store") == RunOutcome(done=0, before=steps)


def test_one_and_two_workers_give_the_same(finished: Finished, tmp_path: Path) -> None:
    file, expected = finished
    outcome = do(file, tmp_path / "store", workers=2)
    assert outcome.failed == {}
    plan = make_plan(load_suite(file))
    assert outcome.done == len(plan.steps)
    assert_same(plan, tmp_path / "store", expected)


# -- weights that are not kept -----------------------------------------------------------------------------------------


def test_a_lost_weight_file_is_made_again_when_something_needs_it(finished: Finished, tmp_path: Path) -> None:
    before, expected = finished
    store = copied(expected, tmp_path)
    wise = {"wise": {"kind": "wise_ft", "alpha": 0.2}}
    file = suite_file(tmp_path, runs=[{"methods": [*METHODS, "wise"]}], method=wise)
    plan = make_plan(load_suite(file))
    tuned = next(step for step in plan.steps if isinstance(step, Fit) and step.method.name == "finetune")
    pretrain = next(step for step in plan.steps if isinstance(step, Pretrain))
    for step in (tuned, pretrain):
        Store(store).drop_weights(step.key)
    outcome = do(file, store)
    assert outcome.failed == {}
    fits = 2  # of `wise`, one a downstream set
    assert outcome.done == 2 + fits + fits * 3
    assert_same(make_plan(load_suite(before)), store, expected)


def test_nothing_is_made_again_where_nothing_needs_it(finished: Finished, tmp_path: Path) -> None:
    file, expected = finished
    store = copied(expected, tmp_path)
    shutil.rmtree(store / "weights")
    assert do(file, store).done == 0


@pytest.mark.parametrize(
    ("keep", "left"), [("none", set()), ("pretrained", {"Pretrain"}), ("all", {"Pretrain", "Fit"})]
)
def test_retention(finished: Finished, tmp_path: Path, keep: str, left: set[str]) -> None:
    file, expected = finished
    plan = make_plan(load_suite(file))
    store = tmp_path / "store"
    assert do(file, store, keep=keep).failed == {}
    assert {type(step).__name__ for step in plan.steps if Store(store).has_weights(step.key)} == left
    assert do(file, store, keep=keep).done == 0
    more = suite_file(tmp_path, runs=[{"methods": [*METHODS, "l2_sp"]}])
    assert do(more, store, keep=keep).failed == {}
    steps = make_plan(load_suite(more)).steps
    assert {type(step).__name__ for step in steps if Store(store).has_weights(step.key)} == left
    for step in plan.steps:
        a, b = Store(store).record(step.key), Store(expected).record(step.key)
        assert a is not None
        assert b is not None
        assert a.values == b.values


@pytest.mark.parametrize("complete", [False, True])
def test_what_a_killed_run_could_not_let_go_the_next_one_does(
    finished: Finished, tmp_path: Path, complete: bool
) -> None:
    """All weights and features are there, as where a run is killed before it drops any."""
    file, expected = finished
    store = copied(expected, tmp_path)
    plan = make_plan(load_suite(file))
    left = [step for step in plan.steps if isinstance(step, Predict)][-1]
    if not complete:
        (store / "records" / left.key[:2] / f"{left.key}.json").unlink()
    outcome = do(file, store, keep="pretrained", workers=2)
    assert (outcome.failed, outcome.done) == ({}, 0 if complete else 1)
    files = [path.stem for folder in ("weights", "features") for path in (store / folder).rglob("*.*")]
    assert files == [step.key for step in plan.steps if isinstance(step, Pretrain)]
    assert do(file, store, keep="none").done == 0
    assert not [path for path in (store / "weights").rglob("*") if path.is_file()]


# -- workers that die --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_killed_worker(tmp_path: Path, deaths: int) -> None:
    """Killed once, its work is tried again; killed twice, the step fails by name and the others go on."""
    method = {"dies": {"kind": "user_methods:Dies", "deaths": deaths, "folder": str(tmp_path)}}
    runs = [{"methods": ["finetune", "dies", "wise_ft"], "downstream": ["part"]}]
    file = suite_file(tmp_path, runs=runs, method=method)
    outcome = do(file, tmp_path / "store", workers=2)
    plan = make_plan(load_suite(file))
    assert len(list(tmp_path.glob("death*"))) == deaths
    if deaths == 1:
        assert outcome.failed == {}
        assert outcome.done == len(plan.steps)
    else:
        assert set(outcome.failed) == {"dies dropout on part"} | {
            f"dies dropout on part → {name}" for name in ("clean", "whole", "part")
        }
        assert "died twice (signal 9)" in outcome.failed["dies dropout on part"]
        assert outcome.done == len(plan.steps) - 4


def test_an_idle_worker_that_is_killed_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Finished
) -> None:
    file, expected = finished
    crews: list[Any] = []
    run = Crew.run
    monkeypatch.setattr(Crew, "run", lambda crew, board: (crews.append(crew), run(crew, board))[1])

    class Killer(Silent):
        killed = 0

        def now(self, title: str) -> None:
            crew = crews[0] if crews else None
            idle = [worker.process for worker in crew._workers.values() if worker.job is None] if crew else []
            if idle and not self.killed:
                self.killed = idle[0].pid
                os.kill(self.killed, signal.SIGKILL)
                idle[0].join()

    killer = Killer()
    outcome = do(file, tmp_path / "store", killer, workers=2)
    assert killer.killed  # all waits for the pretraining, so that one of two is idle
    assert outcome.failed == {}
    assert_same(make_plan(load_suite(file)), tmp_path / "store", expected)


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    method = {f"slow{n}": {"kind": "user_methods:Slow", "seconds": 1.0 + n / 100} for n in range(6)}
    file = suite_file(tmp_path, runs=[{"methods": [*method], "downstream": ["part"]}], method=method)
    store = tmp_path / "store"
    process = start(file, store, "--workers", "2")
    wait_until(lambda: len(Store(store).keys()) >= 3, process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, (out, err)
    assert f"Continue with: rib run {file}" in err
    assert "Traceback" not in out + err
    before = len(Store(store).keys())
    plan = make_plan(load_suite(file))
    assert 3 <= before < len(plan.steps)
    outcome = do(file, store, workers=2)
    assert outcome == RunOutcome(done=len(plan.steps) - before, before=before)


def test_an_interrupt_while_starting(tmp_path: Path) -> None:
    file = suite_file(tmp_path)
    store = tmp_path / "store"
    process = start(file, store, "--workers", "2")
    wait_until((store / "store.json").exists, process)
    time.sleep(0.4)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in out + err
    assert "Continue with: rib run" in err


ENDS = """
import atexit, os, signal
from rib.cli import app

def interrupt(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)

def command(**_):
    atexit.register(interrupt)
    {command}

signal.signal(signal.SIGINT, signal.default_int_handler)
app.app = command
{more}
app.main()
"""


@pytest.mark.parametrize(
    ("command", "more", "code"),
    [
        ("return 0", "", 0),
        ("return 1", "", 1),
        ("raise app.UserError('x')", "app.say = print", 2),
        ("interrupt()", "app.say = print", 130),
        ("interrupt()", "app.say = interrupt", 130),
    ],
)
def test_an_interrupt_while_a_command_ends(command: str, more: str, code: int) -> None:
    """Ctrl-C as the interpreter ends, and again while the first is reported: no traceback, and the code stays."""
    script = ENDS.format(command=command, more=more)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, "")


def test_an_interrupt_from_python(finished: Finished, tmp_path: Path) -> None:
    file, expected = finished

    class Stop(Silent):
        def finished(self, work: float) -> None:
            raise KeyboardInterrupt

    with pytest.raises(rib.StepError, match="call again to continue"):
        rib.run(file, store=tmp_path / "store", how=How(workers=1), watcher=Stop())
    assert rib.run(file, store=tmp_path / "store", how=How(workers=1)).failed == {}
    assert_same(make_plan(load_suite(file)), tmp_path / "store", expected)
