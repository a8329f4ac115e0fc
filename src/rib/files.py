"""Files written aside and renamed, so that a reader sees the old one, the new one, or none: never a half."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rib.errors import StepError, UserError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path to write to, renamed to `path` when the block ends well and removed when it does not.

    Raises:
        UserError: the place is not writable.
        StepError: the disk is full.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        aside.replace(path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        with suppress(OSError):
            aside.unlink()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What goes wrong in the block, while something is written for `path`, in words. Raises as `written_aside`."""
    try:
        yield
    except OSError as error:
        raise _explained(error, path) from error


def write_aside(path: Path, data: bytes) -> None:
    """Write a small file atomically. Raises as `written_aside`."""
    with written_aside(path) as aside:
        aside.write_bytes(data)


def try_write(path: Path, data: bytes) -> None:
    """Write a file that only saves time later: where it cannot be written, go on without."""
    with suppress(UserError, StepError):
        write_aside(path, data)


def _explained(error: OSError, path: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StepError(f"the disk is full: {path} could not be written; free some space and run again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return UserError(
            f"cannot write {path}",
            got=error.strerror,
            remedy="name another place with --store or --out, or change its rights",
        )
    return error
