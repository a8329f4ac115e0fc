"""Out of memory for real: the kernel kills a worker, and a driver, in a memory cgroup of a test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from helpers import assert_same, document, surroundings, toml
from rib.execute.progress import Silent
from rib.execute.run import execute
from rib.plan import make_plan
from rib.steps.how import How
from rib.store.store import Store
from rib.suite.load import load_suite
from rib.upkeep.archive import pack, unpack
from rib.upkeep.merge import require_whole

LIMIT = 2 << 30
"""Bytes for a driver and its workers; they take less than a quarter of them before a step eats the rest."""


class Cage:
    """A memory cgroup with a limit.

    Args:
        folder: of the cgroup.
        limit: name of the file that takes the limit.
        kills: name of the file that counts kills, on the line `oom_kill N`.
    """

    def __init__(self, folder: Path, limit: str, kills: str) -> None:
        self.folder, self._kills = folder, folder / kills
        (folder / limit).write_text(str(LIMIT))

    @property
    def kills(self) -> int:
        """How many processes in it the kernel has killed for want of memory."""
        return next(
            int(line.split()[1]) for line in self._kills.read_text().splitlines() if line.startswith("oom_kill ")
        )

    def run(self, words: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        inside = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"), *words]
        return subprocess.run(
            inside, env=surroundings() | environment, capture_output=True, text=True, timeout=600, check=False
        )


def own_group(kind: str) -> Path:
    """The folder of this process' own cgroup: of version 1's memory controller, or of version 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if kind == "2" and number == "0" and not controllers:
            return Path("/sys/fs/cgroup") / path.lstrip("/")
        if kind == "1" and "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory") / path.lstrip("/")
    raise FileNotFoundError(f"no cgroup of version {kind}")


@pytest.fixture
def cage() -> Iterator[Cage]:
    tried = []
    for kind, limit, kills in (
        ("2", "memory.max", "memory.events"),
        ("1", "memory.limit_in_bytes", "memory.oom_control"),
    ):
        try:
            folder = own_group(kind) / f"rib-test-{os.getpid()}"
            folder.mkdir()
        except OSError as error:
            tried.append(f"version {kind}: {error}")
            continue
        try:
            made = Cage(folder, limit, kills)
            _ = made.kills
        except (OSError, StopIteration) as error:
            tried.append(f"version {kind}: {error}")
            with suppress(OSError):
                folder.rmdir()
            continue
        yield made
        folder.rmdir()
        return
    pytest.skip("no memory cgroup can be made here: " + "; ".join(tried))


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    made = document(tmp_path, per_class=6)
    made["method"] = {"hungry": {"kind": "user_methods:Hungry"}}
    made["runs"] = [{"methods": ["hungry", "linear_probe"]}]
    (tmp_path / "tiny.toml").write_text(toml(made))
    return tmp_path / "tiny.toml"


def rib(cage: Cage, suite: Path, workers: int, meals: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """`rib run` in the cage."""
    words = [sys.executable, "-m", "rib", "run", str(suite), "--store", str(suite.parent / "store"), "--device", "cpu"]
    files = ":".join(str(suite.parent / name) for name in meals)
    return cage.run([*words, "--workers", str(workers)], TEST_MEALS=files)


class Heard(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def assert_nothing_lost(suite: Path) -> str:
    """What is there, and what the next run adds, equals a run that nothing disturbed; what that run says."""
    heard = Heard()
    plan = make_plan(load_suite(suite))
    before = Store(suite.parent / "store").keys()
    outcome = execute(plan, Store(suite.parent / "store"), How(workers=1), heard)
    assert outcome.failed == {}
    assert before
    assert outcome.done == len(plan.steps) - len(before & {step.key for step in plan.steps})
    assert execute(plan, Store(suite.parent / "undisturbed"), How(workers=1)).failed == {}
    assert_same(plan, suite.parent / "store", suite.parent / "undisturbed")
    return " ".join(heard.lines)


def test_workers_that_the_kernel_kills(cage: Cage, suite: Path) -> None:
    """Three kills at two steps: each is tried once more, and one of them twice in vain; all else is done."""
    done = rib(cage, suite, 2, ["one", "two", "three"])
    assert cage.kills == 3, done.stderr
    assert done.returncode == 1, done.stderr
    assert "a worker process died (signal 9) at: hungry resnet" in done.stderr
    assert "its worker process died twice (signal 9): out of memory? try fewer workers" in done.stderr + done.stdout
    store = Store(suite.parent / "store")
    titles = {record.title for record in map(store.record, store.keys()) if record}
    assert {"linear_probe resnet on whole", "linear_probe resnet on part"} <= titles
    assert_nothing_lost(suite)


def test_a_driver_that_the_kernel_kills(cage: Cage, suite: Path) -> None:
    """It does its steps itself; the next run says what happened and goes on."""
    killed = rib(cage, suite, 1, ["meal"])
    assert killed.returncode == -9, killed.stderr
    assert cage.kills == 1
    assert "was killed (out of memory?)" in assert_nothing_lost(suite)


EATS = """
import os, sys

def eat():
    held = []
    while True:
        held.append(b"x" * (32 << 20))

if os.environ.get("TEST_EATS") in sys.orig_argv:
    eat()
"""
"""A module that Python imports first; it takes all memory in a process that runs the named module."""

KILLED_AT = """
import sys
from pathlib import Path
import rib.store.store as place
from sitecustomize import eat
from rib.cli import main

real, written = place.write_aside, []

def write(path, data, durable=False):
    written.append(path)
    if "records" in path.parts and len([one for one in written if "records" in one.parts]) == 3:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.1-1").write_bytes(data[: len(data) // 2])
        eat()
    real(path, data, durable)

place.write_aside = write
main()
"""
"""`rib`, which takes all memory with half of its third record written, and the lease of the step held."""

IMPORT = """
import sys
from pathlib import Path
import rib.upkeep.merge as merge
from sitecustomize import eat
from rib.store.store import Store
from rib.upkeep.archive import unpack

real, steps = merge._merge_step, []

def step(*words):
    steps.append(words)
    if len(steps) == 3:
        eat()
    real(*words)

merge._merge_step = step
unpack(Path(sys.argv[1]), Store(Path(sys.argv[2])))
"""
"""An import that takes all memory while it copies its third step."""


def eating(folder: Path) -> str:
    """PYTHONPATH with the module that takes memory."""
    (folder / "sitecustomize.py").write_text(EATS)
    return os.pathsep.join([str(folder), *filter(None, [surroundings().get("PYTHONPATH")])])


def test_a_decoder_that_the_kernel_kills(cage: Cage, tmp_path: Path) -> None:
    """Its parent lives, tries once more, and refuses the image in words that name memory."""
    code = (
        "from rib.data.apart import ask, LimitError\ntry:\n    ask('form', b'x')\nexcept LimitError as e:\n    print(e)"
    )
    done = cage.run([sys.executable, "-c", code], PYTHONPATH=eating(tmp_path), TEST_EATS="rib.data.decoder")
    assert done.returncode == 0, done.stderr
    assert cage.kills == 2
    assert "its decoder crashed (signal 9): out of memory? try fewer workers" in done.stdout


def test_a_driver_that_is_killed_while_it_writes_a_record_and_while_it_imports(
    cage: Cage, suite: Path, tmp_path: Path
) -> None:
    """Half a record is none; the next run does the step again, and the next import takes the rest."""
    made = document(tmp_path, per_class=6) | {"runs": [{"methods": ["linear_probe"]}]}
    suite.write_text(toml(made))
    words = ["run", str(suite), "--store", str(tmp_path / "store"), "--device", "cpu", "--workers", "1"]
    killed = cage.run([sys.executable, "-c", KILLED_AT, *words], PYTHONPATH=eating(tmp_path))
    assert killed.returncode == -9, killed.stderr
    assert cage.kills == 1
    assert len(Store(tmp_path / "store").keys()) == 2
    plan, store, other = make_plan(load_suite(suite)), Store(tmp_path / "store"), Store(tmp_path / "other")
    heard = Heard()
    assert execute(plan, store, How(workers=1), heard).failed == {}
    assert "was killed (out of memory?)" in " ".join(heard.lines)
    assert execute(plan, Store(tmp_path / "undisturbed"), How(workers=1)).failed == {}
    assert_same(plan, store.root, tmp_path / "undisturbed")

    pack(store, plan, {}, tmp_path / "a.tar.gz")
    importing = [sys.executable, "-c", IMPORT, str(tmp_path / "a.tar.gz"), str(other.root)]
    assert cage.run(importing, PYTHONPATH=eating(tmp_path)).returncode == -9
    assert cage.kills == 2
    assert len(other.keys()) == 2
    require_whole(other)
    merged = unpack(tmp_path / "a.tar.gz", other).merged
    assert (merged.taken, merged.same, merged.clean) == (len(store.keys()) - 2, 2, True)
    assert other.keys() == store.keys()
    assert list(other.root.glob(".import-*")) == []
