"""Results as Parquet tables."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rib.analysis import Analysis
from rib.errors import UserError, nearest
from rib.files import written_aside
from rib.given import text_in
from rib.metrics.intervals import Interval
from rib.report.prediction_table import PREDICTIONS, ROWS, prediction_tables
from rib.report.targets import require_kind
from rib.results.adapted import AdaptedRow, adapted_rows
from rib.results.draws import draw_rows, draws, label_rows
from rib.results.inside.worst_group import GroupRow, group_rows
from rib.results.merges import MergeRow, merge_rows
from rib.results.results import Results
from rib.results.rows import Change, Score, Summary


def _schema(**types: Any) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in types.items()])


TUNING = _schema(
    tuned_on=pa.string(),
    size=pa.int32(),
    seed=pa.int64(),
    held_out=pa.bool_(),
    example=pa.int32(),
    name=pa.string(),
    source=pa.int64(),
    label=pa.int16(),
)
"""Columns of tuning.parquet, the same for every model and method; `example` is a row of the tune part."""

LABELS = pa.schema(
    [
        ("tested_on", pa.string()),
        ("label", pa.int16()),
        ("class", pa.string()),
        ("reference_labels", pa.list_(pa.int32())),
        ("reference_classes", pa.list_(pa.string())),
    ]
)
"""Columns of labels.parquet."""


def write_parquet(results: Results, folder: Path, *, wrote: Callable[[Path], None] = lambda _: None) -> list[Path]:
    """Write the results as Parquet tables.

    `predictions.parquet` has one row per example of each finished prediction of each run; `scores.parquet` has the
    accuracy of each prediction in percent. `summaries.parquet` has the headline rows, `ri.parquet` RI by tuned set, and
    `changes.parquet` the change matrices, all in points, with the ends of 95 % intervals as `_low` and `_high`.
    `analyses.parquet` has every number and word of the analyses. `tuning.parquet` lists the images of each tuning, and
    `labels.parquet` the class of each label. Apart from the methods, `merges.parquet` has leave-one-out merges,
    `merge_ri.parquet` their change on each set left out, and `adapted.parquet` predictions that adapt to test inputs.

    Args:
        results: the results to write.
        folder: target folder; created if missing.
        wrote: called with each file.

    Returns:
        The files.

    Raises:
        UserError: the folder is not writable.
        DamagedError: the predictions of a record are missing or damaged.
    """
    tables = {
        "scores": _table(Score, results.scores),
        "summaries": _table(Summary, results.summaries),
        "changes": _table(Change, results.changes),
        "ri": pa.Table.from_pylist(list(_ri_rows(results.summaries)), _RI),
        "analyses": _found_table(results),
        "labels": pa.Table.from_pylist(list(label_rows(results.plan)), LABELS),
        "groups": _table(GroupRow, list(group_rows(results))),
        **_apart(results),
    }
    streams = {"predictions": (PREDICTIONS, prediction_tables), "tuning": (TUNING, _draws)}
    columns = {name: schema for name, (schema, _) in streams.items()}
    for name, schema in (columns | {name: table.schema for name, table in tables.items()}).items():
        _require_own(folder / f"{name}.parquet", schema)
    written: list[Path] = []
    for name, (schema, tables_of) in streams.items():
        written.append(folder / f"{name}.parquet")
        _write_rows(written[-1], schema, tables_of(results))
        wrote(written[-1])
    for name, table in tables.items():
        written.append(folder / f"{name}.parquet")
        with written_aside(written[-1]) as aside, aside.open("wb") as file:
            pq.write_table(table, file, compression="zstd")  # pyarrow would take a path with a colon for an address
        wrote(written[-1])
    return written


def _apart(results: Results) -> dict[str, pa.Table]:
    """Tables of rows that no ranking contains; empty if the suite has no such rows."""
    merges = merge_rows(results)
    return {
        "merges": _table(MergeRow, merges),
        "merge_ri": pa.Table.from_pylist(list(_merge_ri_rows(merges)), _MERGE_RI),
        "adapted": _table(AdaptedRow, adapted_rows(results)),
    }


def _require_own(path: Path, schema: pa.Schema) -> None:
    """Refuse to replace a file that is not RIB's table of that name, such as a user's own labels. Raises UserError."""
    require_kind(path, b"par1")
    try:
        found = pq.read_schema(path).names if path.is_file() and path.stat().st_size else schema.names
    except (pa.ArrowException, OSError):  # cut off
        found = []
    if found and not {*schema.names[:3]} <= {*found}:
        raise UserError(
            "RIB does not replace a table of another kind",
            got=f"{path} with the columns {', '.join(found)}",
            valid=f"a folder without it, or with RIB's own table: {', '.join(schema.names)}",
            remedy="choose another folder",
        )


def schemas() -> dict[str, pa.Schema]:
    """The columns of each table that `write_parquet` writes, by its name."""
    kinds: dict[str, _Kind] = {"scores": Score, "summaries": Summary, "changes": Change, "groups": GroupRow}
    kinds |= {"merges": MergeRow, "adapted": AdaptedRow}
    made = {name: _table(kind, []).schema for name, kind in kinds.items()}
    fixed = {
        "predictions": PREDICTIONS,
        "tuning": TUNING,
        "labels": LABELS,
        "ri": _RI,
        "analyses": _FOUND,
        "merge_ri": _MERGE_RI,
    }
    return made | fixed


def rows_of(results: Results, name: str) -> list[dict[str, Any]]:
    """A table as dictionaries, with three columns per interval.

    Args:
        results: results of a suite.
        name: "mri", "ri", "scores" or "changes".

    Raises:
        UserError: there is no such table.
    """
    tables: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
        "mri": lambda: _table(Summary, results.summaries).to_pylist(),
        "ri": lambda: _ri_rows(results.summaries),
        "scores": lambda: _table(Score, results.scores).to_pylist(),
        "changes": lambda: _table(Change, results.changes).to_pylist(),
    }
    if text_in(name, "the table") not in tables:
        raise nearest(name, tables, "table")
    return list(tables[name]())


def _draws(results: Results) -> Iterator[pa.Table]:
    for one in draws(results.plan):
        yield pa.Table.from_pylist(list(draw_rows(results.plan, one)), TUNING)


def _write_rows(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Stream tables into one file, with at most `ROWS` rows and one table in memory."""
    # a dictionary of numbers that hardly ever repeat costs time and bytes
    repeating = [column.name for column in schema if column.type != pa.float32()]
    with (
        written_aside(path) as aside,
        aside.open("wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=repeating) as writer,
    ):
        held: list[pa.Table] = []
        for table in tables:
            held.append(table)
            if sum(map(len, held)) >= ROWS:
                writer.write_table(pa.concat_tables(held))
                held = []
        if held:
            writer.write_table(pa.concat_tables(held))


_Kind = type[Score] | type[Summary] | type[Change] | type[GroupRow] | type[MergeRow] | type[AdaptedRow]


def _table(kind: _Kind, rows: Sequence[Any]) -> pa.Table:
    """Dataclasses as a flat table, with three columns per interval."""
    columns: dict[str, Any] = {}
    for field in fields(kind):
        if field.type in _TYPES:
            columns[field.name] = _TYPES[str(field.type)]
        elif field.type in ("Interval", "Interval | None"):
            columns |= dict.fromkeys(_interval_names(field.name), pa.float64())
    return pa.Table.from_pylist([_flat(row) for row in rows], _schema(**columns))


_TYPES = {
    "str": pa.string(),
    "str | None": pa.string(),
    "int": pa.int64(),
    "int | None": pa.int64(),
    "float | None": pa.float64(),
    "bool": pa.bool_(),
    "bool | None": pa.bool_(),
    "tuple[int, ...]": pa.list_(pa.int64()),
    "tuple[str, ...]": pa.list_(pa.string()),
}
"""Parquet types of the plain fields. RI by tuned set has a separate table; `evaluate` has none."""

RI_KINDS = ("ri", "ri_disjoint", "ri_present", "ri_absent")
"""The kinds of RI by tuned set; see `Summary`."""

_RI = _schema(
    model=pa.string(),
    method=pa.string(),
    size=pa.int64(),
    tuned_on=pa.string(),
    **{f"{name}{end}": pa.float64() for name in RI_KINDS for end in ("", "_low", "_high")},
)


def _interval_names(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def _interval_columns(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return dict.fromkeys(_interval_names(name))
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _flat(row: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        values |= _interval_columns(field.name, value) if isinstance(value, Interval) else {field.name: value}
    return values


def _ri_rows(summaries: Iterable[Summary]) -> Iterator[dict[str, Any]]:
    for row in summaries:
        for tuned_on in row.ri:
            place: dict[str, Any] = {"model": row.model, "method": row.method, "size": row.size, "tuned_on": tuned_on}
            for name in RI_KINDS:
                place |= _interval_columns(name, getattr(row, name)[tuned_on])
            yield place


_MERGE_RI = _schema(
    model=pa.string(),
    method=pa.string(),
    size=pa.int64(),
    left_out=pa.string(),
    merged=pa.list_(pa.string()),
    **dict.fromkeys(_interval_names("ri"), pa.float64()),
)
"""Columns of merge_ri.parquet."""


def _merge_ri_rows(rows: Iterable[MergeRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for left_out, ri in row.ri.items():
            place = {"model": row.model, "method": row.method, "size": row.size, "left_out": left_out}
            yield {**place, "merged": list(row.merged[left_out]), **_interval_columns("ri", ri)}


_FOUND = _schema(
    analysis=pa.string(),
    model=pa.string(),
    method=pa.string(),
    size=pa.int64(),
    seed=pa.int64(),
    tuned_on=pa.string(),
    on=pa.list_(pa.string()),
    name=pa.string(),
    row=pa.int32(),
    column=pa.int32(),
    number=pa.float64(),
    word=pa.string(),
)
"""Columns of analyses.parquet: one row per number or word of each value. A list has indices of rows, a matrix of
rows and columns."""


def _found_table(results: Results) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in _FOUND.names}
    for seen in results.seen(Analysis):
        run = seen.run
        place: dict[str, Any] = {
            "analysis": seen.name,
            "model": results.model_name(run.model),
            "method": run.method,
            "size": run.size,
            "seed": run.seed,
            "tuned_on": results.set_name(run.tuned_on) if run.tuned_on else None,
            "on": [results.set_name(name) for name in seen.on],
        }
        for name, value in seen.values.items():
            items = list(_items(value))
            for column, each in (place | {"name": name}).items():
                columns[column] += [each] * len(items)
            for at, item in items:
                number, word = _number_or_word(item)
                found = {
                    "row": at[0] if at else None,
                    "column": at[1] if at[1:] else None,
                    "number": number,
                    "word": word,
                }
                for column, each in found.items():
                    columns[column].append(each)
    return pa.Table.from_pydict(columns, _FOUND)


def _number_or_word(item: Any) -> tuple[float | None, str | None]:
    if item is None or isinstance(item, str):
        return None, item
    number = float(item) + 0.0
    return (number, None) if math.isfinite(number) else (None, f"not finite: {number}")


def _items(value: Any, at: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Every number and word of a value, with its indices; deeper levels than a matrix become JSON text."""
    if isinstance(value, list) and len(at) < 2:
        for place, item in enumerate(value):
            yield from _items(item, (*at, place))
    else:
        yield at, json.dumps(value) if isinstance(value, list | dict) else value
