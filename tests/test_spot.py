"""Steps of an archive done again before it is taken: what is right passes, and what is forged is found."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import Say, document, toml
from rib.errors import UserError
from rib.execute.run import execute
from rib.files import Seal
from rib.plan import Plan, make_plan
from rib.steps import Compare, Embed, Fit, How, Predict
from rib.store.record import encode_record, pack_bits, unpack_bits
from rib.store.store import Store
from rib.suite.load import load_suite
from rib.upkeep.archive import pack
from rib.upkeep.spot import Wanted, near, same_kind, spot

Finished = tuple[Path, Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A suite file and the store of a run of it."""
    folder = tmp_path_factory.mktemp("finished")
    file = folder / "tiny.toml"
    made = document(folder, per_class=6, runs=[{"methods": ["finetune", "linear_probe", "lwf"]}])
    file.write_text(toml(made | {"analyses": [{"names": ["drift"], "methods": ["finetune"]}]}))
    assert execute(make_plan(load_suite(file)), Store(folder / "store"), How(workers=1)).failed == {}
    return file, folder / "store"


@pytest.fixture
def theirs(finished: Finished, tmp_path: Path) -> Store:
    """The sender's store, to be changed."""
    return Store(shutil.copytree(finished[1], tmp_path / "theirs"))


def forged(store: Store, key: str, made_by: dict[str, Any] | None = None, **values: Any) -> None:
    """A record that says something else, with a digest that fits."""
    path = store.path("records", key)
    content = json.loads(path.read_bytes())
    del content["digest"]
    content["values"] |= values
    content["made_by"] |= made_by or {}
    path.write_bytes(encode_record(content))


def archived(finished: Finished, store: Store, target: Path, beside: bool = True) -> Path:
    pack(store, make_plan(load_suite(finished[0])), {"suite.toml": finished[0]} if beside else {}, target, weights=True)
    return target


def of_kind(plan: Plan, kind: type[Any]) -> Any:
    return next(step for step in plan.steps if isinstance(step, kind) and (kind is not Fit or step.data))


def flipped(store: Store, step: Predict, count: int) -> str:
    """Flags of a prediction, of which so many are turned."""
    record = store.record(step.key)
    assert record is not None
    changed = unpack_bits(record.values["masked_right"], record.values["examples"])
    same = np.flatnonzero(changed == np.bincount(changed).argmax())[:count]  # all in one direction: they add up
    changed[same] ^= True
    return pack_bits(changed)


def imported(say: Say, finished: Finished, archive: Path, *words: Any) -> tuple[int, str]:
    data = () if "--suite" in words or "--data" in words else ("--data", finished[0].parent)
    return say("store", "import", archive, "--store", archive.parent / "ours", *data, *words)


def test_what_is_right_is_taken(finished: Finished, theirs: Store, tmp_path: Path, rib_says: Say) -> None:
    plan = make_plan(load_suite(finished[0]))
    archive = archived(finished, theirs, tmp_path / "a.tar.zst")
    code, said = imported(rib_says, finished, archive, "--spot", 3, "--seed", 5)
    assert code == 0, said
    shown = re.search(r"3 steps drawn with --seed 5 were repeated here, and (\d+) more .*: (\d+) equal bit", said)
    assert shown, said
    assert int(shown[2]) == 3 + int(shown[1])
    assert Store(tmp_path / "ours").keys() == {step.key for step in plan.steps}
    assert not (tmp_path / "ours" / "weights").exists() or not list((tmp_path / "ours").glob(".import*"))


@pytest.mark.parametrize("kind", [Predict, Fit, Compare, Embed])
def test_a_forged_record_with_a_right_digest_refuses_the_archive(
    finished: Finished, theirs: Store, tmp_path: Path, kind: type[Any], rib_says: Say
) -> None:
    plan = make_plan(load_suite(finished[0]))
    step = of_kind(plan, kind)
    record = theirs.record(step.key)
    assert record is not None
    if kind is Predict:
        forged(theirs, step.key, masked_right=flipped(theirs, step, 1))
    else:
        name = {"Fit": "last_loss", "Embed": "examples"}.get(kind.__name__) or next(
            name for name, value in record.values.items() if isinstance(value, float)
        )
        forged(theirs, step.key, **{name: record.values[name] + 1})
    archive = archived(finished, theirs, tmp_path / "a.tar.zst")
    code, said = imported(rib_says, finished, archive)  # without --spot it is believed
    assert code == 0, said
    shutil.rmtree(tmp_path / "ours")
    code, said = imported(rib_says, finished, archive, "--spot", len(plan.steps))
    assert code == 2, said
    assert step.title in said.replace("\n", " ")
    assert "in the archive" in said
    assert "repeated here" in said
    assert not list((tmp_path / "ours").glob("records/*/*"))
    assert not list((tmp_path / "ours").glob("[.w]*"))


def resealed(store: Store, key: str, folder: str, left_out: bool = False, **made_by: Any) -> None:
    """A record whose seal fits a file that was exchanged, or that has no seal."""
    path = store.path("records", key)
    content = json.loads(path.read_bytes())
    del content["digest"]
    del content["files"][folder]
    seal = Seal.of(store.path(folder, key))
    content["files"] |= {} if left_out else {folder: [seal.size, seal.digest]}
    content["made_by"] |= made_by
    path.write_bytes(encode_record(content))


@pytest.mark.parametrize("left_out", [False, True])
def test_forged_weights_are_found(
    finished: Finished, theirs: Store, tmp_path: Path, left_out: bool, rib_says: Say
) -> None:
    """Their values are as they were; the file is another, and its seal fits it, or is left out."""
    plan = make_plan(load_suite(finished[0]))
    one, other = [step for step in plan.steps if isinstance(step, Fit) and step.method.name == "finetune"][:2]
    shutil.copyfile(theirs.weights_path(other.key), theirs.weights_path(one.key))
    resealed(theirs, one.key, "weights", left_out)
    archive = archived(finished, theirs, tmp_path / "a.tar.zst")
    code, said = imported(rib_says, finished, archive, "--spot", len(plan.steps), "--seed", 0)
    assert code == 2
    assert "a file with digest" in said


@pytest.mark.parametrize(
    ("column", "made_by", "found"),
    [
        ("masked_class", {}, True),
        ("unmasked_confidence", {}, True),
        ("label", {}, True),
        ("label", {"processor": "Another CPU"}, True),
        ("masked_class", {"processor": "Another CPU"}, False),  # its tolerance is about the flags of the record
    ],
)
def test_forged_predictions_are_found(
    finished: Finished, theirs: Store, tmp_path: Path, column: str, made_by: dict[str, str], found: bool
) -> None:
    suite = load_suite(finished[0])
    step = of_kind(make_plan(suite), Predict)
    table = theirs.predictions(step.key)
    values = table[column].to_numpy().copy()
    values[3] += 1
    changed = table.set_column(table.column_names.index(column), column, pa.array(values))
    pq.write_table(changed, theirs.predictions_path(step.key))
    resealed(theirs, step.key, "predictions", **made_by)
    with pytest.raises(UserError, match=f"predictions, {column} in row 3") if found else nullcontext():
        spot(theirs, suite, Store(tmp_path / "ours"), Wanted(1000, 0, "cpu"))


def test_a_record_of_another_kind_of_step_is_found(finished: Finished, theirs: Store, tmp_path: Path) -> None:
    """One that claims an older version is not held against its key."""
    suite = load_suite(finished[0])
    path = theirs.path("records", of_kind(make_plan(suite), Predict).key)
    content = json.loads(path.read_bytes())
    del content["digest"]
    content["made_by"] |= {"key_version": 1, "rib": "0.0.1"}
    path.write_bytes(encode_record(content | {"kind": "Fit", "values": {}}))
    with pytest.raises(UserError, match="kind of step"):
        spot(theirs, suite, Store(tmp_path / "ours"), Wanted(1000, 0, "cpu"))


@pytest.mark.parametrize(("count", "accepted"), [(2, True), (3, False)])
def test_another_machine_may_differ_by_two_images(
    finished: Finished, theirs: Store, tmp_path: Path, rib_says: Say, count: int, accepted: bool
) -> None:
    """12 images: two of them are 16.7 points, more than the one point that is allowed of large sets."""
    plan = make_plan(load_suite(finished[0]))
    step = of_kind(plan, Predict)
    record = theirs.record(step.key)
    assert record is not None
    assert record.values["examples"] == 12
    for one in plan.steps:
        forged(theirs, one.key, {"processor": "Another CPU"})
    forged(theirs, step.key, masked_right=flipped(theirs, step, count))
    archive = archived(finished, theirs, tmp_path / "a.tar.zst")
    code, said = imported(rib_says, finished, archive, "--spot", len(plan.steps))
    assert code == (0 if accepted else 2), said
    assert ("0 equal bit for bit" in said) if accepted else ("% right" in said)
    assert accepted or "equal to 1 points" in said
    code, said = imported(rib_says, finished, archive, "--spot", len(plan.steps), "--points", 25)
    assert code == 0, said


def test_of_a_large_set_an_accuracy_may_differ_by_a_point() -> None:
    assert near(100.0, 101.0, 0.01)
    assert not near(100.0, 101.1, 0.01)
    assert near(0.001, 0.009, 0.01)
    assert near({"a": [1, None, "x"]}, {"a": [1.005, None, "x"]}, 0.01)
    assert near(float("nan"), float("nan"), 0.01)
    for one, other in ((1, True), ("a", "b"), ([1], [1, 1]), ({"a": 1}, {"b": 1}), (float("inf"), 1.0), (None, 0)):
        assert not near(one, other, 0.5)


@pytest.mark.parametrize(("device", "same"), [("cpu", True), ("mps", False), ("cuda:1", False)])
def test_another_device_is_another_kind_of_machine(finished: Finished, theirs: Store, device: str, same: bool) -> None:
    record = theirs.record(of_kind(make_plan(load_suite(finished[0])), Fit).key)
    assert record is not None
    assert same_kind(replace(record, made_by=record.made_by | {"device": device}), record) == same


def test_the_seed_chooses(finished: Finished, tmp_path: Path) -> None:
    suite, theirs = load_suite(finished[0]), Store(shutil.copytree(finished[1], tmp_path / "theirs"))
    chosen = []
    for seed in (1, 1, 2, 3):
        shutil.rmtree(theirs.root / "again", ignore_errors=True)
        chosen.append(spot(theirs, suite, Store(tmp_path / "ours"), Wanted(2, seed, "cpu")).checked)
    assert chosen[0] == chosen[1]
    assert len(set(map(tuple, chosen))) > 1


def test_what_is_not_here_is_not_checked_and_said(
    finished: Finished, theirs: Store, tmp_path: Path, rib_says: Say
) -> None:
    plan = make_plan(load_suite(finished[0]))
    archive = archived(finished, theirs, tmp_path / "a.tar.zst")
    part = tmp_path / "part"
    part.mkdir()
    for file in finished[0].parent.iterdir():
        if file.is_file() and file.name != "part.npz":
            shutil.copy(file, part)
    gone = [
        step for step in plan.steps if any(data.name == "part" for need in (step, *step.needs) for data in need.parts)
    ]
    code, said = imported(rib_says, finished, archive, "--spot", len(plan.steps), "--data", part)
    assert code == 0, said
    lost = re.search(r"not checked: (\d+) steps: it needs what is not here: .*part", said)
    assert lost, said
    assert int(lost[1]) >= len(gone) > 0
    assert f"{len(plan.steps) - int(lost[1])} steps drawn" in said
    shutil.rmtree(tmp_path / "ours")
    code, said = imported(rib_says, finished, archive, "--spot", 1, "--data", tmp_path / "nowhere")
    assert code == 2
    assert "no step can be repeated here" in said
    assert not list((tmp_path / "ours").glob("records/*/*"))


def test_the_suite_may_be_your_own(finished: Finished, theirs: Store, tmp_path: Path, rib_says: Say) -> None:
    archive = archived(finished, theirs, tmp_path / "a.tar.zst", beside=False)
    code, said = imported(rib_says, finished, archive, "--spot", 1)
    assert code == 2
    assert "--suite" in said
    code, said = imported(rib_says, finished, archive, "--spot", 1, "--suite", finished[0])
    assert code == 0, said


def test_counts_are_exact_on_every_machine(finished: Finished, theirs: Store, tmp_path: Path) -> None:
    suite = load_suite(finished[0])
    step = of_kind(make_plan(suite), Predict)
    forged(theirs, step.key, {"processor": "Another CPU"}, examples=11)
    with pytest.raises(UserError, match="11, in the archive; 12, repeated here"):
        spot(theirs, suite, Store(tmp_path / "ours"), Wanted(1000, 0, "cpu", points=50))
