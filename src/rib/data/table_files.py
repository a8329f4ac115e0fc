"""Reads the columns of a table file: Parquet, CSV and JSON lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rib.errors import UserError
from rib.files import parse_json, plain, read_plain

Column = list[Any]

_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Marks at the beginning of files in other encodings."""


def table_columns(path: Path, data: str) -> tuple[dict[str, Column], dict[bytes, bytes]]:
    """The columns of a table by name, and its metadata.

    Args:
        path: .parquet, .csv or .jsonl.
        data: the data set's name, for errors.

    Raises:
        UserError: it cannot be read, is not UTF-8, or names a column twice.
    """
    if path.suffix.lower() == ".parquet":
        return _of_parquet(path, data)
    text = _decoded(path, data)
    return (_of_csv(text, path, data) if path.suffix.lower() == ".csv" else _of_lines(text, path, data)), {}


def _of_parquet(path: Path, data: str) -> tuple[dict[str, Column], dict[bytes, bytes]]:
    try:
        with pq.ParquetFile(plain(path).absolute(), memory_map=True) as file:
            schema = file.schema_arrow
            if len(set(schema.names)) < len(schema.names):
                raise _no_header(path, ", ".join(schema.names), data)
            simple = [field.name for field in schema if not pa.types.is_nested(field.type)]
            table = file.read(columns=simple)
            return {name: _listed(table.column(name), name, path, data) for name in simple}, schema.metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"data set {data!r}: cannot read {path}", got=str(error).splitlines()[0], valid="a Parquet file",
            remedy="copy the file again: it may be truncated",
        ) from None  # fmt: skip


def _listed(column: Any, name: str, path: Path, data: str) -> Column:
    found: Column = []
    for value in column:
        try:
            found.append(value.as_py())
        except UnicodeDecodeError as error:
            raise _not_utf8(f"{path}, row {len(found) + 1:,}", error, data) from None
    return found


def _decoded(path: Path, data: str) -> str:
    content = read_plain(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _not_utf8(f"{path}, line {line:,}", error, data) from None


def _not_utf8(place: str, error: UnicodeDecodeError, data: str) -> UserError:
    around = error.object[max(0, error.start - 10) : error.start + 10]
    return UserError(
        f"data set {data!r}: a text is not UTF-8", got=f"{place}: {around!a}", valid="UTF-8",
        remedy=_conversion(error.object, error.start),
    )  # fmt: skip


def _conversion(content: bytes, start: int) -> str:
    """What to do with bytes that are not UTF-8, of which the first wrong one is at `start`."""
    for mark, name in _MARKS.items():
        if content.startswith(mark):
            return f"convert the file: iconv -f {name} -t utf-8 OLD > NEW"
    if content.startswith(b"\x1f\x8b"):
        return "the file is compressed: rename it to NAME.gz, then gunzip NAME.gz"
    if any(byte > 127 for byte in content[:start]):
        return "repair this text alone: texts before it are UTF-8, so converting the whole file would damage them"
    return "convert the file, as in iconv -f windows-1252 -t utf-8 OLD > NEW, if that is its encoding"


def _of_csv(text: str, path: Path, data: str) -> dict[str, Column]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    rows: list[list[str]] = []
    try:
        header = next(reader, [])
        for row in reader:
            if row and len(row) != len(header):
                raise UserError(
                    f"data set {data!r}: a row with {len(row)} fields, where the header names {len(header)}",
                    got=f"{path}, row {len(rows) + 1:,} (line {reader.line_num:,})", valid=", ".join(header),
                    remedy="separate fields by commas, and quote texts that hold commas, quotes or line ends",
                )  # fmt: skip
            if row == header and len(header) > 1:
                raise UserError(
                    f"data set {data!r}: the header is there twice",
                    got=f"{path}, row {len(rows) + 1:,} (line {reader.line_num:,})", valid="one header",
                    remedy="remove the second header: files were probably joined",
                )  # fmt: skip
            if row:
                rows.append(row)
    except csv.Error as error:
        raise UserError(
            f"data set {data!r}: cannot read {path}", got=f"line {reader.line_num:,}: {error}", valid="CSV with commas",
            remedy='quote texts that hold quotes, and double these: "He said ""no"""',
        ) from None  # fmt: skip
    if len(set(header)) < len(header) or (len(header) == 1 and any(mark in header[0] for mark in ";\t|")):
        raise _no_header(path, ", ".join(header)[:200], data)
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def _no_header(path: Path, names: str, data: str) -> UserError:
    return UserError(
        f"data set {data!r}: {path} has no readable header", got=names,
        valid="a name for each column, each once" + (", separated by commas" if path.suffix.lower() == ".csv" else ""),
    )  # fmt: skip


def _of_lines(text: str, path: Path, data: str) -> dict[str, Column]:
    rows: list[dict[str, Any]] = []
    for number, document in _documents(text, path, data):
        if not isinstance(document, dict):
            raise UserError(f"data set {data!r}: a line is no object", got=f"{path}, line {number:,}",
                            valid='{"text": "…", "label": "…"}')  # fmt: skip
        rows.append(document)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _documents(text: str, path: Path, data: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):  # other line separators, such as U+2028, may be part of a text
        if line.strip():
            try:
                yield number, parse_json(line)
            except ValueError as error:
                raise UserError(f"data set {data!r}: a line is no JSON", got=f"{path}, line {number:,}: {error}",
                                valid='{"text": "…", "label": "…"}') from None  # fmt: skip
