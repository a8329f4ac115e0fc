"""Remote: object storage through which drivers share a store. Each driver works in a local folder.

When a step is done, its files are uploaded, the record last. Records of other drivers are downloaded when the store is
opened, and all other files on demand. An upload is atomic, so readers of the remote see either a finished step or none.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rib.errors import UserError
from rib.files import file_name, plain, write_aside, written_aside
from rib.given import at_home
from rib.identity import digest

MARKER = "remote.json"
"""File in the local folder that names the remote."""

AT_ONCE = 500
"""Objects that are downloaded in parallel."""

_URL = re.compile(
    r"([a-z][a-z0-9+.-]+):/{1,3}(?=[^/])(.*)"
)  # a drive letter is no scheme; a `Path` merges double slashes


@dataclass(frozen=True)
class Remote:
    """A folder in object storage or in any other file system of fsspec.

    Args:
        url: such as s3://bucket/folder or memory://folder.
    """

    url: str

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system and the path of the folder in it."""
        try:
            from fsspec.core import url_to_fs

            system, folder = url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise UserError(
                f"cannot open the store {self.url}",
                got=error,
                remedy='pip install "rib-benchmark[object]", and the package for this kind of address, such as s3fs',
            ) from None
        return system, folder.rstrip("/")

    def names(self, folder: str) -> list[str]:
        """Names of all objects below a folder, relative to the root.

        This and all methods below raise a UserError if the remote does not answer.
        """
        system, root = self._opened
        with self._explained():
            found = system.find(f"{root}/{folder}") if system.exists(f"{root}/{folder}") else []
        return [path[len(root) + 1 :] for path in found]

    def has(self, name: str) -> bool:
        """Whether an object exists."""
        system, root = self._opened
        with self._explained():
            return bool(system.exists(f"{root}/{name}"))

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """The content of many small objects, by name."""
        system, root = self._opened
        for start in range(0, len(names), AT_ONCE):
            paths = {f"{root}/{name}": name for name in names[start : start + AT_ONCE]}
            with self._explained():
                found: Mapping[str, bytes] = system.cat(list(paths), on_error="raise")
            yield from ((paths[path], data) for path, data in found.items())

    def fetch(self, name: str, target: Path) -> None:
        """Download an object into a file."""
        system, root = self._opened
        with written_aside(target) as aside, self._explained():
            system.get_file(f"{root}/{name}", str(aside))

    def put(self, path: Path, name: str) -> None:
        """Upload a file atomically."""
        system, root = self._opened
        target = f"{root}/{name}"
        with self._explained():
            if "file" in _protocols(system):  # file systems other than object storage show partial files
                aside = f"{target}.{os.getpid()}.aside"
                system.makedirs(target.rpartition("/")[0], exist_ok=True)
                system.put_file(str(path), aside)
                Path(aside).replace(target)
            else:
                system.put_file(str(path), target)

    def drop(self, name: str) -> None:
        """Remove an object if it exists."""
        system, root = self._opened
        with self._explained():
            if system.exists(f"{root}/{name}"):
                system.rm_file(f"{root}/{name}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each storage service has its own errors
            raise UserError(
                f"the store {self.url} cannot be reached",
                got=str(error).strip() or type(error).__name__,
                remedy="check the address, your permissions and the network; run again: finished steps are kept",
            ) from None


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


def remote_url(store: str | Path) -> str | None:
    """The URL of a store; None if the store is named by a folder."""
    found = _URL.fullmatch(str(store))
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{found[2]}" if found else None


def working_folder(url: str) -> Path:
    """The local folder of the store at a URL, created if missing, below $RIB_CACHE or ~/.cache/rib."""
    home = os.environ.get("RIB_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "rib"
    folder = at_home(home) / "stores" / f"{file_name(url.rpartition('://')[2])[:40]}-{digest(url.encode())[:8]}"
    if remote_of(folder) is None:
        write_aside(folder / MARKER, json.dumps({"url": url}).encode())
    return folder


def remote_of(folder: Path) -> Remote | None:
    """The remote of a local folder; None if it has none."""
    try:
        return Remote(str(json.loads(plain(folder / MARKER).read_bytes())["url"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
