"""Artifacts: the weights, features, predictions and checkpoints of steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rib.errors import DamagedError, UserError
from rib.files import plain, written_aside
from rib.store.folder import StoreFolder

if TYPE_CHECKING:  # records are read without torch
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rib.models.weights import Weights
    from rib.store.record import Record
    from rib.training.predict import Predictions


class Artifacts(StoreFolder):
    """The files that steps write beside their records."""

    def has_weights(self, key: str) -> bool:
        """Whether a step's weights exist and have the recorded length."""
        return self.is_kept("weights", key)

    def weights_path(self, key: str) -> Path:
        """Path of a step's weights."""
        return self.path("weights", key)

    def weights(self, key: str) -> dict[str, Any]:
        """Read a step's weights. Raises DamagedError if the file is missing or differs from what was written."""
        from rib.models.weights import read_weights

        path = self.whole("weights", key)
        try:
            return read_weights(path)
        except UserError as error:
            raise DamagedError(path, str(error.got)) from None

    def write_weights(self, key: str, weights: Weights) -> None:
        """Write a step's weights, which are valid once its record is written. Raises as `written_aside`."""
        from rib.models.weights import write_weights

        write_weights(self.weights_path(key), weights)
        self._seal("weights", key)

    def drop_weights(self, key: str) -> None:
        """Remove a step's weights; its record stays."""
        self._drop("weights", key)

    def has_features(self, key: str) -> bool:
        """Whether a step's features exist and have the recorded length."""
        return self.is_kept("features", key)

    def features(self, key: str) -> np.ndarray[Any, Any]:
        """A step's features, float32 (N, D), memory-mapped copy-on-write: changes do not reach the file.

        Raises DamagedError as `weights`.
        """
        path = self.whole("features", key)
        try:
            found: np.ndarray[Any, Any] = np.load(plain(path), mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DamagedError(path, str(error)) from None
        return found

    def write_features(self, key: str, count: int, pieces: Iterable[np.ndarray[Any, Any]]) -> int:
        """Write a step's features, which are valid once its record is written. Raises as `written_aside`.

        Args:
            key: key of the step.
            count: N, at least one.
            pieces: float32 (n, D), consecutive rows, N in total; only one piece is in memory at a time.

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
        """Remove a step's features; its record stays."""
        self._drop("features", key)

    def write_predictions(self, key: str, predictions: Predictions, columns: Mapping[str, Any]) -> None:
        """Write per-example predictions as Parquet, with columns that describe the examples."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(dict(columns) | {one.name: getattr(predictions, one.name) for one in fields(predictions)})
        # pyarrow would read a path with a colon as a URL
        with written_aside(self.path("predictions", key)) as aside, aside.open("wb") as file:
            # without dictionaries, files of few rows are smaller and faster to write and to read
            pq.write_table(table, file, compression="zstd", use_dictionary=False)
        self._seal("predictions", key)

    def predictions_path(self, key: str) -> Path:
        """Path of a step's predictions."""
        return self.path("predictions", key)

    def predictions_file(self, key: str, record: Record | None = None) -> pq.ParquetFile:
        """The open file of per-example predictions of a finished step. Raises DamagedError as `weights`.

        Args:
            key: key of the step.
            record: its record, if the caller has read it.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.whole("predictions", key, record)
        try:
            return pq.ParquetFile(plain(path).absolute())  # pyarrow would read a relative path with a colon as a URL
        except (OSError, pa.ArrowException) as error:
            raise DamagedError(path, str(error)) from None

    def predictions(self, key: str, columns: list[str] | None = None) -> pa.Table:
        """Per-example predictions of a finished step. Raises DamagedError as `weights`."""
        return self.predictions_file(key).read(columns)

    def checkpoint_path(self, key: str) -> Path:
        """Path of a training's saved state."""
        return self.path("checkpoints", key)
