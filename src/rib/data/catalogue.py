"""Catalogue of data sets: each row describes one; a suite file may add rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rib.data import digits
from rib.data.arrays import ArraySet
from rib.data.base import DataSet
from rib.data.cells import CelledContainer
from rib.data.contained import ContainedSet
from rib.data.containers import Container
from rib.data.examples import Part
from rib.data.fields import FIELDS, open_fields
from rib.data.folders import FolderContainer, check_class_folders
from rib.data.groups import GroupRule
from rib.data.imagenet import PREFIX, open_imagenet
from rib.data.imagenet_classes import wnids
from rib.data.named_maps import Targets, read_map, targets_of
from rib.data.parquet import ParquetContainer
from rib.data.photo_sets import photo_sets
from rib.data.places import Place
from rib.data.published import PUBLISHED
from rib.data.scans import DigitsSet
from rib.data.shards import ShardContainer
from rib.data.sources import GROUP, SourceRule
from rib.data.tables import TextColumns
from rib.data.text_sets import text_sets
from rib.data.texts import MisspeltTexts, TextSet
from rib.errors import UserError, nearest
from rib.files import expanded
from rib.recipe import Frozen
from rib.text.terminal import name_fault

CONTAINERS = ("folder", "parquet", "shards")
KINDS = (*CONTAINERS, "arrays", "text", "digits", "fields")
MOST_LEVELS = 4
"""Maximum number of folder levels that name a cell."""

SOURCES = ("source", "source_column", "source_file")

GROUPS = ("group_column", "group_file")

TEXT_OPTIONS = ("text_column", "pair_column", "label_column", "misspelt")


class DataRow(Frozen):
    """The description of a data set: exactly one of `folder`, `parquet`, `shards`, `arrays`, `text`, `digits`, `fields`
    and `imagenet`. Beside `imagenet`, one of the first three may give its location.
    """

    folder: str | None = Field(None, description="<folder>/<class>/<image>")
    parquet: str | None = Field(None, description="folder or pattern of Parquet files with images and labels")
    shards: str | None = Field(None, description="folder or pattern of WebDataset tar shards")
    arrays: str | None = Field(None, description=".npz file with `images` and `labels`")
    text: str | None = Field(None, description="texts: .parquet, .csv or .jsonl; a file, a folder or a pattern")
    text_column: str | None = Field(None, description="column of the texts; default text, sentence, content or review")
    pair_column: str | None = Field(None, description='column of the second text of pairs; "" if there are no pairs')
    label_column: str | None = Field(None, description="column of the labels; default label, or as in Parquet files")
    group_column: str | None = Field(
        None, description="column of a table of texts or of Parquet files, or array, that names the group of each row"
    )
    group_file: str | None = Field(None, description="CSV with the columns file (CLASS/NAME) and group, of images")
    misspelt: tuple[str, ...] | None = Field(
        None, description="test the texts with these kinds of misspelling at five severities; [] for all kinds"
    )
    digits: str | None = Field(None, description="a domain of the embedded suite of images")
    fields: str | None = Field(None, description="a domain of the embedded suite of texts")
    imagenet: str | None = Field(None, description="a published ImageNet set")
    test_folder: str | None = Field(None, description="a second tree, to test on")
    test_parquet: str | None = Field(None, description="second Parquet files, to test on")
    test_shards: str | None = Field(None, description="second shards, to test on")
    test_text: str | None = Field(None, description="second texts, to test on")
    test_arrays: str | None = Field(None, description="a second .npz file, to test on")
    test_fraction: float = Field(0.0, ge=0, lt=1, description="share of the source images to test on")
    classes: tuple[str, ...] | None = Field(
        None, description='class names, in order; "imagenet" for the 1000 WordNet ids of ImageNet-1k'
    )
    absent_classes: bool = Field(False, description="`classes` may name classes that have no images here")
    labels: str | dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict,
        description="reference classes for classes with other names; or a named map, such as imagenet:pacs",
    )
    combine: Literal["max", "mean", "sum"] = Field(
        "max",
        description="for a class with several reference classes: their largest logit, or the mean or sum of their "
        "probabilities",
    )
    family: str | None = Field(None, description="source family: sets that show the same source images")
    cells: int | tuple[str, ...] | None = Field(
        None,
        description="levels of folders above the classes, or columns or arrays, that name corruption and severity",
    )
    source: str | None = Field(None, description="pattern of file names whose group (?P<source>…) is the source")
    source_column: str | None = Field(None, description="column of the Parquet files that names the source image")
    source_file: str | None = Field(None, description="CSV with the columns file (CLASS/NAME) and source")
    url: str = Field("", description="where to get the set; shown if it is missing")
    licence: str = Field("", description="its licence, in a few words")
    allow_incomplete: bool = Field(False, description="accept a copy with missing images; every result says so")

    @field_validator("family")
    @classmethod
    def _family_of(cls, name: str | None) -> str | None:
        """Replace a published set by its family, so that a set rendered from `imagenet:val` pairs with it."""
        published = PUBLISHED.get((name or "").removeprefix(PREFIX))
        return published.family if name and name.startswith(PREFIX) and published else name or None

    @field_validator("classes", mode="before")
    @classmethod
    def _named_classes(cls, classes: Any) -> Any:
        """Replace the name of a list of classes by the list."""
        return wnids() if classes == PREFIX.rstrip(":") else classes

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if self.imagenet is not None:
            return self._published(kinds)
        if len(kinds) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}, imagenet (got {', '.join(kinds) or 'none'})")
        tested = [kind for kind in KINDS[:-2] if getattr(self, f"test_{kind}") is not None]
        if wrong := [kind for kind in tested if kinds != [kind]]:
            raise ValueError(f"test_{wrong[0]} goes with {wrong[0]}")
        if self.test_fraction and tested:
            raise ValueError("give either test_fraction or a second set to test on")
        if self.allow_incomplete:
            raise ValueError("allow_incomplete goes with imagenet")
        return self._sourced(kinds[0])

    def _celled(self, kind: str) -> None:
        if kind not in (*CONTAINERS, "arrays", "text"):
            raise ValueError(f"cells goes with {', '.join(CONTAINERS)}, arrays, text")
        if isinstance(self.cells, int) and (kind in ("arrays", "text") or not 1 <= self.cells <= MOST_LEVELS):
            raise ValueError(f"cells is a number of folders from 1 to {MOST_LEVELS}, or a list of columns or arrays")
        if isinstance(self.cells, tuple) and (kind not in ("parquet", "arrays", "text") or not self.cells):
            raise ValueError(
                'cells as a list names columns of parquet or text, or arrays, such as ["corruption", "severity"]'
            )

    def _grouped(self, kind: str) -> None:
        if self.group_column is not None and kind not in ("parquet", "arrays", "text"):
            raise ValueError(
                "group_column goes with parquet, arrays, text; for images in other containers use group_file"
            )
        if self.group_file is not None and kind not in CONTAINERS:
            raise ValueError(f"group_file goes with {', '.join(CONTAINERS)}")
        if self.group_column is not None and self.group_file is not None:
            raise ValueError(f"give at most one of {', '.join(GROUPS)}")

    def _sourced(self, kind: str) -> Self:
        given = [field for field in SOURCES if getattr(self, field) is not None]
        if self.cells is not None:
            self._celled(kind)
        if self.absent_classes and (self.classes is None or kind not in (*CONTAINERS, "text")):
            raise ValueError(f"absent_classes goes with `classes` and {', '.join(CONTAINERS)}, text")
        if kind != "text" and (wrong := [name for name in TEXT_OPTIONS if getattr(self, name) is not None]):
            raise ValueError(f"{wrong[0]} goes with text")
        self._grouped(kind)
        if len(given) > 1:
            raise ValueError(f"give at most one of {', '.join(SOURCES)} (got {', '.join(given)})")
        if kind == "text" and given and given != ["source_column"]:
            raise ValueError(f"{given[0]} goes with images; for texts use source_column")
        if given and kind not in (*CONTAINERS, "text"):
            raise ValueError(f"{given[0]} goes with {', '.join(CONTAINERS)}; an .npz file has an array `sources`")
        if self.source_column is not None and kind not in ("parquet", "text"):
            raise ValueError("source_column goes with parquet and text")
        try:
            pattern = re.compile(self.source or f"(?P<{GROUP}>)")
        except re.error as error:
            raise ValueError(f"source is no regular expression: {error}") from None
        if GROUP not in pattern.groupindex:
            raise ValueError(f"source has no group (?P<{GROUP}>…)")
        return self

    def _published(self, kinds: list[str]) -> Self:
        if self.imagenet not in PUBLISHED:
            raise ValueError(f"there is no published set {self.imagenet!r}; valid: {', '.join(PUBLISHED)}")
        if len(kinds) > 1 or set(kinds) - set(CONTAINERS):
            raise ValueError(f"beside imagenet, give at most one of {', '.join(CONTAINERS)} (got {', '.join(kinds)})")
        fixed = (
            "test_folder",
            "test_parquet",
            "test_shards",
            "test_arrays",
            "test_text",
            "test_fraction",
            "classes",
            "family",
            "absent_classes",
        )
        if given := [field for field in (*fixed, *SOURCES, *GROUPS, "cells") if getattr(self, field)]:
            raise ValueError(f"{given[0]} does not go with imagenet: the published set defines it")
        return self

    @property
    def origin(self) -> str:
        """The origin of the data, for listings."""
        own = next((f"embedded {kind}, {name}" for kind in ("digits", "fields") if (name := getattr(self, kind))), "")
        return own or f"{self.text or self.folder or ''}: {self.url}".removesuffix(": ")

    @property
    def place(self) -> Place:
        """The location of a published set as the row gives it."""
        said = {kind: getattr(self, kind) for kind in CONTAINERS}
        return Place(**said, allow_incomplete=self.allow_incomplete)

    def label_targets(self, base: Path, classes: Sequence[str] | None = None) -> Targets:
        """`labels` as a table from each class to the reference classes that stand for it.

        Args:
            base: the folder that relative paths start from.
            classes: the set's classes, to which a named map is restricted; None keeps the whole map.

        Raises:
            UserError: `labels` names no map.
        """
        if not isinstance(self.labels, str):
            return targets_of(self.labels)
        named = read_map(self.labels, base)
        return named if classes is None else {name: to for name, to in named.items() if name in classes}

    @property
    def labels_words(self) -> str:
        """How `labels` and `combine` change the label map, as part of its name; "" if they do not change it."""
        combined = f"{self.combine} of the synonyms' probabilities" if self.combine != "max" else ""
        named = f"labels {self.labels}" if isinstance(self.labels, str) else "with [labels]" if self.labels else ""
        return ", ".join(filter(None, (named, combined)))


ROWS: Mapping[str, DataRow] = {
    **{f"digits:{domain}": DataRow(digits=domain) for domain in digits.DOMAINS + digits.PRETRAINING},
    **{f"fields:{domain}": DataRow(fields=domain) for domain in FIELDS},
    **{PREFIX + key: DataRow(imagenet=key) for key in PUBLISHED},
    **{name: DataRow(**fields) for name, fields in photo_sets()},
    **{name: DataRow(**fields) for name, fields in text_sets()},
}


def with_families(rows: Mapping[str, DataRow]) -> dict[str, DataRow]:
    """The rows, in which a set whose name is another set's family belongs to that family too."""
    named = {row.family for row in rows.values()}
    own = {
        name: row.family is None and row.imagenet is None and row.digits is None and row.fields is None
        for name, row in rows.items()
    }
    return {
        name: row.model_copy(update={"family": name}) if name in named and own[name] else row
        for name, row in rows.items()
    }


def find_row(name: str, own: Mapping[str, DataRow]) -> DataRow:
    """The row of that name; the suite's rows have priority over RIB's.

    Raises:
        UserError: there is no such row; the message suggests the nearest name.
    """
    row = own.get(name) or ROWS.get(name)
    if row is None:
        raise nearest(name, [*own, *ROWS], "data set")
    return row


MOST_CLASSES = (1 << 15) - 1
"""Maximum number of classes of a data set, because predictions store a class in 16 bits."""


def open_data(name: str, row: DataRow, base: Path, cache: Path | None) -> DataSet:
    """Open the data set that a row describes.

    Args:
        name: its name in the suite.
        row: its row.
        base: the folder that relative paths start from; environment variables in paths are expanded.
        cache: folder for fingerprints of unchanged data.

    Raises:
        UserError: the data are missing, empty or malformed, or a class name cannot be displayed.
    """
    try:
        data = _open(name, row, base, cache)
    except UserError as error:
        if row.url and "not found" in error.problem:
            terms = f" ({row.licence})" if row.licence else ""
            error = UserError(
                error.problem, got=error.got, valid=error.valid, remedy=f"get it from {row.url}{terms}; {error.remedy}"
            )
        raise error from None
    if (count := len(data.classes)) > MOST_CLASSES:
        raise UserError(f"data set {name!r} has too many classes", got=f"{count:,}", valid=f"{MOST_CLASSES:,} at most")
    for one in data.classes:
        if fault := name_fault(one):
            got, remedy = ascii(one)[:200], "rename the class"
            raise UserError(f"data set {name!r}: a class name has {fault}", got=got, remedy=remedy)
    return data


def require_some(data: DataSet, part: Part) -> None:
    """Check that a part is not empty.

    Raises:
        UserError: it has no images.
    """
    if not len(data.index(part)):
        what = f"data set {data.name!r} has no {data.noun} to {part} on"
        raise UserError(what, got=f"0 {data.noun}", remedy=f"give it more {data.noun}, or another test_fraction")


def _open(name: str, row: DataRow, base: Path, cache: Path | None) -> DataSet:
    if row.digits is not None:
        return DigitsSet(name, row.digits, cache)
    if row.imagenet is not None:
        return open_imagenet(name, row.imagenet, row.place, base, cache)
    if row.fields is not None:
        return open_fields(name, row.fields)
    if row.text is not None:
        return _open_texts(name, row, base)
    if row.arrays is not None:
        second = expanded(base, row.test_arrays) if row.test_arrays else None
        return ArraySet(
            name,
            expanded(base, row.arrays),
            test_file=second,
            test_fraction=row.test_fraction,
            classes=row.classes,
            family=row.family,
            cells=row.cells if isinstance(row.cells, tuple) else (),
            groups=row.group_column,
        )
    kind = next(kind for kind in CONTAINERS if getattr(row, kind) is not None)
    test = getattr(row, f"test_{kind}")
    return ContainedSet(
        name,
        _celled(name, kind, expanded(base, getattr(row, kind)), base, row.cells),
        test=_celled(name, kind, expanded(base, test), base, row.cells) if test else None,
        test_fraction=row.test_fraction,
        classes=row.classes,
        family=row.family,
        sources=SourceRule(
            row.source, row.source_column, expanded(base, row.source_file) if row.source_file is not None else None
        ),
        groups=GroupRule(row.group_column, expanded(base, row.group_file) if row.group_file is not None else None),
        targets=row.label_targets(base),
        absent=row.absent_classes,
        cache=cache,
    )


def _open_texts(name: str, row: DataRow, base: Path) -> DataSet:
    assert row.text is not None
    cells = row.cells if isinstance(row.cells, tuple) else ()
    texts = TextSet(
        name,
        expanded(base, row.text),
        TextColumns(row.text_column, row.pair_column, row.label_column, row.source_column, row.group_column, cells),
        base=base,
        test=expanded(base, row.test_text) if row.test_text else None,
        test_fraction=row.test_fraction,
        classes=row.classes,
        family=row.family,
        absent=row.absent_classes,
    )
    return texts if row.misspelt is None else MisspeltTexts(name, texts, row.misspelt)


def _celled(name: str, kind: str, path: Path, base: Path, cells: int | tuple[str, ...] | None) -> Container:
    if cells is None:
        return _container(name, kind, path, base)
    return CelledContainer(_container(name, kind, path, base, cells if isinstance(cells, int) else 0), cells, name)


def _container(name: str, kind: str, path: Path, base: Path, above: int = 0) -> Container:
    if kind == "parquet":
        return ParquetContainer(path, name, base)
    if kind == "shards":
        return ShardContainer(path, name, base)
    tree = FolderContainer(path, name, 1 + above)
    check_class_folders(tree, name)
    return tree
