"""Caches: what is believed of a file that was seen before, and what is not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps

from helpers import document, write_tree
from rib.data.containers import Container, digests
from rib.data.folders import FolderContainer
from rib.data.parquet import ParquetContainer
from rib.data.shards import ShardContainer
from rib.errors import UserError
from rib.execute.run import execute
from rib.files import fact_fault, is_stamped, read_fact, state, write_fact
from rib.models.sources import cached_digest
from rib.plan import make_plan
from rib.plan.pair import make_pair
from rib.report.cache import ReportCache
from rib.steps import How
from rib.store.store import Store
from rib.suite.load import parse_suite
from rib.training.checkpoint import FileCheckpoint
from rib.upkeep.verify import repair, verify


def replaced(path: Path, content: bytes, how: str) -> None:
    """Other bytes of one length at a path, at the time of change that the old ones had, as `cp -p` may leave them."""
    before = path.stat()
    assert len(content) == before.st_size
    if how == "in place":
        path.write_bytes(content)
    else:
        aside = path.with_name("aside")
        aside.write_bytes(content)
        aside.replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("how", ["in place", "renamed"])
def test_a_checkpoint_that_was_replaced_at_its_old_time_is_read_again(tmp_path: Path, how: str) -> None:
    path, facts = tmp_path / "a.safetensors", tmp_path / "facts"
    path.write_bytes(b"good")
    good = cached_digest(path, facts)
    assert cached_digest(path, facts) == good
    replaced(path, b"evil", how)
    assert cached_digest(path, facts) != good
    replaced(path, b"good", how)
    assert cached_digest(path, facts) == good


def test_a_checkpoint_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, facts = tmp_path / "a.safetensors", tmp_path / "facts"
    path.write_bytes(b"good")
    good = cached_digest(path, facts)
    monkeypatch.setattr("rib.models.sources.file_digest", lambda path: pytest.fail("read again"))
    assert cached_digest(path, facts) == good


def test_a_comparison_reads_checkpoints_whatever_is_known(tmp_path: Path) -> None:
    """A fact that lies of a file is not asked for."""
    suite = parse_suite(document(tmp_path)).based_at(tmp_path)
    weights, facts = str(tmp_path / "resnet-0.safetensors"), tmp_path / "facts"
    honest = make_pair(suite, "resnet", weights, cache=facts)
    make_plan(suite, facts)
    (fact,) = facts.glob("weights-*.txt")
    write_fact(fact, b"0" * 40)
    with pytest.raises(UserError, match="was replaced"):
        make_plan(suite, facts)
    again = make_pair(suite, "resnet", weights, cache=facts)
    assert [step.key for step in again.plan.steps] == [step.key for step in honest.plan.steps]


def folders(root: Path) -> tuple[Container, Path]:
    write_tree(root / "tree", ("ant", "bee"), 2)
    return FolderContainer(root / "tree", "x"), root / "tree" / "ant" / "0.png"


def parquet(root: Path) -> tuple[Container, Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_tree(root / "tree", ("ant",), 2)
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted((root / "tree/ant").iterdir())]
    (root / "files").mkdir()
    pq.write_table(pa.table({"image": images, "label": ["a", "b"]}), root / "files/a.parquet", compression="none")
    return ParquetContainer(root / "files", "x"), root / "files/a.parquet"


def shards(root: Path) -> tuple[Container, Path]:
    import tarfile

    write_tree(root / "tree", ("ant",), 2)
    (root / "files").mkdir()
    with tarfile.open(root / "files/a.tar", "w") as tar:
        for path in sorted((root / "tree/ant").iterdir()):
            path.with_suffix(".cls").write_text("ant")
            tar.add(path, path.name)
            tar.add(path.with_suffix(".cls"), path.stem + ".cls")
    return ShardContainer(root / "files", "x"), root / "files/a.tar"


Make = Callable[[Path], tuple[Container, Path]]


@pytest.mark.parametrize("make", [folders, parquet, shards])
def test_images_that_were_replaced_at_their_old_time_are_read_again(tmp_path: Path, make: Make) -> None:
    """One changed bit in the comment-free tail of a PNG: the same length, the same time of change."""
    container, file = make(tmp_path)
    rows = FolderContainer.reading_order(container, [0, 1])  # type: ignore[arg-type]
    before = digests(container, rows, tmp_path / "facts")
    content = file.read_bytes()
    at = content.index(b"IDAT") + 6
    replaced(file, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], "in place")
    after = digests(type(container)(container.where, "x"), rows, tmp_path / "facts")  # type: ignore[call-arg]
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_the_state_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    before = state(path.stat())
    assert state(path.stat()) == before
    path.chmod(0o600 if path.stat().st_mode & 0o077 else 0o644)  # moves no time but that of the inode
    assert state(path.stat()) != before


# -- between the fingerprint and the reading ---------------------------------------------------------------------------


def test_a_checkpoint_that_was_replaced_after_planning_is_not_read_under_its_key(tmp_path: Path) -> None:
    plan = make_plan(parse_suite(document(tmp_path)).based_at(tmp_path))
    store, file = Store(tmp_path / "store"), tmp_path / "resnet-0.safetensors"
    good = file.read_bytes()
    replaced(file, good[:-4] + b"\0\0\x80?", "renamed")  # its last number is 1
    outcome = execute(plan, store, How(workers=1))
    assert len(outcome.failed) == len(plan.steps)
    assert all("was replaced after it was fingerprinted" in reason for reason in outcome.failed.values())
    assert not store.keys()
    replaced(file, good, "renamed")
    assert execute(plan, store, How(workers=1)).failed == {}


@pytest.mark.parametrize("when", ["packing", "streaming", "in a worker"])
def test_images_that_were_replaced_after_planning_are_not_read_under_their_key(tmp_path: Path, when: str) -> None:
    """Nothing that rests on them is recorded: what is in the store equals what an undisturbed run leaves."""
    made = document(tmp_path)
    made["data"]["part"] = {"folder": "tree"}  # whole in both roles, so that every step sees every image
    tree = write_tree(tmp_path / "tree", ("dog", "bee", "ant"), per_class=4)
    plan = make_plan(parse_suite(made).based_at(tmp_path))
    one, store = tree / "ant" / "0.png", Store(tmp_path / "store")
    good = one.read_bytes()
    ImageOps.invert(Image.open(one).convert("RGB")).save(one)
    if when == "in a worker":  # which fingerprints them as they are now, and finds them packed
        now = make_plan(plan.suite)
        execute(now, store, How(workers=1))
        plan = replace(plan, world=now.world)
    seen = {step.key for step in plan.steps if any(part.name == "part" for part in step.parts)}
    assert seen
    with suppress(UserError):
        outcome = execute(plan, store, How(workers=1, pack_budget=0 if when == "streaming" else None))
        assert any("has changed since" in reason for reason in outcome.failed.values())
    assert not seen & store.keys()
    one.write_bytes(good)
    assert execute(make_plan(plan.suite), store, How(workers=1)).failed == {}
    assert seen <= store.keys()


@pytest.mark.parametrize("make", [folders, parquet, shards])
def test_files_that_change_while_they_are_read_leave_no_digests(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, file = make(tmp_path)
    rows = FolderContainer.reading_order(container, [0, 1])  # type: ignore[arg-type]
    read = type(container).read

    def touched(self: Container, rows: object) -> list[bytes]:
        found = read(self, rows)  # type: ignore[arg-type]
        os.utime(file)
        return found

    monkeypatch.setattr(type(container), "read", touched)
    with pytest.raises(UserError, match="has changed since"):
        digests(container, rows, tmp_path / "facts")
    assert not (tmp_path / "facts").exists()


# -- what a store keeps ------------------------------------------------------------------------------------------------


def swapped(one: Path, other: Path) -> None:
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)


def faulty(store: Store) -> set[str]:
    return {fault.path.name for fault in verify(store).faults}


def test_facts_that_change_places_are_believed_by_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    one, other = store.facts / "digits-a.npz", store.facts / "digits-b.npz"
    write_fact(one, b"52.3")
    write_fact(other, b"87.1")
    assert (read_fact(one), read_fact(other)) == (b"52.3", b"87.1")
    assert faulty(store) == set()
    swapped(one, other)
    assert read_fact(one) is None
    assert read_fact(other) is None
    assert faulty(store) == {one.name, other.name}
    repair(store, verify(store).faults)
    assert faulty(store) == set()
    assert not one.exists()


def test_every_flipped_bit_of_a_fact_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "facts" / "x.json"
    write_fact(path, b"[1, 2]")
    content = path.read_bytes()
    for at in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        assert read_fact(path) is None
        assert fact_fault(path) is not None


def test_facts_of_older_versions_are_left_alone_and_not_read(tmp_path: Path) -> None:
    from rib.identity import digest

    path = tmp_path / "store" / "facts" / "weights-0.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old" + digest(b"old").encode())
    assert read_fact(path) is None
    assert faulty(Store(tmp_path / "store")) == set()


def test_checkpoints_that_change_places_are_not_gone_on_from(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    paths = [store.checkpoint_path(f"{number}" * 40) for number in (1, 2)]
    for number, path in enumerate(paths):
        FileCheckpoint(path, 0).save(lambda number=number: {"w": torch.full((3,), float(number))})  # type: ignore[misc]
    assert all(map(is_stamped, paths))
    swapped(*paths)
    assert [FileCheckpoint(path, 0).load() for path in paths] == [None, None]
    assert faulty(store) == {path.name for path in paths}


def test_failures_that_change_places_or_bits_are_not_believed(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    a, b = "1" * 40, "2" * 40
    store.write_failure(a, "its disk was full")
    store.write_failure(b, "it diverged", kind="diverged", again=False)
    assert store.failure(b) == "it diverged"
    assert faulty(store) == set()
    content = store.failure_path(b).read_bytes()
    store.failure_path(b).write_bytes(content.replace(b"diverged.", b"diverges."))
    shutil.copy(store.failure_path(a), store.failure_path(b))
    found = store.last_failure(b)
    assert found is not None
    assert "cannot be read" in found.reason
    assert found.again
    assert faulty(store) == {store.failure_path(b).name}
    store.failure_path(b).write_bytes(content.replace(b"false", b"true"))
    assert "cannot be read" in str(store.failure(b))


def test_a_failure_of_an_older_version_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    path = store.failure_path("1" * 40)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"reason": "old", "again": False}, indent=1))
    found = store.last_failure("1" * 40)
    assert found is not None
    assert (found.reason, found.again) == ("old", False)
    assert faulty(store) == set()


def test_a_kept_report_is_shown_only_where_nothing_has_changed(tmp_path: Path) -> None:
    """Not after a flipped bit of its text, not in the place of another, not beside a page that was replaced."""
    plan = make_plan(parse_suite(document(tmp_path)).based_at(tmp_path))
    store, page = Store(tmp_path / "store"), tmp_path / "page.html"
    page.write_text("page one")
    kept = ReportCache(plan.suite, [step.key for step in plan.steps], store, page, 80)
    kept.write("RI +1.4")
    assert kept.read() == "RI +1.4"
    (file,) = store.facts.glob("report-*.json")
    content = file.read_bytes()
    file.write_bytes(content.replace(b"+1.4", b"+5.4"))
    assert kept.read() is None
    assert faulty(store) == {file.name}
    file.write_bytes(content)
    assert kept.read() == "RI +1.4"
    shutil.move(file, file.with_name("report-another.json"))
    assert faulty(store) == {"report-another.json"}
    kept.write("RI +1.4")
    replaced(page, b"page two", "in place")
    assert kept.read() is None
