"""Artifacts: weights, features, predictions and checkpoints of steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rib.errors import DamagedError, UserError
from rib.files import plain, written_aside
from rib.models.weights import Weights, read_weights, write_weights
from rib.store.folder import StoreFolder
from rib.training.predict import Predictions

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class Artifacts(StoreFolder):
    """What steps leave beside their records."""

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
