"""Verify: finds the damaged files of a store, whose steps must run again."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from rib.data.pack import damaged_rows
from rib.files import fact_fault, file_digest, is_stamped, plain, read_fact
from rib.identity import KEY_VERSION, key_of_spec
from rib.store.folder import SUFFIXES
from rib.store.record import DROPPABLE, SEALED, Record, decode_failure, decode_record
from rib.store.store import Store
from rib.text.progress import Advance


@dataclass(frozen=True)
class FileFault:
    """A damaged file.

    Attributes:
        path: the file.
        what: the damage, in words.
        title: title of its step; "" if unknown.
        aside: files to move aside, so that their content counts as missing.
    """

    path: Path
    what: str
    title: str
    aside: tuple[Path, ...]


@dataclass
class Verified:
    """Result of a verification.

    Attributes:
        files: number of checked files.
        size: their bytes.
        unsealed: titles of steps of older versions, whose records have no digests: RIB only checks that their files
            can be read.
        faults: the damaged files.
    """

    files: int = 0
    size: int = 0
    unsealed: list[str] = field(default_factory=list)
    faults: list[FileFault] = field(default_factory=list)

    def add(self, other: Verified) -> None:
        """Add another result."""
        self.files += other.files
        self.size += other.size
        self.unsealed += other.unsealed
        self.faults += other.faults

    def look(self, path: Path, fault: str | None, title: str, aside: tuple[Path, ...] = ()) -> None:
        """Add one file."""
        self.files += 1
        self.size += path.stat().st_size if path.exists() else 0
        if fault:
            self.faults.append(FileFault(path, fault, title, aside or (path,)))


def verify(store: Store, advance: Advance | None = None) -> Verified:
    """Read every file of a store and check it against its digest.

    Args:
        store: the store, which stays unchanged.
        advance: called with the number of files checked since the last call.
    """
    found = Verified()
    if fault := store.marker_fault():
        found.look(store.marker, fault, "")
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the GIL
        for paths in batched(files_of(store, "records")):  # a pool accepts all tasks at once
            for part in pool.map(lambda path: _of_step(store, path), paths):
                found.add(part)
                if advance:
                    advance(part.files)
    for path in files_of(store, "checkpoints"):
        found.look(path, _checkpoint_fault(path), "")
    for path in files_of(store, "failures"):
        found.look(path, _failure_fault(path), "")
    for path in sorted(store.packs.glob("[!.]*.npy")):
        found.look(path, pack_fault(path), "")
    for path in sorted(path for path in store.facts.rglob("[!.]*") if path.is_file()):
        found.look(path, _fact_fault(path), "")
    return found


def batched(paths: Iterator[Path], count: int = 1000) -> Iterator[list[Path]]:
    """Lists of `count` paths; the last list may be shorter."""
    while some := list(itertools.islice(paths, count)):
        yield some


def repair(store: Store, faults: list[FileFault]) -> list[Path]:
    """Move damaged files aside, so that the next run makes them again.

    Returns:
        Their new paths.

    Raises:
        UserError: the store cannot be written.
    """
    wanted = dict.fromkeys(path for fault in faults for path in fault.aside)
    aside = [store.put_aside(path) for path in wanted if path.exists()]
    if store.marker in wanted:
        store.prepare()
    return aside


def files_of(store: Store, folder: str) -> Iterator[Path]:
    """The files of one of the store's folders with one file per step, in order, without unfinished files."""
    for shard in sorted((store.root / folder).glob("??")):
        yield from sorted(shard.glob(f"[!.]*.{SUFFIXES[folder]}"))


def record_fault(path: Path) -> tuple[Record | None, str | None]:
    """A record, or the fault of its file."""
    try:
        record = decode_record(plain(path).read_bytes())
    except OSError as error:
        return None, f"it cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError) as error:
        return None, f"it is cut off or changed ({type(error).__name__})"
    if record.key != path.stem:
        return None, "it is the record of another step"
    if record.made_by.get("key_version") == KEY_VERSION and key_of_spec(record.kind, record.spec) != record.key:
        return None, "its key is not that of what it says was done"
    if record.kind == "Predict" and (fault := _answers_fault(record.values)):
        return None, fault
    return record, None


def _answers_fault(values: Mapping[str, Any]) -> str | None:
    """Describe a fault in the values of a prediction's record, which reports use."""
    count = values.get("examples")
    if type(count) is not int or count < 1:
        return "it does not say how many examples there were"
    for name in ("masked_right", "unmasked_right"):
        text = values.get(name)
        if not isinstance(text, str) or not re.fullmatch("([0-9a-f]{2})*", text) or 4 * len(text) < count:
            return f"its {name} is not a flag for each of {count} examples"
    return None


def file_fault(store: Store, record: Record, folder: str) -> str | None:
    """Describe damage of a file that a record names; weights and features may have been removed."""
    path, seal = store.path(folder, record.key), record.seal(folder)
    if not path.exists():
        wanted = folder not in DROPPABLE and (folder in record.files or record.kind == "Predict")
        return "it is gone" if wanted and not store.is_kept(folder, record.key) else None
    return seal.fault(path) if seal else _unreadable(path)


def array_fault(path: Path) -> str | None:
    """Describe damage of an array file by its size."""
    try:
        with plain(path).open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
            wanted = file.tell() + int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    except (OSError, ValueError) as error:
        return f"it is no array: {error}"
    found = path.stat().st_size
    return None if found == wanted else f"it has {found:,} bytes, not {wanted:,}"


def pack_fault(path: Path) -> str | None:
    """Describe damage of a pack: of its form, or of the checksums of its images."""
    if fault := array_fault(path):
        return fault
    damaged = len(damaged_rows(path))
    return f"{damaged:,} of its images are not as they were decoded" if damaged else None


def _of_step(store: Store, path: Path) -> Verified:
    found = Verified()
    record, fault = record_fault(path)
    found.look(path, fault, record.title if record else "")
    if record is None:
        return found
    for folder in SEALED:
        file = store.path(folder, record.key)
        fault = file_fault(store, record, folder)
        if fault or file.exists():
            found.look(file, fault, record.title, (file, path) if folder == "predictions" else (file,))
        if file.exists() and record.seal(folder) is None:
            found.unsealed.append(record.title)
    return found


def _checkpoint_fault(path: Path) -> str | None:
    try:
        return None if is_stamped(path) else "it is cut off or changed; its training will start again"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _failure_fault(path: Path) -> str | None:
    try:
        decode_failure(plain(path).read_bytes(), path.stem)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError) as error:
        return f"it is cut off or changed ({error})"
    return None


def _fact_fault(path: Path) -> str | None:
    """Describe damage of a cached fact, or of weights whose digest is in a fact."""
    if path.suffix != ".safetensors":
        return fact_fault(path)
    kept = read_fact(path.with_suffix(".txt"))
    return None if kept == file_digest(path).encode() else "its bytes are not those that were written"


def _unreadable(path: Path) -> str | None:
    """Describe damage of a step's file if its record has no digests."""
    try:
        if path.suffix == ".parquet":
            pq.ParquetFile(plain(path).absolute()).metadata  # noqa: B018
        elif path.suffix == ".npy":
            return array_fault(path)
        else:
            with safe_open(plain(path), "numpy") as file:
                file.keys()
    except (OSError, pa.ArrowException, SafetensorError) as error:
        return f"it cannot be read: {error}"
    return None
