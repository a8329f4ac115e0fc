"""Stores verified, cleared, archived, merged; archives from elsewhere believed in nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from helpers import Say, document, toml
from rib.errors import StepError, UserError
from rib.execute.run import execute
from rib.files import Seal
from rib.plan import Plan, make_plan
from rib.steps import Embed, Fit, How, Predict
from rib.store.leases import Leases, file_time
from rib.store.record import encode_record
from rib.store.store import Store
from rib.suite.load import load_suite
from rib.upkeep.archive import MANIFEST, pack, unpack
from rib.upkeep.garbage import garbage, remove
from rib.upkeep.merge import merge
from rib.upkeep.verify import files_of, repair, verify

Finished = tuple[Path, Path]
HOW = How(workers=1, checkpoint_seconds=0.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A suite file and the store of a run of it."""
    folder = tmp_path_factory.mktemp("finished")
    file = folder / "tiny.toml"
    runs = [{"methods": ["finetune", "linear_probe", "lwf"]}]  # two of them read features
    file.write_text(toml(document(folder, ("resnet",), per_class=6, runs=runs)))
    assert execute(plan_of(file), Store(folder / "store"), HOW).failed == {}
    return file, folder / "store"


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Store:
    """The store again, to be changed."""
    shutil.copytree(finished[1], tmp_path / "store")
    return Store(tmp_path / "store")


def plan_of(file: Path) -> Plan:
    return make_plan(load_suite(file))


def some(plan: Plan, kind: type[Any]) -> Any:
    """A step of a kind that leaves a file."""
    return next(step for step in plan.steps if isinstance(step, kind) and (kind is not Fit or step.data))


def changed(store: Store, key: str, files: dict[str, list[Any]] | None = None, **values: Any) -> None:
    """Give a record other values or seals, as another machine might have found."""
    path = store.path("records", key)
    content = json.loads(path.read_bytes())
    del content["digest"]
    content["values"] |= values
    content["files"] |= files or {}
    path.write_bytes(encode_record(content))


def flip(path: Path, at: int = -9) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


# -- verify ------------------------------------------------------------------------------------------------------------


def test_a_store_that_nothing_happened_to_is_fine(finished: Finished) -> None:
    found = verify(Store(finished[1]))
    files = [path for path in finished[1].rglob("*") if path.suffix in (".json", ".parquet", ".safetensors", ".npy")]
    assert any(path.is_relative_to(finished[1] / "features") for path in files)
    files = [path for path in files if path.parent.name != "facts" and path.name != "store.json"]
    assert (found.faults, found.unsealed, found.files) == ([], [], len(files))
    assert found.size == sum(path.stat().st_size for path in files)


def test_every_damage_is_named_and_mended_by_the_next_run(finished: Finished, copied: Store) -> None:
    file, expected = finished
    plan = plan_of(file)
    predictions = [step for step in plan.steps if isinstance(step, Predict)]
    fit = some(plan, Fit)
    flip(copied.weights_path(fit.key), -3)
    embed = some(plan, Embed)
    flip(copied.path("features", embed.key), -5)
    flip(copied.predictions_path(predictions[0].key), 40)
    copied.predictions_path(predictions[1].key).unlink()
    copied.path("records", predictions[2].key).write_bytes(b"")
    two, three = copied.path("records", predictions[3].key), copied.path("records", predictions[4].key)
    two.write_bytes(three.read_bytes())
    packed, other = sorted(copied.packs.glob("*.npy"))[:2]
    packed.write_bytes(packed.read_bytes()[:-1])
    flip(other)
    found = verify(copied)
    said = {fault.path.relative_to(copied.root).parts[0] + ": " + fault.what.split(":")[0] for fault in found.faults}
    assert said == {
        "weights: its bytes are not those that were written",
        "features: its bytes are not those that were written",
        "predictions: its bytes are not those that were written",
        "predictions: it is gone",
        "records: it is cut off or changed (JSONDecodeError)",
        "records: it is the record of another step",
        f"packs: it has {packed.stat().st_size:,} bytes, not {packed.stat().st_size + 1:,}",
        "packs: 1 of its images are not as they were decoded",
    }
    assert {fault.title for fault in found.faults} == {
        fit.title,
        embed.title,
        predictions[0].title,
        predictions[1].title,
        "",
    }
    repair(copied, found.faults)
    assert verify(copied).faults == []
    assert execute(plan, copied, HOW).done == 4 + 1  # the predictions, and the weights that one of them needs
    assert verify(copied).faults == []
    theirs = Store(expected)
    for step in plan.steps:
        a, b = copied.record(step.key), theirs.record(step.key)
        assert a is not None
        assert b is not None
        assert a.values == b.values
        if isinstance(step, Predict):
            assert copied.predictions(step.key).equals(theirs.predictions(step.key))


def test_a_record_that_says_something_else_was_done_is_found(finished: Finished, copied: Store) -> None:
    step = some(plan_of(finished[0]), Fit)
    path = copied.path("records", step.key)
    content = json.loads(path.read_bytes())
    del content["digest"]
    content["spec"]["size"] = 3
    path.write_bytes(encode_record(content))
    assert [fault.what for fault in verify(copied).faults] == ["its key is not that of what it says was done"]


def test_records_of_older_versions_are_read_and_counted(finished: Finished, copied: Store) -> None:
    step = some(plan_of(finished[0]), Fit)
    path = copied.path("records", step.key)
    content = json.loads(path.read_bytes())
    values = content["values"]
    for name in ("digest", "files"):
        del content[name]
    path.write_text(json.dumps(content))
    record = copied.record(step.key)
    assert record is not None
    assert (record.values, record.files) == (values, {})
    found = verify(copied)
    assert (found.faults, found.unsealed) == ([], [step.title])
    copied.weights_path(step.key).write_bytes(b"\0" * 500)
    assert "it cannot be read" in verify(copied).faults[0].what


def test_the_command_says_what_is_wrong(finished: Finished, copied: Store, rib_says: Say) -> None:
    assert rib_says("store", "verify", copied.root)[0] == 0
    step = some(plan_of(finished[0]), Predict)
    flip(copied.predictions_path(step.key), 40)
    code, said = rib_says("store", "verify", copied.root)
    assert code == 1
    assert f"{step.key}.parquet" in said
    assert step.title in said
    code, said = rib_says("report", finished[0], "--store", copied.root, "--parquet", "out")
    assert code == 1
    assert "its bytes are not those that were written" in said
    assert "rib store verify --repair" in said
    assert rib_says("store", "verify", "--repair", copied.root)[0] == 1
    assert rib_says("store", "verify", copied.root)[0] == 0
    assert rib_says("store", "verify", "nowhere")[0] == 2


def test_every_command_is_told_the_store_by_the_same_option(
    rib_says: Say, finished: tuple[Plan, Path], copied: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rib_says("store", "verify", "--store", copied.root)[0] == 0
    assert rib_says("store", "verify", "--store", "nowhere")[0] == 2
    assert rib_says("store", "verify", copied.root, "--store", "nowhere")[0] == 0
    assert rib_says("store", "gc", "--store", copied.root)[0] == 0
    assert rib_says("store", "merge", finished[1], "--store", tmp_path / "ours")[0] == 0
    monkeypatch.setenv("RIB_STORE", str(tmp_path / "ours"))
    code, said = rib_says("store", "verify")
    assert code == 0
    assert ", 0 damaged" in said


# -- gc ----------------------------------------------------------------------------------------------------------------


def test_garbage(finished: Finished, copied: Store, tmp_path: Path) -> None:
    plan = plan_of(finished[0])
    step = some(plan, Fit)
    assert garbage(copied, [plan], grace=0) == []
    old = [copied.root / "weights" / "ab" / f".{'ab' * 20}.safetensors.1-2", copied.failure_path(step.key)]
    old += [copied.checkpoint_path(step.key), copied.root / "damaged" / "weights" / "x.safetensors"]
    unknown = [copied.weights_path("cd" * 20), copied.path("features", "cd" * 20), copied.packs / "other-12.npy"]
    unknown.append(copied.failure_path("cd" * 20))  # of a step that may be tried again: it stays
    for path in (*old, *unknown):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    for path in old:
        os.utime(path, (1, 1))
    fresh = copied.root / "records" / "ab" / ".x.json.1-2"
    fresh.parent.mkdir(exist_ok=True)
    fresh.write_bytes(b"being written")
    assert {item.path for item in garbage(copied)} == set(old)
    found = garbage(copied, [plan])
    assert {item.path for item in found} == {*old, *unknown[:3]}
    assert {item.size for item in found} == {5}
    before = {path for path in copied.root.rglob("*") if path.is_file()}
    remove(found)
    assert before - {path for path in copied.root.rglob("*") if path.is_file()} == {*old, *unknown[:3]}
    assert execute(plan, copied, HOW).done == 0


def test_how_old_a_file_is_the_file_system_says(
    finished: Finished, copied: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = copied.root / "records" / "ab" / ".x.json.1-2"
    fresh.parent.mkdir(exist_ok=True)
    fresh.write_bytes(b"being written")
    before = sorted(copied.root.iterdir())
    now, now_ns = time.time(), time.time_ns()
    monkeypatch.setattr(time, "time", lambda: now + 86400)  # this machine's date is wrong by a day
    monkeypatch.setattr(time, "time_ns", lambda: now_ns + 86400 * 10**9)
    assert garbage(copied) == []
    assert sorted(copied.root.iterdir()) == before
    assert file_time(copied.root / "none") == now_ns + 86400 * 10**9  # nothing better to go by
    os.utime(fresh, (now - 7200, now - 7200))
    assert [item.path for item in garbage(copied)] == [fresh]


def test_leases_of_the_dead_are_garbage(copied: Store, finished: Finished) -> None:
    code = (
        "import os, sys; from pathlib import Path; from rib.store.leases import Leases\n"
        "leases = Leases(Path(sys.argv[1])); leases.__enter__(); assert leases.take('abcd'); os._exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code, copied.root], check=False).returncode == 1
    with Leases(copied.root) as alive:
        assert alive.take("efab")
        assert garbage(copied) == []  # young
        found = garbage(copied, [plan_of(finished[0])], grace=0)
        assert {item.why for item in found} == {"lease of a process that died"}
        assert len(found) == 2
        remove(found)
        assert garbage(copied, grace=0) == []
        assert [lease.name for lease in alive.listed()] == ["efab"]
        assert alive.take("abcd")


def test_gc_removes_nothing_unless_told(finished: Finished, copied: Store, rib_says: Say) -> None:
    lost = copied.weights_path("cd" * 20)
    lost.parent.mkdir(parents=True, exist_ok=True)
    lost.write_bytes(bytes(2500))
    words = ("store", "gc", "--store", copied.root, "--keep", finished[0])
    code, said = rib_says(*words)
    assert code == 0
    assert "1 files can go, 2.5 kB; remove them with --delete" in said
    assert lost.exists()
    assert "1 files removed, 2.5 kB" in rib_says(*words, "--delete")[1]
    assert not lost.exists()
    assert "0 files can go" in rib_says("store", "gc", "--store", copied.root)[1]


# -- merge -------------------------------------------------------------------------------------------------------------


def test_merge_takes_what_is_missing_and_names_what_differs(finished: Finished, copied: Store, tmp_path: Path) -> None:
    plan, ours = plan_of(finished[0]), Store(tmp_path / "ours")
    assert merge(copied, ours).taken == len(plan.steps)
    again = merge(copied, ours)
    assert (again.taken, again.same, again.clean) == (0, len(plan.steps), True)
    fit, predict = some(plan, Fit), some(plan, Predict)
    changed(copied, fit.key, last_loss=9.0)
    flip(copied.predictions_path(predict.key), 40)
    ours.path("records", predict.key).unlink()
    before = ours.path("records", fit.key).read_bytes()
    found = merge(copied, ours)
    assert [(one.key, one.values) for one in found.conflicts] == [(fit.key, ("last_loss",))]
    assert [path for path, _ in found.damaged] == [copied.predictions_path(predict.key)]
    assert ours.path("records", fit.key).read_bytes() == before
    assert ours.record(predict.key) is None
    assert (found.taken, found.same) == (0, len(plan.steps) - 2)
    with pytest.raises(UserError, match="into itself"):
        merge(ours, Store(tmp_path / "." / "ours"))
    with pytest.raises(UserError, match="not a store"):
        merge(Store(tmp_path / "empty"), ours)


@pytest.mark.parametrize(("kind", "folder"), [(Fit, "weights"), (Embed, "features"), (Predict, "predictions")])
def test_equal_values_from_other_weights_are_a_conflict(
    finished: Finished, copied: Store, kind: type[Any], folder: str
) -> None:
    """Predictions of equal content may have other bytes."""
    step, ours = some(plan_of(finished[0]), kind), Store(finished[1])
    record = ours.record(step.key)
    assert record is not None
    changed(copied, step.key, {folder: [record.files[folder][0], "0" * 40]})
    found = merge(copied, ours)
    expected = [] if folder == "predictions" else [(step.key, (folder,))]
    assert [(one.key, one.values) for one in found.conflicts] == expected
    assert found.damaged == []
    changed(copied, step.key, {folder: record.files[folder]})
    content = json.loads(copied.path("records", step.key).read_bytes())
    del content["digest"], content["files"]  # of an older version, which cannot say
    copied.path("records", step.key).write_text(json.dumps(content))
    assert merge(copied, ours).clean


def test_merge_brings_what_was_dropped_if_it_is_the_same(finished: Finished, copied: Store, tmp_path: Path) -> None:
    plan = plan_of(finished[0])
    paths = [copied.weights_path(some(plan, Fit).key), copied.path("features", some(plan, Embed).key)]
    contents = [path.read_bytes() for path in paths]
    copied.drop_weights(some(plan, Fit).key)
    copied.drop_features(some(plan, Embed).key)
    merge(Store(finished[1]), copied)
    assert [path.read_bytes() for path in paths] == contents


def test_the_merge_command(finished: Finished, copied: Store, tmp_path: Path, rib_says: Say) -> None:
    plan = plan_of(finished[0])
    code, said = rib_says("store", "merge", finished[1], copied.root, "--into", tmp_path / "ours")
    assert code == 0
    assert f"{len(plan.steps)} steps copied, 0 existed before" in said
    assert f"0 steps copied, {len(plan.steps)} existed before" in said
    step = some(plan, Fit)
    changed(copied, step.key, last_loss=9.0)
    code, said = rib_says("store", "merge", copied.root, "--into", tmp_path / "ours")
    assert code == 1
    assert f"{step.key[:12]}  {step.title}  differs: last_loss" in said


# -- archives ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tar.zst", ".tar.gz"])
def test_an_archive_gives_another_machine_the_same_report(
    finished: Finished, tmp_path: Path, rib_says: Say, suffix: str
) -> None:
    file, store = finished
    plan = plan_of(file)
    code, said = rib_says("store", "export", file, f"a{suffix}", "--store", store)
    assert code == 0
    assert f"{len(plan.steps)} of {len(plan.steps)} steps" in said
    code, said = rib_says("store", "import", f"a{suffix}", "--store", "theirs")
    assert code == 0
    lines = said.splitlines()
    assert [("open it only if you trust them" in line) for line in lines] == [".html" in line for line in lines]
    suite = next((tmp_path / "theirs" / "suites").iterdir())
    assert suite.read_bytes() == file.read_bytes()
    assert "<title>" in next((tmp_path / "theirs" / "reports").iterdir()).read_text()
    theirs = Store(tmp_path / "theirs")
    assert verify(theirs).faults == []
    assert {path.name for path in theirs.root.iterdir()} == {
        "store.json",
        "records",
        "predictions",
        "suites",
        "reports",
    }
    assert rib_says("report", file, "--store", "theirs", "--json") == rib_says(
        "report", file, "--store", store, "--json"
    )


def test_equal_stores_make_equal_archives_and_weights_come_when_asked_for(finished: Finished, tmp_path: Path) -> None:
    plan, store = plan_of(finished[0]), Store(finished[1])
    beside = {"suite.toml": finished[0]}
    for name, weights in (("a", False), ("b", False), ("c", True)):
        pack(store, plan, beside, tmp_path / f"{name}.tar.zst", weights)
    assert (tmp_path / "a.tar.zst").read_bytes() == (tmp_path / "b.tar.zst").read_bytes()
    unpack(tmp_path / "c.tar.zst", Store(tmp_path / "theirs"))
    theirs = Store(tmp_path / "theirs")
    for folder in ("weights", "features"):
        there = {path.name: Seal.of(path) for path in files_of(store, folder)}
        assert there
        assert {path.name: Seal.of(path) for path in files_of(theirs, folder)} == there
    with pytest.raises(UserError, match="unknown kind of archive"):
        pack(store, plan, beside, tmp_path / "a.zip")
    with pytest.raises(UserError, match="no records of suite"):
        pack(Store(tmp_path / "empty"), plan, beside, tmp_path / "a.tar.gz")


def test_an_import_never_writes_over_a_record_that_differs(finished: Finished, copied: Store, tmp_path: Path) -> None:
    plan = plan_of(finished[0])
    pack(Store(finished[1]), plan, {}, tmp_path / "a.tar.gz")
    step = some(plan, Predict)
    changed(copied, step.key, examples=1)
    before = copied.path("records", step.key).read_bytes()
    found = unpack(tmp_path / "a.tar.gz", copied).merged
    assert [one.key for one in found.conflicts] == [step.key]
    assert copied.path("records", step.key).read_bytes() == before


KEY = "ab" * 20
NAME = f"records/ab/{KEY}.json"


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], files: list[Any] | None, **said: Any) -> Path:
    """An archive of whatever kind, with a manifest that announces these files."""
    if files is not None:
        manifest = {"format": 1, "key_version": 1, "suite": "tiny", "files": files} | said
        members = [member(MANIFEST, json.dumps(manifest).encode()), *members]
    with pa.output_stream(str(path), compression="gzip") as out, tarfile.open(fileobj=out, mode="w|") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data) if info.size >= 0 else None)
    return path


def sealed(name: str, data: bytes) -> list[Any]:
    import hashlib

    return [name, len(data), hashlib.blake2b(data, digest_size=20).hexdigest()]


HOSTILE: dict[str, tuple[list[Any], list[Any] | None]] = {
    "no manifest": ([member(NAME, b"x")], None),
    "up": ([member("../evil", b"x")], [sealed("../evil", b"x")]),
    "up inside": ([member("records/../../evil", b"x")], [sealed("records/../../evil", b"x")]),
    "absolute": ([member("/tmp/evil", b"x")], [sealed("/tmp/evil", b"x")]),
    "another folder": ([member("packs/evil.npy", b"x")], [sealed("packs/evil.npy", b"x")]),
    "not announced": ([member(NAME, b"x")], []),
    "other bytes": ([member(NAME, b"y")], [sealed(NAME, b"x")]),
    "longer": ([member(NAME, b"xx")], [sealed(NAME, b"x")]),
    "twice": ([member(NAME, b"x"), member(NAME, b"x")], [sealed(NAME, b"x")]),
    "missing": ([], [sealed(NAME, b"x")]),
    "link": ([member(NAME, type=tarfile.SYMTYPE, linkname="/etc/passwd")], [sealed(NAME, b"")]),
    "hard link": ([member(NAME, type=tarfile.LNKTYPE, linkname="/etc/passwd")], [sealed(NAME, b"")]),
    "device": ([member(NAME, type=tarfile.CHRTYPE)], [sealed(NAME, b"")]),
    "pipe": ([member(NAME, type=tarfile.FIFOTYPE)], [sealed(NAME, b"")]),
    "folder": ([member(NAME, type=tarfile.DIRTYPE)], [sealed(NAME, b"")]),
    "bomb": ([], [[NAME, 1 << 62, "0" * 40]]),
    "negative": ([], [[NAME, -1, "0" * 40]]),
    "no list": ([], [1, 2]),
    "too many files": ([], [[f"records/00/{at:040x}.json", 0, "0" * 40] for at in range(301)]),
    "negative size": ([member(NAME, b"x", size=-512)], [sealed(NAME, b"x")]),
    "a record too long for memory": ([], [[NAME, 1 << 27, "0" * 40]]),
    "a suite too long for memory": ([], [["suite.toml", 1 << 25, "0" * 40]]),
    "a page too long for memory": ([], [["page.html", 1 << 29, "0" * 40]]),
    "compressed beyond belief": ([], [[f"weights/ab/{KEY}.safetensors", 1 << 27, "0" * 40]]),
    "a name in a name": ([member(f"{NAME}/{NAME}", b"x")], [sealed(f"{NAME}/{NAME}", b"x")]),
    "a folder more": ([member(f"records/{NAME}", b"x")], [sealed(f"records/{NAME}", b"x")]),
    "a thousand folders deep": ([member("a/" * 1000 + "x", b"x")], [sealed("a/" * 1000 + "x", b"x")]),
    "no digest": ([member(NAME, b"x")], [[NAME, 1, None]]),
    "a size in words": ([member(NAME, b"x")], [[NAME, "1e3", "0" * 40]]),
    "an endless size": ([member(NAME, b"x")], [[NAME, float("inf"), "0" * 40]]),
    "no name": ([member("", b"x")], [sealed("", b"x")]),
    "a dot": ([member(".", b"x")], [sealed(".", b"x")]),
    "long header": ([member(NAME + "x" * 3_000_000, b"x")], [sealed(NAME, b"x")]),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused_as_a_whole(
    tmp_path: Path, kind: str, rib_says: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, files = HOSTILE[kind]
    monkeypatch.setattr("rib.upkeep.archive.MOST_FILES", 300)
    good = member(f"records/cd/{'cd' * 20}.json", b"ok")
    path = archive(tmp_path / "a.tar.gz", [good, *members], files and [sealed(good[0].name, b"ok"), *files])
    before = sorted(tmp_path.iterdir())
    code, said = rib_says("store", "import", path, "--store", tmp_path / "in" / "store")
    assert code == 2, said
    assert "is refused" in said or "does not fit" in said
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "in"])
    assert [item.name for item in (tmp_path / "in" / "store").iterdir()] == ["store.json"]


NESTED = b"[" * 5_000 + b"]" * 5_000
MANIFESTS = {
    "nested": NESTED,
    "nested files": b'{"format": 1, "suite": "tiny", "files": ' + NESTED + b"}",
    "nested format": b'{"format": ' + NESTED + b', "suite": "tiny", "files": []}',
    "a list": b"[]",
    "a number": b"1e999",
    "not UTF-8": b'{"format": "\xff"}',
    "a long number": b'{"format": ' + b"9" * 5_000 + b"}",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    made = archive(tmp_path / "a.tar.gz", [member(MANIFEST, MANIFESTS[kind])], None)
    with pytest.raises(UserError, match="is refused"):
        unpack(made, Store(tmp_path / "store"))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("place", ["before", "after"])
def test_headers_on_headers_without_end_are_refused(tmp_path: Path, kind: bytes, place: str) -> None:
    """Python's tarfile calls itself for each of them."""
    chain = [member("x", b"9 a=b", type=kind) for _ in range(3_000)]
    good = member(MANIFEST, json.dumps({"format": 1, "suite": "tiny", "files": []}).encode())
    made = archive(tmp_path / "a.tar.gz", [*chain, good] if place == "before" else [good, *chain], None)
    with pytest.raises(UserError, match="is refused"):
        unpack(made, Store(tmp_path / "store"))


@pytest.mark.parametrize("announced", [True, False])
def test_a_bomb_is_refused_by_what_it_announces_and_ends_where_it_does_not(tmp_path: Path, announced: bool) -> None:
    """128 MB of nothing in an eighth of a megabyte."""
    size, name, path = 1 << 27, f"weights/ab/{KEY}.safetensors", tmp_path / "a.tar.gz"
    manifest = {"format": 1, "suite": "tiny", "files": [[name, size if announced else 10, "0" * 40]]}
    with pa.output_stream(str(path), compression="gzip") as out, tarfile.open(fileobj=out, mode="w|") as tar:
        info, data = member(MANIFEST, json.dumps(manifest).encode())
        tar.addfile(info, io.BytesIO(data))
        bomb = tarfile.TarInfo(name)
        bomb.size = size
        with Path("/dev/zero").open("rb") as zeros:
            tar.addfile(bomb, zeros)
    with pytest.raises(UserError, match="bytes for each" if announced else "not as the manifest"):
        unpack(path, Store(tmp_path / "store"))
    assert [item.name for item in (tmp_path / "store").iterdir()] == ["store.json"]


@pytest.mark.parametrize("suite", ["../evil", ".hidden", "a/b", "", "x\x1b[31m", 3])
def test_an_archive_names_no_file_outside(tmp_path: Path, suite: Any) -> None:
    with pytest.raises(UserError, match="is refused"):
        unpack(archive(tmp_path / "a.tar.gz", [], [], suite=suite), Store(tmp_path / "store"))


ODD: dict[str, Any] = {
    "kind": 3,
    "title": None,
    "spec": [],
    "values": "none",
    "seconds": "1",
    "images": 1.5,
    "made_by": ["rib"],
    "cpu": "much",
    "files": {"weights": [1]},
    "files elsewhere": {"../../evil": [1, "0" * 40]},
    "no answers": {"examples": 24, "masked_right": "zz", "unmasked_right": "00"},
    "few answers": {"examples": 24, "masked_right": "00", "unmasked_right": "00"},
    "no count": {"examples": "24", "masked_right": "", "unmasked_right": ""},
}


@pytest.mark.parametrize("what", ODD)
def test_an_import_is_all_or_nothing(finished: Finished, tmp_path: Path, what: str) -> None:
    """One record of another type, its digest as it should be: nothing of the archive is taken, nothing breaks."""
    theirs = Store(shutil.copytree(finished[1], tmp_path / "theirs"))
    plan, ours = plan_of(finished[0]), Store(tmp_path / "ours")
    path = theirs.path("records", max(step.key for step in plan.steps if isinstance(step, Predict)))
    content = json.loads(path.read_bytes())
    del content["digest"]
    field = {"files elsewhere": "files", "no answers": "values", "few answers": "values", "no count": "values"}
    content[field.get(what, what)] = ODD[what]
    files = [each for each in theirs.root.rglob("*") if each.parts[-3] in ("records", "predictions")]
    path.write_bytes(encode_record(content))
    members = [(each.relative_to(theirs.root).as_posix(), each.read_bytes()) for each in sorted(files)]
    made = archive(tmp_path / "a.tar.gz", [member(*one) for one in members], [sealed(*one) for one in members])
    with pytest.raises(UserError, match="nothing of it was imported"):
        unpack(made, ours)
    assert [each.name for each in ours.root.iterdir()] == ["store.json"]
    found = merge(theirs, ours)  # of a folder the rest is taken, and what is odd is named
    assert [path for path, _ in found.damaged] == [path]
    assert verify(ours).faults == []


def test_a_merge_that_breaks_off_takes_back_what_it_took(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, copies = Store(tmp_path / "ours"), []

    def copy(source: Path, target: Path) -> None:
        copies.append(source)
        if len(copies) == 5:
            raise OSError(28, "No space left on device")
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr("rib.upkeep.merge.shutil.copyfile", copy)
    with pytest.raises(StepError, match="the disk is full"):
        merge(Store(finished[1]), ours)
    assert ours.keys() == frozenset()
    assert [path for path in ours.root.rglob("*") if path.is_file()] == [ours.marker]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "x"}', '{"format": Infinity}', None])
def test_a_damaged_marker_is_told_and_repaired(
    finished: Finished, copied: Store, content: str | None, rib_says: Say
) -> None:
    if content is None:
        copied.marker.unlink()
    else:
        copied.marker.write_text(content)
        code, said = rib_says("run", finished[0], "--store", copied.root)
        assert code == 2
        assert "rib store verify --repair" in said
    code, said = rib_says("store", "verify", copied.root, "--repair")
    assert code == 1
    assert "store.json" in said
    assert rib_says("store", "verify", copied.root)[0] == 0
    assert json.loads(copied.marker.read_text())["format"] == 1


def test_archives_that_are_damaged(finished: Finished, tmp_path: Path) -> None:
    whole = tmp_path / "a.tar.zst"
    pack(Store(finished[1]), plan_of(finished[0]), {}, whole)
    content = whole.read_bytes()
    broken = [b"", b"PK\x03\x04", content[: len(content) // 2], content[:-1], b"\x1f\x8b" + content]
    middle = bytearray(content)
    middle[len(middle) // 2] ^= 1
    for bad in (*broken, bytes(middle)):
        whole.write_bytes(bad)
        with pytest.raises(UserError, match="is refused"):
            unpack(whole, Store(tmp_path / "store"))
    with pytest.raises(UserError, match="archive not found"):
        unpack(tmp_path / "none.tar.gz", Store(tmp_path / "store"))
    with pytest.raises(UserError, match=r"this is a folder(.|\n)*rib store merge"):
        unpack(finished[1], Store(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    assert Store(tmp_path / "store").keys() == frozenset()
