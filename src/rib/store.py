"""Store: what steps have left. A folder that may be moved, copied, or shared by several machines."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rib.errors import UserError
from rib.files import try_write, write_aside, written_aside
from rib.identity import KEY_VERSION
from rib.models.weights import Weights, read_weights, write_weights
from rib.prediction import Predictions
from rib.steps import Predict, Step

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
"""Version of the store's layout."""


@dataclass(frozen=True)
class Record:
    """What a finished step left.

    Attributes:
        key: of the step.
        kind: Pretrain, Fit or Predict.
        title: for people.
        spec: the step's identity fields; what it needs appears by key.
        values: named numbers and words the step noted.
        seconds: wall time it took.
        images: images that went through a model.
        made_by: versions, commit, device.
        cpu: seconds of processor time, over all threads; None in records that are older than this field.
        loading: seconds of the wall time spent on reading weights, features and packs and on building nets; likewise.
    """

    key: str
    kind: str
    title: str
    spec: dict[str, Any]
    values: dict[str, Any]
    seconds: float
    images: int
    made_by: dict[str, Any]
    cpu: float | None = None
    loading: float | None = None


class Store:
    """A folder of records, weights, predictions and packs.

    Args:
        root: the folder; made when first written to.

    Raises:
        UserError: it was written by a newer version of RIB, or is not a store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        marker = root / "store.json"
        try:
            known = int(json.loads(marker.read_text())["format"]) if marker.exists() else None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{marker} is damaged", remedy="name another place with --store") from None
        if known is not None and known > FORMAT:
            raise UserError(
                f"the store {root} was written by a newer version of RIB",
                got=f"format {known}",
                valid=f"format {FORMAT} or older",
                remedy="install the newer RIB, or name another place with --store",
            )
        if root.exists() and not root.is_dir():
            raise UserError("the store is not a folder", got=root, remedy="name another place with --store")

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
        """Keys of all finished steps."""
        folder = self.root / "records"
        if not folder.exists():
            return frozenset()
        found = []
        for shard in os.scandir(folder):
            with os.scandir(shard) as entries:
                found += [entry.name[:-5] for entry in entries if entry.name.endswith(".json") and entry.name[0] != "."]
        return frozenset(found)

    def has(self, key: str) -> bool:
        """Whether a step is finished."""
        return self.record_path(key).exists()

    def record(self, key: str) -> Record | None:
        """The record of a step; None where it is not finished or its file was cut off by a crash of the machine."""
        try:
            values = json.loads(self.record_path(key).read_bytes())
            return Record(**{field.name: values[field.name] for field in fields(Record) if field.name in values})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(
        self,
        step: Step,
        values: Mapping[str, Any],
        seconds: float,
        images: int,
        device: str,
        cpu: float | None = None,
        loading: float | None = None,
    ) -> None:
        """Record a finished step; arguments as in `Record`. Raises as `written_aside`."""
        document = {
            "key": step.key,
            "kind": type(step).__name__,
            "title": step.title,
            "spec": step.spec,
            "values": dict(values),
            "seconds": round(float(seconds), 3),
            "images": images,
            "made_by": made_by() | {"device": device},
            "cpu": None if cpu is None else round(float(cpu), 3),
            "loading": None if loading is None else round(float(loading), 3),
        }
        write_aside(self.record_path(step.key), json.dumps(document).encode())
        self.failure_path(step.key).unlink(missing_ok=True)

    def record_path(self, key: str) -> Path:
        """Where a step's record is, or would be."""
        return self._path("records", key, "json")

    def has_weights(self, key: str) -> bool:
        """Whether a step's weights are kept."""
        return self.weights_path(key).exists()

    def weights_path(self, key: str) -> Path:
        """Where a step's weights are, or would be."""
        return self._path("weights", key, "safetensors")

    def weights(self, key: str) -> dict[str, Any]:
        """A step's weights. Raises UserError where they are not kept."""
        return read_weights(self.weights_path(key))

    def write_weights(self, key: str, weights: Weights) -> None:
        """Keep a step's weights. Raises as `written_aside`."""
        write_weights(self.weights_path(key), weights)

    def drop_weights(self, key: str) -> None:
        """Forget a step's weights; its record stays."""
        self.weights_path(key).unlink(missing_ok=True)

    def has_features(self, key: str) -> bool:
        """Whether a step's features are kept."""
        return self.features_path(key).exists()

    def features_path(self, key: str) -> Path:
        """Where a step's features are, or would be."""
        return self._path("features", key, "npy")

    def features(self, key: str) -> np.ndarray[Any, Any]:
        """A step's features, float32 (N, D), mapped from their file."""
        return np.load(self.features_path(key), mmap_mode="r")

    def write_features(self, key: str, features: np.ndarray[Any, Any]) -> None:
        """Keep a step's features. Raises as `written_aside`."""
        with written_aside(self.features_path(key)) as aside, aside.open("wb") as file:
            np.save(file, features)

    def drop_features(self, key: str) -> None:
        """Forget a step's features; its record stays."""
        self.features_path(key).unlink(missing_ok=True)

    def write_predictions(self, step: Predict, predictions: Predictions, columns: Mapping[str, Any]) -> None:
        """Keep per-example predictions as Parquet, beside columns that describe the examples."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            dict(columns) | {field.name: getattr(predictions, field.name) for field in fields(predictions)}
        )
        with written_aside(self.predictions_path(step.key)) as aside:
            pq.write_table(table, aside, compression="zstd")

    def predictions_path(self, key: str) -> Path:
        """Where a step's predictions are, or would be."""
        return self._path("predictions", key, "parquet")

    def predictions(self, key: str, columns: list[str] | None = None) -> pa.Table:
        """Per-example predictions of a finished step."""
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.predictions_path(key)).read(columns)

    def checkpoint_path(self, key: str) -> Path:
        """Where a training run leaves its state."""
        return self._path("checkpoints", key, "pt")

    def failure_path(self, key: str) -> Path:
        """Where the reason of a step's last failure is kept."""
        return self._path("failures", key, "txt")

    def write_failure(self, key: str, reason: str) -> None:
        """Keep why a step failed, for the report."""
        try_write(self.failure_path(key), reason.encode())

    def failure(self, key: str) -> str | None:
        """Why a step failed when it was last tried; None where it did not."""
        path = self.failure_path(key)
        return path.read_text() if path.exists() else None

    def _path(self, folder: str, key: str, suffix: str) -> Path:
        return self.root / f"{folder}/{key[:2]}/{key}.{suffix}"


@cache
def made_by() -> dict[str, Any]:
    """Versions, commit and machine kind of this process, for records."""
    return {
        "rib": version("rib-benchmark"),
        "key_version": KEY_VERSION,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "timm", "numpy")},
        "machine": f"{platform.system()} {platform.machine()}",
        **_commit(),
    }


def _commit() -> dict[str, Any]:
    """Commit of RIB's own checkout, where it runs from one."""
    here = Path(__file__).parent
    if not (here.parents[1] / ".git").exists():
        return {}

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "--no-optional-locks", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", str(here)))}
    except (OSError, subprocess.CalledProcessError):
        return {}


def pack_bits(flags: np.ndarray[Any, Any]) -> str:
    """Booleans as hexadecimal, eight to a byte, for a record."""
    return np.packbits(flags).tobytes().hex()


def unpack_bits(text: str, count: int) -> np.ndarray[Any, Any]:
    """What `pack_bits` packed: bool (count,)."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count).astype(bool)
