"""The soaks in a short form, and that they see what they look for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny
from rib.execute.run import execute
from rib.plan import Plan, make_plan
from rib.steps import Fit, How, Predict, Step
from rib.store.leases import Leases
from rib.store.record import encode_record
from rib.store.store import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for processes, and forks them")

ROOT = Path(__file__).parents[1]


def test_kills(tmp_path: Path) -> None:
    words = ["-m", "soak", "kills", "--kills", "10", "--seed", "1", "--jobs", "1", "--folder", str(tmp_path / "kills")]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"lanes: (\d+) kills, (\d+) stores, (\d+) records compared: (.*)", done.stdout)
    assert found, done.stdout
    assert int(found[1]) >= 10
    assert int(found[3]) > 70 * int(found[2]) > 0
    assert found[4] == "0 lost, 0 different, 0 doubled, 0 damaged, 0 left"
    assert not (tmp_path / "kills").exists()


# -- what is broken is found -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A plan, and a store in which it is done and noted in a journal."""
    from soak import _journal

    folder = tmp_path_factory.mktemp("undisturbed")
    _journal.journal(folder / "store").touch()
    plan = make_plan(tiny(folder, runs=[{"methods": ["finetune", "linear_probe", "wise_ft"]}]))
    assert execute(plan, Store(folder / "store"), How(workers=1)).failed == {}
    return plan, folder / "store"


@pytest.fixture
def copied(undisturbed: tuple[Plan, Path], tmp_path: Path) -> Path:
    """The store and its journal again, to be broken."""
    store = undisturbed[1]
    shutil.copytree(store, tmp_path / "store")
    shutil.copyfile(f"{store}.journal", tmp_path / "store.journal")
    return tmp_path / "store"


def step_of(plan: Plan, kind: type[Step]) -> Step:
    """The last of a kind that leaves a file."""
    return [step for step in plan.steps if isinstance(step, kind) and (kind is Predict or step.keeps_weights)][-1]


def rewritten(plan: Plan, store: Path) -> None:
    """A record with another value, well sealed."""
    step = step_of(plan, Predict)
    record = Store(store).record(step.key)
    assert record is not None
    values = record.values | {"examples": record.values["examples"] + 1}
    Store(store).record_path(step.key).write_bytes(encode_record(vars(record) | {"values": values}))


def without_record(plan: Plan, store: Path) -> None:
    """A step that was never done."""
    Store(store).record_path(step_of(plan, Predict).key).unlink()


def turned_over(plan: Plan, store: Path) -> None:
    """A bit of kept weights."""
    path = Store(store).weights_path(step_of(plan, Fit).key)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def without_weights(plan: Plan, store: Path) -> None:
    """Weights that were to be kept are gone."""
    Store(store).drop_weights(step_of(plan, Fit).key)


def done_again(plan: Plan, store: Path) -> None:
    """A record that was put in place twice."""
    path = Store(store).record_path(step_of(plan, Predict).key)
    aside = path.with_name(f".{path.name}.1-2")
    aside.write_bytes(path.read_bytes())
    aside.replace(path)


def put_aside(plan: Plan, store: Path) -> None:
    """A file that was found damaged by a run, which made another."""
    aside = store / "damaged" / "weights" / "x.safetensors"
    aside.parent.mkdir(parents=True)
    aside.touch()


def leased(plan: Plan, store: Path) -> None:
    """A lease that garbage collection must leave alone, as its owner lives."""
    leases = Leases(store)
    leases.__enter__()
    leases.take("abcd")


@pytest.mark.parametrize(
    ("harm", "rule"),
    [
        (rewritten, "different"),
        (without_record, "lost"),
        (turned_over, "damaged"),
        (without_weights, "different"),
        (done_again, "doubled"),
        (put_aside, "damaged"),
        (leased, "left"),
    ],
)
def test_a_broken_store_is_found(
    undisturbed: tuple[Plan, Path], copied: Path, harm: Callable[[Plan, Path], None], rule: str
) -> None:
    from soak._judge import judge

    plan, expected = undisturbed
    faults, counts = judge(plan, copied, expected, "all")
    assert faults == []
    assert counts["compared"] >= len(plan.steps) - 3  # all but features
    harm(plan, copied)
    assert rule in {broken for broken, _ in judge(plan, copied, expected, "all")[0]}


def test_what_should_have_been_dropped_is_found(undisturbed: tuple[Plan, Path], copied: Path) -> None:
    from soak._judge import judge

    plan, expected = undisturbed
    faults, _ = judge(plan, copied, expected, "pretrained")
    kept = sum(step.keeps_weights and isinstance(step, Fit) for step in plan.steps)
    assert kept > 0
    assert [rule for rule, words in faults if ".safetensors" in words] == ["left"] * kept


def test_a_record_that_goes_is_found(undisturbed: tuple[Plan, Path], copied: Path) -> None:
    from soak._judge import unharmed

    before = Store(copied).keys()
    assert unharmed(copied, before) == []
    without_record(undisturbed[0], copied)
    key = step_of(undisturbed[0], Predict).key
    assert unharmed(copied, before) == [("lost", f"the record {key} is gone")]


def test_a_record_that_was_not_put_in_place_does_not_count(copied: Path, undisturbed: tuple[Plan, Path]) -> None:
    """Its writer was killed after it had told of it."""
    from soak import _journal

    key = step_of(undisturbed[0], Predict).key
    aside = copied / "records" / key[:2] / f".{key}.json.1-2"
    with _journal.journal(copied).open("a") as file:
        file.write(f"1@2.0 {key} {aside}\n")
    assert len(_journal.written(copied)[key]) == 2
    aside.touch()
    assert len(_journal.written(copied)[key]) == 1


@pytest.mark.parametrize("changes", [0, 3])
def test_a_fuse_ends_a_process_before_a_change_of_the_store(tmp_path: Path, changes: int) -> None:
    code = (
        "import sys; from pathlib import Path; from soak import _journal; store = Path(sys.argv[1])\n"
        "_journal.fuses.append(_journal.Fuse(store, int(sys.argv[2]))); (store.parent / 'other').touch()\n"
        "for number in range(9): (store / str(number)).write_text('') if number % 2 else (store / str(number)).mkdir()"
    )
    (tmp_path / "store").mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    words = [sys.executable, "-c", code, str(tmp_path / "store"), str(changes)]
    assert subprocess.run(words, env=environment, check=False).returncode == -9
    assert {file.name for file in (tmp_path / "store").iterdir()} == {str(number) for number in range(changes)}
    assert (tmp_path / "other").exists()
