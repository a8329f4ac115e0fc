"""Cells of a user's set, such as ImageNet-C's corruptions and severities. All cells have the same weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Rows
from rib.data.classes import require_shown
from rib.data.containers import Container, Listing
from rib.data.entries import look_into
from rib.data.folders import FolderContainer
from rib.errors import UserError

MOST = 10_000
"""Maximum number of cells of a set."""


class CelledContainer(Container):
    """A container whose folders are classes, with the cell of each row. It has the rows of the container that it wraps.

    Args:
        inner: holds the images.
        cells: number of folder levels above the classes, or names of columns, which together name a cell.
        data: the data set's name, for errors.

    Raises:
        UserError: as `joined`, `number_cells` and `require_every_class`.
    """

    def __init__(self, inner: Container, cells: int | tuple[str, ...], data: str) -> None:
        self._inner, self._cells, self._data = inner, cells, data
        self.where = inner.where

    @property
    def root(self) -> Path:
        return self._inner.root

    def class_names(self) -> tuple[str, ...] | None:
        return self._inner.class_names()

    @property
    def prefixes(self) -> tuple[str, ...]:
        return ("",) if isinstance(self._cells, int) else self._inner.prefixes

    def way_out(self, folder: str) -> str:
        return f"complete the copy: every cell has every class, {folder!r} too"

    def listing(self) -> Listing:
        return self._split[0]

    @property
    def cell_names(self) -> tuple[str, ...]:
        """Names such as "fog/3", with numbers in numerical order."""
        return self._split[1]

    @property
    def cell_of(self) -> NDArray[np.int16]:
        """int16 (N,), the cell of each row."""
        return self._split[2]

    @cached_property
    def _split(self) -> tuple[Listing, tuple[str, ...], NDArray[np.int16]]:
        inner = self._inner.listing()
        if isinstance(self._cells, int):
            cells, classes = self._by_folder(inner, self._cells)
            folder_cells = [cells[place] for place in inner.folder_of.tolist()]
        else:
            columns = [self._inner.column(name) for name in self._cells]
            folder_cells = joined(self._data, [[str(value) for value in column] for column in columns])
            classes = list(inner.folders)
        names, cell_of = number_cells(self._data, folder_cells)
        folders = tuple(sorted(set(classes)))
        position = {name: number for number, name in enumerate(folders)}
        class_of = np.array([position[name] for name in classes], np.int32)[inner.folder_of]
        empty = {classes[inner.folders.index(folder)]: f"in {folder}: {words}" for folder, words in inner.empty.items()}
        listing = replace(inner, folders=folders, folder_of=class_of, empty=empty)
        require_every_class(self._data, self.where, listing, names, cell_of)
        return listing, names, cell_of

    def _by_folder(self, inner: Listing, levels: int) -> tuple[list[str], list[str]]:
        """Cell and class of each folder."""
        parts = [folder.split("/") for folder in inner.folders]
        if wrong := [folder for folder, each in zip(inner.folders, parts, strict=True) if len(each) != levels + 1]:
            raise UserError(
                f"data set {self._data!r}: cells = {levels}, and {wrong[0]!r} has another number of folders above it",
                got=self.where,
                valid="/".join(["<cell>"] * levels + ["<class>", "<image>"]),
                remedy="change `cells`, or move the files",
            )
        if isinstance(self._inner, FolderContainer):
            above = {"/".join(each[:count]) for each in parts for count in range(1, levels + 1)}
            if loose := next((folder for folder in sorted(above) if look_into(f"{self.where}/{folder}").images), None):
                raise UserError(
                    f"data set {self._data!r}: images lie beside the classes of a cell",
                    got=self.where / loose,
                    valid="/".join(["<cell>"] * levels + ["<class>", "<image>"]),
                    remedy="move them into the folder of a class, or remove them",
                )
        return ["/".join(each[:-1]) for each in parts], [each[-1] for each in parts]

    def title(self, row: int) -> str:
        return self._inner.title(row)

    def stamp(self, rows: Rows) -> object:
        return self._inner.stamp(rows)

    def read(self, rows: Rows) -> list[bytes]:
        return self._inner.read(rows)

    def column(self, name: str) -> Sequence[object]:
        return self._inner.column(name)

    def reading_order(self, rows: Rows) -> Rows:
        return self._inner.reading_order(rows)

    def paths(self, rows: Rows) -> list[str]:
        if isinstance(self._cells, int):
            return self._inner.paths(rows)
        cells = [self.cell_names[cell] for cell in self.cell_of[rows].tolist()]
        return [f"{cell}/{path}" for cell, path in zip(cells, self._inner.paths(rows), strict=True)]


def joined(data: str, columns: Sequence[Sequence[str]]) -> list[str]:
    """The name of each row's cell, such as "fog/3", from the columns with its parts.

    Args:
        data: the data set's name, for the error.
        columns: one per part of the name, in order.

    Raises:
        UserError: a part is empty or contains a slash, so that two cells could get one name.
    """
    if bad := sorted({part for column in columns for part in column if not part.strip() or "/" in part}):
        raise UserError(
            f"data set {data!r}: a cell has a part that is empty or contains a slash",
            got=repr(bad[0]),
            valid="names such as 'fog' and '3', which together are 'fog/3'",
            remedy="rename these cells",
        )
    return ["/".join(parts) for parts in zip(*columns, strict=True)]


def number_cells(data: str, cells: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int16]]:
    """Names of the cells, with numbers in numerical order, and the cell of each row: int16 (N,).

    Args:
        data: the data set's name, for the error.
        cells: the name of each row's cell, such as "fog/3".

    Raises:
        UserError: there are more than `MOST` cells, or a name cannot be shown.
    """
    names = tuple(sorted(set(cells), key=_by_value))
    require_shown(data, "a cell", names)
    if len(names) > MOST:
        raise UserError(f"data set {data!r}: {len(names):,} cells", got=names[0], valid=f"at most {MOST:,}")
    place = {name: number for number, name in enumerate(names)}
    return names, np.array([place[name] for name in cells], np.int16)


def require_every_class(
    data: str, where: Path, listing: Listing, names: Sequence[str], cell_of: NDArray[np.int16]
) -> None:
    """Refuse a cell that lacks a class, because its accuracy would be that of other classes.

    Args:
        data: the data set's name, for the error.
        where: the location of the set.
        listing: its folders are the classes.
        names: the names of the cells.
        cell_of: int16 (N,), the cell of each row.

    Raises:
        UserError: a cell has no images of a class.
    """
    there = np.zeros((len(names), len(listing.folders)), np.bool_)
    there[cell_of, listing.folder_of] = True
    if there.all():
        return
    cell, label = np.argwhere(~there)[0].tolist()
    raise UserError(
        f"data set {data!r}: the cell {names[cell]!r} has no images of class {listing.folders[label]!r}",
        got=f"{int(there.sum()):,} of {there.size:,} classes of cells in {where}",
        valid="every class in every cell",
        remedy="complete the copy, or remove the cell",
    )


def _by_value(name: str) -> list[tuple[int, int, str]]:
    """Sort key of a cell's name: its parts, whole numbers in numerical order."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in name.split("/")]
