"""Catalogue of data sets: a row names one; a suite file may add rows of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from rib.data import digits
from rib.data.arrays import ArraySet
from rib.data.base import DataSet
from rib.data.folders import FolderSet
from rib.data.scans import DigitsSet
from rib.errors import nearest
from rib.recipe import Frozen


class DataRow(Frozen):
    """A data set in words: exactly one of `folder`, `arrays` and `digits`."""

    folder: str | None = Field(None, description="<folder>/<class>/<image>")
    arrays: str | None = Field(None, description=".npz file with `images` and `labels`")
    digits: str | None = Field(None, description="a domain of the embedded suite")
    test_folder: str | None = Field(None, description="a second tree, tested on")
    test_arrays: str | None = Field(None, description="a second .npz file, tested on")
    test_fraction: float = Field(0.0, ge=0, lt=1, description="share of the source images that is tested on")
    classes: tuple[str, ...] | None = Field(None, description="class names, in order")
    labels: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict, description="reference classes that a class of another name means"
    )
    family: str | None = Field(None, description="source family; default the data set's own name")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [kind for kind in ("folder", "arrays", "digits") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"give exactly one of folder, arrays, digits (got {', '.join(kinds) or 'none'})")
        for kind in ("folder", "arrays"):
            if getattr(self, f"test_{kind}") and kinds != [kind]:
                raise ValueError(f"test_{kind} goes with {kind}")
        if self.test_fraction and (self.test_folder or self.test_arrays):
            raise ValueError("give either test_fraction or a second set to test on")
        return self

    @property
    def label_targets(self) -> dict[str, tuple[str, ...]]:
        """`labels` with every value a tuple."""
        return {name: (to,) if isinstance(to, str) else tuple(to) for name, to in self.labels.items()}


ROWS: Mapping[str, DataRow] = {
    f"digits:{domain}": DataRow(digits=domain) for domain in digits.DOMAINS + digits.PRETRAINING
}


def find_row(name: str, own: Mapping[str, DataRow]) -> DataRow:
    """The row of that name, from the suite's own rows first.

    Raises:
        UserError: there is none; the nearest name is suggested.
    """
    row = own.get(name) or ROWS.get(name)
    if row is None:
        raise nearest(name, [*own, *ROWS], "data set")
    return row


def open_data(name: str, row: DataRow, base: Path, cache: Path | None) -> DataSet:
    """The data set behind a row.

    Args:
        name: its name in the suite.
        row: its row.
        base: the folder that relative paths start from; environment variables in paths are expanded.
        cache: folder for fingerprints of what does not change.

    Raises:
        UserError: the data are missing, empty or malformed.
    """
    if row.digits is not None:
        return DigitsSet(name, row.digits, cache)
    common = {"test_fraction": row.test_fraction, "classes": row.classes, "family": row.family}
    if row.folder is not None:
        second = _path(base, row.test_folder) if row.test_folder else None
        return FolderSet(name, _path(base, row.folder), test_root=second, cache=cache, **common)  # type: ignore[arg-type]
    assert row.arrays is not None
    second = _path(base, row.test_arrays) if row.test_arrays else None
    return ArraySet(name, _path(base, row.arrays), test_file=second, **common)  # type: ignore[arg-type]


def _path(base: Path, text: str) -> Path:
    return base / Path(os.path.expandvars(text)).expanduser()
