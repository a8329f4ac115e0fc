"""Store: what steps have left. A folder that may be moved, copied, or shared by several machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rib.errors import DamagedError, StepError, UserError
from rib.files import Seal, explained, plain, sync, sync_folders, try_write, unreadable, write_aside, written_aside
from rib.identity import KEY_VERSION
from rib.models.weights import Weights, read_weights, write_weights
from rib.store.provenance import made_by, processor, rib_version
from rib.store.record import SEALED, Described, Failure, Record, decode_failure, decode_record, encode_record, is_whole
from rib.store.remote import Remote, remote_of, remote_url, working_folder
from rib.training.predict import Predictions

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

FORMAT = 1
"""Version of the store's layout."""

SUFFIXES = {
    "records": "json",
    "weights": "safetensors",
    "features": "npy",
    "predictions": "parquet",
    "checkpoints": "pt",
    "failures": "json",
}
"""Folders with one file per step, and the suffix of its name."""


DURABLE_SECONDS = 1.0
"""A step that took as long is waited for until the disk has what it left; any other is sooner done again."""


class Store:
    """A folder of records, weights, predictions and packs.

    Args:
        root: the folder; made when first written to.
        damaged: open it even where `store.json` is damaged, to verify and repair it.

    Raises:
        UserError: it was written by a newer version of RIB, or is not a store, or cannot be read.
    """

    def __init__(self, root: Path, damaged: bool = False) -> None:
        self.root = root
        self.remote: Remote | None = remote_of(root)
        self._left: dict[str, dict[str, Seal]] = {}  # files of steps whose record is to come
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
        if root.exists() and not root.is_dir():
            raise UserError("the store is not a folder", got=root, remedy="choose another path with --store")

    def marker_fault(self) -> str | None:
        """Describe damage of `store.json`, which holds the version of the store's layout."""
        try:
            int(json.loads(plain(self.marker).read_text())["format"])
        except FileNotFoundError:
            own = (
                self.remote is None and (self.root / "records").is_dir()
            )  # a mirror of a remote has none until it runs
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
        """Make the folder and check that it can be written. Raises UserError."""
        write_aside(self.root / "store.json", json.dumps({"format": FORMAT, "key_version": KEY_VERSION}).encode())

    def keys(self) -> frozenset[str]:
        """Keys of all finished steps. Raises UserError: they cannot be read."""
        return self._keys("records")

    def failed_keys(self) -> frozenset[str]:
        """Keys of all steps that failed when they were last tried. Raises as `keys`."""
        return self._keys("failures")

    def _keys(self, name: str) -> frozenset[str]:
        found: list[str] = []
        for shard in _entries(self.root / name):
            names = (entry.name for entry in _entries(Path(shard)))
            found += [name[:-5] for name in names if name.endswith(".json") and name[0] != "."]
        return frozenset(found)

    def has(self, key: str) -> bool:
        """Whether a step is finished. Raises as `record`."""
        path = self.path("records", key)
        try:
            return path.exists()
        except OSError as error:
            raise unreadable(error, path) from error

    def is_done(self, key: str) -> bool:
        """Whether a step is finished, its record as it was written: what `record` says, sooner, and raised as there."""
        path = self.path("records", key)
        try:
            return is_whole(plain(path).read_bytes(), key)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise unreadable(error, path) from error

    def record(self, key: str) -> Record | None:
        """The record of a step; None where it is not finished, or its file is not as it was written.

        Raises:
            UserError: its file is there and cannot be read.
        """
        path = self.path("records", key)
        try:
            record = decode_record(plain(path).read_bytes())
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        except OSError as error:
            raise unreadable(error, path) from error
        return record if record.key == key else None

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
        """Record a finished step, with the seals of the files that it left. Arguments as in `Record`.

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
        """Wait until the disk has these files of a step, which its record will speak of."""
        for folder in folders:
            path = self.path(folder, key)
            with explained(path):
                sync(path)
                sync_folders(path)

    def _seal(self, folder: str, key: str) -> None:
        self._left.setdefault(key, {})[folder] = Seal.of(self.path(folder, key))

    def share(self, key: str) -> None:
        """Put a finished step where others find it, if the store has a remote: its record last.

        Raises:
            StepError: the remote cannot be reached; the step is done here, and shared when the store is next opened.
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
        """Fetch the records that others have put on the remote, and put there what it lacks. Raises UserError."""
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

    def fetched(self, folder: str, key: str) -> Path:
        """Path of a step's file, downloaded if only the remote has it. Raises UserError."""
        path = self.path(folder, key)
        if self.remote and not path.exists() and self.remote.has(self._name(folder, key)):
            self.remote.fetch(self._name(folder, key), path)
        return path

    def _name(self, folder: str, key: str) -> str:
        return self.path(folder, key).relative_to(self.root).as_posix()

    def _drop(self, folder: str, key: str) -> None:
        self.path(folder, key).unlink(missing_ok=True)
        if self.remote:
            self.remote.drop(self._name(folder, key))

    def whole(self, folder: str, key: str) -> Path:
        """The file of a step in one of the folders of `SEALED`. Raises DamagedError where it is gone, or differs."""
        path, record = self.fetched(folder, key), self.record(key)
        seal = record.seal(folder) if record else None
        if fault := (seal.fault(path) if seal else None if path.exists() else "it is gone"):
            raise DamagedError(path, fault)
        return path

    def put_aside(self, path: Path) -> Path:
        """Move a damaged file out of the way, so that it counts as missing; where to. Raises as `written_aside`."""
        aside = self.root / "damaged" / path.relative_to(self.root).parts[0] / path.name
        with explained(path):
            aside.parent.mkdir(parents=True, exist_ok=True)
            path.replace(aside)
        return aside

    def is_kept(self, folder: str, key: str) -> bool:
        """Whether a step's file is there, and as long as it was; or on the remote."""
        record = self.record(key)
        seal = record.seal(folder) if record else None
        try:
            size = self.path(folder, key).stat().st_size
        except OSError:
            return self.remote is not None and self.remote.has(self._name(folder, key))
        return seal is None or size == seal.size

    def record_path(self, key: str) -> Path:
        """Path of a step's record."""
        return self.path("records", key)

    def has_weights(self, key: str) -> bool:
        """Whether a step's weights are kept, and as long as they were."""
        return self.is_kept("weights", key)

    def weights_path(self, key: str) -> Path:
        """Path of a step's weights."""
        return self.path("weights", key)

    def weights(self, key: str) -> dict[str, Any]:
        """A step's weights. Raises DamagedError where they are gone, or not those that were written."""
        path = self.whole("weights", key)
        try:
            return read_weights(path)
        except UserError as error:
            raise DamagedError(path, str(error.got)) from None

    def write_weights(self, key: str, weights: Weights) -> None:
        """Keep a step's weights; they count once its record is written. Raises as `written_aside`."""
        write_weights(self.weights_path(key), weights)
        self._seal("weights", key)

    def drop_weights(self, key: str) -> None:
        """Forget a step's weights; its record stays."""
        self._drop("weights", key)

    def has_features(self, key: str) -> bool:
        """Whether a step's features are kept, and as long as they were."""
        return self.is_kept("features", key)

    def features(self, key: str) -> np.ndarray[Any, Any]:
        """A step's features, float32 (N, D), mapped from their file; what is changed of them stays in memory.

        Raises DamagedError as `weights`.
        """
        path = self.whole("features", key)
        try:
            found: np.ndarray[Any, Any] = np.load(plain(path), mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DamagedError(path, str(error)) from None
        return found

    def write_features(self, key: str, count: int, pieces: Iterable[np.ndarray[Any, Any]]) -> int:
        """Keep a step's features; they count once its record is written. Raises as `written_aside`.

        Args:
            key: of the step.
            count: N, one or more.
            pieces: float32 (n, D) that follow one another, N in all; one is in memory at a time.

        Returns:
            D.
        """
        left, width = count, 0
        with written_aside(self.path("features", key)) as aside, aside.open("wb") as file:
            for piece in pieces:
                if not width:
                    width = piece.shape[1]
                    header = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(np.ascontiguousarray(piece, "<f4").data)
                left -= len(piece)
            assert left == 0
        self._seal("features", key)
        return width

    def drop_features(self, key: str) -> None:
        """Forget a step's features; its record stays."""
        self._drop("features", key)

    def write_predictions(self, key: str, predictions: Predictions, columns: Mapping[str, Any]) -> None:
        """Keep per-example predictions as Parquet, beside columns that describe the examples."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(dict(columns) | {one.name: getattr(predictions, one.name) for one in fields(predictions)})
        with written_aside(self.path("predictions", key)) as aside, aside.open("wb") as file:
            pq.write_table(table, file, compression="zstd")  # a path with a colon would be taken for an address
        self._seal("predictions", key)

    def predictions_path(self, key: str) -> Path:
        """Path of a step's predictions."""
        return self.path("predictions", key)

    def predictions_file(self, key: str) -> pq.ParquetFile:
        """Per-example predictions of a finished step, to read. Raises DamagedError as `weights`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.whole("predictions", key)
        try:
            return pq.ParquetFile(plain(path).absolute())  # a relative one with a colon would be taken for an address
        except (OSError, pa.ArrowException) as error:
            raise DamagedError(path, str(error)) from None

    def predictions(self, key: str, columns: list[str] | None = None) -> pa.Table:
        """Per-example predictions of a finished step. Raises DamagedError as `weights`."""
        return self.predictions_file(key).read(columns)

    def checkpoint_path(self, key: str) -> Path:
        """Path of a training's saved state."""
        return self.path("checkpoints", key)

    def failure_path(self, key: str) -> Path:
        """Path of a step's last failure report."""
        return self.path("failures", key)

    def write_failure(
        self, key: str, reason: str, *, kind: str = "error", again: bool = True, trace: str = "", log: str = ""
    ) -> None:
        """Keep why a step failed, for the report and for the next run. Arguments as in `Failure`."""
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
        """How a step failed when it was last tried; None where it did not."""
        try:
            return decode_failure(plain(self.failure_path(key)).read_bytes(), key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            return Failure("it failed, and the file that says why cannot be read")

    def failure(self, key: str) -> str | None:
        """Why a step failed when it was last tried; None where it did not."""
        found = self.last_failure(key)
        return found.reason if found else None

    def path(self, folder: str, key: str) -> Path:
        """Path of a step's file in one of the folders of `SUFFIXES`."""
        return self.root / folder / key[:2] / f"{key}.{SUFFIXES[folder]}"


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
    """The folder of a store that is named by its folder, or by an address of object storage: then that of a working
    copy, once the records that others have put there are in it.

    Raises:
        UserError: the address cannot be reached.
    """
    url = remote_url(store)
    if url is None:
        return Path(store)
    folder = working_folder(url)
    Store(folder).meet()
    return folder
