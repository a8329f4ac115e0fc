"""Joiners on a cluster give the records of a run on this machine, whoever of them dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from helpers import PATIENCE, Say, assert_same, command, document, start, surroundings, toml
from helpers import wait_until as wait_seconds
from rib.errors import StepError, UserError
from rib.execute import run as local_module
from rib.execute.board import Board, RunOutcome
from rib.execute.cluster import fleet as fleet_module
from rib.execute.cluster.fleet import Fleet, find_engine
from rib.execute.cluster.joiner import Joiner
from rib.execute.cluster.ray import RayEngine
from rib.execute.progress import Silent
from rib.execute.run import execute
from rib.execute.runtime import RayRuntime, Runtime, SlurmRuntime
from rib.execute.schedule import jobs
from rib.plan import Plan, make_plan, missing
from rib.steps import How
from rib.store.leases import Leases
from rib.store.store import Store
from rib.suite.load import load_suite

METHODS = ["linear_probe", "lp_ft", "waits", "wise_ft"]

HERE = Path(__file__).parent


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of which four steps wait until they are allowed to end, so that there is time to disturb them."""
    waits = {"kind": "user_methods:Waits", "folder": str(tmp_path)}
    made = document(tmp_path, ("dropout",), per_class=8, runs=[{"methods": METHODS}], seeds=[0, 1])
    file = tmp_path / "tiny.toml"
    file.write_text(toml(made | {"method": {"waits": waits}}))
    return file


@pytest.fixture
def expected(suite: Path, tmp_path: Path) -> Path:
    """The store of a run in one process that nothing disturbed."""
    store = tmp_path / "expected"
    go(tmp_path)
    assert execute(plan_of(suite), Store(store), How(workers=1)).failed == {}
    (tmp_path / "go").unlink()
    (tmp_path / "waits.txt").unlink()
    return store


def plan_of(suite: Path) -> Plan:
    return make_plan(load_suite(suite))


def go(folder: Path) -> None:
    """Let the steps that wait end."""
    (folder / "go").touch()


def begun(folder: Path) -> int:
    """How many steps that wait were begun."""
    file = folder / "waits.txt"
    return len(file.read_text().splitlines()) if file.exists() else 0


def joiners_of(store: Path, driver: int) -> list[int]:
    """Process numbers of whoever has a lease in a store and lives, less its driver."""
    owners = {lease.owner.pid for lease in Leases(store).listed() if lease.owner and lease.alive}
    return sorted(owners - {driver})


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """With time for a joiner to begin where many processes share a core."""
    wait_seconds(condition, process)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def started() -> Iterator[Start]:
    """`helpers.start`; what is left of the processes after the test is killed."""
    processes: list[subprocess.Popen[str]] = []

    def begin(file: Path, store: Path, *words: str) -> subprocess.Popen[str]:
        processes.append(start(file, store, *words))
        return processes[-1]

    yield begin
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a run that does all it has to do; what it said."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, (out, err)
    return err


def descendants(pid: int) -> set[int]:
    """Process numbers of all that a process started, and they."""
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def end(pids: set[int]) -> None:
    """Kill processes, and all that they started."""
    for pid in pids.union(*map(descendants, pids)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def gone(pids: set[int]) -> bool:
    """Whether none of them lives; what ended and is not yet buried does not."""
    return not any(state not in ("Z", "X") for state in map(_state, pids))


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


# -- any engine --------------------------------------------------------------------------------------------------------


class Processes:
    """An engine of plain processes; the first ones do nothing and fail, as often as it is told."""

    def __init__(self, folder: Path, broken: int = 0) -> None:
        self.folder, self.broken, self.started = folder, broken, list[Joiner]()

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

        self.started.append(joiner)
        if len(self.started) <= self.broken:
            return subprocess.Popen([sys.executable, "-c", "exit(3)"])
        file = self.folder / f"{joiner.id}.pkl"
        file.write_bytes(cloudpickle.dumps(joiner))
        code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))()"
        return subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, file], env=surroundings(), cwd="/")

    def ended(self, handle: Any) -> str | None:
        code = handle.poll()
        return None if code is None else "" if code == 0 else f"exit {code}"

    def stop(self, handle: Any) -> None:
        handle.kill()
        handle.wait()


class Listens(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def run_fleet(file: Path, store: Path, engine: Any, **how: Any) -> tuple[RunOutcome, list[str]]:
    """A driver with an engine of the test's own: what became of it, and what it said."""
    plan, place, outcome, watcher = plan_of(file), Store(store), RunOutcome(), Listens()
    place.prepare()
    with Leases(place.root) as leases:
        board = Board(plan, place, How(**how), watcher, outcome, jobs(missing(plan.steps, place)), leases)
        Fleet(Runtime(executor="slurm"), execute, engine).run(board)
        board.let_go()
    return outcome, watcher.lines


def test_joiners_that_die_are_replaced_and_weights_that_nothing_needs_are_let_go(
    suite: Path, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module beside the suite file is found by joiners that start in another folder."""
    shutil.copy(HERE / "user_methods.py", tmp_path / "beside.py")
    file = tmp_path / "beside.toml"
    file.write_text(suite.read_text().replace("user_methods:", "beside:"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "a secret")
    go(tmp_path)
    engine = Processes(tmp_path, broken=1)
    outcome, said = run_fleet(file, tmp_path / "store", engine, workers=1, keep="none")
    monkeypatch.delitem(sys.modules, "beside")
    assert said == ["a joiner ended: exit 3; RIB starts another"]
    assert outcome.failed == {}
    assert outcome.elsewhere == len(plan_of(file).steps) - outcome.done
    assert len(engine.started) == 2
    assert dict(engine.started[1].environment)["HF_HUB_OFFLINE"] == "1"
    assert "HF_TOKEN" not in dict(engine.started[1].environment)
    assert not list((tmp_path / "store" / "weights").rglob("*.safetensors"))
    ours, theirs = Store(tmp_path / "store"), Store(expected)
    same = [step.key for step in plan_of(suite).steps if theirs.has(step.key) and ours.has(step.key)]
    assert same  # all but those of the other module's methods
    for key in same:
        a, b = ours.record(key), theirs.record(key)
        assert a is not None
        assert b is not None
        assert a.values == b.values


def test_joiners_that_end_in_vain_again_and_again_are_given_up(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "LOOK", 0.1)
    engine = Processes(tmp_path, broken=99)
    with pytest.raises(StepError, match="every joiner ended before it finished a step; the last one: exit 3"):
        run_fleet(suite, tmp_path / "store", engine)
    assert 2 * fleet_module.IN_VAIN < len(engine.started) <= 2 * (fleet_module.IN_VAIN + 2)


def test_that_a_cluster_lets_joiners_wait_is_said_once(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(Processes):
        looks = 0

        def start(self, joiners: Sequence[Joiner]) -> list[Any]:
            return list(joiners)

        def ended(self, handle: Any) -> str | None:
            self.looks += 1
            if self.looks > 20:
                raise KeyboardInterrupt
            return None

        def stop(self, handle: Any) -> None:
            self.stopped = handle

    monkeypatch.setattr(fleet_module, "LOOK", 0.02)
    monkeypatch.setattr(fleet_module, "PATIENCE", 0.05)
    said: list[str] = []
    monkeypatch.setattr(Listens, "say", lambda _, line: said.append(line))
    engine = Full(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_fleet(suite, tmp_path / "store", engine, workers=1)
    assert said == ["no joiner has started yet: they wait for room in the cluster"]
    assert isinstance(engine.stopped, Joiner)


def test_a_joiner_where_the_store_is_not_says_so_and_does_nothing(suite: Path, tmp_path: Path) -> None:
    joiner = Joiner(execute, load_suite(suite), tmp_path, tmp_path / "elsewhere", How(), Runtime(), "0" * 16)
    with pytest.raises(UserError, match="the store is not on this machine"):
        joiner()
    assert not (tmp_path / "elsewhere").exists()


def test_a_joiner_that_is_taken_for_dead_ends_in_the_middle_of_a_step(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its work is another's by then, and nothing runs on unseen."""
    monkeypatch.setattr(local_module, "Leases", partial(Leases, beat=0.2))
    store, how = Store(tmp_path / "store"), How(workers=1)
    joiner = threading.Thread(target=lambda: execute(plan_of(suite), store, how, id="a" * 16))
    joiner.start()
    try:
        while begun(tmp_path) < 1:
            assert joiner.is_alive()
            time.sleep(0.05)
        Leases(store.root).dismiss("a" * 16)
        joiner.join(30)
        assert not joiner.is_alive()
    finally:
        go(tmp_path)
        joiner.join()
    assert not all(store.has(step.key) for step in plan_of(suite).steps)


@pytest.mark.parametrize(
    ("runtime", "refused"),
    [
        (Runtime(executor="slurm"), True),
        (Runtime(executor="ray", ray=RayRuntime(address="head:6379")), True),
        (Runtime(executor="slurm", slurm=SlurmRuntime(cluster="local")), False),
    ],
)
def test_a_store_that_is_worked_on_in_a_folder_here_is_for_this_machine(
    runtime: Runtime, refused: bool, tmp_path: Path
) -> None:
    pytest.importorskip("submitit")
    from rib.store.store import store_folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIB_CACHE", str(tmp_path))
        store = Store(store_folder(f"file://{tmp_path}/shared"))
    if refused:
        with pytest.raises(UserError, match="needs a store that all its machines share"):
            find_engine(runtime, store)
    else:
        assert find_engine(runtime, store).size() == 1


def test_no_gpu_is_asked_for_where_steps_are_done_on_the_cpu() -> None:
    ray, slurm = Runtime(executor="ray"), Runtime(executor="slurm")
    assert (ray.gpus, slurm.gpus) == (None, 1)
    assert (ray.on_device("cpu").gpus, slurm.on_device("cpu").gpus) == (0, 0)
    assert ray.on_device("auto") == ray
    asked = Runtime(executor="ray", ray=RayRuntime(gpus=0.5))
    assert asked.on_device("cpu").gpus == 0.5
    assert Runtime().gpus is None


# -- submitit ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    pytest.importorskip("submitit")
    file = tmp_path / "slurm.toml"
    file.write_text('executor = "slurm"\nworkers = 2\n[slurm]\ncluster = "local"\ngpus = 0\n')
    return file


def test_slurm_jobs_of_which_one_is_killed_and_one_is_queued_anew(
    suite: Path, expected: Path, slurm: Path, tmp_path: Path, started: Start
) -> None:
    store = tmp_path / "store"
    process = started(suite, store, "--runtime", str(slurm))
    wait_until(lambda: begun(tmp_path) >= 2 and len(joiners_of(store, process.pid)) == 2, process)
    one, other = joiners_of(store, process.pid)
    os.kill(one, signal.SIGKILL)
    os.kill(other, signal.SIGTERM)  # comes first when a node is taken away, and only warns
    os.kill(other, signal.SIGUSR2)
    wait_until(lambda: begun(tmp_path) >= 4 and gone({one, other}), process)
    assert len(joiners_of(store, process.pid)) == 2
    go(tmp_path)
    err = finish(process)
    assert err.count("a joiner ended: job ") == 1  # the other was queued anew by itself
    assert "done meanwhile by other drivers" in err
    assert_same(plan_of(suite), store, expected)
    assert "this job is preempted" in "".join(file.read_text() for file in (store / "slurm").glob("*.err"))
    assert not joiners_of(store, process.pid)


def test_a_driver_that_is_killed_goes_on(
    suite: Path, expected: Path, slurm: Path, tmp_path: Path, started: Start
) -> None:
    """Its joiners are without a driver then, and a run beside them shares the work."""
    store = tmp_path / "store"
    process = started(suite, store, "--runtime", str(slurm))
    wait_until(lambda: begun(tmp_path) >= 2, process)
    at_work = set(joiners_of(store, process.pid))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = started(suite, store, "--workers", "1")
    wait_until(lambda: begun(tmp_path) >= 3, again)
    go(tmp_path)
    assert "done meanwhile by other drivers" in finish(again)
    assert_same(plan_of(suite), store, expected)
    wait_until(lambda: gone(at_work), started(suite, store))


# -- Slurm itself, played by scripts -----------------------------------------------------------------------------------

SBATCH = """#!{python}
import os, re, subprocess, sys
from pathlib import Path

folder, script = Path(__file__).parent, Path(sys.argv[1])
if "--partition=wrong" in script.read_text():
    sys.exit("sbatch: error: invalid partition specified: wrong")
number = 100 + len(list(folder.glob("*.sh")))
(folder / f"{{number}}.sh").write_text(script.read_text())
array = re.search(r"--array=0-(\\d+)", script.read_text())
print(f"Submitted batch job {{number}}", flush=True)
for task in range(int(array[1]) + 1) if array else [None]:
    name = str(number) if task is None else f"{{number}}_{{task}}"
    quiet = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
    subprocess.Popen([sys.executable, folder / "node", name], start_new_session=True, **quiet)
"""

NODE = """#!{python}
import os, subprocess, sys
from pathlib import Path

folder, name = Path(__file__).parent, sys.argv[1]
number, _, task = name.partition("_")
os.environ |= {{"SLURM_JOB_ID": number, "SLURM_PROCID": "0"}}
if task:
    os.environ |= {{"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task}}
(folder / f"{{name}}.node").write_text(str(os.getpid()))
state = folder / f"{{name}}.state"
again = True
while again:
    (folder / f"{{name}}.requeue").unlink(missing_ok=True)
    job = subprocess.Popen(["bash", folder / f"{{number}}.sh"])
    state.write_text("RUNNING")
    code = job.wait()
    again = (folder / f"{{name}}.requeue").exists()
    state.write_text("REQUEUED" if again else "COMPLETED" if code == 0 else "FAILED")
"""

SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do [[ $1 == --output || $1 == --error ]] && shift; shift; done
echo $$ > {folder}/${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}.pid
exec "$@" > /dev/null 2>> {folder}/log
"""

SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
for file in {folder}/*.state; do echo "$(basename "$file" .state)|$(cat "$file")|here"; done
"""

SCONTROL = """#!/bin/bash
touch {folder}/$2.requeue
"""

SCANCEL = """#!/bin/bash
echo "$1" >> {folder}/cancelled
kill -KILL $(cat {folder}/$1.pid)
"""


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The commands of Slurm, played by scripts of this machine; the folder in which they leave what they did."""
    pytest.importorskip("submitit")
    folder = tmp_path / "slurm"
    folder.mkdir()
    texts = {"sbatch": SBATCH, "node": NODE, "srun": SRUN, "sacct": SACCT, "scontrol": SCONTROL, "scancel": SCANCEL}
    for name, text in texts.items():
        (folder / name).write_text(text.format(folder=folder, python=sys.executable))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    yield folder
    for file in folder.glob("*.node"):
        end({int(file.read_text())})


def test_slurm_is_given_an_array_whose_jobs_are_queued_anew_when_their_node_is_taken_away(
    suite: Path, expected: Path, tmp_path: Path, scripted: Path, started: Start
) -> None:
    store, file = tmp_path / "store", tmp_path / "lab.toml"
    file.write_text(
        'executor = "slurm"\nworkers = 2\n[slurm]\npartition = "gpu"\naccount = "lab"\ngpus = 1\ncpus = 2\n'
        'memory_gb = 16\nminutes = 30\noptions = {constraint = "a100", nice = 100}\n'
    )
    process = started(suite, store, "--runtime", str(file))
    wait_until(lambda: begun(tmp_path) >= 2 and len(joiners_of(store, process.pid)) == 2, process)
    script = (scripted / "100.sh").read_text()
    options = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert options >= {"array=0-1%2", "partition=gpu", "account=lab", "gpus-per-node=1", "cpus-per-task=2"}
    assert options >= {"mem=16GB", "time=30", "requeue", "constraint=a100", "nice=100", "signal=USR2@90"}
    taken = int((scripted / "100_0.pid").read_text())
    owners = {lease.owner.id for lease in Leases(store).listed() if lease.owner}
    os.kill(taken, signal.SIGTERM)
    os.kill(taken, signal.SIGUSR2)
    wait_until(lambda: begun(tmp_path) >= 3 and gone({taken}), process)
    after = {lease.owner.id for lease in Leases(store).listed() if lease.owner}
    assert len(after - owners) == 1
    assert {id[:16] for id in after} == {id[:16] for id in owners}  # the same joiner, at another start
    assert len(list(scripted.glob("*.sh"))) == 1  # nothing else was handed in
    go(tmp_path)
    assert "a joiner ended" not in finish(process)
    assert_same(plan_of(suite), store, expected)


def test_an_interrupt_cancels_the_jobs_and_frees_what_they_had(
    suite: Path, tmp_path: Path, scripted: Path, started: Start
) -> None:
    store = tmp_path / "store"
    process = started(suite, store, "--executor", "slurm", "--workers", "2", "--device", "cpu")
    wait_until(lambda: begun(tmp_path) >= 2, process)
    assert "gpus-per-node=0" in (scripted / "100.sh").read_text()
    at_work = set(joiners_of(store, process.pid))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, (out, err)
    assert sorted((scripted / "cancelled").read_text().split()) == ["100_0", "100_1"]
    assert gone(at_work)
    assert list(Leases(store).listed()) == []


def test_what_slurm_says_to_jobs_that_it_refuses_is_told(
    rib_says: Say, suite: Path, tmp_path: Path, scripted: Path
) -> None:
    (tmp_path / "lab.toml").write_text('executor = "slurm"\n[slurm]\npartition = "wrong"\n')
    code, printed = rib_says("run", suite, "--store", "store", "--runtime", "lab.toml")
    assert code == 2
    assert "Slurm does not accept the jobs" in printed
    assert "invalid partition specified: wrong" in printed


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


# -- Ray ---------------------------------------------------------------------------------------------------------------

Raylets = Callable[..., "tuple[str, list[int]]"]


@pytest.fixture
def raylets() -> Iterator[Raylets]:
    """Starts nodes of one core and so many GPUs on loopback: the address, and the process number of each raylet."""
    pytest.importorskip("ray")
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # the path of a socket in it has room for 107 characters
    processes: list[subprocess.Popen[str]] = []

    def begin(*gpus: int) -> tuple[str, list[int]]:
        words = [sys.executable, "-W", "ignore", str(HERE / "raylets.py"), folder, *map(str, gpus)]
        said = Path(folder, "said")
        for _ in range(6):  # a machine at its limits may be too slow for a deadline of 30 s that Ray has in its code
            with said.open("a") as file:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    text=True,
                    env=surroundings(),
                    start_new_session=True,
                )
            processes.append(process)
            assert process.stdout is not None
            if line := process.stdout.readline():
                break
        assert line, said.read_text()
        address, pids = json.loads(line)
        return address, pids

    yield begin
    for process in processes:
        below = descendants(process.pid)
        with suppress(subprocess.TimeoutExpired):
            process.communicate("", timeout=30)
        process.kill()
        process.communicate()
        end(below)
    shutil.rmtree(folder, ignore_errors=True)


TOKEN, TRIES = "RAY_AUTH_MODE", "RAY_NUM_REDIS_GET_RETRIES"


@pytest.mark.parametrize(
    ("address", "before", "read"),
    [
        (None, {}, {TOKEN: "token"}),
        (None, {TOKEN: "disabled"}, {TOKEN: "disabled"}),
        ("auto", {}, {TRIES: "3"}),
        ("10.0.0.1:6379", {TRIES: "9"}, {TRIES: "9"}),
    ],
)
def test_what_ray_reads_when_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None, before: dict[str, str], read: dict[str, str]
) -> None:
    """A cluster that is started here asks for its token, whatever the version's default; of one that was there its
    owner says. One that takes calls and never answers is given up after three tries; twenty take a quarter of an hour.
    """
    (tmp_path / "ray.py").write_text("import os\nread = dict(os.environ)")
    environment = {name: value for name, value in os.environ.items() if name not in (TOKEN, TRIES)}
    monkeypatch.setattr(os, "environ", environment | before)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)  # whatever was imported comes back in the end
    del sys.modules["ray"]
    found = RayEngine(RayRuntime(address=address))._ray.read
    assert {name: found[name] for name in (TOKEN, TRIES) if name in found} == read


def runtime_file(folder: Path, address: str, **fields: object) -> str:
    """A runtime file for a cluster of Ray that is there."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in {"address": address, **fields}.items()]
    (folder / "ray.toml").write_text("\n".join(['executor = "ray"', "[ray]", *lines]))
    return str(folder / "ray.toml")


def test_ray_with_two_raylets_of_which_a_worker_and_then_a_raylet_are_killed(
    suite: Path, expected: Path, tmp_path: Path, raylets: Raylets, started: Start
) -> None:
    store = tmp_path / "store"
    address, pids = raylets(0, 0)
    process = started(suite, store, "--runtime", runtime_file(tmp_path, address))
    wait_until(lambda: begun(tmp_path) >= 2 and len(joiners_of(store, process.pid)) == 2, process)
    os.kill(joiners_of(store, process.pid)[0], signal.SIGKILL)
    wait_until(lambda: begun(tmp_path) >= 3 and len(joiners_of(store, process.pid)) == 2, process)
    node = descendants(pids[1])
    os.kill(pids[1], signal.SIGKILL)
    time.sleep(
        1
    )  # Ray's own view of a joiner whose raylet alone is lost: it may go on, and needs nothing but the store
    end(node)
    wait_until(lambda: len(joiners_of(store, process.pid)) == 1, process)
    go(tmp_path)
    err = finish(process)
    assert err.count("a joiner ended") == 2
    assert_same(plan_of(suite), store, expected)
    assert list(Leases(store).listed()) == []


def test_ray_with_half_a_gpu_a_joiner(suite: Path, tmp_path: Path, raylets: Raylets, started: Start) -> None:
    """A GPU that is there in name only: two joiners share it, and steps are done on the CPU."""
    store = tmp_path / "store"
    address, _ = raylets(1, 0)
    file = runtime_file(tmp_path, address, gpus=0.5, cpus=0.5)
    process = started(suite, store, "--runtime", file, "--device", "cpu")
    wait_until(lambda: begun(tmp_path) >= 2 and len(joiners_of(store, process.pid)) == 2, process)
    for joiner in joiners_of(store, process.pid):  # as its worker has it: what it was itself started with is older
        seen = [_environment(pid).get("CUDA_VISIBLE_DEVICES") for pid in descendants(joiner)]
        assert set(seen) == {"0"}
    go(tmp_path)
    assert "a joiner ended" not in finish(process)


def _environment(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def listening(pids: set[int]) -> set[str]:
    """Addresses, in hexadecimal, at which processes take connections from the network."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                sockets.add(str(link.readlink()))
    found = set()
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


LOOPBACKS = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same in IPv6, and ::1, as the kernel writes them."""


def test_a_cluster_that_is_started_here_listens_on_loopback_and_ends_with_its_driver(
    suite: Path, expected: Path, tmp_path: Path, started: Start, rib_says: Say
) -> None:
    """Interrupted, it gives back what its joiners had; killed, it leaves nothing that runs on."""
    pytest.importorskip("ray")
    store = tmp_path / "store"
    words = ("--executor", "ray", "--workers", "2")
    process = started(suite, store, *words)
    wait_until(lambda: begun(tmp_path) >= 2 and len(joiners_of(store, process.pid)) == 2, process)
    below = descendants(process.pid)
    assert any("raylet" in name for name in map(_command, below))
    assert listening(below | {process.pid}) <= LOOPBACKS
    code, printed = rib_says("status", suite, "--store", "store")
    assert code == 0
    for pid in joiners_of(store, process.pid):
        assert f":{pid} is at 4 steps\n  waits dropout on " in printed
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, (out, err)
    assert list(Leases(store).listed()) == []
    wait_until(lambda: gone(below), process := started(suite, store, *words))
    wait_until(lambda: begun(tmp_path) >= 4, process)
    below = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = started(suite, store, "--workers", "1")
    agents = {pid for pid in below if _command(pid).startswith(("ray::DashboardA", "ray::RuntimeEnv"))}
    wait_until(lambda: gone(below - agents), again)  # two helpers of Ray's own take a minute to see that they are alone
    end(agents)
    go(tmp_path)
    finish(again)
    assert_same(plan_of(suite), store, expected)


def test_joiners_of_a_driver_that_is_killed_end_on_a_cluster_that_stays(
    suite: Path, expected: Path, tmp_path: Path, raylets: Raylets, started: Start
) -> None:
    store = tmp_path / "store"
    address, _ = raylets(0, 0)
    file = runtime_file(tmp_path, address)
    process = started(suite, store, "--runtime", file)
    wait_until(lambda: begun(tmp_path) >= 2, process)
    at_work = set(joiners_of(store, process.pid))
    at_work |= {pid for joiner in at_work for pid in descendants(joiner)}
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = started(suite, store, "--runtime", file)
    wait_until(lambda: gone(at_work), again)
    go(tmp_path)
    finish(again)
    assert_same(plan_of(suite), store, expected)


@pytest.mark.parametrize(
    ("address", "known"),
    [
        ("127.0.0.1:{port}", ""),
        ("no-such-host.invalid:6379", ""),
        ("nonsense", ""),
        ("auto", ""),
        ("auto", "127.0.0.1:{port}"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_soon(
    rib_says: Say, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, known: str
) -> None:
    services = pytest.importorskip("ray._private.services")
    monkeypatch.setattr(services, "find_gcs_addresses", cache(frozenset))  # another test may have one
    monkeypatch.setattr(services, "find_bootstrap_address", lambda _: None)
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("RAY_ADDRESS", known.format(port=port))
        file = runtime_file(tmp_path, address.format(port=port))
        code, printed = rib_says("run", suite, "--store", "store", "--runtime", file)
    assert code == 2
    assert "Ray cannot be reached" in printed
    assert "ray.address: HOST:PORT, 'auto', or none to start one here" in printed


def test_a_joiner_for_which_there_is_no_place_here_is_refused(suite: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "lab.toml").write_text('executor = "ray"\n[ray]\ngpus = 64\n')
    done = command("run", suite, "--store", "store", "--runtime", "lab.toml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "this machine has no room for a joiner" in done.stderr
    assert "a step is never split" in done.stderr


def test_a_cluster_that_would_listen_to_other_machines_is_ended(
    rib_says: Say, suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Ray was imported before RIB could tell it otherwise."""
    constants = pytest.importorskip("ray._private.ray_constants")
    services = pytest.importorskip("ray._private.services")
    monkeypatch.setattr(constants, "ENABLE_RAY_CLUSTER", True)
    before = descendants(os.getpid())
    monkeypatch.setattr(services, "node_ip_address_from_perspective", lambda address=None: "127.0.0.2")
    code, printed = rib_says("run", suite, "--store", "store", "--executor", "ray")
    assert code == 2
    assert "the cluster that Ray started would listen to other machines" in printed
    assert not any("raylet" in name for name in map(_command, descendants(os.getpid()) - before))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
