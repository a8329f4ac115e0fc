"""Blocks writing, connections and new programs while a net is built from a suite or another person's folder.

`arguments.py` refuses arguments that are known to load or write. This module is the second line of defence: an audit
hook (PEP 578) that stops the building thread at the call itself, whatever argument led to it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from rib.errors import UserError

_REFUSED = (
    "socket.__new__",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.utime",
    "shutil.copyfile",
    "shutil.move",
    "shutil.rmtree",
    "_thread.start_new_thread",
    "pickle.find_class",
)
"""Events of Python's audit table that use the network, start a program or thread, or change the disk.

Python 3.11 has no event for a new thread, so threads of a builder are stopped only from 3.12 on.
"""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_COMPILER = str(Path(tempfile.gettempdir()) / "torchinductor_")
"""Prefix of the folder that torch creates when it first imports its compiler, which may happen here."""

_here = threading.local()


@contextmanager
def nothing_but_building(title: str) -> Iterator[None]:
    """Allow neither writing nor connections nor new programs in this thread inside the `with` block.

    Args:
        title: names what is built, for the error.

    Raises:
        UserError: the block tried one of these, even if a library caught the error; the message has the event.
    """
    _install()
    outer, before = getattr(_here, "tried", None), sys.dont_write_bytecode
    tried: list[str] = []
    _here.tried, sys.dont_write_bytecode = tried, True
    try:
        yield
    except Exception as error:
        if not tried:
            raise
        raise _refusal(title, tried) from error
    finally:
        _here.tried, sys.dont_write_bytecode = outer, before
    if tried:
        raise _refusal(title, tried)


def _refusal(title: str, tried: list[str]) -> UserError:
    return UserError(
        f"building {title} tried to do more than build a net, and was stopped",
        got=tried[0],
        valid="a builder that only computes: no files written, no connections, no programs",
        remedy="remove the argument that causes it from the suite or the folder's config.json",
    )


@cache
def _install() -> None:
    """Add the hook once per process, because Python cannot remove one."""
    sys.addaudithook(_hook)


def _hook(event: str, details: tuple[Any, ...]) -> None:
    tried = getattr(_here, "tried", None)
    if tried is None or not (event in _REFUSED or (event == "open" and _writes(details))):
        return
    if event == "os.mkdir" and os.path.abspath(str(details[0])).startswith(_COMPILER):  # noqa: PTH100 -- no "..", no disk
        return
    tried.append(f"{event}: {', '.join(ascii(part)[:80] for part in details[:2])}")
    raise PermissionError(f"not while a net is built: {event}")


def _writes(details: tuple[Any, ...]) -> bool:
    path, mode, flags = details
    if path == os.devnull or isinstance(path, int):
        return False
    return any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & _WRITING)
