"""Groups of the examples of a set, for reports of the worst group's accuracy."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rib.arrays import Rows
from rib.data.classes import MISSING, looks_of, require_shown
from rib.data.containers import Container
from rib.data.examples import Index
from rib.data.sources import from_file
from rib.errors import UserError

MOST = 1_000
"""Maximum number of groups: a column with more values names examples rather than groups."""


@dataclass(frozen=True)
class GroupRule:
    """How to find the group of an image. At most one field is set; with none, there are no groups.

    Attributes:
        column: a column of the Parquet files, with names or whole numbers.
        file: a CSV file with the columns `file` (CLASS/NAME) and `group`.
    """

    column: str | None = None
    file: Path | None = None


UNGROUPED = GroupRule()
"""The rule of sets without groups."""


def container_groups(index: Index, data: str, container: Container, rows: Rows, rule: GroupRule) -> Index:
    """The index of rows of a container, with their groups if the rule gives them.

    Args:
        index: the index of the rows.
        data: the data set's name, for errors.
        container: holds the rows.
        rows: int64 (N,), rows of the container.
        rule: how to find the groups.

    Raises:
        UserError: the rule does not fit the container, or some rows have no group.
    """
    if rule.column is not None:
        column = container.column(rule.column)
        return grouped(index, data, [column[row] for row in rows.tolist()], f"the column {rule.column!r}")
    if rule.file is not None:
        files = [unicodedata.normalize("NFC", path) for path in container.paths(rows)]
        return grouped(index, data, from_file(data, rule.file, files, "group"), str(rule.file))
    return index


def grouped(index: Index, data: str, values: Sequence[object], where: str) -> Index:
    """The index with groups.

    Args:
        index: the index of N examples.
        data: the data set's name, for errors.
        values: the group of each example, a name or a whole number.
        where: their location, for messages.

    Raises:
        UserError: some examples have no group, there are more than `MOST` groups, two differ only in case or
            spaces, or a name cannot be shown.
    """
    names = [str(value).strip() for value in values]
    lost = [place for place, name in enumerate(names) if values[place] is None or name.lower() in ("", *MISSING)]
    if lost:
        raise UserError(
            f"data set {data!r}: {len(lost):,} of {len(values):,} rows have no group in {where}",
            got=repr(values[lost[0]]),
            valid="a name or a whole number in every row",
            remedy="give rows of unknown group a group of their own, such as unknown",
        )
    found, group_of = np.unique(np.array(names, dtype=str), return_inverse=True)
    if len(found) > MOST:
        raise UserError(
            f"data set {data!r}: {where} names {len(found):,} groups of {len(values):,} rows",
            got=f"{found[0]}, {found[1]}, {found[2]}, …",
            valid=f"at most {MOST:,} groups",
            remedy="name a column of groups; for ids use source_column",
        )
    require_shown(data, "a group", found.tolist())
    first: dict[str, str] = {}
    alike = [(first[looks_of(name)], name) for name in found.tolist() if first.setdefault(looks_of(name), name) != name]
    if alike:
        raise UserError(
            f"data set {data!r}: two groups differ only in case or spaces",
            got=f"{alike[0][0]!a} and {alike[0][1]!a} in {where}",
            valid="one name for each group",
            remedy="write the names in one way",
        )
    return replace(index, groups=group_of.astype(np.int16), group_names=tuple(found.tolist()))


def group_bytes(index: Index) -> bytes:
    """The groups as bytes for a set's fingerprint; empty without groups."""
    return b"" if index.groups is None else index.groups.tobytes() + json.dumps(index.group_names).encode()
