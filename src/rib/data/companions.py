"""Columns, arrays and fields beside the labels, which state the split of each row, or the names of numeric labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rib.data.classes import disagreement
from rib.data.numbering import split_of
from rib.errors import UserError

SPLITS = ("split", "subset", "partition", "set", "fold", "phase", "usage")
"""Columns that may name the split of each row, in lower case."""

FLAGS = ("is_train", "is_training", "is_valid", "is_validation", "is_val", "is_test", "train", "test", "valid")
"""Columns, in lower case, that may state with yes or no whether a row belongs to a split."""

CODED = ("split", "partition", "subset")
"""Those of them that number the splits in published sets: 0 to train, 1 to validate, 2 to test."""

NAMES = (
    *("label_name", "label_names", "label_text", "label_str", "label_desc", "label_description"),
    *("class_name", "classname", "class_text", "class_str", "category_name", "target_name"),
)
"""Columns with the names of labels that are numbers."""

Columns = Mapping[str, Sequence[Any]]
"""Values of each row, by the column's name."""


def may_speak(names: Collection[str]) -> list[str]:
    """The columns, among these names, that `require_rows_of_one_split` or `names_beside` would read."""
    return [name for name in names if name.lower() in (*SPLITS, *FLAGS, *NAMES)]


def require_rows_of_one_split(columns: Columns, where: object, data: str) -> None:
    """Refuse rows if a column states that some are for training and others are not.

    Args:
        columns: the columns beside the labels.
        where: the file, for the error.
        data: the data set's name, for the error.

    Raises:
        UserError: the rows belong to several splits.
    """
    for name, values in columns.items():
        seen = dict.fromkeys(str(value).strip().lower() for value in values if value is not None)
        several = {split_of(word) for word in seen} - {""}
        flags = {"true", "1", "yes"} & seen.keys() and {"false", "0", "no"} & seen.keys()
        coded = name.lower() in CODED and len(seen) > 1 and seen.keys() <= {"0", "1", "2"}
        if (
            coded
            or (name.lower() in SPLITS and len(several) > 1)
            or (name.lower() in FLAGS and len(seen) == 2 and flags)
        ):
            raise UserError(
                f"data set {data!r}: rows of several splits in one set",
                got=f"{name} is {' and '.join(list(seen)[:4])} in {where}",
                valid="rows of one split",
                remedy="write a file for each split and name one to test on; or rename the column to take all rows",
            )


def require_same_folders(labels: Sequence[str], folders: Sequence[str], where: object, data: str) -> None:
    """Refuse rows whose images come from folders with the names of the classes, if a folder contradicts a label.

    Args:
        labels: of all rows of a file.
        folders: the name of the folder that each image had; empty if it is not known.
        where: the file, for the error.
        data: the data set's name, for the error.

    Raises:
        UserError: the folders and the labels are the same names, and some images have two different ones.
    """
    if set(labels) != set(folders):
        return
    if wrong := [place for place, label in enumerate(labels) if label != folders[place]]:
        first = wrong[0]
        raise UserError(
            f"data set {data!r}: {len(wrong):,} of {len(labels):,} labels differ from the folder of their image",
            got=f"label {labels[first]!r} of an image in folder {folders[first]!r} in {where}",
            valid="the same class in both",
            remedy="correct the labels or the order of their names; or write the images without their folders",
        )


def one_to_one(labels: Sequence[str], folders: Sequence[str]) -> dict[str, str]:
    """The folder of each label; empty if a row has none, or if two labels share one or one label has two."""
    pairs = set(zip(labels, folders, strict=True))
    found = dict(pairs)
    return found if len(pairs) == len(found) == len(set(found.values())) and all(found.values()) else {}


def names_beside(labels: Sequence[str], columns: Columns, where: object, data: str) -> list[str] | None:
    """The name of each row's class from a column, if the labels are numbers; None if no column gives it.

    Args:
        labels: a name or a whole number for each row.
        columns: the columns beside the labels.
        where: the file, for the error.
        data: the data set's name, for the error.

    Raises:
        UserError: a column of names contradicts the labels.
    """
    for name, values in columns.items():
        if name.lower() not in NAMES or not all(isinstance(value, str) and value.strip() for value in values):
            continue
        numbers = all(label.isascii() and label.isdigit() for label in labels)
        if found := _contradiction(labels, values) if numbers else disagreement(labels, values):
            raise UserError(
                f"data set {data!r}: labels and their names disagree",
                got=f"label {found[0]!r} and {name} {found[1]!r} in {where}",
                valid="one name for each label",
                remedy="drop or rename the wrong column",
            )
        if numbers:
            return list(values)
    return None


def _contradiction(numbers: Sequence[str], names: Sequence[str]) -> tuple[str, str] | None:
    """A number that has two names, and its second name; None if there is none."""
    first: dict[str, str] = {}
    pairs = dict.fromkeys(zip(numbers, names, strict=True))
    return next(((number, name) for number, name in pairs if first.setdefault(number, name) != name), None)


def renamed(labels: Sequence[str], names: Sequence[str], data: str) -> tuple[list[str], tuple[str, ...] | None]:
    """Numeric labels replaced by their names, and these names in the order of the numbers.

    If two numbers have one name, as ImageNet's two cranes do, the labels stay numbers, without an order.

    Args:
        labels: of all rows of a set.
        names: the name of each row's class.
        data: the data set's name, for the error.

    Raises:
        UserError: two files give one number two names.
    """
    if found := _contradiction(labels, names):
        raise UserError(
            f"data set {data!r}: two files name the classes differently",
            got=f"{found[1]!r} for label {found[0]}, and another name",
            valid="the same names in all files of a set",
            remedy="write the files again, from one table",
        )
    pairs = dict(zip(names, labels, strict=True))
    if len(pairs) < len(set(labels)):
        return list(labels), None
    return list(names), tuple(sorted(pairs, key=lambda name: int(pairs[name])))
