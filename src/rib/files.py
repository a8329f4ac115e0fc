"""Files written aside and renamed, so that a reader sees the old file, the new file or none, but never a part of one.

Digests reveal what a disk loses or changes: digests of whole files (`Seal`), or a digest at the end of the file itself
(`stamp`, `write_fact`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import stat
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rib.errors import RibError, StepError, UserError, conceal
from rib.given import at_home, perhaps_at_home
from rib.identity import digest

DIGITS = 40
"""Length of a digest in hexadecimal."""

BLOCK = 1 << 20
"""Bytes read at once."""


@contextmanager
def written_aside(path: Path, durable: bool = False) -> Iterator[Path]:
    """A path to write to. It is renamed to `path` if the block succeeds, and removed if it fails.

    Args:
        path: the file.
        durable: wait until the file is on disk, so that it survives a power cut.

    Raises:
        UserError: the file cannot be written, or the path names a folder, a device or a pipe.
        StepError: the disk is full, or fails.
    """
    _require_replaceable(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        if durable:
            sync(aside)
        aside.replace(path)
        if durable:
            sync_folders(path)
    except Exception as error:
        if isinstance(error, RibError) or (cause := _os_error(error)) is None:
            raise
        raise _explained(cause, path) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _require_replaceable(path: Path) -> None:
    """Refuse a path that names a folder, a device or a pipe, or that is in /dev or /proc: a rename removes a device.

    Raises:
        UserError: it is such a path.
    """
    try:
        found, folder = path.stat(), path.parent.stat()
        of_system = folder.st_dev in _kernel_devices() or path.parent.samefile("/dev")
    except OSError:  # missing, or not accessible: writing shows it
        return
    if of_system or not stat.S_ISREG(found.st_mode):
        raise UserError(
            f"cannot write {path}",
            got="a folder" if stat.S_ISDIR(found.st_mode) else "a device, a pipe or a file of the system",
            valid="the path of a file, new or to be replaced",
        )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of the block, which writes for `path`, into RIB's errors. Raises as `written_aside`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RibError) or (cause := _os_error(error)) is None:
            raise
        raise _explained(cause, path) from error


def write_aside(path: Path, data: bytes, durable: bool = False) -> None:
    """Write a small file atomically. Arguments and errors as in `written_aside`."""
    with written_aside(path, durable) as aside:
        aside.write_bytes(data)


def try_write(path: Path, data: bytes) -> None:
    """Write a file that only saves time later. Failures to write are ignored."""
    with suppress(UserError, StepError):
        write_aside(path, data)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folders(path: Path) -> None:
    """Wait until the name of a file is on disk, and the name of its folder, which may be new."""
    if os.name == "posix":  # other systems cannot open a folder
        sync(path.parent)
        sync(path.parent.parent)


def plain(path: Path) -> Path:
    """The path itself, after a check that it can be read to its end. RIB reads every file through this function.

    Raises:
        OSError: it is a pipe, a device or a folder, is missing, or is a file of /proc or /sys, such as the environment.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_dev in _kernel_devices():
        raise OSError(errno.EINVAL, "neither a file nor a link to one", str(path))
    return path


@cache
def _kernel_devices() -> frozenset[int]:
    """Devices of the file systems that show the kernel's state."""
    return frozenset(Path(place).stat().st_dev for place in ("/proc", "/sys") if Path(place).is_mount())


def read_plain(path: Path) -> bytes:
    """The bytes of a file. Raises as `plain`."""
    return plain(path).read_bytes()


_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)


def expanded(base: Path, text: str) -> Path:
    """A path of a suite or configuration file, with variables expanded.

    If a file with a dollar sign in its name exists, the name is used unchanged. Errors show the name of a variable
    instead of its value, unless the value is an existing path: it may be a secret, and errors end up in logs.

    Args:
        base: folder to which the path is relative.
        text: the path, as written.
    """
    parts = Path(text).parts
    last = max((place for place, part in enumerate(parts) if "$" in part), default=None)
    if last is not None and os.path.lexists(base.joinpath(*parts[: last + 1])):
        return base / text
    for match in _VARIABLE.finditer(text):
        value = os.environ.get(match[1] or match[2], "")
        if value and not os.path.lexists(perhaps_at_home(value)):
            conceal(value, match[0])
    return base / at_home(os.path.expandvars(text))


# -- digests -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seal:
    """Size and digest of a file when it was written.

    Attributes:
        size: in bytes.
        digest: BLAKE2b, 160 bits in hexadecimal.
    """

    size: int
    digest: str

    @staticmethod
    def of(path: Path) -> Seal:
        """The seal of a file in its present state."""
        return Seal(path.stat().st_size, file_digest(path))

    def fault(self, path: Path) -> str | None:
        """Describe how a file differs from its seal; None if it does not."""
        try:
            if (size := path.stat().st_size) != self.size:
                return f"it has {size:,} bytes, not the {self.size:,} that were written"
            return None if file_digest(path) == self.digest else "its bytes are not those that were written"
        except FileNotFoundError:
            return "it is gone"
        except OSError as error:
            return f"it cannot be read: {error.strerror}"


def file_digest(path: Path) -> str:
    """Digest of a file's bytes."""
    with plain(path).open("rb") as file:
        return hashlib.file_digest(file, _blake2b).hexdigest()


def state(stat: os.stat_result) -> list[int]:
    """Facts that change whenever a file's bytes may change: size, inode, device, change times of bytes and inode.

    `cp -p` and `touch` can set the change time of the bytes; only the system sets that of the inode. Devices without
    hardware (network, overlay) are left out, because their number depends only on the order of mounting.
    """
    device = stat.st_dev if not hasattr(os, "major") or os.major(stat.st_dev) else 0
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, device]


def stamp(path: Path, name: str | None = None) -> None:
    """Append to a file a digest of its content and its name, for formats whose readers ignore bytes after the end.

    Args:
        path: the file, under any name.
        name: its final name; by default its present one.
    """
    with plain(path).open("rb") as file:
        found = hashlib.file_digest(file, _blake2b)
    with path.open("ab") as file:
        file.write(_named(name or path.name, found.hexdigest()))


def is_stamped(path: Path) -> bool:
    """Whether a file ends with the digest of its content and name. Older versions left out the name.

    Raises OSError.
    """
    left, found = path.stat().st_size - DIGITS, _blake2b()
    with plain(path).open("rb") as file:
        while left > 0 and (block := file.read(min(left, BLOCK))):
            found.update(block)
            left -= len(block)
        whole = found.hexdigest()
        return left == 0 and file.read() in (_named(path.name, whole), whole.encode())


def write_fact(path: Path, data: bytes) -> None:
    """Cache a fact for `read_fact`; ignore a failure to write it."""
    try_write(path, data + _named(path.name, digest(data)))


def read_fact(path: Path) -> bytes | None:
    """The fact that `write_fact` cached under this name; None if it is missing or damaged, or has another name."""
    try:
        content = read_plain(path)
    except OSError:
        return None
    data, end = content[:-DIGITS], content[-DIGITS:]
    return data if _named(path.name, digest(data)) == end else None


def fact_fault(path: Path) -> str | None:
    """Describe damage of a file of `write_fact`; None for files of older versions, which RIB never reads."""
    try:
        content = read_plain(path)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    found, end = digest(content[:-DIGITS]), content[-DIGITS:]
    return None if end in (_named(path.name, found), found.encode()) else "it is cut off, changed, or another's"


def _named(name: str, content: str) -> bytes:
    """The digest of a name and of the digest of its content."""
    return digest(f"{name}\0{content}".encode()).encode()


def _blake2b() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=DIGITS // 2)


# -- TOML --------------------------------------------------------------------------------------------------------------


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        what: its role, for error messages: "the suite file".

    Raises:
        UserError: the file is missing, cannot be read, or is not TOML.
    """
    problem = f"cannot read {what} {path}"
    try:
        document = tomllib.loads(plain(path).read_text("utf-8-sig"))
        _require_shallow(document)
        return document
    except RecursionError:
        raise UserError(problem, got="tables or lists nested too deep", valid="TOML, in UTF-8") from None
    except UnicodeDecodeError as error:
        raise UserError(problem, got=error, valid="TOML, in UTF-8", remedy="save it as UTF-8") from None
    except (OSError, ValueError) as error:
        got = error.strerror if isinstance(error, OSError) else error
        raise UserError(problem, got=got, valid="TOML, in UTF-8") from None


DEEPEST = 100
"""Maximum nesting of tables and lists in a foreign document. Its readers are recursive."""


def parse_json(text: str | bytes) -> Any:
    """Parse a foreign JSON document.

    Raises:
        ValueError: it is not JSON, its nesting is deeper than `DEEPEST`, or a field appears twice.
    """
    try:
        document = json.loads(text, object_pairs_hook=_all_different)
    except RecursionError:
        raise ValueError(f"lists and tables are nested more than {DEEPEST} deep") from None
    _require_shallow(document)
    return document


def _all_different(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A table of fields. Raises ValueError if two have one name."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"the field {Counter(name for name, _ in pairs).most_common(1)[0][0]!r} stands there twice")
    return dict(pairs)


def _require_shallow(document: Any) -> None:
    """Refuse lists and tables that are nested deeper than `DEEPEST`. Raises ValueError."""
    level = [document]
    for _ in range(DEEPEST):
        holders = [value for value in level if isinstance(value, dict | list)]
        level = [item for one in holders for item in (one.values() if isinstance(one, dict) else one)]
        if not level:
            return
    if any(isinstance(value, dict | list) for value in level):
        raise ValueError(f"lists and tables are nested more than {DEEPEST} deep")


def json_text(document: Any, indent: int | None = 1) -> str:
    """A document as strict JSON: NaN and infinity become null, and -0.0 becomes 0.0.

    If the document is a table, its key `not_finite` lists the places of such values, such as "rows.0.loss: nan".
    """
    lost: list[str] = []
    plain = _finite(document, (), lost)
    if lost and isinstance(plain, dict):
        plain["not_finite"] = lost
    return json.dumps(plain, indent=indent, allow_nan=False)


def _finite(value: Any, place: tuple[str, ...], lost: list[str]) -> Any:
    if isinstance(value, float):
        if math.isfinite(value):
            return value + 0.0
        lost.append(f"{'.'.join(place)}: {value}")
        return None
    if isinstance(value, dict):
        return {name: _finite(item, (*place, str(name)), lost) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item, (*place, str(at)), lost) for at, item in enumerate(value)]
    return value


def file_name(text: str) -> str:
    """A file name that is valid everywhere, from any text: without separators, spaces or a leading dot.

    Texts that differ in more than spaces give different names.
    """
    plain = re.sub(r"[^\w.+=,@-]", "_", text.replace(" ", "_"), flags=re.ASCII).lstrip(".")[:150]
    return plain if plain == text.replace(" ", "_") else f"{plain}-{digest(text.encode())[:8]}"


def _os_error(error: BaseException | None) -> OSError | None:
    """The error of the operating system behind an error: itself, its cause, or one that it only mentions in its
    text."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        if told := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
            return OSError(int(told[1]), os.strerror(int(told[1])))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def unreadable(error: OSError, path: Path) -> UserError:
    """The error for a file or folder that cannot be read."""
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = "change its permissions, or choose another path with --store"
    else:
        remedy = "check the disk and run again; `rib store verify` says which files are damaged"
    return UserError(f"cannot read {path}", got=error.strerror or error, remedy=remedy)


def _explained(error: OSError, path: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StepError(f"the disk is full: {path} could not be written; free some space and run again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
        remedy = "choose another path with --store or --out, or change its permissions"
        return UserError(f"cannot write {path}", got=error.strerror, remedy=remedy)
    if error.errno is None:  # an error of a library, not of the system
        return error
    return StepError(f"{path} could not be written: {error}; check the disk and run again")
