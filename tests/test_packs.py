"""Packs: Pillow's pixels, builds that are killed, damage, the budget of disk space; streams in their place."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import rib
from helpers import PATIENCE, surroundings, tiny, write_arrays, write_tree
from rib import _compat  # noqa: F401  # before torchvision
from rib.data import pack as pack_module
from rib.data.ahead import chunk_rows, chunks, streamed
from rib.data.base import DataSet
from rib.data.budget import divided, pack_bytes, parse_bytes, require_room, room, shown_bytes
from rib.data.catalogue import DataRow, open_data
from rib.data.decoded import Decoded
from rib.data.examples import Examples, Index, Part
from rib.data.images import apply_view, decode_pixels
from rib.data.pack import BUILDS, check_pack, damaged_rows, is_checked, open_pack, pack_file
from rib.data.views import Pixels, View
from rib.errors import StepError, UserError
from rib.execute.decode import pack, prepare
from rib.execute.progress import Silent
from rib.plan import make_plan
from rib.steps import How, Predict
from rib.store.store import Store
from rib.upkeep.verify import pack_fault

VIEW = Pixels(9, 0.8, "bilinear")


def opened(base: Path, **row: Any) -> DataSet:
    return open_data("x", DataRow.model_validate(row), base, None)


class Counted(DataSet):
    """Twenty images, each of one grey level: its row times ten; notes which rows are asked for."""

    def __init__(self, count: int = 20, chunk: int = 3) -> None:
        self.name, self.classes, self.family, self.units = "counted", ("a", "b"), "counted", "counted"
        self.disjoint, self.chunk, self.count = True, chunk, count
        self.asked: list[int] = []
        self.told = threading.Condition()

    def index(self, part: Part) -> Index:
        return Index(np.arange(self.count) % 2, np.arange(self.count), np.arange(self.count, dtype=np.int16))

    def fingerprint(self, part: Part) -> str:
        return f"{part:0<24}"

    def reading_order(self, part: Part) -> NDArray[np.int64]:
        return np.arange(self.count)[::-1].copy()

    def read(self, part: Part, rows: Sequence[int], view: View) -> NDArray[np.uint8]:
        with self.told:
            self.asked += rows
            self.told.notify_all()
        return np.stack([np.full(view.shape, 10 * row, np.uint8) for row in rows])


# -- pixels ------------------------------------------------------------------------------------------------------------


def jpeg(seed: int, mode: str, **words: Any) -> bytes:
    """A file of smooth colours under a little noise."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(20, 90, 2)
    small = Image.fromarray(generator.integers(0, 256, (5, 6, 3), np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = np.clip(smooth + generator.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).convert(mode).save(buffer, "JPEG", **words)
    return buffer.getvalue()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    quality=st.integers(5, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
)
def test_exact_is_pillow_and_torchvision_bit_for_bit(
    seed: int, mode: str, quality: int, subsampling: int, progressive: bool
) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    content = jpeg(seed, mode, quality=quality, subsampling=subsampling, progressive=progressive)
    theirs = Image.open(io.BytesIO(content)).convert("RGB")
    ours = decode_pixels(content, "x")
    assert np.array_equal(ours, np.asarray(theirs))
    transform = Compose([Resize(32, InterpolationMode.BICUBIC), CenterCrop(28)])
    assert np.array_equal(apply_view(ours, Pixels(28, 0.875)), np.asarray(transform(theirs)))


def test_fast_is_near_and_has_another_name(tmp_path: Path) -> None:
    content = jpeg(1, "RGB", quality=90)
    exact, fast = (
        apply_view(decode_pixels(content, "x"), Pixels(28, 0.875, decode=how)).astype(int) for how in ("exact", "fast")
    )
    assert np.abs(exact - fast).max() <= 7
    data = Counted()
    files = [pack_file(Decoded(data, "test", Pixels(28, decode=how)), tmp_path).name for how in ("exact", "fast")]
    assert files[0] != files[1]
    assert "fast" in files[1]


def test_fast_is_in_the_key_of_every_step_that_sees_pixels(tmp_path: Path) -> None:
    exact, fast = (make_plan(tiny(tmp_path, decode=how)) for how in ("exact", "fast"))
    assert len(exact.steps) == len(fast.steps)
    assert not {step.key for step in exact.steps} & {step.key for step in fast.steps}


# -- a build that is killed --------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from rib.data.catalogue import DataRow, open_data
from rib.data.decoded import Decoded
from rib.data.pack import open_pack
from rib.data.views import Pixels

data = open_data("x", DataRow(folder="t"), Path(sys.argv[1]), None)
type(data).chunk = 3
seen = 0

def advance(images):
    global seen
    seen += images
    if seen >= 6:
        os.kill(os.getpid(), signal.SIGKILL)

open_pack(Decoded(data, "tune", Pixels(9, 0.8, "bilinear")), Path(sys.argv[1]) / "packs", advance)
"""


def test_a_build_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "t", per_class=5)
    words = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(words, env=surroundings(), timeout=PATIENCE, check=False).returncode == -signal.SIGKILL
    data = opened(tmp_path, folder="t")
    file = pack_file(Decoded(data, "tune", VIEW), tmp_path / "packs")
    assert not file.exists()
    partial = np.lib.format.open_memmap(file.with_suffix(".part"), "r+")
    partial[1, 0, 0, 0] ^= 1  # as if the machine had crashed before it was written
    del partial
    asked: list[int] = []
    read = type(data).read
    monkeypatch.setattr(
        type(data), "read", lambda self, part, rows, view: asked.extend(rows) or read(self, part, rows, view)
    )
    counts: list[int] = []
    made = open_pack(Decoded(data, "tune", VIEW), tmp_path / "packs", counts.append)
    assert counts[0] == 5
    assert sum(counts) == 20
    assert sorted(asked) == [1, *range(6, 20)]
    assert np.array_equal(made.images, read(data, "tune", range(20), VIEW))
    assert len(damaged_rows(file)) == 0
    assert not file.with_suffix(".part").exists()


def test_an_unreadable_image_leaves_nothing_behind(tmp_path: Path) -> None:
    write_tree(tmp_path / "t", per_class=3)
    data = opened(tmp_path, folder="t")
    data.fingerprint("tune")
    (tmp_path / "t" / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(UserError, match=r"cat.1\.png"):
        open_pack(Decoded(data, "tune", VIEW), tmp_path / "packs")
    assert [file.suffix for file in (tmp_path / "packs").iterdir()] == [".lock"]


# -- damage ------------------------------------------------------------------------------------------------------------


def damage_pixel(file: Path) -> list[int]:
    images = np.lib.format.open_memmap(file, "r+")
    images[[4, 7], 3, 3, 1] ^= 8
    return [4, 7]


def cut_off(file: Path) -> list[int]:
    os.truncate(file, file.stat().st_size - 1)
    return list(range(20))


def lose_sums(file: Path) -> list[int]:
    file.with_suffix(".crc32").unlink()
    return list(range(20))


@pytest.mark.parametrize("harm", [damage_pixel, cut_off, lose_sums])
def test_damage_is_found_told_and_decoded_again(tmp_path: Path, harm: Any) -> None:
    data = Counted()
    check_pack(Decoded(data, "test", Pixels(6)), tmp_path)
    file = pack_file(Decoded(data, "test", Pixels(6)), tmp_path)
    assert is_checked(file)
    expected = file.read_bytes()
    data.asked.clear()
    lost = harm(file)
    os.utime(file, (1, 1))
    assert not is_checked(file)
    said: list[str] = []
    check_pack(Decoded(data, "test", Pixels(6)), tmp_path, say=said.append)
    assert sorted(data.asked) == lost
    assert file.read_bytes() == expected
    assert "damaged" in said[0]
    assert is_checked(file)
    data.asked.clear()
    check_pack(Decoded(data, "test", Pixels(6)), tmp_path, say=said.append)
    assert (data.asked, len(said)) == ([], 1)


def test_a_pack_from_another_machine_is_read_once_to_be_sure(tmp_path: Path) -> None:
    data = Counted()
    open_pack(Decoded(data, "test", Pixels(6)), tmp_path)
    file = pack_file(Decoded(data, "test", Pixels(6)), tmp_path)
    file.with_suffix(".checked").unlink()
    assert not is_checked(file)
    data.asked.clear()
    check_pack(Decoded(data, "test", Pixels(6)), tmp_path)
    assert is_checked(file)
    assert data.asked == []


def test_a_pack_that_another_machine_found_whole_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is the same file; a copy is read."""
    data = Counted()
    open_pack(Decoded(data, "test", Pixels(6)), tmp_path)
    file = pack_file(Decoded(data, "test", Pixels(6)), tmp_path)
    monkeypatch.setattr("rib.data.pack.platform.node", lambda: "another")
    assert is_checked(file)
    stat, copy = file.stat(), file.with_suffix(".copy")
    copy.write_bytes(file.read_bytes())
    copy.replace(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not is_checked(file)
    check_pack(Decoded(data, "test", Pixels(6)), tmp_path)
    assert is_checked(file)


def test_two_packs_that_are_exchanged_with_their_checksums_are_found(tmp_path: Path) -> None:
    """Of one form, of two views: every file of each is whole, and no image is where it belongs."""
    data, said = Counted(), list[str]()
    parts = [Decoded(data, "tune", Pixels(6)), Decoded(data, "test", Pixels(6))]
    for decoded in parts:
        open_pack(decoded, tmp_path)
    one, two = (pack_file(decoded, tmp_path) for decoded in parts)
    expected = one.read_bytes(), two.read_bytes()
    for suffix in (".npy", ".crc32", ".checked"):
        first, second, aside = one.with_suffix(suffix), two.with_suffix(suffix), tmp_path / "aside"
        first.replace(aside)
        second.replace(first)
        aside.replace(second)
    assert not is_checked(one)
    assert [len(damaged_rows(file)) for file in (one, two)] == [20, 20]
    assert "20 of its images" in str(pack_fault(one))
    data.asked.clear()
    for decoded in parts:
        check_pack(decoded, tmp_path, say=said.append)
    assert len(data.asked) == 40
    assert all("is damaged: 20 images are decoded again" in line for line in said)
    assert (one.read_bytes(), two.read_bytes()) == expected
    assert [len(damaged_rows(file)) for file in (one, two)] == [0, 0]


def unnamed(file: Path) -> None:
    """Give a pack the checksums of an earlier version, which lack its name."""
    np.array([zlib.crc32(image) for image in np.load(file)], "<u4").tofile(file.with_suffix(".crc32"))


def test_a_pack_of_an_earlier_version_is_used_where_it_was_found_whole_and_decoded_again_elsewhere(
    tmp_path: Path,
) -> None:
    data, said = Counted(), list[str]()
    decoded = Decoded(data, "test", Pixels(6))
    open_pack(decoded, tmp_path)
    file = pack_file(decoded, tmp_path)
    unnamed(file)
    data.asked.clear()
    check_pack(decoded, tmp_path, say=said.append)
    assert (data.asked, said, pack_fault(file)) == ([], [], None)
    file.with_suffix(".checked").unlink()  # as in a copy of the store
    check_pack(decoded, tmp_path, say=said.append)
    assert sorted(data.asked) == list(range(20))
    assert len(said) == 1
    assert "checksums of an earlier version" in said[0]
    assert "damaged" not in said[0]
    assert_whole(tmp_path)
    unnamed(file)
    assert len(damage_pixel(file)) == len(damaged_rows(file)) == 2
    data.asked.clear()
    check_pack(decoded, tmp_path, say=said.append)
    assert sorted(data.asked) == list(range(20))  # its checksums say of none of them that it belongs there
    assert "all of its images are decoded again" in said[1]


# -- several builders --------------------------------------------------------------------------------------------------


class Eventful(Counted):
    """Counted, and something happens whenever images are decoded.

    Args:
        happens: told how many are decoded by then.
    """

    def __init__(self, happens: Callable[[int], object], count: int = 20) -> None:
        super().__init__(count)
        self.happens = happens

    def read(self, part: Part, rows: Sequence[int], view: View) -> NDArray[np.uint8]:
        found = super().read(part, rows, view)
        self.happens(len(self.asked))
        return found


def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system whose locks no other machine sees."""
    monkeypatch.setattr(pack_module, "FileLock", lambda *_, **__: nullcontext())


def assert_whole(folder: Path, count: int = 20) -> None:
    """One pack, every pixel right, and nothing beside it that a builder has left."""
    file = pack_file(Decoded(Counted(count), "test", Pixels(6)), folder)
    images = np.load(file)
    assert np.array_equal(images[:, 0, 0, 0], 10 * np.arange(count))
    assert (images == images[:, :1, :1, :1]).all()
    assert len(damaged_rows(file)) == 0
    assert {path.name for path in folder.iterdir() if path.suffix != ".lock"} == {
        file.with_suffix(suffix).name for suffix in (".npy", ".crc32", ".checked")
    }


def at_once(builders: Sequence[Callable[[], object]]) -> None:
    """Run them side by side; raises what one of them does."""
    with ThreadPoolExecutor(len(builders)) as pool:
        for done in [pool.submit(builder) for builder in builders]:
            done.result(timeout=PATIENCE)


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_builders_at_once_make_one_whole_pack_without_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    no_locks(monkeypatch)
    if not links:

        def refuse(*_: Any) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    for number in range(60):
        folder, gate = tmp_path / str(number), threading.Barrier(3)

        def build(folder: Path = folder, gate: threading.Barrier = gate) -> None:
            gate.wait()
            made = open_pack(Decoded(Counted(), "test", Pixels(6)), folder)
            assert np.array_equal(made.images[:, 5, 5, 2], 10 * np.arange(20))

        at_once([build] * 3)
        assert_whole(folder)


def test_a_builder_that_comes_later_and_ends_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in place by then is what both have written."""
    no_locks(monkeypatch)
    late: list[Examples] = []

    def happens(decoded: int) -> None:
        if decoded == 9:
            late.append(open_pack(Decoded(Counted(), "test", Pixels(6)), tmp_path))

    first = Eventful(happens)
    made = open_pack(Decoded(first, "test", Pixels(6)), tmp_path)
    assert len(late) == 1
    assert np.array_equal(late[0].images, made.images)
    assert len(first.asked) == 20  # nothing is decoded twice by one builder
    assert_whole(tmp_path)
    assert is_checked(pack_file(Decoded(first, "test", Pixels(6)), tmp_path))


def taken_away(file: Path) -> None:
    """As a builder does that could not read an image."""
    file.with_suffix(".part").unlink(missing_ok=True)
    file.with_suffix(".crc32").unlink(missing_ok=True)


def begun_anew(file: Path) -> None:
    """Another's file lies there, with nothing in it so far."""
    aside = file.with_suffix(".aside")
    np.lib.format.open_memmap(aside, "w+", np.uint8, (20, 6, 6, 3))
    aside.replace(file.with_suffix(".part"))


def sums_anew(file: Path) -> None:
    aside = file.with_suffix(".aside")
    aside.write_bytes(bytes(4 * 20))
    aside.replace(file.with_suffix(".crc32"))


def sum_lost(file: Path) -> None:
    """As a machine does that has seen the checksum of an image before it saw the image."""
    np.memmap(file.with_suffix(".crc32"), np.dtype("<u4"), "r+")[19] = 0


@pytest.mark.parametrize("harm", [taken_away, begun_anew, sums_anew, sum_lost])
def test_a_pack_whose_files_change_while_it_is_made_is_whole_in_the_end(tmp_path: Path, harm: Any) -> None:
    data = Counted()
    file = pack_file(Decoded(data, "test", Pixels(6)), tmp_path)
    eventful = Eventful(lambda decoded: harm(file) if decoded == 18 else None)
    made = open_pack(Decoded(eventful, "test", Pixels(6)), tmp_path)
    assert np.array_equal(made.images[:, 0, 0, 0], 10 * np.arange(20))
    assert_whole(tmp_path)


def test_a_pack_that_others_take_away_for_ever_is_given_up(tmp_path: Path) -> None:
    file = pack_file(Decoded(Counted(), "test", Pixels(6)), tmp_path)
    data = Eventful(lambda _: taken_away(file))
    with pytest.raises(StepError, match="repeatedly"):
        open_pack(Decoded(data, "test", Pixels(6)), tmp_path)
    assert len(data.asked) == 20 * BUILDS


class Unsupported:
    """A lock as older versions of its library have it where the system has none."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> None:
        raise NotImplementedError

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("how", ["library", errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str | int) -> None:
    def refuse(*_: Any) -> None:
        assert isinstance(how, int)
        raise OSError(how, os.strerror(how))

    if isinstance(how, str):
        monkeypatch.setattr(pack_module, "FileLock", Unsupported)
    else:
        monkeypatch.setattr(fcntl, "flock", refuse)
    check_pack(Decoded(Counted(), "test", Pixels(6)), tmp_path)
    assert_whole(tmp_path)


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
@pytest.mark.parametrize("harm", [damage_pixel, cut_off, lose_sums])
def test_two_that_find_one_pack_damaged_mend_it_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Any, locks: bool
) -> None:
    if not locks:
        no_locks(monkeypatch)
    check_pack(Decoded(Counted(), "test", Pixels(6)), tmp_path)
    file = pack_file(Decoded(Counted(), "test", Pixels(6)), tmp_path)
    lost = harm(file)
    os.utime(file, (1, 1))
    gate, looked, said = threading.Barrier(2), threading.local(), list[str]()

    def found(path: Path) -> Any:
        rows = damaged_rows(path)
        if not getattr(looked, "once", False):
            looked.once = True
            gate.wait()  # both know that it is damaged before one of them does anything about it
        return rows

    monkeypatch.setattr(pack_module, "damaged_rows", found)
    owners = [Counted(), Counted()]
    at_once([partial(check_pack, Decoded(data, "test", Pixels(6)), tmp_path, say=said.append) for data in owners])
    assert_whole(tmp_path)
    if locks:
        assert sorted(owners[0].asked + owners[1].asked) == lost
        assert len(said) == 1


def test_the_file_of_a_lock_is_never_taken_from_one_who_waits_for_it(tmp_path: Path) -> None:
    check_pack(Decoded(Counted(), "test", Pixels(6)), tmp_path)
    file = pack_file(Decoded(Counted(), "test", Pixels(6)), tmp_path)
    lock = file.with_suffix(".lock")
    with lock.open() as held:  # an open file keeps its number: no other gets it
        damage_pixel(file)
        os.utime(file, (1, 1))
        check_pack(Decoded(Counted(), "test", Pixels(6)), tmp_path)
        assert os.path.samestat(lock.stat(), os.fstat(held.fileno()))


# -- the budget --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("200GB", 200 * 10**9),
        ("1.5 TB", 1_500_000_000_000),
        ("512MiB", 2**29),
        ("7", 7),
        ("0", 0),
        ("2kb", 2000),
        (" 3 g ", 3 * 10**9),
    ],
)
def test_amounts_of_space(text: str, number: int) -> None:
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "much", "-3GB", "3 PB", "GB", "1e9"])
def test_what_is_no_amount_of_space(text: str) -> None:
    with pytest.raises(UserError, match="not an amount"):
        parse_bytes(text)


def test_space_for_people() -> None:
    assert [shown_bytes(n) for n in (0, 999, 1500, 564e9, 2.5e13)] == ["0 B", "999 B", "1.5 kB", "564 GB", "25 TB"]


def test_the_budget_is_for_all_packs_together(tmp_path: Path) -> None:
    data = Counted()
    size = 20 * (6 * 6 * 3 + 4)
    assert pack_bytes(Decoded(data, "test", Pixels(6))) == size == 2240
    assert room(tmp_path / "none", 5000) == 5000
    open_pack(Decoded(data, "test", Pixels(6)), tmp_path)
    left = room(tmp_path, 5000)
    assert 5000 - size - 500 < left < 5000 - size  # headers and what is noted beside it
    assert room(tmp_path, 10) == 0


def test_what_is_tuned_on_must_fit(tmp_path: Path) -> None:
    wanted = [Decoded(Counted(), part, Pixels(6)) for part in ("tune", "test")]
    require_room(wanted, tmp_path, 2 * 2240)
    with pytest.raises(UserError, match="no room for the packs") as caught:
        require_room(wanted, tmp_path, 2 * 2240 - 1)
    assert "4.48 kB to decode" in str(caught.value)
    assert "--pack-budget" in str(caught.value)
    assert divided(wanted, tmp_path, 2240) == (wanted[:1], wanted[1:])
    assert divided(wanted, tmp_path, 2239) == (wanted[:1], wanted[1:])  # and then refused
    assert divided(wanted, tmp_path, 0) == ([], wanted)


def test_the_smallest_parts_are_packed(tmp_path: Path) -> None:
    small, middle, large = (Counted(count) for count in (10, 20, 40))
    for place, data in enumerate((small, middle, large)):
        data.fingerprint = lambda part, place=place: f"{place}" * 24  # type: ignore[method-assign,misc]
    wanted = [Decoded(data, "test", Pixels(6)) for data in (large, small, middle)]
    packed, streamed = divided(wanted, tmp_path, 1120 + 2240 + 4479)
    assert [one.data for one in packed] == [small, middle]
    assert [one.data for one in streamed] == [large]
    for one in packed:
        open_pack(one, tmp_path)
    assert divided(wanted, tmp_path, 10) == (packed, streamed)  # a pack that is there is used
    assert divided([], tmp_path, 0) == ([], [])


# -- streams -----------------------------------------------------------------------------------------------------------


@given(size=st.integers(1, 300), batch=st.integers(1, 512), memory=st.integers(1, 10**9))
def test_two_chunks_fit_the_memory_in_whole_batches(size: int, batch: int, memory: int) -> None:
    rows = chunk_rows(Pixels(size), batch, memory)
    assert rows % batch == 0
    assert rows == batch or 2 * rows * 3 * size**2 <= memory
    assert 2 * (rows + batch) * 3 * size**2 > memory


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 25), first=st.integers(0, 20), chunk=st.integers(1, 25))
def test_chunks_are_the_whole_in_pieces(rows: int, first: int, chunk: int) -> None:
    found = list(chunks(Decoded(Counted(chunk=chunk), "test", Pixels(6)), rows, first))
    assert all(len(each) == len(each.images) == rows for each in found[:-1])
    expected = list(range(first, 20))

    def joined(values: Callable[[Examples], NDArray[Any]]) -> list[int]:
        return [value for each in found for value in values(each).tolist()]

    assert joined(lambda each: each.batch(slice(None))[:, 0, 0, 0]) == [10 * row for row in expected]
    assert joined(lambda each: each.rows) == joined(lambda each: each.index.cells) == expected
    assert joined(lambda each: each.labels) == [row % 2 for row in expected]


def test_the_next_chunk_is_decoded_while_one_is_used_and_no_more() -> None:
    data = Counted(chunk=2)
    following = chunks(Decoded(data, "test", Pixels(6)), 4)
    assert next(following).rows.tolist() == [0, 1, 2, 3]
    with data.told:
        assert data.told.wait_for(lambda: len(data.asked) == 8, timeout=PATIENCE)
    assert sorted(data.asked[:4]) == [0, 1, 2, 3]
    cast(Generator[Examples], following).close()  # waits for what is under way
    assert len(data.asked) == 8


def test_a_stream_names_the_image_that_cannot_be_read(tmp_path: Path) -> None:
    write_tree(tmp_path / "t", per_class=3)
    data = opened(tmp_path, folder="t")
    (tmp_path / "t" / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(UserError, match=r"cat.1\.png"):
        list(chunks(Decoded(data, "test", VIEW), 2))


@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_a_stream_has_the_pixels_of_the_pack(tmp_path: Path, kind: str) -> None:
    write_tree(tmp_path / "t", per_class=4)
    write_arrays(tmp_path / "a.npz", 0, per_class=4)
    data = opened(tmp_path, **{kind: {"folder": "t", "arrays": "a.npz"}[kind]}, test_fraction=0.5)
    whole = open_pack(Decoded(data, "test", VIEW), tmp_path / "packs")
    found = [chunk.batch(slice(None)) for chunk in chunks(Decoded(data, "test", VIEW), 3)]
    assert [len(images) for images in found] == [3, 3, 2]
    assert np.array_equal(np.concatenate(found), whole.images)
    some = streamed(Decoded(data, "test", VIEW)).take(np.array([5, 0, 3]))
    assert np.array_equal(some.batch(slice(1, 3)), whole.batch(np.array([0, 3])))


class Heard(Silent):
    """Notes what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_run_without_room_predicts_the_same(tmp_path: Path) -> None:
    """All that is tuned on fits, and not one set that is only scored."""
    words: dict[str, Any] = {"models": ("resnet", "vit"), "analyses": [{"names": ["cka"]}], "per_class": 20}
    suite = tiny(tmp_path, **words)
    plan = make_plan(suite)
    views = {step.architecture.view for step in plan.steps}
    parts = {(part.name, part.part) for step in plan.steps for part in step.parts}
    tuned = {one for one in parts if one[1] == "tune"}
    assert tuned
    assert len(parts) > len(tuned)
    budget = sum(pack_bytes(Decoded(plan.world[name], "tune", view)) for name, _ in tuned for view in views)
    with pytest.raises(UserError, match="no room"):
        pack(plan, Store(tmp_path / "little"), Silent(), budget)
    heard = Heard()
    streamed, swept = prepare(plan, plan.steps, Store(tmp_path / "little"), heard, budget)
    assert swept == streamed
    assert len(streamed) == len(heard.said) == (len(parts) - len(tuned)) * len(views)
    assert all("no room" in text for text in heard.said)
    for name, room_for in (("plenty", None), ("little", budget)):
        rib.run(suite, store=tmp_path / name, how=How(workers=1, pack_budget=room_for))
    files = {name: sorted(f.name for f in (tmp_path / name / "packs").glob("*.npy")) for name in ("plenty", "little")}
    assert len(files["little"]) == len(tuned) * len(views)
    assert len(files["plenty"]) == len(parts) * len(views)
    plenty, little = Store(tmp_path / "plenty"), Store(tmp_path / "little")
    for step in plan.steps:
        one, other = plenty.record(step.key), little.record(step.key)
        assert one is not None
        assert other is not None
        assert one.values == other.values, step.title
        if isinstance(step, Predict):
            assert plenty.predictions(step.key).equals(little.predictions(step.key))


def test_a_run_that_cannot_tune_says_so_before_it_begins(tmp_path: Path) -> None:
    plan = make_plan(tiny(tmp_path))
    with pytest.raises(UserError, match="no room for the packs"):
        pack(plan, Store(tmp_path / "store"), Silent(), 100)
    assert not (tmp_path / "store" / "packs").exists()
