"""Parquet files as Hugging Face writes them: a column of encoded images and a column of labels."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rib.arrays import Rows
from rib.data.columns import (
    category_order,
    class_names,
    find_columns,
    kind_of_labels,
    read_companions,
    read_labels,
    read_names,
    require_agreement,
    require_images,
)
from rib.data.companions import names_beside, one_to_one, renamed, require_rows_of_one_split, require_same_folders
from rib.data.containers import Listing, listed
from rib.data.filesets import FileSetContainer
from rib.data.foreign import kind_of_file
from rib.errors import UserError
from rib.files import plain


@dataclass(frozen=True)
class _Group:
    """A row group, which is the unit of reading.

    Attributes:
        file: index of the file.
        number: index of the group within the file.
        first: the group's first row among all rows of all files.
    """

    file: int
    number: int
    first: int


class ParquetContainer(FileSetContainer):
    """The .parquet files of a folder, or those that a pattern matches. Images are read one row group at a time.

    Args: as `FileSetContainer`.

    The image column is a struct of `bytes` and `path`, or plain bytes. Labels are integers, names, or a ClassLabel
    whose names are in the file's metadata. The images of a file in a sub-folder are in folders with that prefix.

    Raises:
        UserError: a file cannot be read, or lacks a column of images or labels.
    """

    suffix = ".parquet"

    def __init__(self, pattern: Path, data: str, base: Path | None = None, names: bool = True) -> None:
        super().__init__(pattern, data, base, names)
        self._kept: tuple[_Group, Any] | None = None
        self._lock = threading.Lock()

    def class_names(self) -> tuple[str, ...] | None:
        return self._scan[4]

    def origins(self) -> Mapping[str, str]:
        return self._scan[5]

    @cached_property
    def _scan(self) -> tuple[Listing, Rows, list[_Group], str, tuple[str, ...] | None, dict[str, str]]:
        """The listing; the file row of each of its rows; the row groups; the image column; the class names; origins."""
        self._states  # noqa: B018 -- notes the files' states first
        pairs: list[tuple[str, str]] = []
        groups: list[_Group] = []
        columns: dict[tuple[str, str], Path] = {}
        kinds: dict[tuple[str], Path] = {}
        orders: dict[tuple[str, ...] | None, Path] = {}
        said: list[list[str] | None] = []
        above: list[tuple[Path, Sequence[str], Sequence[str]]] = []
        named = True
        for place, (path, prefix) in enumerate(self._files):
            with self._open(path) as file, self._readable(path):
                image, label = found = find_columns(file.schema_arrow, path, self._data)
                names = class_names(file.schema_arrow.metadata or {}, label, path, self._data)
                if names is None and self._names:
                    names = category_order(file, label, path, self._data)
                columns.setdefault(found, path)
                kinds.setdefault((kind_of_labels(file, label),), path)
                orders.setdefault(names, path)
                count = len(pairs)
                for number in range(file.num_row_groups):
                    groups.append(_Group(place, number, count))
                    count += file.metadata.row_group(number).num_rows
                require_images(file, image, path, self._data)
                labels = read_labels(file, label, names, path, self._data)
                require_agreement(file, label, labels, path, self._data)
                titles, folders, own = read_names(file, image, path, self._data)
                named = named and own
                beside = read_companions(file)
                require_rows_of_one_split(beside, path, self._data)
                said.append(names_beside(labels, beside, path, self._data) if self._names else None)
                above.append((path, said[-1] or labels, folders))
            pairs += [(prefix + word, name) for word, name in zip(labels, titles, strict=True)]
        self._require_one(columns, "name the columns differently")
        self._require_one(kinds, "have labels of different kinds")
        self._require_one(orders, "give the classes in different orders, or only one of them does")
        for path, words, parents in above:
            require_same_folders(words, parents, path, self._data)
        if not pairs:
            raise UserError(f"data set {self._data!r}: no images", got=self.where, remedy="copy the files again")
        (image, _), (order,) = next(iter(columns)), orders
        if names_of := [names for names in said if names is not None]:
            pairs, order = self._renamed(pairs, names_of)
        listing, rows = listed(pairs)
        origins = one_to_one([folder for folder, _ in pairs], [parent for *_, parents in above for parent in parents])
        return replace(listing, named=named, left_out=self._found.left_out), rows, groups, image, order, origins

    def _renamed(
        self, pairs: Sequence[tuple[str, str]], said: Sequence[Sequence[str]]
    ) -> tuple[list[tuple[str, str]], tuple[str, ...] | None]:
        """Folders and names of all rows, with the names of classes in place of numbers; and these in their order."""
        names = [name for part in said for name in part]
        if len(names) < len(pairs):
            raise UserError(
                f"data set {self._data!r}: only some of its files name the classes",
                got=f"{len(said):,} of {len(self._files):,} files in {self.where}",
                valid="the same columns in all files of a set",
                remedy="write the files again, from one table",
            )
        parted = [folder.rpartition("/") for folder, _ in pairs]
        words, order = renamed([word for *_, word in parted], names, self._data)
        folders = (f"{prefix}{slash}{word}" for (prefix, slash, _), word in zip(parted, words, strict=True))
        return [(folder, name) for folder, (_, name) in zip(folders, pairs, strict=True)], order

    def _require_one(self, found: Mapping[Any, Path], fault: str) -> None:
        """Refuse files that differ in a property that must be the same in all."""
        if len(found) > 1:
            first, second = list(found.items())[:2]
            raise UserError(
                f"data set {self._data!r}: two files {fault}",
                got=f"{first[1].name}: {_few(first[0])}; {second[1].name}: {_few(second[0])}",
                valid="the same in all files of a set",
                remedy="write the files again, from one table",
            )

    def _open(self, path: Path) -> pq.ParquetFile:
        with self._readable(path):
            return pq.ParquetFile(plain(path).absolute(), memory_map=True)

    @contextmanager
    def _readable(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            cause = str(error).splitlines()[0], "copy the file again: it may be truncated"
            got, remedy = kind_of_file(path, besides="a Parquet file") or cause
            raise UserError(
                f"data set {self._data!r}: cannot read {path}", got=got, valid="a Parquet file", remedy=remedy
            ) from None

    def listing(self) -> Listing:
        return self._scan[0]

    def title(self, row: int) -> str:
        listing, rows, groups = self._scan[:3]
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

    def reading_order(self, rows: Rows) -> Rows:
        return np.argsort(self._scan[1][rows], kind="stable")

    def read(self, rows: Rows) -> list[bytes]:
        with self._lock:  # one row group stays in memory, for all threads
            return [self._read_one(row) for row in rows.tolist()]

    def _read_one(self, row: int) -> bytes:
        at = int(self._scan[1][row])
        group = self._group(at)
        if self._kept is None or self._kept[0] != group:
            self._kept = (group, self._read_group(group))
        content = self._kept[1][at - group.first].as_py()
        if not content:
            raise UserError(
                f"no image in {self.title(row)}",
                got="0 bytes",
                valid="the bytes of an image in every row",
                remedy="write the file with its images embedded",
            )
        return bytes(content)

    def _read_group(self, group: _Group) -> Any:
        path, column = self._files[group.file][0], self._scan[3]
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


def _few(names: tuple[str, ...] | None) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "none"
