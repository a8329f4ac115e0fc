"""Joiners on a cluster give the records of a run on this machine, whoever of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers import Say, assert_same, document, start, toml, wait_until
from rib.execute.fleet import Joiner
from rib.execute.leases import Leases
from rib.execute.local import execute
from rib.plan import Plan, make_plan
from rib.store import Store
from rib.suite import load_suite
from rib.work import How

METHODS = ["counts", "linear_probe", "lp_ft", "wise_ft"]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite whose steps take a moment, so that there is time to disturb them."""
    counts = {"kind": "user_methods:Counts", "folder": str(tmp_path), "seconds": 0.5}
    made = document(tmp_path, ("dropout",), per_class=8, runs=[{"methods": METHODS}], seeds=[0, 1, 2])
    file = tmp_path / "tiny.toml"
    file.write_text(toml(made | {"method": {"counts": counts}}))
    return file


@pytest.fixture
def expected(suite: Path, tmp_path: Path) -> Path:
    """The store of a run in one process that nothing disturbed."""
    store = tmp_path / "expected"
    assert execute(plan_of(suite), Store(store), How(workers=1)).failed == {}
    return store


def plan_of(suite: Path) -> Plan:
    return make_plan(load_suite(suite))


def joiners_of(store: Path, driver: int) -> list[int]:
    """Process numbers of whoever is at work in a store, less its driver."""
    owners = {lease.owner.pid for lease in Leases(store).listed() if lease.owner and lease.alive}
    return sorted(owners - {driver})


def killed_midway(process: subprocess.Popen[str], store: Path, steps: int) -> None:
    """Kill a joiner once some steps are done."""
    wait_until(lambda: len(Store(store).keys()) > steps and bool(joiners_of(store, process.pid)), process)
    os.kill(joiners_of(store, process.pid)[0], signal.SIGKILL)


# -- any engine --------------------------------------------------------------------------------------------------------


class Processes:
    """An engine of plain processes; the first ones do nothing and fail, as often as it is told."""

    def __init__(self, broken: int = 0) -> None:
        self.broken, self.started = broken, 0

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def size(self) -> int:
        return 2

    def start(self, joiners: Sequence[Joiner]) -> list[Any]:
        return [self._start(joiner) for joiner in joiners]

    def _start(self, joiner: Joiner) -> subprocess.Popen[bytes]:
        import cloudpickle

        self.started += 1
        code = "import sys, pickle; pickle.load(sys.stdin.buffer)()" if self.started > self.broken else "exit(3)"
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
        assert process.stdin is not None
        with process.stdin:
            if self.started > self.broken:
                process.stdin.write(cloudpickle.dumps(joiner))
        return process

    def ended(self, handle: Any) -> str | None:
        code = handle.poll()
        return None if code is None else "" if code == 0 else f"exit {code}"

    def stop(self, handle: Any) -> None:
        handle.kill()
        handle.wait()


# -- submitit ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    pytest.importorskip("submitit")
    file = tmp_path / "slurm.toml"
    file.write_text('executor = "slurm"\nworkers = 2\n[slurm]\ncluster = "local"\ngpus = 0\n')
    return file


def test_slurm_jobs_of_which_one_is_killed(suite: Path, expected: Path, slurm: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = start(suite, store, "--runtime", str(slurm))
    killed_midway(process, store, 5)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, (out, err)
    assert "a joiner ended" in err
    assert "done meanwhile by others" in err
    assert_same(plan_of(suite), store, expected)
    assert not joiners_of(store, process.pid)


def test_a_driver_that_is_killed_goes_on(suite: Path, expected: Path, slurm: Path, tmp_path: Path) -> None:
    """Its joiners are without a driver then, and a run beside them shares the work."""
    store = tmp_path / "store"
    process = start(suite, store, "--runtime", str(slurm))
    wait_until(lambda: len(Store(store).keys()) > 5, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    again = start(suite, store, "--workers", "1")
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0, (out, err)
    assert_same(plan_of(suite), store, expected)


def test_where_there_is_no_slurm_this_is_said(rib_says: Say, suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "/nowhere")
    code, printed = rib_says("run", suite, "--store", "store", "--executor", "slurm")
    assert code == 2
    assert "there is no Slurm on this machine" in printed


@pytest.mark.parametrize(("executor", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_package_that_is_missing_is_named(
    rib_says: Say, suite: Path, monkeypatch: pytest.MonkeyPatch, executor: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, printed = rib_says("run", suite, "--store", "store", "--executor", executor)
    assert code == 2
    assert f"pip install 'rib-benchmark[{executor}]'" in printed


# -- ray ---------------------------------------------------------------------------------------------------------------


def test_ray_tasks_of_which_one_is_killed(suite: Path, expected: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    store = tmp_path / "store"
    process = start(suite, store, "--executor", "ray", "--workers", "2")
    killed_midway(process, store, 5)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (out, err)
    assert "a joiner ended" in err
    assert_same(plan_of(suite), store, expected)
