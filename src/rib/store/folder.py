"""Folder: the files of each step with their sizes and digests, locally and on a remote."""

from __future__ import annotations

from pathlib import Path

from rib.errors import DamagedError
from rib.files import Seal, explained, plain, unreadable
from rib.store.record import Record, decode_record, is_whole
from rib.store.remote import Remote, remote_of

SUFFIXES = {
    "records": "json",
    "weights": "safetensors",
    "features": "npy",
    "predictions": "parquet",
    "checkpoints": "pt",
    "failures": "json",
}
"""Folders with one file per step, and the suffix of its name."""


class StoreFolder:
    """The files of a store, one or more per step, by folder and key.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.remote: Remote | None = remote_of(root)
        self._left: dict[str, dict[str, Seal]] = {}  # files of steps whose record is not yet written

    def path(self, folder: str, key: str) -> Path:
        """Path of a step's file in one of the folders of `SUFFIXES`."""
        return self.root / folder / key[:2] / f"{key}.{SUFFIXES[folder]}"

    def record_path(self, key: str) -> Path:
        """Path of a step's record."""
        return self.path("records", key)

    def has(self, key: str) -> bool:
        """Whether a step is finished. Raises as `record`."""
        path = self.path("records", key)
        try:
            return path.exists()
        except OSError as error:
            raise unreadable(error, path) from error

    def is_done(self, key: str) -> bool:
        """Whether a step has an undamaged record: as `record`, but faster. Raises as `record`."""
        path = self.path("records", key)
        try:
            return is_whole(plain(path).read_bytes(), key)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise unreadable(error, path) from error

    def record(self, key: str) -> Record | None:
        """The record of a step; None if the step is not finished or its record is damaged.

        Raises:
            UserError: the file exists but cannot be read.
        """
        path = self.path("records", key)
        try:
            record = decode_record(plain(path).read_bytes())
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        except OSError as error:
            raise unreadable(error, path) from error
        return record if record.key == key else None

    def fetched(self, folder: str, key: str) -> Path:
        """Path of a step's file, downloaded if only the remote has it. Raises UserError."""
        path = self.path(folder, key)
        if self.remote and not path.exists() and self.remote.has(self._name(folder, key)):
            self.remote.fetch(self._name(folder, key), path)
        return path

    def whole(self, folder: str, key: str, record: Record | None = None) -> Path:
        """The file of a step in one of the folders of `SEALED`. Raises DamagedError if it is missing or damaged.

        Args:
            folder: the folder.
            key: key of the step.
            record: the record of the step, if the caller has read it.
        """
        path, record = self.fetched(folder, key), record or self.record(key)
        seal = record.seal(folder) if record else None
        if fault := (seal.fault(path) if seal else None if path.exists() else "it is gone"):
            raise DamagedError(path, fault)
        return path

    def is_kept(self, folder: str, key: str) -> bool:
        """Whether a step's file exists here with its recorded length, or on the remote."""
        record = self.record(key)
        seal = record.seal(folder) if record else None
        try:
            size = self.path(folder, key).stat().st_size
        except OSError:
            return self.remote is not None and self.remote.has(self._name(folder, key))
        return seal is None or size == seal.size

    def put_aside(self, path: Path) -> Path:
        """Move a damaged file aside so that it counts as missing; return its new path. Raises as `written_aside`."""
        aside = self.root / "damaged" / path.relative_to(self.root).parts[0] / path.name
        with explained(path):
            aside.parent.mkdir(parents=True, exist_ok=True)
            path.replace(aside)
        return aside

    def _seal(self, folder: str, key: str) -> None:
        self._left.setdefault(key, {})[folder] = Seal.of(self.path(folder, key))

    def _drop(self, folder: str, key: str) -> None:
        self.path(folder, key).unlink(missing_ok=True)
        if self.remote:
            self.remote.drop(self._name(folder, key))

    def _name(self, folder: str, key: str) -> str:
        return self.path(folder, key).relative_to(self.root).as_posix()
