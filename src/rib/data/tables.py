"""Tables of texts with one row per text and columns for labels, sources, groups and cells."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from rib.data.classes import MISSING, disagreement, shortened
from rib.data.columns import LABEL_COLUMNS, class_names, label_words
from rib.data.companions import may_speak, names_beside, renamed, require_rows_of_one_split
from rib.data.globs import MISPLACED, files_under
from rib.data.table_files import Column, table_columns
from rib.errors import UserError, with_near_path

SUFFIXES = (".parquet", ".csv", ".jsonl")
TEXT_COLUMNS = ("text", "sentence", "content", "review")
SECOND_COLUMNS = ("text_pair", "text2", "sentence2", "hypothesis", "pair", "context", "passage")
"""Names of columns that suggest the second text of a pair. RIB never ignores such a column silently."""

PARTNERS = {
    "hypothesis": ("premise",),
    "passage": ("query", "question"),
    "context": ("question", "query"),
    "answer": ("question",),
    "document": ("query", "question"),
    "sentence": ("query", "question", "premise"),
    "text": ("query", "question", "premise"),
    "content": ("query", "question"),
}
"""Columns that are the other text of a pair beside a text of that name."""

SAME_LABEL = (*LABEL_COLUMNS, "gold_label", "gold")
"""Columns that hold the same labels as the one that is used, perhaps in other words."""

LIBRARIES_NAN = ("nan", "NaN", "<NA>", "NaT")
"""What pandas writes, as text, in place of a text that is missing."""

_CONVERT = {
    ".tsv": "convert it, as in pandas.read_csv(FILE, sep='\\t').to_parquet(NEW)",
    ".json": "write one JSON object per line: pandas.read_json(FILE).to_parquet(NEW) does, as Parquet",
    ".ndjson": "rename it to .jsonl",
    ".gz": "unpack it, as in gunzip FILE.gz",
}
"""What to do with files that are no table, by their suffix."""

ABSENT = ("", *MISSING)
"""Values that say that there is none, in lower case."""


@dataclass(frozen=True)
class TextColumns:
    """Names of the columns of a table; None for the usual name, "" for no column.

    Attributes:
        text: the texts.
        pair: the second texts of pairs.
        label: the labels.
        source: the source of each text: the unit of the bootstrap.
        group: the group of each text, for the accuracy of the worst group.
        cells: together name the cell of each text, such as corruption and severity.
    """

    text: str | None = None
    pair: str | None = None
    label: str | None = None
    source: str | None = None
    group: str | None = None
    cells: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str | None, ...]:
        """The columns that the user named."""
        return (self.text, self.pair, self.label, self.source, self.group, *self.cells)


@dataclass(frozen=True)
class TextTable:
    """Rows of one table file, or of several files one after the other.

    Attributes:
        root: folder of the files.
        texts: large_string (N,).
        seconds: the second texts; None if the rows are no pairs.
        labels: N labels as text.
        names: classes in their author's order, if the files state it.
        sources, groups: values of these columns; None without them.
        cells: values of the columns that name the cell.
        files: name of each file with the number of its first row here.
        left_out: other files there, which are not read, in words.
        read: names of the columns of the texts, and of the second texts if the rows are pairs.
    """

    root: Path
    texts: Any
    seconds: Any
    labels: Sequence[str]
    names: tuple[str, ...] | None
    sources: Sequence[Any] | None
    groups: Sequence[Any] | None
    cells: tuple[Sequence[str], ...]
    files: tuple[tuple[str, int], ...]
    left_out: tuple[str, ...]
    read: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def title(self, row: int) -> str:
        """A row for messages, counted from 1 in its file: "reviews.csv, row 3"."""
        name, first = next((name, first) for name, first in reversed(self.files) if first <= row)
        return f"{name}, row {row - first + 1:,}"


def read_table(pattern: Path, columns: TextColumns, data: str, base: Path | None = None) -> TextTable:
    """Read the rows of a file, of the files in a folder, or of those that a pattern matches.

    Args:
        pattern: .parquet, .csv or .jsonl.
        columns: the columns to read.
        data: the data set's name, for errors.
        base: the folder that a relative pattern starts from.

    Raises:
        UserError: a file or a column is missing; a row has no text, is not UTF-8, or has no label.
    """
    found = files_under(pattern, _suffix(pattern, data), data, base)
    parts = [_File(path, columns, data) for path, _ in found.files]
    _require_one(parts, data)
    files, count = [], 0
    for part in parts:
        files.append((part.path.name, count))
        count += len(part.labels)
    first = parts[0]
    if not count:
        raise UserError(f"data set {data!r}: no rows", got=pattern, valid="a row for each text")
    labels, names = [label for part in parts for label in part.labels], first.names
    if first.said is not None:
        labels, names = renamed(labels, [name for part in parts for name in part.said or ()], data)
    return TextTable(
        found.root,
        pa.chunked_array([part.texts for part in parts]),
        pa.chunked_array([part.seconds for part in parts]) if first.seconds is not None else None,
        labels,
        names,
        [value for part in parts for value in part.sources or ()] if first.sources is not None else None,
        [value for part in parts for value in part.groups or ()] if first.groups is not None else None,
        tuple([str(value) for part in parts for value in part.cells[place]] for place in range(len(columns.cells))),
        tuple(files),
        found.left_out + _unread(parts),
        first.read,
    )


def _unread(parts: Sequence[_File]) -> tuple[str, ...]:
    """The columns that are not read, in words; none if there are none."""
    names = list(dict.fromkeys(name for part in parts for name in part.unread if name))
    if not names:
        return ()
    return (f"columns of {parts[0].path.name} that are not read: {shortened(names, 5)}",)


def _suffix(pattern: Path, data: str) -> str:
    """The suffix of the files: that of the name, or the only one in a folder."""
    named = pattern.suffix.lower() in SUFFIXES
    if named and (pattern.exists() or any(mark in str(pattern) for mark in "*?[{")):
        return pattern.suffix.lower()
    if not pattern.exists():
        raise UserError(
            f"data set {data!r}: file or folder not found", got=pattern, valid=" ".join(SUFFIXES),
            remedy=with_near_path(pattern, MISPLACED),
        )  # fmt: skip
    if not pattern.is_dir():
        raise UserError(
            f"data set {data!r}: {pattern.name} is no table of texts", got=pattern.suffix or "no suffix",
            valid=" ".join(SUFFIXES), remedy=_CONVERT.get(pattern.suffix.lower()),
        )  # fmt: skip
    kinds = sorted({suffix for path in pattern.rglob("*") if (suffix := path.suffix.lower()) in SUFFIXES})
    if len(kinds) != 1:
        raise UserError(
            f"data set {data!r}: a folder of texts holds files of one kind", got=", ".join(kinds) or "none of them",
            valid=" ".join(SUFFIXES),
            remedy="name the files by a pattern, such as DIR/train-*.parquet" if kinds
            else "write one table, with a row for each text and the columns text and label",
        )  # fmt: skip
    return kinds[0]


class _File:
    """One checked file of a table. Args: as `read_table`."""

    def __init__(self, path: Path, columns: TextColumns, data: str) -> None:
        self.path, self._data = path, data
        table, metadata = table_columns(path, data)
        text = self._name(table, columns.text, TEXT_COLUMNS, "text_column")
        label = self._name(table, columns.label, LABEL_COLUMNS, "label_column")
        pair = self._pair(table, text, columns.pair)
        self._require_roles(text=text, pair=pair, label=label)
        self.read = tuple(name for name in (text, pair) if name)
        self.names = class_names(metadata, label, path, data)
        self.labels = label_words(table[label], self.names, path, data)
        self._require_one_label(table, label, metadata)
        beside = {name: table[name] for name in may_speak(table) if name not in columns.named}
        require_rows_of_one_split(beside, path, data)
        self.said = None if self.names else names_beside(self.labels, beside, path, data)
        self.texts = self._texts(table[text], text)
        self.seconds = self._texts(table[pair], pair) if pair else None
        self.sources = self._filled(table, columns.source)
        self.groups = self._filled(table, columns.group)
        self.cells = [self._filled(table, name) or [] for name in columns.cells]
        self.unread = [name for name in table if name not in (*columns.named, text, label, pair, *beside)]

    def _require_roles(self, **columns: str | None) -> None:
        """Refuse one column in two roles: a text that is its own label, or its own second text."""
        names = [name for name in columns.values() if name]
        if len(set(names)) < len(names):
            raise UserError(
                f"data set {self._data!r}: one column has two roles in {self.path.name}",
                got=", ".join(f"{role}_column = {name!r}" for role, name in columns.items() if name),
                valid="a column for each",
            )

    def _name(self, table: Mapping[str, Column], given: str | None, usual: Sequence[str], option: str) -> str:
        several = [name for name in usual if name in table] if usual == TEXT_COLUMNS and not given else []
        if len(several) > 1:
            raise UserError(
                f"data set {self._data!r}: {self.path.name} has several columns of texts",
                got=", ".join(several),
                valid=f'the intended one: text_column = "{several[0]}"',
            )
        name = given or next((name for name in usual if name in table), None)
        if name is None or name not in table:
            raise UserError(
                f"data set {self._data!r}: {self.path.name} lacks the column {(given or usual[0])!r}",
                got=", ".join(table), valid=", ".join(usual), remedy=f'name the intended column: {option} = "…"',
            )  # fmt: skip
        alike = [other for other in table if other.strip().casefold() == name.strip().casefold()]
        if not given and len(alike) > 1:
            raise UserError(
                f"data set {self._data!r}: names of columns of {self.path.name} differ only in case or spaces",
                got=", ".join(map(repr, alike)), valid=f'the intended one: {option} = "{name}"',
            )  # fmt: skip
        return name

    def _pair(self, table: Mapping[str, Column], text: str, given: str | None) -> str | None:
        if given is None and (seen := [name for name in table if _is_second(name, text)]):
            raise UserError(
                f"data set {self._data!r}: {self.path.name} may hold pairs of texts", got=f"{text}, {seen[0]}",
                valid=f'pair_column = "{seen[0]}", or pair_column = "" for single texts',
            )  # fmt: skip
        return self._name(table, given, (), "pair_column") if given else None

    def _filled(self, table: Mapping[str, Column], name: str | None) -> Column | None:
        if not name:
            return None
        values = table[self._name(table, name, (), "column")]
        if empty := [row for row, value in enumerate(values) if value is None or str(value).strip().lower() in ABSENT]:
            raise self._fault(
                f"the column {name!r} is empty in {len(empty):,} rows", empty[0], "fill it", "a value in every row"
            )
        return values

    def _texts(self, values: Column, name: str) -> Any:
        """A column of texts. Every row must have a text that is not empty and is valid UTF-8."""
        empty = [row for row, value in enumerate(values) if value is None or (isinstance(value, str) and _blank(value))]
        if empty:
            raise self._fault(f"{len(empty):,} of {len(values):,} rows have no text in {name!r}", empty[0],
                              "fill or remove these rows")  # fmt: skip
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise self._fault(f"the column {name!r} holds {type(value).__name__}, not text", row, "save it as text")
        try:
            return pa.array(values, pa.large_string())
        except UnicodeEncodeError:
            row = next(row for row, value in enumerate(values) if any("\ud800" <= one <= "\udfff" for one in value))
            raise self._fault(
                "a text cannot be written in UTF-8 (half of a surrogate pair)", row, "repair it"
            ) from None

    def _require_one_label(self, table: Mapping[str, Column], label: str, metadata: dict[bytes, bytes]) -> None:
        """Refuse another column of labels that contradicts the one that is used."""
        for other in SAME_LABEL:
            if other == label or other not in table or not all(isinstance(one, int | str) for one in table[other]):
                continue
            words = label_words(
                table[other], class_names(metadata, other, self.path, self._data), self.path, self._data
            )
            if found := disagreement(self.labels, words):
                raise UserError(
                    f"data set {self._data!r}: {self.path} has two label columns that disagree",
                    got=f"a text with {label} {found[0]!r} and {other} {found[1]!r}",
                    valid="one label column, or several whose values map one to one",
                    remedy=f'name the intended one: label_column = "{label}"; and drop or rename the other',
                )  # fmt: skip

    def _fault(self, words: str, row: int, remedy: str, valid: str = "a text in UTF-8 in every row") -> UserError:
        return UserError(
            f"data set {self._data!r}: {words}",
            got=f"{self.path}, row {row + 1:,}",
            valid=valid,
            remedy=remedy,
        )


def _is_second(name: str, text: str) -> bool:
    """Whether a column looks like the other text of a pair: by its name, or as question2 does beside question1."""
    text, name = text.strip().lower(), name.strip().lower()
    stem, other = (re.sub(r"[_-]?([12]|[ab])$", "", each) for each in (text, name))
    numbered = stem == other and other != name
    return name != text and (name in SECOND_COLUMNS or numbered or name in PARTNERS.get(text, ()))


def _blank(text: str) -> bool:
    """Whether a text shows nothing: spaces, control and format characters alone, or pandas' word for a missing text."""
    shows = any(not one.isspace() and unicodedata.category(one) not in ("Cc", "Cf") for one in text)
    return not shows or text.strip() in LIBRARIES_NAN


def _require_one(parts: Sequence[_File], data: str) -> None:
    for other in parts[1:]:
        for what in ("names", "said", "seconds", "sources", "groups"):
            one, two = getattr(parts[0], what), getattr(other, what)
            if (one is None) != (two is None) or (what == "names" and one != two):
                raise UserError(
                    f"data set {data!r}: two files of it differ in their columns or classes",
                    got=f"{parts[0].path.name} and {other.path.name}", valid="the same in all files of a set",
                    remedy="write the files again, from one table",
                )  # fmt: skip
    filled = [part for part in parts if part.labels]
    for other in filled[1:]:
        one = filled[0]
        numbers = [all(label.isdecimal() for label in part.labels) for part in (one, other)]
        if numbers[0] != numbers[1] and not set(one.labels) & set(other.labels):
            raise UserError(
                f"data set {data!r}: one file of it has numbers for labels, and another has names",
                got=f"{one.path.name} ({one.labels[0]}) and {other.path.name} ({other.labels[0]})",
                valid="the same labels in all files of a set", remedy="write the files again, from one table",
            )  # fmt: skip
