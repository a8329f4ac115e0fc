"""The source image of each example, from file names, a column, or a file of the user."""

from __future__ import annotations

import csv
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Rows
from rib.data.containers import Container
from rib.data.examples import Index
from rib.data.images import SUFFIXES
from rib.data.published import PUBLISHED, VALIDATION
from rib.data.splits import mixed, named_seed
from rib.errors import UserError
from rib.files import plain

SourceNumbers = NDArray[np.int64]

GROUP = "source"
"""The named group that a pattern for file names must have."""

_NO_SOURCE = re.compile(r"\s*(-[0-9]+(\.0*)?|[+-]?inf(inity)?|-?nan|nat|none|null|<?n/?a>?|)\s*", re.IGNORECASE)
"""Values in tables that stand for an unknown source."""

_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")

_PUBLISHED_FAMILIES = frozenset(published.family for published in PUBLISHED.values())


@dataclass(frozen=True)
class SourceRule:
    """How to find the source image of a row. At most one field is set; with none, it is given by class and file name.

    Attributes:
        pattern: a regular expression that is searched for in the file name; its group `source` names the source within
            its class.
        column: a column of the Parquet files, with numbers or words.
        file: a CSV file with the columns `file` (CLASS/NAME) and `source`.
    """

    pattern: str | None = None
    column: str | None = None
    file: Path | None = None

    @property
    def given(self) -> bool:
        """Whether a pattern, a column or a file is given."""
        return any((self.pattern, self.column, self.file))


BY_NAME = SourceRule()
"""The default rule: by class and file name."""


def row_sources(
    data: str, container: Container, rows: Rows, classes: Sequence[str], family: str | None, rule: SourceRule
) -> SourceNumbers:
    """The source image of each row: int64 (N,).

    Args:
        data: the data set's name, for errors.
        container: holds the rows.
        rows: int64 (N,), rows of the container.
        classes: class of each row, by its name in all sets of the family.
        family: the source family, whose sets share the numbers; None for a set without one.
        rule: how to find the source.

    Raises:
        UserError: the images have no names, two images of one class have the same name, or the rule does not fit them.
    """
    if rule.column is not None:
        column = container.column(rule.column)
        return numbered(data, [column[row] for row in rows.tolist()], f"the column {rule.column!r}")
    listing = container.listing()
    if not listing.named:
        raise UserError(
            f"data set {data!r}: its images have no file names, so their source images are not known",
            got=container.where,
            valid="`image.path` in the Parquet files",
            remedy='name a column that holds the source of each image: source_column = "…"',
        )
    names = [unicodedata.normalize("NFC", listing.names[row]) for row in rows.tolist()]
    if rule.file is not None:
        files = [unicodedata.normalize("NFC", path) for path in container.paths(rows)]
        return numbered(data, from_file(data, rule.file, files, "source"), str(rule.file))
    stems = [stem(name) for name in names] if rule.pattern is None else _found(data, rule.pattern, names)
    texts = [unicodedata.normalize("NFC", f"{one}/{name}") for one, name in zip(classes, stems, strict=True)]
    if rule.pattern is None:
        _require_distinct(data, [path.rpartition("/")[0] for path in container.paths(rows)], stems, names)
    units = family if family in _PUBLISHED_FAMILIES else ""
    return np.array([number(units or "", text) for text in texts], np.int64)


def apart(tune: Index, test: Index, rule: SourceRule | None) -> tuple[Index, Index]:
    """The indices of a set's two containers, whose sources are equal only if they are the same images.

    Args:
        tune, test: each with the sources of its own container.
        rule: how the sources were found; None for row numbers. File names that occur in both containers
            (train/cat/1.png, test/cat/1.png) are different images. Values of a column or of the user's file keep their
            meaning in both.
    """
    if rule is None:
        return tune, replace(test, sources=test.sources + len(tune))
    if rule.column is not None or rule.file is not None or not np.isin(tune.sources, test.sources).any():
        return tune, test
    return _of_part(tune, "tune"), _of_part(test, "test")


def _of_part(index: Index, part: str) -> Index:
    return replace(index, sources=mixed(index.sources.astype(np.uint64) ^ np.uint64(named_seed(part))).astype(np.int64))


def published_sources(units: str, classes: Sequence[str], names: Sequence[str]) -> SourceNumbers:
    """The source image of each row of a published set. Images with the same file name have the same source.

    The source of a validation image is its number, so its renderings in Cartoon, Drawing and every cell of C share it.

    Args:
        units: namespace of the numbers.
        classes: class of each row, if file names are unique only within their class; else empty.
        names: file name of each row.
    """
    known: dict[tuple[str, str], int] = {}
    sources = np.empty(len(names), np.int64)
    for row, name in enumerate(names):
        text = (classes[row] if classes else "", name)
        if text not in known:
            known[text] = number(units, "/".join((text[0], name.rpartition(".")[0] or name)))
        sources[row] = known[text]
    return sources


def number(units: str, text: str) -> int:
    """The number of a source image in a namespace, in [0, 2**63).

    For a validation image, it is the one in its file name.
    """
    validation = _VALIDATION_NAME.search(text) if units == VALIDATION else None
    if validation:
        return int(validation[1])
    return int.from_bytes(hashlib.blake2b(f"{units}/{text}".encode(), digest_size=8).digest(), "big") >> 1


def numbered(data: str, values: Sequence[object], where: str) -> SourceNumbers:
    """Sources in a column as numbers: whole numbers are kept, words are hashed.

    Args:
        data: the data set's name, for errors.
        values: the source of each row.
        where: their location, for messages.

    Raises:
        UserError: some values are no source: negative, empty or not a number.
    """
    texts = [str(value) for value in values]
    if bad := [text for text in texts if _NO_SOURCE.fullmatch(text)]:
        raise UserError(
            f"data set {data!r}: {len(bad):,} of {len(texts):,} sources are unknown",
            got=f"{bad[0]!r} in {where}",
            valid="a whole number from 0 up, or a name, for every row",
            remedy="give rows of unknown source a source of their own",
        )
    _require_one_form(data, texts, where)
    return np.array(
        [int(text) if text.isdecimal() and len(text) < 19 else number("", text) for text in texts], np.int64
    )


def _require_one_form(data: str, texts: Sequence[str], where: str) -> None:
    """Refuse sources that are written in two ways: with and without outer spaces, or as 1 and as 1.0.

    Raises:
        UserError: two are.
    """
    first: dict[str, str] = {}
    for text in dict.fromkeys(texts):
        plain_text = re.sub(r"(?<=^[0-9])([0-9]*)\.0+$", r"\1", unicodedata.normalize("NFC", text).strip())
        if first.setdefault(plain_text, text) != text:
            raise UserError(
                f"data set {data!r}: a source is written in two ways",
                got=f"{first[plain_text]!a} and {text!a} in {where}",
                valid="one name or number for each source", remedy="write it in one way",
            )  # fmt: skip


def as_one(sources: SourceNumbers, copies: NDArray[np.uint64]) -> SourceNumbers:
    """Sources in which those that share a copy have one number, the smallest of theirs.

    Args:
        sources: the source of each row.
        copies: equal numbers for rows that are copies of each other: uint64 (N,).
    """
    from scipy.sparse import coo_array  # takes a tenth of a second
    from scipy.sparse.csgraph import connected_components

    known, source = np.unique(sources, return_inverse=True)
    _, copy = np.unique(copies, return_inverse=True)
    size = len(known) + len(copy)
    links = coo_array((np.ones(len(source)), (source, len(known) + copy)), shape=(size, size))
    groups = connected_components(links, directed=False)[1][: len(known)]  # one for each source, from 0 up
    smallest = known[np.unique(groups, return_index=True)[1]]
    return smallest[groups][source]


def stem(name: str) -> str:
    """A file's name without the suffix of its image format."""
    suffix = next((one for one in SUFFIXES if name.lower().endswith(one)), "")
    return name[: len(name) - len(suffix)] or name


def _found(data: str, pattern: str, names: Sequence[str]) -> list[str]:
    matches = [re.search(pattern, name) for name in names]
    lost = [name for name, match in zip(names, matches, strict=True) if not (match and match[GROUP])]
    if lost:
        raise UserError(
            f"data set {data!r}: `source` does not match the names of {len(lost):,} of {len(names):,} images",
            got=lost[0],
            valid=pattern,
            remedy="change the pattern so that it matches every file name",
        )
    return [match[GROUP] for match in matches if match]


def from_file(data: str, file: Path, files: Sequence[str], column: str) -> list[str]:
    """The value of each image in a CSV file of the user.

    Args:
        data: the data set's name, for errors.
        file: with the columns `file` (CLASS/NAME) and `column`.
        files: CLASS/NAME of each image, in NFC.
        column: "source" or "group".

    Raises:
        UserError: the file cannot be read, says two things about an image, or nothing about one.
    """
    try:
        with plain(file).open(encoding="utf-8-sig", newline="") as handle:
            table: dict[str, str] = {}
            for row in csv.DictReader(handle):
                name = unicodedata.normalize("NFC", row["file"])
                if table.setdefault(name, row[column]) != row[column]:
                    raise _two_values(data, file, name, column, f"{table[name]!r} and {row[column]!r}")
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError) as error:
        raise UserError(
            f"data set {data!r}: cannot read the {column}s in {file}",
            got=f"no column {error}" if isinstance(error, KeyError) else error,
            valid=f"CSV with the columns `file` (CLASS/NAME) and `{column}`",
            remedy="write the file again, or correct the path",
        ) from None
    if lost := [name for name in files if not table.get(name)]:
        raise UserError(
            f"data set {data!r}: {file} names no {column} for {len(lost):,} of {len(files):,} images",
            got=lost[0],
            remedy="add a line for each",
        )
    return [table[name] for name in files]


def _two_values(data: str, file: Path, name: str, column: str, got: str) -> UserError:
    return UserError(
        f"data set {data!r}: {file} names two {column}s for {name}",
        got=got,
        valid=f"one {column} for each image",
        remedy="remove the line that is wrong",
    )


def _require_distinct(data: str, folders: Sequence[str], stems: Sequence[str], names: Sequence[str]) -> None:
    texts = [f"{folder}/{one}" for folder, one in zip(folders, stems, strict=True)]
    if len(set(texts)) == len(texts):
        return
    first: dict[str, str] = {}
    for text, name in zip(texts, names, strict=True):
        if text in first:
            raise UserError(
                f"data set {data!r}: two images of one class have one name, so RIB cannot tell their source images",
                got=f"{first[text]} and {name} ({text})",
                remedy=f"if they show one source, set source = '(?P<{GROUP}>.*)[.]'; else rename one of them",
            )
        first[text] = name
