"""Processes: scripts without a guard, drivers that are stopped or killed, what is said to who waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import PATIENCE, document, toml
from rib.execute import board
from rib.execute.progress import Silent
from rib.execute.run import execute
from rib.plan import make_plan
from rib.steps import How
from rib.store import owners
from rib.store.leases import Leases
from rib.store.owners import Owner, place
from rib.store.store import Store
from rib.suite.load import load_suite

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


class Listener(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(toml(document(tmp_path, runs=[{"methods": ["pretrained"]}])))
    return path


CALL = "import rib\nfound = rib.run({file!r}, store='store', how=rib.How(workers=2))\nprint('failed', found.failed)\n"


def test_a_script_needs_no_guard(file: Path) -> None:
    """It is run once, and no worker runs it again."""
    script = file.with_name("script.py")
    script.write_text("print('begins')\n" + CALL.format(file=str(file)))
    told = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=file.parent, timeout=PATIENCE, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.split("\n")[:2] == ["begins", "failed {}"]
    assert "Traceback" not in told.stderr
    plan = make_plan(load_suite(file))
    assert Store(file.parent / "store").keys() == {step.key for step in plan.steps}


# -- drivers that are stopped ------------------------------------------------------------------------------------------


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process  # type: ignore[misc]
    process.kill()
    process.wait()


def owner_of(process: subprocess.Popen[bytes], *workers: subprocess.Popen[bytes]) -> Owner:
    def started(one: subprocess.Popen[bytes]) -> int:
        return owners.started_at(one.pid) or 0

    return Owner("f" * 16, "here", process.pid, started(process), place(), tuple((w.pid, started(w)) for w in workers))


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGSTOP)
    end = time.monotonic() + 10
    while not owners.is_stopped(process.pid) and time.monotonic() < end:
        time.sleep(0.01)


@linux
def test_a_stopped_process_loses_what_it_has_after_a_while(sleeper: subprocess.Popen[bytes]) -> None:
    owner = owner_of(sleeper)
    assert owner.outlasts(10_000.0, 120.0)  # a busy process may be late
    stop(sleeper)
    assert owner.runs
    assert owner.stopped
    assert owner.outlasts(5.0, 120.0)
    assert not owner.outlasts(31.0, 120.0)
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    busy = owner_of(sleeper, worker)
    assert busy.outlasts(31.0, 120.0)  # who works for it goes on
    assert not busy.outlasts(121.0, 120.0)
    worker.kill()
    worker.wait()
    assert not busy.outlasts(31.0, 120.0)
    sleeper.send_signal(signal.SIGCONT)
    end = time.monotonic() + 10
    while owner.stopped and time.monotonic() < end:
        time.sleep(0.01)
    assert owner.outlasts(10_000.0, 120.0)


def enter(root: Path, owner: Owner, name: str, age: float) -> None:
    """A lease of another owner, whose heart last beat some seconds ago."""
    other = Leases(root)
    other.owner = owner
    other._owners.mkdir(parents=True, exist_ok=True)
    other._sign_up()
    assert other.take(name)
    file = other._file(owner.id)
    os.utime(file, (time.time() - age,) * 2)


@linux
def test_a_driver_says_for_whom_it_waits_and_takes_over(
    file: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(owners, "STOPPED_EXPIRY", 2.5)
    plan, store, heard = make_plan(load_suite(file)), Store(file.parent / "store"), Listener()
    for step in plan.steps:
        enter(store.root, owner_of(sleeper), step.key, 0.0)
    stop(sleeper)
    outcome = execute(plan, store, How(workers=1), heard)
    assert outcome.done == len(plan.steps)
    said = "\n".join(heard.lines)
    assert f"waiting for process {sleeper.pid} on here, which is stopped (Ctrl-Z)" in said
    assert "`fg` continues it" in said
    assert said.count("waiting for") == 1


@linux
def test_who_was_killed_is_named_and_its_steps_are_taken_up(file: Path) -> None:
    plan, store, heard = make_plan(load_suite(file)), Store(file.parent / "store"), Listener()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    enter(store.root, owner_of(process), plan.steps[0].key, 0.0)
    process.kill()
    process.wait()
    assert execute(plan, store, How(workers=1), heard).done == len(plan.steps)
    assert heard.lines == [
        f"an earlier run (process {process.pid} on here) was killed (out of memory?), or its machine went down; "
        "its steps are taken up where it left them"
    ]


def test_one_that_was_taken_for_dead_notices(tmp_path: Path) -> None:
    """What it had is another's when it goes on: it gives nothing back, and counts as doubled."""
    first = Leases(tmp_path)
    with first:
        assert first.take("ab" * 20)
        with Leases(tmp_path) as second:
            second.dismiss(first.owner.id)
            assert second.take("ab" * 20)
            first.beat()
            assert first.has_taken("ab" * 20)
            assert not first.drop("ab" * 20)
            assert not first.take("ab" * 20)


@pytest.mark.skipif(os.name != "posix", reason="masks of permissions")
def test_weights_have_the_rights_that_the_user_gives_to_files(tmp_path: Path) -> None:
    import torch

    from rib.models.weights import write_weights

    before = os.umask(0o077)
    try:
        write_weights(tmp_path / "own", {"w": torch.zeros(2)})
        os.umask(0o027)
        write_weights(tmp_path / "group", {"w": torch.zeros(2)})
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("own", "group")] == [0o600, 0o640]
