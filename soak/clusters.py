"""Clusters: runs `digits-quick` through Ray with two nodes on loopback, and through submitit's local executor.

With Ray it kills a joiner and then a node, with submitit a job. Each result is compared bit for bit with a run on this
machine. It needs ray and submitit, and takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers import assert_same, surroundings, wait_until
from rib.plan import make_plan
from rib.store.leases import Leases
from rib.store.store import Store
from rib.suite.load import load_suite

SUITE = "digits-quick"

RAYLETS = Path(__file__).parents[1] / "tests" / "raylets.py"


def main(words: Sequence[str]) -> int:
    """Run the suite in three ways; exit code 1 if a record differs."""
    argparse.ArgumentParser(prog="python -m soak clusters", description=__doc__).parse_args(words)
    with tempfile.TemporaryDirectory(prefix="rib", dir="/tmp") as name:  # short: Ray puts sockets into it
        folder = Path(name)
        timed("on this machine", lambda: finish(start(folder / "here", "--workers", "2")))
        timed("Ray, a joiner and then a node killed", lambda: through_ray(folder))
        timed("submitit, a job killed", lambda: through_submitit(folder))
        for other in ("ray", "slurm"):
            assert_same(make_plan(load_suite(SUITE)), folder / other, folder / "here")
    print(f"{SUITE}: records, weights and predictions are equal bit for bit")
    return 0


def through_ray(folder: Path) -> None:
    """Run it with two nodes of one core each."""
    words = [sys.executable, RAYLETS, folder / "r", "0", "0"]
    cluster = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=surroundings()
    )
    try:
        assert cluster.stdout is not None
        address, raylets = json.loads(cluster.stdout.readline())
        (folder / "ray.toml").write_text(f'executor = "ray"\n[ray]\naddress = "{address}"\n')
        store = folder / "ray"
        process = start(store, "--runtime", str(folder / "ray.toml"))
        kill_joiner(process, store, after=60)
        wait_until(lambda: len(Store(store).keys()) > 160 and len(joiners(store, process)) == 2, process)
        os.kill(raylets[1], signal.SIGKILL)
        print(f"a raylet killed after {len(Store(store).keys())} steps")
        finish(process)
    finally:
        cluster.communicate("", timeout=60)


def through_submitit(folder: Path) -> None:
    """Run it with two jobs."""
    file = folder / "slurm.toml"
    file.write_text('executor = "slurm"\nworkers = 2\n[slurm]\ncluster = "local"\ngpus = 0\n')
    process = start(folder / "slurm", "--runtime", str(file))
    kill_joiner(process, folder / "slurm", after=100)
    finish(process)


def start(store: Path, *words: str) -> subprocess.Popen[str]:
    """Start `rib run`."""
    line = [sys.executable, "-m", "rib", "run", SUITE, "--store", str(store), "--device", "cpu", *words]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings())


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a run, which must succeed; print the joiners that ended."""
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, (out, err)
    print("".join(f"{line}\n" for line in err.splitlines() if "joiner" in line and "ended" in line), end="")


def joiners(store: Path, process: subprocess.Popen[str]) -> set[int]:
    """Process numbers of the joiners that have leases."""
    return {lease.owner.pid for lease in Leases(store).listed() if lease.owner and lease.alive} - {process.pid}


def kill_joiner(process: subprocess.Popen[str], store: Path, after: int) -> None:
    """Kill one of two working joiners when `after` steps are done."""
    wait_until(lambda: len(Store(store).keys()) > after and len(joiners(store, process)) == 2, process)
    os.kill(min(joiners(store, process)), signal.SIGKILL)
    print(f"a joiner killed after {len(Store(store).keys())} steps")


def timed(what: str, work: Callable[[], None]) -> None:
    """Run a function and print its time."""
    began = time.monotonic()
    work()
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)
