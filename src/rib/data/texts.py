"""Data sets in tables of texts: one table that RIB splits or uses whole for tuning and testing, or two."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Rows
from rib.data.base import DataSet, Form
from rib.data.cells import joined, number_cells, require_every_class
from rib.data.classes import Labelled, name_classes
from rib.data.containers import Listing, short_digests
from rib.data.examples import Index, Part
from rib.data.groups import group_bytes, grouped
from rib.data.lengths import Cut, Pairs, count_cut, cut_fact
from rib.data.misspelling import Misspelling
from rib.data.orders import author_order, near_folders
from rib.data.sources import apart, as_one, numbered
from rib.data.splits import carve, divided
from rib.data.tables import TextColumns, TextTable, read_table
from rib.data.tokens import bytes_view, tokenized
from rib.data.views import Decode, Inputs, View, as_tokens
from rib.identity import digest


class Texts(DataSet):
    """What all data sets of texts share."""

    trial: View = bytes_view(64)
    noun: str = "texts"
    copied: str = "but for case and spaces"
    cuts: bool = True

    def require_view(self, view: View) -> None:
        as_tokens(view, self.name)

    def texts(self, part: Part, rows: Sequence[int]) -> Pairs:
        """The texts of some rows."""
        raise NotImplementedError

    def words(self, part: Part, rows: Sequence[int]) -> list[str]:
        firsts, seconds = self.texts(part, rows)
        return [" | ".join(pair) for pair in zip(firsts, seconds, strict=True)] if seconds else list(firsts)

    def settings(self, decode: Decode) -> tuple[str, ...]:
        return ()

    def cut(self, part: Part, view: View, cache: Path | None) -> Cut:
        tokens = as_tokens(view, self.name)
        known = cut_fact(cache, self.fingerprint(part), tokens)
        return count_cut(lambda rows: self.texts(part, rows), len(self.index(part)), tokens, known)

    def read(self, part: Part, rows: Sequence[int], view: View) -> Inputs:
        return tokenized(as_tokens(view, self.name), *self.texts(part, rows))


class TextSet(Texts):
    """A data set in one table, or in two of which the second is the test set.

    Args:
        name: the data set's name.
        tune: the table to tune on; also to test on if there is no second table.
        columns: the columns to read.
        base: the folder that relative paths start from.
        test: the table to test on.
        test_fraction: share of the sources that is used only to test. Sources with copies of one text count as one, so
            no copy of a text that is tuned on is tested on; not with `family`, whose sets share their sources.
        classes: the classes to use, in order; default: all, in the order of docs/extending.md.
        family: source family, whose sets show the same sources.
        absent: whether some of `classes` may have no texts.

    Raises:
        UserError: a table cannot be read, a class is missing, or two sources state different orders of the classes.
    """

    def __init__(
        self,
        name: str,
        tune: Path,
        columns: TextColumns,
        *,
        base: Path | None = None,
        test: Path | None = None,
        test_fraction: float = 0.0,
        classes: Sequence[str] | None = None,
        family: str | None = None,
        absent: bool = False,
    ) -> None:
        self.name, self.family, self.units = name, family or name, family or name
        tables = [read_table(path, columns, name, base) for path in (tune, test) if path]
        self.columns = tables[0].read
        found = name_classes(name, [_labelled(table, name, classes is None) for table in tables], classes, absent)
        self.classes = found.names
        self.left_out = (*dict.fromkeys(note for table in tables for note in table.left_out), *found.left_out)
        self.disjoint, self.matched = bool(test or test_fraction), columns.source is not None
        index, rows = self._read_index(tables[0], found.label_of[0], columns)
        if test is not None:
            test_index, test_rows = self._read_index(tables[1], found.label_of[1], columns)
            if not self.matched:
                index, test_index = apart(index, test_index, None)
            self._parts = {"tune": (tables[0], index, rows), "test": (tables[1], test_index, test_rows)}
        else:
            if test_fraction and not family:
                index = replace(index, sources=as_one(index.sources, self._copies(tables[0], rows)))
            split = divided(index, test_fraction) if family else carve(index, test_fraction, 0, "test part")
            first, second = split if self.disjoint else (split[0], split[0])
            self._parts = {
                "tune": (tables[0], index.take(first), rows[first]),
                "test": (tables[0], index.take(second), rows[second]),
            }

    @staticmethod
    def _copies(table: TextTable, rows: Rows) -> NDArray[np.uint64]:
        """Equal numbers for rows whose texts are equal but for case and spaces: uint64 (N,)."""
        return _plain_digests(*_pairs(table, rows))

    def _read_index(self, table: TextTable, label_of: Rows, columns: TextColumns) -> tuple[Index, Rows]:
        """The index of all rows whose class is used, in the order of the table, and those rows."""
        listing = _listing(table)
        labels = label_of[listing.folder_of]
        rows = np.flatnonzero(labels >= 0)
        sources = np.arange(len(rows))
        if table.sources is not None:
            sources = numbered(
                self.name, [table.sources[row] for row in rows.tolist()], f"the column {columns.source!r}"
            )
        index = Index(labels[rows].astype(np.int64), sources)
        if table.cells:
            names, cells = number_cells(self.name, joined(self.name, table.cells))
            require_every_class(self.name, table.root, listing, names, cells)
            index = replace(index, cells=cells[rows], cell_names=names)
        if table.groups is not None:
            values = [table.groups[row] for row in rows.tolist()]
            index = grouped(index, self.name, values, f"the column {columns.group!r}")
        return index, rows

    def index(self, part: Part) -> Index:
        return self._parts[part][1]

    def fingerprint(self, part: Part) -> str:
        return self._fingerprints[part]

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {
            part: _fingerprint(self._digests[part], index, self.matched) for part, (_, index, _) in self._parts.items()
        }

    @cached_property
    def _digests(self) -> Mapping[str, list[str]]:
        found = {"tune": self._digested("tune")}
        return found | {"test": self._digested("test") if self.disjoint else found["tune"]}

    def _digested(self, part: Part) -> list[str]:
        return text_digests(*self.texts(part, range(len(self.index(part)))))

    def contents(self, part: Part) -> NDArray[np.uint64]:
        return short_digests(self._digests[part])

    def form(self, part: Part) -> Form:
        return Form(True, 0)

    def pictures(self, part: Part) -> NDArray[np.uint64]:
        return _plain_digests(*self.texts(part, range(len(self.index(part)))))

    def names(self, part: Part) -> list[str]:
        table, _, rows = self._parts[part]
        return [table.title(row) for row in rows.tolist()]

    def texts(self, part: Part, rows: Sequence[int]) -> Pairs:
        table, _, all_rows = self._parts[part]
        return _pairs(table, all_rows[np.asarray(rows, np.int64)])


class MisspeltTexts(Texts):
    """The test part of a set of texts with every kind of misspelling at every severity; models are never tuned on it.

    Args:
        name: the data set's name.
        clean: the set to misspell.
        kinds: names of the kinds; default all.
        severities: from 1 to 5.
        most: maximum number of rows per cell; every cell has the same rows; default all.

    Raises:
        UserError: a kind or a severity is unknown.
    """

    def __init__(
        self,
        name: str,
        clean: Texts,
        kinds: Sequence[str] = (),
        severities: Sequence[int] = (1, 2, 3, 4, 5),
        most: int | None = None,
    ) -> None:
        self.name, self.family, self.units, self.classes = name, clean.family, clean.units, clean.classes
        self.disjoint, self.matched, self.shipped = True, clean.matched, clean.shipped
        self.columns = clean.columns
        self._clean = clean
        self._cells = [
            Misspelling.of(kind, severity) for kind in kinds or Misspelling.kinds() for severity in severities
        ]
        whole = clean.index("test")
        self._rows = np.arange(len(whole)) if most is None else _balanced(whole, most)

    @property
    def parts(self) -> tuple[Part, ...]:
        return ("test",)

    def index(self, part: Part) -> Index:
        if part != "test":
            return Index(np.empty(0, np.int64), np.empty(0, np.int64))
        index, count = self._clean.index("test").take(self._rows), len(self._cells)
        cells = np.repeat(np.arange(count, dtype=np.int16), len(index))
        whole = index.take(np.tile(np.arange(len(index)), count))
        return replace(whole, cells=cells, cell_names=tuple(each.name for each in self._cells))

    def fingerprint(self, part: Part) -> str:
        cells = [each.identity for each in self._cells] if part == "test" else []
        return digest(json.dumps([self._clean.fingerprint("test"), self._rows.tolist(), cells]).encode())

    def names(self, part: Part) -> list[str]:
        clean = self._clean.names("test")
        return [f"{each.name}: {clean[row]}" for each in self._cells for row in self._rows.tolist()]

    def texts(self, part: Part, rows: Sequence[int]) -> Pairs:
        places = np.asarray(rows, np.int64)
        cells, clean = np.divmod(places, len(self._rows))
        texts, seconds = self._clean.texts("test", self._rows[clean].tolist())
        kinds = [self._cells[cell] for cell in cells.tolist()]
        changed = [kind.misspelt(text) for kind, text in zip(kinds, texts, strict=True)]
        if seconds is None:
            return changed, None
        return changed, [kind.misspelt(text) for kind, text in zip(kinds, seconds, strict=True)]


def _pairs(table: TextTable, rows: Rows) -> Pairs:
    """The texts of rows of a table."""
    seconds = None if table.seconds is None else table.seconds.take(rows).to_pylist()
    return table.texts.take(rows).to_pylist(), seconds


def _plain_digests(texts: Sequence[str], seconds: Sequence[str] | None) -> NDArray[np.uint64]:
    """Equal numbers for texts or pairs that are equal but for case and spaces: uint64 (N,)."""
    plain = [_plain(text) for text in texts]
    return short_digests(text_digests(plain, None if seconds is None else [_plain(text) for text in seconds]))


def _plain(text: str) -> str:
    """A text without differences of case, outer spaces and Unicode form, so that copies of one text are equal."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_digests(texts: Sequence[str], seconds: Sequence[str] | None) -> list[str]:
    """A digest of each text or pair of texts."""
    pairs = [(text,) for text in texts] if seconds is None else zip(texts, seconds, strict=True)
    return [digest(json.dumps(pair).encode()) for pair in pairs]


def _fingerprint(contents: Sequence[str], index: Index, matched: bool) -> str:
    parts = [json.dumps([index.labels.tolist(), list(contents)]).encode(), index.sources.tobytes() if matched else b""]
    if index.cells is not None:
        parts.append(index.cells.tobytes() + json.dumps(index.cell_names).encode())
    return digest(b"".join([*parts, group_bytes(index)]))


def _balanced(index: Index, most: int) -> Rows:
    """The first rows of each class in turn, ascending; always the same for the same arguments."""
    rank = np.empty(len(index), np.int64)
    for label in np.unique(index.labels):
        members = np.flatnonzero(index.labels == label)
        rank[members] = np.arange(len(members))
    return np.sort(np.lexsort((index.labels, rank))[:most])


def _listing(table: TextTable) -> Listing:
    found, inverse = np.unique(np.array(table.labels), return_inverse=True)
    return Listing(
        tuple(found.tolist()), inverse.astype(np.int32), [str(row) for row in range(len(table))], named=False
    )


def _labelled(table: TextTable, data: str, ordered: bool) -> Labelled:
    """A table's labels; with `ordered`, also the order of classes that its author states."""
    names, says, near = author_order(table.root, data, table.names, table.root, ordered)
    folders = near_folders(table.root) if ordered else ()
    return Labelled(
        table.root / table.files[0][0], _listing(table), names, says, beside=near, noun="texts", folders=folders
    )
