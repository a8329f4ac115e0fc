"""What disks do: full, read-only, cut off by a power cut, a bit turned over, a file deleted. Never a wrong number."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Say, document, same_weights, toml
from rib import cli, files
from rib.errors import DamagedError, StepError, UserError
from rib.execute.run import RunOutcome, execute
from rib.files import Seal, file_name, is_stamped, read_fact, stamp, write_aside, write_fact, written_aside
from rib.models.weights import write_weights
from rib.plan import Plan, make_plan
from rib.steps import Embed, Fit, How, Predict, Pretrain
from rib.store.record import decode_record, encode_record
from rib.store.store import DURABLE_SECONDS, Store
from rib.suite.load import load_suite
from rib.training.checkpoint import FileCheckpoint
from rib.upkeep.verify import verify

Finished = tuple[Path, Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A suite that pretrains and tunes, and the store of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    runs = [{"methods": ["finetune", "wise_ft"]}]
    made = document(folder, ("dropout",), per_class=6, runs=runs)
    del made["model"]["dropout"]["weights"]
    made["model"]["dropout"]["pretrain"] = {"recipe": {"epochs": 2, "batch_size": 5, "lr": 0.05, "warmup_steps": 2}}
    file = folder / "tiny.toml"
    file.write_text(toml(made))
    assert do(file, folder / "store").failed == {}
    return file, folder / "store"


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Store:
    shutil.copytree(finished[1], tmp_path / "store")
    return Store(tmp_path / "store")


def plan_of(file: Path) -> Plan:
    return make_plan(load_suite(file))


def do(file: Path, store: Path) -> RunOutcome:
    return execute(plan_of(file), Store(store), How(workers=1, checkpoint_seconds=0.0))


def assert_same(plan: Plan, mine: Store, theirs: Store) -> None:
    for step in plan.steps:
        a, b = mine.record(step.key), theirs.record(step.key)
        assert a is not None, step.title
        assert b is not None
        assert a.values == b.values, step.title
        if isinstance(step, Predict):
            assert mine.predictions(step.key).equals(theirs.predictions(step.key))
        elif step.keeps_weights:
            assert same_weights(mine.weights(step.key), theirs.weights(step.key))


def flipped(content: bytes, at: int, bit: int = 0) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return bytes(changed)


# -- a bit turned over -------------------------------------------------------------------------------------------------


def test_no_flipped_bit_of_a_record_changes_what_it_says(finished: Finished) -> None:
    """Every bit of a record's file: it reads as it was, or not at all."""
    step = next(step for step in plan_of(finished[0]).steps if isinstance(step, Fit) and step.data)
    content = Store(finished[1]).path("records", step.key).read_bytes()
    record, same = decode_record(content), 0
    for at in range(len(content)):
        try:
            read = decode_record(flipped(content, at, at % 8))
        except (ValueError, KeyError, TypeError):
            continue
        same += 1
        assert read == record
    assert same <= 10  # within the name of the last field


@settings(max_examples=100, deadline=None)
@given(values=st.dictionaries(st.text(max_size=5), st.text(max_size=12) | st.floats(allow_nan=False) | st.none()))
def test_a_record_is_read_as_it_was_written(values: dict[str, Any]) -> None:
    fields = {"key": "a", "kind": "Fit", "title": '", "digest": "', "spec": values, "values": values}
    fields |= {"seconds": 1.5, "images": 3, "made_by": {}, "cpu": 0.5, "loading": None, "files": {"weights": [3, "ab"]}}
    content = encode_record(fields)
    assert vars(decode_record(content)) == fields
    for cut in range(len(content)):
        with pytest.raises((ValueError, KeyError, TypeError)):
            decode_record(content[:cut])


@pytest.mark.parametrize("where", ["weights", "torn weights", "zeros", "gone"])
@pytest.mark.parametrize("kind", [Pretrain, Fit])
def test_damaged_weights_are_made_again_where_something_needs_them(
    finished: Finished, copied: Store, where: str, kind: type[Any]
) -> None:
    """A step that reads them is lost too; both are done again, with the same numbers."""
    file, expected = finished
    plan = plan_of(file)
    step = next(step for step in plan.steps if isinstance(step, kind) and step.parts)
    user = next(one for one in plan.steps if isinstance(one, Predict) and step in (one.fit, one.fit.start))
    path = copied.weights_path(step.key)
    content = path.read_bytes()
    damaged = {"weights": flipped(content, -5), "torn weights": content[:-40], "zeros": bytes(len(content))}
    if where == "gone":
        path.unlink()
    else:
        path.write_bytes(damaged[where])
        with pytest.raises(DamagedError, match="rib store verify --repair"):
            copied.weights(step.key)
    copied.path("records", user.key).unlink()
    outcome = do(file, copied.root)
    assert outcome.failed == {}
    assert_same(plan, copied, Store(expected))
    assert verify(copied).faults == []


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A suite two methods of which read features, and the store of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("probed")
    file = folder / "tiny.toml"
    file.write_text(toml(document(folder, per_class=6, runs=[{"methods": ["linear_probe", "lwf"]}])))
    assert do(file, folder / "store").failed == {}
    return file, folder / "store"


@pytest.mark.parametrize("readers", [1, 2], ids=["made by the reader", "made for both"])
@pytest.mark.parametrize("where", ["flipped", "torn", "zeros", "gone"])
def test_damaged_features_are_made_again_for_who_reads_them(
    probed: Finished, tmp_path: Path, where: str, readers: int
) -> None:
    file, expected = probed
    shutil.copytree(expected, tmp_path / "store")
    store, plan = Store(tmp_path / "store"), plan_of(file)
    step = next(step for step in plan.steps if isinstance(step, Embed) and step.seed is not None)
    path = store.path("features", step.key)
    content = path.read_bytes()
    damaged = {"flipped": flipped(content, -3, 6), "torn": content[:-4], "zeros": bytes(len(content))}
    if where == "gone":
        path.unlink()
    else:
        path.write_bytes(damaged[where])
        with pytest.raises(DamagedError):
            store.features(step.key)
    reading = [one for one in plan.steps if one.features == step][:readers]
    assert len(reading) == readers
    for one in reading:
        store.path("records", one.key).unlink()
    assert do(file, store.root).failed == {}
    assert_same(plan, store, Store(expected))
    assert verify(store).faults == []


def test_unreadable_weights_of_older_versions_are_found(finished: Finished, copied: Store) -> None:
    step = next(step for step in plan_of(finished[0]).steps if isinstance(step, Fit) and step.data)
    record = copied.path("records", step.key)
    content = json.loads(record.read_bytes())
    del content["digest"], content["files"]
    record.write_text(json.dumps(content))
    copied.weights_path(step.key).write_bytes(b"half")
    with pytest.raises(DamagedError):
        copied.weights(step.key)


def test_a_checkpoint_with_a_flipped_bit_is_not_gone_on_from(tmp_path: Path) -> None:
    """torch reads one as if nothing were; the digest at the end of the file tells."""
    path = tmp_path / "x.pt"
    FileCheckpoint(path, -1.0).save(lambda: {"epoch": 3, "weights": torch.ones(5000)})
    content = path.read_bytes()
    state = FileCheckpoint(path, 0).load()
    assert state is not None
    assert state["epoch"] == 3
    at = len(content) // 2
    path.write_bytes(flipped(content, at))
    assert not torch.equal(torch.load(path, weights_only=True)["weights"], torch.ones(5000))  # torch alone sees nothing
    assert FileCheckpoint(path, 0).load() is None
    for cut in (0, 10, 40, len(content) - 1):
        path.write_bytes(content[:cut])
        assert FileCheckpoint(path, 0).load() is None


def test_facts_that_are_damaged_are_found_out_anew(finished: Finished, copied: Store) -> None:
    facts = [path for path in copied.facts.rglob("*") if path.is_file()]
    keys = [step.key for step in plan_of(finished[0]).steps]
    for path in facts:
        path.write_bytes(flipped(path.read_bytes(), 0))
    assert [step.key for step in make_plan(load_suite(finished[0]), copied.facts).steps] == keys


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=60), place=st.integers(0, 10**6))
def test_facts_and_stamps(data: bytes, place: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fact"
        assert read_fact(path) is None
        write_fact(path, data)
        assert read_fact(path) == data
        assert is_stamped(path)
        content = path.read_bytes()
        path.write_bytes(flipped(content, place % len(content)))
        assert read_fact(path) is None
        assert not is_stamped(path)
        path.write_bytes(data)
        stamp(path)
        assert path.read_bytes() == content


def test_a_seal_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    seal = Seal.of(path)
    # BLAKE2b with 20 bytes, as `b2sum -l 160` prints it
    assert seal == Seal(3, "384264f676f39536840523f284921cdc68b6846b")
    assert seal.fault(path) is None
    path.write_bytes(b"abd")
    assert seal.fault(path) == "its bytes are not those that were written"
    path.write_bytes(b"ab")
    assert seal.fault(path) == "it has 2 bytes, not the 3 that were written"
    path.unlink()
    assert seal.fault(path) == "it is gone"


# -- a deleted pack ----------------------------------------------------------------------------------------------------


def test_a_deleted_pack_is_decoded_again(finished: Finished, copied: Store) -> None:
    file, expected = finished
    plan = plan_of(file)
    for path in copied.packs.iterdir():
        path.unlink()
    assert do(file, copied.root).done == 0  # a finished suite needs none
    step = next(step for step in plan.steps if isinstance(step, Predict))
    copied.path("records", step.key).unlink()
    assert do(file, copied.root) == RunOutcome(done=1, before=len(plan.steps) - 1)
    assert len(list(copied.packs.glob("*.npy"))) == 1
    assert_same(plan, copied, Store(expected))


# -- a power cut -------------------------------------------------------------------------------------------------------


def test_a_cut_between_write_and_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_aside(path, b"old")

    def cut(self: Path, target: Path) -> None:
        raise SystemExit

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(SystemExit):
        write_aside(path, b"new")
    assert path.read_bytes() == b"old"


def test_what_took_long_is_on_the_disk_before_its_record_is(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of what a power cut could undo: weights, their folders, the record, its folders."""
    told: list[str] = []

    def sync(handle: int) -> None:
        told.append(Path(f"/proc/self/fd/{handle}").readlink().relative_to(tmp_path).parts[0])

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(files.os, "fsync", sync)
    step = next(step for step in plan_of(finished[0]).steps if isinstance(step, Fit) and step.data)
    store = Store(tmp_path)
    for seconds in (0.9 * DURABLE_SECONDS, DURABLE_SECONDS):
        store.write_weights(step.key, {"a": torch.ones(3)})
        store.write(step, {}, seconds, 0, "cpu")
    assert told == ["weights"] * 3 + ["records"] * 3


# -- a full disk, and one that cannot be written -----------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, *words: str) -> Iterator[Path]:
    """A file system of its own, where this user may mount one."""
    folder.mkdir()
    done = subprocess.run(["mount", *words, str(folder)], capture_output=True, check=False) if _root() else None
    if done is None or done.returncode:
        pytest.skip("mounting is not possible here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a pack may still be mapped


def _root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount") is not None


WRITERS: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: write_aside(path, bytes(4 << 20)),
    "weights": lambda path: write_weights(path, {"a": torch.zeros(1 << 20)}),
    "checkpoint": lambda path: FileCheckpoint(path, -1.0).save(lambda: {"a": torch.zeros(1 << 20)}),
}


def test_a_full_disk_is_told_by_every_writer(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as folder:
        for writer in WRITERS.values():
            with pytest.raises(StepError, match=r"the disk is full: .* free some space"):
                writer(folder / "x")
            assert list(folder.iterdir()) == []


def test_a_run_on_a_full_disk_ends_well_once_there_is_space(finished: Finished, tmp_path: Path) -> None:
    file, expected = finished
    plan = plan_of(file)
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=2m", "tmpfs") as folder:
        store = Store(folder / "store")
        store.prepare()
        shutil.copytree(expected / "packs", store.packs)
        ballast = folder / "ballast"
        free = shutil.disk_usage(folder).free
        ballast.write_bytes(bytes(max(0, free - 40_000)))
        outcome = do(file, store.root)
        assert outcome.failed
        assert any("the disk is full" in reason for reason in outcome.failed.values())
        assert verify(store).faults == []
        ballast.unlink()
        again = do(file, store.root)
        assert again.failed == {}
        assert again.done + again.before == len(plan.steps)
        assert_same(plan, store, Store(expected))


def test_a_store_that_cannot_be_written(finished: Finished, copied: Store, tmp_path: Path, rib_says: Say) -> None:
    """Root heeds no mode bits, so the file system itself is read-only. What is there is shown; a run says why not."""
    file, _ = finished
    step = next(step for step in plan_of(file).steps if isinstance(step, Predict))
    with mounted(tmp_path / "fixed", "--bind", str(copied.root)) as folder:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        assert rib_says("report", file, "--store", folder)[0] == 0
        assert rib_says("store", "verify", folder)[0] == 0
        copied.path("records", step.key).unlink()
        code, said = rib_says("run", file, "--store", folder)
        assert code == 2
        assert "cannot write" in said
        assert "--store" in said
        code, said = rib_says("store", "merge", finished[1], "--into", folder)
        assert code == 2
        assert "cannot write" in said


# -- one that cannot be read -------------------------------------------------------------------------------------------


def unreadable(monkeypatch: pytest.MonkeyPatch, path: Path, code: int) -> None:
    """Let a file or a folder refuse to be read; root heeds no mode bits."""

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def look(place: Any = ".", *words: Any, **named: Any) -> Any:
            if not isinstance(place, int) and Path(place) == path:
                raise OSError(code, os.strerror(code), str(place))
            return real(place, *words, **named)

        return look

    for call in ("scandir", "listdir"):
        monkeypatch.setattr(os, call, refusing(getattr(os, call)))
    for call in ("open", "read_bytes", "read_text"):
        monkeypatch.setattr(Path, call, refusing(getattr(Path, call)))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO], ids=["EACCES", "EIO"])
@pytest.mark.parametrize(
    ("where", "readers"),
    [
        ("store.json", ("status", "report", "run")),
        ("records", ("status", "run")),
        ("a shard", ("status", "run")),
        ("a record", ("report", "run")),
        ("failures", ("run",)),
    ],
)
def test_a_store_that_cannot_be_read(
    finished: Finished,
    copied: Store,
    monkeypatch: pytest.MonkeyPatch,
    rib_says: Say,
    where: str,
    readers: Sequence[str],
    code: int,
) -> None:
    step = next(step for step in plan_of(finished[0]).steps if isinstance(step, Predict))
    record = copied.record_path(step.key)
    copied.failure_path(step.key).parent.mkdir(parents=True)
    path = {"a shard": record.parent, "a record": record}.get(where, copied.root / where)
    if where == "failures":  # a run asks for them where something is to do
        record.unlink()
    unreadable(monkeypatch, path, code)
    for command in readers:
        exit_code, said = rib_says(command, finished[0], "--store", copied.root)
        assert exit_code == 2, (command, said)
        assert f"cannot read {path}" in said
        assert os.strerror(code) in said
        assert ("change its permissions" if code == errno.EACCES else "check the disk") in said


def test_what_the_system_says_of_a_file_is_told_where_nothing_else_has_words_for_it(
    monkeypatch: pytest.MonkeyPatch, rib_says: Say
) -> None:
    def fails(*words: Any) -> None:
        raise OSError(errno.EIO, "Input/output error", "some/file")

    monkeypatch.setattr(cli.run, "plan_of", fails)
    code, said = rib_says("status")
    assert code == 2
    assert said == "error: some/file: Input/output error\n"

    def breaks(*words: Any) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(cli.run, "plan_of", breaks)
    with pytest.raises(OSError, match="Bad file descriptor"):
        cli.main()


def test_what_a_library_or_a_failing_disk_says_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a gzip"), written_aside(tmp_path / "x"):
        raise OSError("not a gzip")
    with pytest.raises(StepError, match=r"x could not be written: .*Input/output error"), written_aside(tmp_path / "x"):
        raise OSError(errno.EIO, "Input/output error")


# -- files -------------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300), st.text(max_size=20))
def test_file_names_stay_in_their_folder(text: str, other: str) -> None:
    name = file_name(text)
    assert Path(name).name == name or name == ""
    assert not name.startswith(".")
    assert len(name.encode()) <= 160
    if text.replace(" ", "_") != other.replace(" ", "_"):
        assert name != file_name(other)


def test_file_names_that_are_plain_stay() -> None:
    assert file_name("resnet_small-wise_ft alpha=0.5-photo-50-1") == "resnet_small-wise_ft_alpha=0.5-photo-50-1"
    assert file_name("../../etc/passwd").startswith("_.._etc_passwd-")


def test_an_error_of_the_users_stays_what_it_is(tmp_path: Path) -> None:
    def fails() -> None:
        with written_aside(tmp_path / "x"):
            try:
                (tmp_path / "none").read_bytes()
            except FileNotFoundError:
                raise UserError("no such thing") from None

    with pytest.raises(UserError, match="no such thing"):
        fails()
    with pytest.raises(ValueError, match="cannot reshape"), written_aside(tmp_path / "x"):
        np.zeros(1).reshape(2, 3)
