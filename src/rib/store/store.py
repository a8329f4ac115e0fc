"""Store: the results of steps. A folder that can be moved, copied, or shared by several machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rib.errors import StepError, UserError
from rib.files import explained, plain, sync, sync_folders, try_write, unreadable, write_aside
from rib.given import at_home, path_in
from rib.identity import KEY_VERSION
from rib.store.artifacts import Artifacts
from rib.store.provenance import made_by, processor, rib_version
from rib.store.record import SEALED, Described, Failure, decode_failure, decode_record, encode_record
from rib.store.remote import remote_url, working_folder

if TYPE_CHECKING:
    pass

FORMAT = 1
"""Version of the store's layout."""


DURABLE_SECONDS = 1.0
"""Steps of at least this many seconds are fsynced before their record is written; shorter ones are cheaper to redo."""


class Store(Artifacts):
    """A folder of records, weights, predictions and packs.

    Args:
        root: the folder; created at the first write.
        damaged: open the store even if `store.json` is damaged, to verify and repair it.

    Raises:
        UserError: the folder was written by a newer version of RIB, is no store, or cannot be read.
    """

    def __init__(self, root: Path, damaged: bool = False) -> None:
        super().__init__(root)
        marker = self.marker = root / "store.json"
        try:
            known = int(json.loads(plain(marker).read_text())["format"]) if marker.exists() else None
        except (ValueError, KeyError, TypeError, OverflowError):
            known = None
            if not damaged:
                raise UserError(
                    f"{marker} is damaged", remedy="rib store verify --repair, or choose another path with --store"
                ) from None
        except OSError as error:
            raise unreadable(error, marker) from None
        if known is not None and known > FORMAT:
            raise UserError(
                f"the store {root} was written by a newer version of RIB",
                got=f"format {known}",
                valid=f"format {FORMAT} or older",
                remedy="install the newer RIB, or choose another path with --store",
            )
        if (root.exists() or root.is_symlink()) and not root.is_dir():  # also a link to nothing, or to itself
            raise UserError("the store is not a folder", got=root, remedy="choose another path with --store")

    def marker_fault(self) -> str | None:
        """Describe damage to `store.json`, which holds the version of the store's layout."""
        try:
            int(json.loads(plain(self.marker).read_text())["format"])
        except FileNotFoundError:
            own = (
                self.remote is None and (self.root / "records").is_dir()
            )  # the local folder of a remote has none until a run
            return "it is gone" if own else None
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        except (ValueError, KeyError, TypeError, OverflowError):
            return "it is cut off or changed"
        return None

    @property
    def packs(self) -> Path:
        """Folder of decoded data."""
        return self.root / "packs"

    @property
    def facts(self) -> Path:
        """Folder of fingerprints."""
        return self.root / "facts"

    def prepare(self) -> None:
        """Create the folder and check that it is writable. Raises UserError."""
        write_aside(self.root / "store.json", json.dumps({"format": FORMAT, "key_version": KEY_VERSION}).encode())

    def keys(self) -> frozenset[str]:
        """Keys of all finished steps. Raises UserError if they cannot be read."""
        return self._keys("records")

    def failed_keys(self) -> frozenset[str]:
        """Keys of all steps whose last attempt failed. Raises as `keys`."""
        return self._keys("failures")

    def _keys(self, name: str) -> frozenset[str]:
        found: list[str] = []
        for shard in _entries(self.root / name):
            names = (entry.name for entry in _entries(Path(shard)))
            found += [name[:-5] for name in names if name.endswith(".json") and name[0] != "."]
        return frozenset(found)

    def write(
        self,
        step: Described,
        values: Mapping[str, Any],
        seconds: float,
        images: int,
        device: str,
        cpu: float | None = None,
        loading: float | None = None,
    ) -> None:
        """Record a finished step, with size and digest of its files. Arguments as in `Record`.

        Raises as `written_aside`.
        """
        left, durable = self._left.pop(step.key, {}), seconds >= DURABLE_SECONDS
        if durable:
            self._sync(step.key, left)
        document = {
            "key": step.key,
            "kind": step.key_name,
            "title": step.title,
            "spec": step.spec,
            "values": dict(values),
            "seconds": round(float(seconds), 3),
            "images": images,
            "made_by": made_by() | {"device": device, "processor": processor(device)},
            "cpu": None if cpu is None else round(float(cpu), 3),
            "loading": None if loading is None else round(float(loading), 3),
            "files": {folder: [seal.size, seal.digest] for folder, seal in left.items()},
        }
        write_aside(self.path("records", step.key), encode_record(document), durable)
        self.failure_path(step.key).unlink(missing_ok=True)
        self.share(step.key)

    def _sync(self, key: str, folders: Iterable[str]) -> None:
        """Fsync the files of a step before its record is written."""
        for folder in folders:
            path = self.path(folder, key)
            with explained(path):
                sync(path)
                sync_folders(path)

    def share(self, key: str) -> None:
        """Upload a finished step, its record last, if the store has a remote.

        Raises:
            StepError: the remote cannot be reached. The next opening of the store uploads the step.
        """
        if self.remote is None:
            return
        try:
            for folder in (*SEALED, "records"):
                if self.path(folder, key).exists():
                    self.remote.put(self.path(folder, key), self._name(folder, key))
        except UserError as error:
            raise StepError(f"done, but not shared: {error}") from error

    def meet(self) -> None:
        """Download new records from the remote, and upload the steps that it lacks. Raises UserError."""
        if self.remote is None:
            return
        there = {name for name in self.remote.names("records") if name.endswith(".json")}
        here = {self._name("records", key): key for key in self.keys()}
        for name, data in self.remote.read(sorted(there - here.keys())):
            with suppress(ValueError, KeyError, TypeError):
                key = decode_record(data).key
                if self._name("records", key) == name:
                    write_aside(self.path("records", key), data)
        for name in sorted(here.keys() - there):
            self.share(here[name])

    def failure_path(self, key: str) -> Path:
        """Path of a step's last failure report."""
        return self.path("failures", key)

    def write_failure(
        self, key: str, reason: str, *, kind: str = "error", again: bool = True, trace: str = "", log: str = ""
    ) -> None:
        """Write why a step failed, for the report and for the next run. Arguments as in `Failure`."""
        before = self.last_failure(key)
        failure = Failure(
            reason,
            kind,
            again,
            trace,
            log,
            attempt=before.attempt + 1 if before else 1,
            by=f"{platform.node()}:{os.getpid()}",
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            rib=rib_version(),
        )
        try_write(self.failure_path(key), encode_record({"key": key} | asdict(failure)))

    def last_failure(self, key: str) -> Failure | None:
        """The last failure of a step; None if it did not fail."""
        try:
            return decode_failure(plain(self.failure_path(key)).read_bytes(), key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            return Failure("it failed, and the file that says why cannot be read")

    def failure(self, key: str) -> str | None:
        """The reason of the last failure of a step; None if it did not fail."""
        found = self.last_failure(key)
        return found.reason if found else None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder; empty if it does not exist. Raises UserError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(error, folder) from error


def store_folder(store: str | Path) -> Path:
    """The folder of a store. For a URL of object storage this is a local folder, after new records are downloaded.

    Raises:
        UserError: it is no path or URL, or the URL cannot be reached.
    """
    url = remote_url(store) if isinstance(store, str | Path) else None
    if url is None:
        return path_in(store, "the store")
    folder = working_folder(url)
    Store(folder).meet()
    return folder


def cache_store() -> Path:
    """The default store of comparisons: RIB_STORE, or a folder in the user's cache. Raises UserError without either."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return at_home(os.environ.get("RIB_STORE") or home / "rib" / "store")
