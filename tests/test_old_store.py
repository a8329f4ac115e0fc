"""A store made by an earlier version of the code is read, and nothing in it is computed again.

`stores/key-version-2.tar.xz` holds a suite of every method, analysis and objective with its data, and the finished
store. It was written before hashed classes had a `key_name`. Never make it again: the point is that it is old.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from helpers import Say
from rib.analysis import ANALYSES
from rib.execute.run import execute
from rib.methods import METHODS
from rib.objectives import OBJECTIVES
from rib.plan import make_plan
from rib.steps import How
from rib.store.store import Store
from rib.suite.load import load_suite

ARCHIVE = Path(__file__).parent / "stores" / "key-version-2.tar.xz"
STEPS = 211


OF_ITS_TIME = {
    *(f"rib.analysis.{name}" for name in (
        "cka:CKA", "connectivity:Connectivity", "distance:Distance", "drift:Drift", "forgetting:Forgetting",
    )),
    *(f"rib.methods.{name}" for name in (
        "best_rate:BestRate", "curriculum:Curriculum", "ewc:EWC", "finetune:FineTune", "l2_sp:L2SP",
        "linear_probe:LinearProbe", "lora:LoRA", "lp_ft:LPFT", "lwf:LwF", "pretrained:Pretrained", "soup:GreedySoup",
        "soup:Soup", "wise_ft:WiseFT", "wise_ft_held_out:WiseFTHeldOut",
    )),
    *(f"rib.objectives.{name}" for name in ("simclr:SimCLR", "unicl:UniCL")),
}  # fmt: skip
"""Key names of every analysis, method and objective when the store was written; newer ones are not in it."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The old suite with its store, unpacked into the working folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_an_old_store_is_finished_as_it_is(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file: file.read_bytes() for file in (old / "store" / "records").rglob("*.json")}
    assert len(before) == STEPS
    monkeypatch.syspath_prepend(str(old))  # the suite has a method of its own
    outcome = execute(make_plan(load_suite(old / "suite.toml")), Store(old / "store"), How(workers=1))
    assert (outcome.done, outcome.before, outcome.failed) == (0, STEPS, {})
    assert {file: file.read_bytes() for file in (old / "store" / "records").rglob("*.json")} == before


def test_an_old_store_is_reported_and_verified(old: Path, rib_says: Say) -> None:
    code, said = rib_says("report", "suite.toml", "--store", "store", "--json")
    assert code == 0, said
    report = json.loads(said)
    assert (len(report["summaries"]), report["unfinished"], report["failures"]) == (21, [], {})
    assert [row["missing"] for row in report["summaries"]] == [[]] * 21
    code, said = rib_says("store", "verify", "--store", "store")
    assert code == 0, said


def test_the_old_store_has_every_hashed_class_of_its_time(old: Path) -> None:
    """Else the first test would say less than it seems to."""
    records = [json.loads(file.read_bytes()) for file in (old / "store" / "records").rglob("*.json")]
    hashed = "".join(json.dumps(record["spec"]) for record in records)
    known = {kind.key_name for room in (METHODS, ANALYSES, OBJECTIVES) for kind in room.classes.values()}
    assert known >= OF_ITS_TIME
    assert {name for name in OF_ITS_TIME if f'"{name}"' not in hashed} == set()
    assert {record["kind"] for record in records} == {"Pretrain", "Embed", "Fit", "Predict", "Compare"}
