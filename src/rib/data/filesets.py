"""Containers of several files, such as Parquet files and tar shards: what they share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from rib.arrays import Rows
from rib.data.containers import Container, changed, file_states
from rib.data.globs import Found, files_under


class FileSetContainer(Container):
    """A container of all files with one suffix in a folder, or of those that a pattern matches.

    Args:
        pattern: a folder, searched with its sub-folders, or a pattern such as "DIR/train-*.parquet".
        data: the data set's name, for errors.
        base: the folder that a relative pattern starts from.
        names: whether fields beside numeric labels name the classes; a published set has its own names.

    Raises:
        UserError: as `globs.files_under`.
    """

    suffix: ClassVar[str]

    def __init__(self, pattern: Path, data: str, base: Path | None = None, names: bool = True) -> None:
        self.where, self._data, self._base, self._names = pattern, data, base, names

    @cached_property
    def _found(self) -> Found:
        return files_under(self.where, self.suffix, self._data, self._base)

    @property
    def _files(self) -> Sequence[tuple[Path, str]]:
        return self._found.files

    @property
    def root(self) -> Path:
        return self._found.root

    @property
    def prefixes(self) -> tuple[str, ...]:
        return tuple(sorted({prefix for _, prefix in self._files}))

    @cached_property
    def _states(self) -> list[list[object]]:
        """States of the files before RIB first read them."""
        return file_states(self._files)

    def stamp(self, rows: Rows) -> object:
        self.listing()  # notes the states, then reads the files
        if (now := file_states(self._files)) != self._states:
            raise changed(f"a file in {self.where}")
        return [rows.tolist(), now]
