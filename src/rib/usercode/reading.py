"""Notes the files that code of the user reads while it is imported or builds a net, and refuses undeclared ones."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from rib.errors import UserError
from rib.usercode.imports import DECLARED
from rib.usercode.modules import is_installed
from rib.usercode.sources import declared_or_none

_CODE = (".py", ".pyc", ".pyi", ".pyd", ".so", ".pth", ".egg-link", ".zip")
"""Suffixes of files that Python itself reads for an import."""

_SYSTEM = tuple(map(Path, ("/dev", "/etc", "/proc", "/sys", "/usr", "/lib", "/opt/conda")))
"""Folders of the machine, which libraries read."""

_here = threading.local()


@contextmanager
def files_read() -> Iterator[list[str]]:
    """Note the paths of the files that this thread opens to read inside the `with` block."""
    _install()
    outer: list[str] | None = getattr(_here, "read", None)
    read: list[str] = []
    _here.read = read
    try:
        yield read
    finally:
        _here.read = outer
        if outer is not None:
            outer += read


def require_declared(module: str, read: Sequence[str]) -> None:
    """Refuse files that code of the user has read, if no module of it declares any.

    Files of Python, of installed packages, of the machine and of hidden folders, such as caches, may be read.

    Args:
        module: the module that a suite names.
        read: paths from `files_read`.

    Raises:
        UserError: there is such a file.
    """
    if module.partition(".")[0] == "rib" or not read:
        return
    known = declared_or_none(module)
    if known is None:
        return
    for path in dict.fromkeys(map(os.path.realpath, read)):
        if not _is_of_others(Path(path)) and Path(path) not in known:
            raise UserError(
                f"the module {module!r} reads a file that it does not declare: results could not be told from those "
                "with another file",
                got=path,
                valid=f'the files that the module reads, by name or pattern, such as {DECLARED} = ("table.csv",)',
                remedy=f"declare them beside the module ({DECLARED} = () says that there are none), or give their "
                "content as `arguments` of the model's row",
            )


def _is_of_others(path: Path) -> bool:
    """Whether a file is code, or belongs to Python, a package, the machine or a cache; or is no file any more."""
    if path.suffix in _CODE or any(part.startswith(".") or part.endswith("-info") for part in path.parts):
        return True
    return is_installed(path) or any(path.is_relative_to(folder) for folder in _SYSTEM) or not path.is_file()


@cache
def _install() -> None:
    """Add the hook once per process, because Python cannot remove one."""
    sys.addaudithook(_hook)


def _hook(event: str, details: tuple[Any, ...]) -> None:
    if event != "open":
        return
    read: list[str] | None = getattr(_here, "read", None)
    if read is None:
        return
    path, mode = details[:2]
    if isinstance(path, str | bytes | os.PathLike) and not (
        isinstance(mode, str) and any(one in mode for one in "wax")
    ):
        read.append(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 -- links are followed later
