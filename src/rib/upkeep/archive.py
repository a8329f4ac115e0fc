"""Archive: the records, predictions and page of a suite in one file, which another machine imports into its store.

RIB trusts nothing in an archive. It accepts a file if the manifest lists it, if a store can have a file of that name,
and if size and digest are those of the manifest. Any other file makes RIB refuse the whole archive.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast
from zlib import error as ZlibError

import pyarrow as pa

from rib.errors import DamagedError, UserError
from rib.files import BLOCK, Seal, parse_json, plain, written_aside
from rib.identity import KEY_VERSION, digest
from rib.plan import Plan
from rib.store.owners import new_id, place, started_at
from rib.store.record import DROPPABLE, SEALED
from rib.store.store import Store
from rib.upkeep.merge import Merged, merge, require_whole

FORMAT = 1
"""Version of the archive's layout."""

MANIFEST = "rib-archive.json"
SUITE = "suite.toml"
"""Name of the suite file in an archive."""

LONGEST_MANIFEST = 1 << 27
"""Maximum bytes of a manifest."""

MOST_FILES = 1_000_000
"""Maximum files of an archive: more than 300,000 steps write."""

LONGEST = {"records": 1 << 26, "suite.toml": 1 << 24, "page.html": 1 << 28}
"""Maximum bytes of files that RIB reads whole into memory, by kind. The free disk limits the others."""

MOST_PACKED = 200
"""Maximum ratio of unpacked to packed bytes. Records, which compress best, reach 10 to 30."""

SMALL = 1 << 26
"""Unpacked bytes up to which the ratio does not matter."""

COMPRESSIONS = {".tar.zst": "zstd", ".tar.gz": "gzip", ".tgz": "gzip"}
MAGIC = {b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b": "gzip"}

NAMES = re.compile(
    r"records/(?P<a>[0-9a-f]{2})/(?P=a)[0-9a-f]{38}\.json"
    r"|predictions/(?P<b>[0-9a-f]{2})/(?P=b)[0-9a-f]{38}\.parquet"
    r"|weights/(?P<c>[0-9a-f]{2})/(?P=c)[0-9a-f]{38}\.safetensors"
    r"|features/(?P<d>[0-9a-f]{2})/(?P=d)[0-9a-f]{38}\.npy"
    r"|suite\.toml|page\.html"
)
"""Pattern of every name that a file of an archive can have."""


@dataclass(frozen=True)
class Unpacked:
    """Result of an import.

    Attributes:
        suite: name of the suite.
        merged: result of merging its steps.
        beside: paths of its suite file and page.
    """

    suite: str
    merged: Merged
    beside: tuple[Path, ...]


def pack(store: Store, plan: Plan, beside: Mapping[str, Path], target: Path, weights: bool = False) -> int:
    """Write an archive of the finished steps of a plan.

    Args:
        store: the store.
        plan: the plan of the suite.
        beside: `suite.toml` and `page.html`.
        target: the file, .tar.zst or .tar.gz.
        weights: include weights and features, so that others can continue from them.

    Returns:
        The number of steps in the archive.

    Raises:
        UserError: the store has no records of the suite, or the target is not writable or has another ending.
        DamagedError: a file is damaged.
    """
    compression = next((kind for end, kind in COMPRESSIONS.items() if target.name.endswith(end)), None)
    if compression is None:
        raise UserError("unknown kind of archive", got=target.name, valid=f"a name in {', '.join(COMPRESSIONS)}")
    _require_replaceable(target)
    keys = [step.key for step in plan.steps if store.record(step.key)]
    if not keys:
        raise UserError(f"the store has no records of suite {plan.suite.name!r}", got=store.root, remedy="run it")
    files = dict(beside) | dict(_files(store, keys, weights))
    sealed = {name: Seal.of(path) for name, path in files.items()}
    manifest = {
        "format": FORMAT,
        "key_version": KEY_VERSION,
        "suite": plan.suite.name,
        "files": [[name, seal.size, seal.digest] for name, seal in sealed.items()],
    }
    with (
        written_aside(target) as aside,
        pa.output_stream(str(aside), compression=compression) as out,
        tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
    ):
        _add_bytes(tar, MANIFEST, json.dumps(manifest).encode())
        for name, path in files.items():
            _add_file(tar, name, path, sealed[name].size)
    return len(keys)


def _require_replaceable(target: Path) -> None:
    """Refuse to replace a file that is no archive of RIB, such as a shard of images. Raises UserError."""
    if not target.is_file() or not target.stat().st_size:
        return
    try:
        with _opened(target) as stream, tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as tar:
            first = tar.next()
    except (*_DAMAGED, OSError):
        first = None
    if first is None or first.name != MANIFEST:
        raise UserError(
            "RIB does not replace a file that is not its own archive",
            got=target,
            valid="a new path, or an archive of `rib store export`",
            remedy="choose another path, or remove the file",
        )


def _files(store: Store, keys: Sequence[str], weights: bool) -> Iterator[tuple[str, Path]]:
    """Names in the archive and their files. Raises DamagedError for a damaged file."""
    for key in keys:
        record = store.record(key)
        assert record is not None
        for folder in SEALED:
            if folder in DROPPABLE:
                wanted = weights and store.path(folder, key).exists()
            else:
                wanted = folder in record.files or record.kind == "Predict"
            if wanted:
                path = store.whole(folder, key)
                yield path.relative_to(store.root).as_posix(), path
        path = store.path("records", key)
        yield path.relative_to(store.root).as_posix(), path


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _add_file(tar: tarfile.TarFile, name: str, path: Path, size: int) -> None:
    member = tarfile.TarInfo(name)  # without owner and time, equal contents make equal archives
    member.size = size
    with plain(path).open("rb") as file:
        tar.addfile(member, file)


# -- import ----------------------------------------------------------------------------------------------------


def unpack(archive: Path, store: Store, check: Callable[[Store], object] | None = None) -> Unpacked:
    """Import an archive into a store.

    Args:
        archive: the file.
        store: receives the steps; if it has a differing record, that record stays and the result names it.
        check: receives the content of the archive as a store, after names, digests and types are verified and before
            anything is imported; an exception of it refuses the archive.

    Raises:
        UserError: it is no archive of RIB, is damaged, or has unexpected content; nothing is imported then.
        StepError: the disk is full.
    """
    _require_file(archive)
    store.prepare()
    staging = Store(_staging(store.root))
    try:
        (staging.root / "records").mkdir(parents=True)
        with _refusing(archive), _opened(archive) as stream:
            name = _stage(stream, staging.root, archive)
        try:
            require_whole(staging)
            if check:
                check(staging)
            merged = merge(staging, store)
        except DamagedError as error:
            raise _refused(archive, f"{error.path.name}: {error.fault}") from None
        return Unpacked(name, merged, tuple(_beside(staging.root, store.root, name)))
    finally:
        shutil.rmtree(staging.root, ignore_errors=True)


def _staging(root: Path) -> Path:
    """A new folder for one import; those of imports on this machine that were killed are removed."""
    prefix = f".import-{digest(place().encode())[:8]}-"
    for left in root.glob(f"{prefix}*"):
        pid = left.name.removeprefix(prefix).partition("-")[0]
        if pid.isdecimal() and started_at(int(pid)) is None:
            shutil.rmtree(left, ignore_errors=True)
    return root / f"{prefix}{os.getpid()}-{new_id()}"


def _require_file(archive: Path) -> None:
    """Refuse an archive that is not a file, before anything is created for it. Raises UserError."""
    if archive.is_dir():
        raise UserError(
            "an archive is one file, and this is a folder",
            got=archive,
            valid="a file of `rib store export`",
            remedy=f"if it is a store, use `rib store merge {archive} --into STORE`",
        )
    if not archive.exists():
        raise UserError("archive not found", got=archive)


_DAMAGED = (tarfile.TarError, pa.ArrowException, EOFError, ZlibError, ValueError, KeyError, TypeError, OverflowError)
"""Errors that tarfile, zlib, Arrow and JSON raise for damaged or hostile bytes."""


@contextmanager
def _refusing(archive: Path) -> Iterator[None]:
    """Turn any error from reading a damaged or hostile archive into a UserError."""
    try:
        yield
    except (*_DAMAGED, RecursionError) as error:
        raise _refused(archive, f"{type(error).__name__}: {error}") from None
    except OSError as error:
        if error.errno is not None:  # an error of the operating system; errors of decompressors have no errno
            raise
        raise _refused(archive, str(error)) from None


def _refused(archive: Path, why: str) -> UserError:
    return UserError(
        f"{archive} is refused: it is damaged, or not an archive of `rib store export`",
        got=why,
        remedy="copy or export it again; nothing of it was imported",
    )


class _Capped:
    """A stream that raises an error after a maximum number of bytes."""

    def __init__(self, stream: Any, most: int) -> None:
        self._stream, self.left = stream, most

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("it is larger than its manifest says")
        return data


@contextmanager
def _opened(archive: Path) -> Iterator[_Capped]:
    with plain(archive).open("rb") as file:
        start = file.read(4)
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
    if kind is None:
        raise ValueError("neither zstd nor gzip")
    with pa.input_stream(str(archive), compression=kind) as stream:
        yield _Capped(stream, LONGEST_MANIFEST)


def _stage(stream: _Capped, root: Path, archive: Path) -> str:
    """Extract the files of the manifest into an empty folder; return the suite's name."""
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as tar:
        first = tar.next()
        if first is None or first.name != MANIFEST or not _is_plain(first):
            raise ValueError(f"its first file is not {MANIFEST}")
        name, sealed = _manifest(parse_json(_content(tar, first).read()))
        _require_moderate(archive, sealed)
        stream.left = sum(seal.size + 4 * tarfile.BLOCKSIZE for seal in sealed.values()) + tarfile.RECORDSIZE
        _require_space(archive, root, sum(seal.size for seal in sealed.values()))
        while (member := tar.next()) is not None:
            seal = sealed.pop(member.name, None)
            if seal is None or not _is_plain(member) or member.size != seal.size:
                raise ValueError(f"{member.name!r} is not as the manifest lists it")
            _write(_content(tar, member), root / member.name, seal)
    if sealed:
        raise ValueError(f"{next(iter(sealed))} and {len(sealed) - 1} other files are missing")
    return name


def _manifest(document: dict[str, Any]) -> tuple[str, dict[str, Seal]]:
    """The suite's name, and the size and digest of every file."""
    if document["format"] > FORMAT:
        raise ValueError(f"it was written by a newer version of RIB (format {document['format']})")
    if (count := len(document["files"])) > MOST_FILES:
        raise ValueError(f"its manifest lists {count:,} files, more than {MOST_FILES:,}")
    sealed = {name: Seal(int(size), str(found)) for name, size, found in document["files"]}
    if (odd := next((name for name in sealed if not NAMES.fullmatch(name)), None)) is not None:  # the list may be empty
        raise ValueError(f"{odd!r} is not a file of a store")
    if len(sealed) != len(document["files"]) or any(seal.size < 0 for seal in sealed.values()):
        raise ValueError("its manifest is inconsistent")
    if not re.fullmatch(r"[\w+][\w.+-]{0,99}", document["suite"]):
        raise ValueError(f"{document['suite']!r} is not the name of a suite")
    return document["suite"], sealed


def _require_moderate(archive: Path, sealed: Mapping[str, Seal]) -> None:
    """Refuse files that are too large for memory, and archives that unpack to too many bytes.

    Raises:
        ValueError: names the file and its limit.
    """
    for name, seal in sealed.items():
        if seal.size > (most := LONGEST.get(name.partition("/")[0], seal.size)):
            raise ValueError(f"{name} has {seal.size:,} bytes, more than {most:,}")
    whole, packed = sum(seal.size for seal in sealed.values()), archive.stat().st_size
    if whole > SMALL and whole > MOST_PACKED * packed:
        raise ValueError(f"its manifest lists {whole:,} bytes in {packed:,}, more than {MOST_PACKED} bytes for each")


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Whether a member is a plain file: no link, device, folder or sparse file."""
    return member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None
    return content


def _require_space(archive: Path, root: Path, wanted: int) -> None:
    free = shutil.disk_usage(root).free
    if wanted > free:
        raise UserError(
            f"{archive} does not fit on the disk", got=f"{wanted:,} bytes", valid=f"{free:,} bytes are free at {root}"
        )


def _write(content: IO[bytes], path: Path, seal: Seal) -> None:
    with written_aside(path) as aside:
        with aside.open("xb") as file:
            shutil.copyfileobj(content, file, BLOCK)
        if Seal.of(aside) != seal:
            raise ValueError(f"the bytes of {path.name} are not those that were archived")


def _beside(staging: Path, root: Path, suite: str) -> Iterator[Path]:
    """Write the suite file and the page under names from their content, so that no other file is overwritten."""
    for name, folder in ((SUITE, "suites"), ("page.html", "reports")):
        path = staging / name
        if path.exists():
            target = root / folder / f"{suite}-{digest(plain(path).read_bytes())[:8]}{path.suffix}"
            with written_aside(target) as aside:
                shutil.copyfile(path, aside)
            yield target
