"""Prediction table: a row per example of each finished prediction, for predictions.parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from rib.data.parts import DataPart
from rib.plan import Run
from rib.results.results import Results
from rib.steps import Predict

_GROUP = [
    ("model", pa.string()),
    ("method", pa.string()),
    ("size", pa.int32()),
    ("seed", pa.int64()),
    ("tuned_on", pa.string()),
    ("tested_on", pa.string()),
    ("role", pa.string()),
]
_EXAMPLE = [
    ("example", pa.int32()),
    ("name", pa.string()),
    ("source", pa.int64()),
    ("label", pa.int16()),
    ("cell", pa.string()),
]
_ANSWER = [
    ("masked_class", pa.int16()),
    ("masked_confidence", pa.float32()),
    ("masked_label_probability", pa.float32()),
    ("masked_brier", pa.float32()),
    ("masked_right", pa.bool_()),
    ("unmasked_class", pa.int16()),
    ("unmasked_confidence", pa.float32()),
    ("unmasked_right", pa.bool_()),
]

PREDICTIONS = pa.schema([*_GROUP, *_EXAMPLE, *_ANSWER])
"""Columns of predictions.parquet. A null size means all images; tuned_on and seed are null for a pretrained model."""

STORED = ("example", "source", "label", "cell")
"""Columns of a stored prediction that describe its examples, equal in all predictions of one part of a data set."""

ROWS = 1 << 18
"""Rows that are collected before they are written."""


@dataclass(frozen=True)
class _Piece:
    """Rows of one prediction as they are stored, with the values that they have in common, and their data set."""

    group: tuple[Any, ...]
    data: str
    examples: pa.Table
    answers: pa.Table


@dataclass
class _Reader:
    """Reads stored predictions. It reads the columns of examples once for each part of a data set.

    Attributes:
        results: the results with records and store.
        examples: columns of `STORED` by part.
    """

    results: Results
    examples: dict[DataPart, pa.Table] = field(default_factory=dict)

    def pieces(self, predict: Predict) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Columns of examples and of answers, at most `ROWS` rows at a time. Raises DamagedError."""
        answers = [name for name, _ in _ANSWER]
        file = self.results.store.predictions_file(predict.key, self.results.records[predict.key])
        known = self.examples.get(predict.data)
        if known is not None and len(known) == file.metadata.num_rows:
            yield known, file.read(answers, use_threads=False)
            return
        for batch in file.iter_batches(ROWS, use_threads=False):
            table = pa.Table.from_batches([batch])
            examples = table.select(STORED)
            if len(table) == file.metadata.num_rows:
                self.examples[predict.data] = examples
            yield examples, table.select(answers)


class _Names:
    """Names of the examples and of the cells of all data sets, each as one column with the place of each set's first.

    Args:
        results: the results.
    """

    def __init__(self, results: Results) -> None:
        self._world = results.plan.world
        self._columns: dict[tuple[str, str], pa.Array] = {}

    def of(self, what: str, pieces: Sequence[_Piece]) -> pa.Array:
        """One name per row of the pieces: `what` is "example" or "cell". A cell below 0 has none."""
        sets = list(dict.fromkeys(piece.data for piece in pieces))
        columns = [self._column(what, name) for name in sets]
        first = dict(zip(sets, np.cumsum([0, *map(len, columns)]), strict=False))
        rows = [piece.examples.column(what).to_numpy() for piece in pieces]
        places = np.concatenate([found + first[piece.data] for found, piece in zip(rows, pieces, strict=True)])
        indices = pa.array(places, pa.int64(), mask=np.concatenate(rows) < 0)
        return pa.concat_arrays(columns).take(indices)

    def _column(self, what: str, name: str) -> pa.Array:
        if (what, name) not in self._columns:
            data = self._world[name]
            names = data.names("test") if what == "example" else data.index("test").cell_names
            self._columns[what, name] = pa.array(names, pa.string())
        return self._columns[what, name]


def prediction_tables(results: Results) -> Iterator[pa.Table]:
    """The rows of every finished prediction of every run, in tables of about `ROWS` rows.

    Raises:
        DamagedError: the predictions of a record are missing or damaged.
    """
    names, held, count = _Names(results), list[_Piece](), 0
    for piece in _pieces(results):
        held.append(piece)
        count += len(piece.answers)
        if count >= ROWS:
            yield _table(held, names)
            held, count = [], 0
    if held:
        yield _table(held, names)


def _pieces(results: Results) -> Iterator[_Piece]:
    reader = _Reader(results)
    for run in results.plan.runs:
        for name, predict in run.predictions:
            if predict.key in results.records:
                group = _group(results, run, name)
                for examples, answers in reader.pieces(predict):
                    yield _Piece(group, name, examples, answers)


def _group(results: Results, run: Run, name: str) -> tuple[Any, ...]:
    """The values of the columns of `_GROUP`."""
    tuned_on = results.set_name(run.tuned_on) if run.tuned_on else None
    role = results.role(run, name)
    return results.model_name(run.model), run.method, run.size, run.seed, tuned_on, results.set_name(name), role


def _table(pieces: Sequence[_Piece], names: _Names) -> pa.Table:
    owner = pa.array(np.repeat(np.arange(len(pieces)), [len(piece.answers) for piece in pieces]))
    columns: dict[str, Any] = {}
    for place, (name, kind) in enumerate(_GROUP):
        columns[name] = pa.array([piece.group[place] for piece in pieces], kind).take(owner)
    columns |= _stacked((piece.examples for piece in pieces), ("example", "source", "label"))
    columns |= {"name": names.of("example", pieces), "cell": names.of("cell", pieces)}
    columns |= _stacked((piece.answers for piece in pieces), [name for name, _ in _ANSWER])
    return pa.Table.from_pydict({name: columns[name].cast(PREDICTIONS.field(name).type) for name in PREDICTIONS.names})


def _stacked(tables: Iterable[pa.Table], names: Sequence[str]) -> dict[str, Any]:
    whole = pa.concat_tables([table.select(names) for table in tables])
    return {name: whole.column(name) for name in names}
