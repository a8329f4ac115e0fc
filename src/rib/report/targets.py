"""Targets: where a command writes, checked before any work. RIB replaces only files of the kind that it writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rib.errors import UserError
from rib.files import plain
from rib.given import path_in

PAGE_START = b"<!doctype html>"
LATEX_START = b"% needs \\usepackage"
"""First bytes, in lower case, of every page and every LaTeX table that RIB writes."""


def target_in(value: Any, what: str, starts: bytes) -> Path:
    """A path to write a file to, checked before any work starts. Arguments as in `path_in` and `require_kind`.

    Raises:
        UserError: it is no path, its folder cannot be written, or it names a folder, a device, or a file of another
            kind.
    """
    path = path_in(value, what)
    require_kind(path, starts)
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if (path.exists() and not path.is_file()) or not above.is_dir() or not os.access(above, os.W_OK):
        valid = "the path of a file, in a folder that can be written"
        raise UserError(f"{what} cannot be written", got=path, valid=valid)
    return path


def require_kind(path: Path, starts: bytes) -> None:
    """Refuse to replace a file of another kind, such as a checkpoint.

    An empty file may be replaced, and so may a damaged page in a store's own folder of reports: it stops no run.

    Args:
        path: where a file will be written.
        starts: the first bytes of every file of its kind, in lower case.

    Raises:
        UserError: the file there begins with other bytes.
    """
    if not path.is_file() or _is_of_a_store(path):
        return
    try:
        with plain(path).open("rb") as file:
            found = file.read(len(starts))
    except OSError as error:
        raise UserError(f"cannot read {path}", got=error.strerror, remedy="choose another path") from None
    if found and found.lower() != starts:
        raise UserError(
            "RIB does not replace a file of another kind",
            got=f"{path}, which begins with {found.decode('ascii', 'backslashreplace')!r}",
            valid=f"a new path, or a file that begins with {starts.decode('ascii', 'backslashreplace')!r}",
            remedy="choose another path, or remove the file",
        )


def _is_of_a_store(path: Path) -> bool:
    """Whether a file lies in a store's folder of reports, where only RIB writes."""
    folder = path.absolute().parent
    return folder.name == "reports" and (folder.parent / "store.json").is_file()
