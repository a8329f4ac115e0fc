"""Parquet files as Hugging Face writes them: a column of encoded images and a column of labels."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rib.data.containers import Container, Listing, Rows, changed, file_states, listed
from rib.data.globs import files_under
from rib.errors import UserError

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "labels", "cls", "class", "fine_label", "wnid")


@dataclass(frozen=True)
class _Group:
    """A row group: the unit that is read at once.

    Attributes:
        file: place of the file among the files.
        number: of the group within the file.
        first: the group's first row among all rows of all files.
    """

    file: int
    number: int
    first: int


class ParquetContainer(Container):
    """The .parquet files of a folder, or those that a pattern names. Images are read one row group at a time.

    Args:
        pattern: a folder, searched with its sub-folders, or a pattern such as "DIR/validation-*.parquet".
        data: the data set's name, for errors.

    The image column is a struct of `bytes` and `path` or plain bytes; labels are integers, names, or a ClassLabel
    whose names stand in the file's metadata. A file in a sub-folder has its images in folders of that prefix.
    """

    def __init__(self, pattern: Path, data: str) -> None:
        self.where, self._data = pattern, data
        self._kept: tuple[_Group, Any] | None = None
        self._lock = threading.Lock()

    @cached_property
    def _files(self) -> list[tuple[Path, str]]:
        return files_under(self.where, ".parquet", self._data)

    @cached_property
    def _scan(self) -> tuple[Listing, Rows, list[_Group], tuple[str, str]]:
        """The listing; the row of the files that each of its rows is; the row groups; the two columns."""
        self._states = file_states(self._files)
        pairs: list[tuple[str, str]] = []
        groups: list[_Group] = []
        columns = ("", "")
        named = True
        for place, (path, prefix) in enumerate(self._files):
            with self._open(path) as file:
                columns = _columns(file.schema_arrow, path, self._data)
                count = len(pairs)
                for number in range(file.num_row_groups):
                    groups.append(_Group(place, number, count))
                    count += file.metadata.row_group(number).num_rows
                labels = _labels(file, columns[1])
                names, own = _names(file, columns[0], path.stem)
                named = named and own
            pairs += [(prefix + label, name) for label, name in zip(labels, names, strict=True)]
        listing, rows = listed(pairs)
        return replace(listing, named=named), rows, groups, columns

    def _open(self, path: Path) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(path.absolute(), memory_map=True)
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"data set {self._data!r}: cannot read {path}",
                got=str(error).splitlines()[0],
                valid="a Parquet file",
                remedy="copy the file again: it may be cut off",
            ) from None

    def listing(self) -> Listing:
        return self._scan[0]

    def title(self, row: int) -> str:
        listing, rows, groups, _ = self._scan
        group = self._group(int(rows[row]))
        inside = int(rows[row]) - next(other.first for other in groups if other.file == group.file)
        return f"{self._files[group.file][0]}, row {inside} ({listing.names[row]})"

    def column(self, name: str) -> Sequence[object]:
        found: list[object] = []
        for path, _ in self._files:
            with self._open(path) as file:
                if name not in file.schema_arrow.names:
                    names = ", ".join(file.schema_arrow.names)
                    raise UserError(f"data set {self._data!r}: {path} lacks a column", got=name, valid=names)
                found += file.read(columns=[name]).column(0).to_pylist()
        if empty := sum(value is None for value in found):
            raise UserError(
                f"data set {self._data!r}: the column {name!r} is empty in {empty:,} of {len(found):,} rows",
                got=self.where,
                remedy="fill it, or name another column",
            )
        return [found[row] for row in self._scan[1].tolist()]

    def stamp(self, rows: Rows) -> object:
        self._scan  # noqa: B018 -- notes the files' states first
        if (now := file_states(self._files)) != self._states:
            raise changed(f"a file in {self.where}")
        return [rows.tolist(), now]

    def reading_order(self, rows: Rows) -> Rows:
        return np.argsort(self._scan[1][rows], kind="stable")

    def read(self, rows: Rows) -> list[bytes]:
        with self._lock:  # one row group is kept at hand, for whichever thread reads
            return [self._read_one(row) for row in rows.tolist()]

    def _read_one(self, row: int) -> bytes:
        at = int(self._scan[1][row])
        group = self._group(at)
        if self._kept is None or self._kept[0] != group:
            self._kept = (group, self._read_group(group))
        content = self._kept[1][at - group.first].as_py()
        if content is None:
            raise UserError(f"no image in {self.title(row)}", remedy="write the file with its images embedded")
        return bytes(content)

    def _read_group(self, group: _Group) -> Any:
        path, column = self._files[group.file][0], self._scan[3][0]
        try:
            with self._open(path) as file:
                table = file.read_row_group(group.number, columns=[column])
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"cannot read {path}", got=str(error).splitlines()[0], remedy="copy it again") from None
        images: Any = table.column(0).combine_chunks()
        return images.field("bytes") if pa.types.is_struct(images.type) else images

    def _group(self, at: int) -> _Group:
        return self._scan[2][int(np.searchsorted(self._firsts, at, side="right")) - 1]

    @cached_property
    def _firsts(self) -> Rows:
        return np.array([group.first for group in self._scan[2]], np.int64)


def _columns(schema: pa.Schema, path: Path, data: str) -> tuple[str, str]:
    """The image and the label column."""
    image = _first(IMAGE_COLUMNS, schema) or next((field.name for field in schema if _holds_images(field.type)), None)
    label = _first(LABEL_COLUMNS, schema)
    if image is None or label is None or not _holds_images(schema.field(image).type):
        raise UserError(
            f"data set {data!r}: {path} lacks a column",
            got=", ".join(f"{field.name}: {field.type}" for field in schema),
            valid="`image` (struct of bytes and path, or bytes) and `label` (integer or name)",
        )
    return image, label


def _first(names: Sequence[str], schema: pa.Schema) -> str | None:
    return next((name for name in names if name in schema.names), None)


def _holds_images(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _labels(file: pq.ParquetFile, column: str) -> list[str]:
    values = file.read(columns=[column]).column(0).to_pylist()
    names = _class_names(file.schema_arrow.metadata or {}, column)
    return [names[value] if names and isinstance(value, int) else str(value) for value in values]


def _class_names(metadata: dict[bytes, bytes], column: str) -> list[str] | None:
    """Names of a ClassLabel column, from what Hugging Face's library leaves in the schema."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return [str(name) for name in names]


def _names(file: pq.ParquetFile, column: str, stem: str) -> tuple[list[str], bool]:
    """Name of each image: its path's last part, or else its place in the file; and whether all have a path."""
    kind = file.schema_arrow.field(column).type
    plain = [f"{stem}-{row:07d}" for row in range(file.metadata.num_rows)]
    if not pa.types.is_struct(kind) or all(kind.field(place).name != "path" for place in range(kind.num_fields)):
        return plain, False
    structs: Any = file.read(columns=[f"{column}.path"]).column(0).combine_chunks()
    paths = structs.field("path").to_pylist()
    names = [path.rpartition("/")[2] if path else name for path, name in zip(paths, plain, strict=True)]
    return names, all(paths)
