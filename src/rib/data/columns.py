"""Columns of a Parquet file: which holds the images, which the labels, and what the labels mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rib.data.classes import MISSING, PLAIN_LABELS, disagreement, refuse_labels
from rib.data.companions import may_speak
from rib.errors import UserError
from rib.files import parse_json

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "labels", "cls", "class", "fine_label", "wnid")


def find_columns(schema: pa.Schema, path: Path, data: str) -> tuple[str, str]:
    """The names of the image column and the label column.

    Raises:
        UserError: there is none, or several are possible and no name decides.
    """
    holding = [field.name for field in schema if _holds_images(field.type)]
    several = [name for name in IMAGE_COLUMNS if name in holding]
    if len(several) > 1:
        raise UserError(
            f"data set {data!r}: {path} has several columns of images",
            got=", ".join(several),
            valid="one column of images with such a name",
            remedy="drop or rename the others",
        )
    image = _first(IMAGE_COLUMNS, schema) or (holding[0] if len(holding) == 1 else None)
    label = _first(LABEL_COLUMNS, schema)
    twice = next((name for name in (image, label) if schema.names.count(name) > 1), None)
    if image is None or label is None or image not in holding or twice:
        empty = image is not None and image not in holding
        raise UserError(
            f"data set {data!r}: {path} lacks a column" + (" of encoded images" if empty else ""),
            got=", ".join(f"{field.name}: {field.type}" for field in schema),
            valid="one `image` (struct of bytes and path, or bytes) and one `label` (integer or name)",
            remedy="write the file with the bytes of each image file" if empty else "rename the intended columns",
        )
    return image, label


def _first(names: Sequence[str], schema: pa.Schema) -> str | None:
    return next((name for name in names if name in schema.names), None)


def _holds_images(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def class_names(metadata: dict[bytes, bytes], column: str, path: Path, data: str) -> tuple[str, ...] | None:
    """Names of a ClassLabel column, in order, from the metadata that Hugging Face's `datasets` writes; None without
    them.

    Raises:
        UserError: a name appears twice, or they are no list.
    """
    try:
        names = parse_json(metadata[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    if isinstance(names, dict) and set(names) == {str(number) for number in range(len(names))}:
        names = [names[str(number)] for number in range(len(names))]
    if not isinstance(names, list):
        raise UserError(
            f"data set {data!r}: the names of the classes in the metadata of {path} are no list",
            got=str(names)[:80],
            valid='["ant", "bee"], or {"0": "ant", "1": "bee"}',
            remedy="write the file again",
        )
    found = tuple(str(name) for name in names)
    if len(set(found)) < len(found):
        raise UserError(f"data set {data!r}: {path} names a class twice", got=", ".join(found[:12]))
    return found


def category_order(file: pq.ParquetFile, column: str, path: Path, data: str) -> tuple[str, ...] | None:
    """Names of a categorical column in the order of its codes, where their author chose it; None otherwise.

    Pandas and Polars write categories as codes and a list of names, and programs read the codes as labels. A list in
    alphabetical order, or in the order in which the names first appear, is what libraries make by themselves.

    Raises:
        UserError: the column is marked as ordered, and its parts have different lists.
    """
    kind: Any = file.schema_arrow.field(column).type
    if not pa.types.is_dictionary(kind) or not _is_label(kind.value_type) or pa.types.is_integer(kind.value_type):
        return None
    chunks = [chunk for chunk in file.read(columns=[column]).column(0).chunks if len(chunk)]
    orders = {tuple(map(_text, chunk.dictionary.to_pylist())) for chunk in chunks}
    if len(orders) != 1:
        if kind.ordered and orders:
            raise UserError(
                f"data set {data!r}: the categories of the column {column!r} have different orders within {path}",
                got="; ".join(", ".join(order[:5]) for order in orders),
                valid="one order",
                remedy="write the file again, from one table",
            )
        return None
    (order,) = orders
    codes = dict.fromkeys(code for chunk in chunks for code in chunk.indices.drop_null().unique().to_pylist())
    made_by_library = list(order) == sorted(order) or list(codes) == sorted(codes)
    return None if made_by_library and not kind.ordered else order


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def require_images(file: pq.ParquetFile, column: str, path: Path, data: str) -> None:
    """Refuse rows without an image, by the file's statistics, or without these by its values.

    Raises:
        UserError: there are such rows.
    """
    empty = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        for place in range(group.num_columns):
            chunk = group.column(place)
            if chunk.path_in_schema not in (column, f"{column}.bytes"):
                continue
            known = chunk.statistics is not None and chunk.statistics.has_null_count
            empty += chunk.statistics.null_count if known else _nulls(file, number, column)
    if empty:
        raise UserError(
            f"data set {data!r}: {empty:,} of {file.metadata.num_rows:,} rows hold no image",
            got=path,
            valid="the bytes of an image in every row",
            remedy="write the file with its images embedded, not as paths",
        )


def _nulls(file: pq.ParquetFile, group: int, column: str) -> int:
    """How many rows of a group hold no image."""
    values: Any = file.read_row_group(group, columns=[column]).column(0).combine_chunks()
    if pa.types.is_struct(values.type):
        values = values.field("bytes")
    return int(values.null_count)


def read_companions(file: pq.ParquetFile) -> dict[str, list[Any]]:
    """The columns that may say the split of a row or the name of its class."""
    schema = file.schema_arrow
    simple = [field.name for field in schema if not pa.types.is_nested(field.type) and not _holds_images(field.type)]
    wanted = may_speak(simple)
    table = file.read(columns=wanted) if wanted else None
    return {name: table.column(name).to_pylist() for name in wanted} if table else {}


def require_agreement(file: pq.ParquetFile, column: str, labels: Sequence[str], path: Path, data: str) -> None:
    """Refuse a file with another column of labels that contradicts the column that RIB reads.

    Args:
        file: the opened file.
        column: the column that RIB reads.
        labels: its labels.
        path: the file's path, for errors.
        data: the data set's name, for errors.

    Raises:
        UserError: an image has two labels that contradict each other.
    """
    schema = file.schema_arrow
    for other in LABEL_COLUMNS:
        if other == column or other not in schema.names or not _is_label(_plain_type(schema, other)):
            continue
        values: list[Any] = file.read(columns=[other]).column(0).to_pylist()
        names = class_names(schema.metadata or {}, other, path, data)
        said = [_word(value, names) for value in values]
        pairs = [(label, word) for label, word in zip(labels, said, strict=True) if word is not None]
        if found := disagreement([label for label, _ in pairs], [word for _, word in pairs]):
            raise UserError(
                f"data set {data!r}: {path} has two label columns that disagree",
                got=f"an image with {column} {found[0]!r} and {other} {found[1]!r}",
                valid="one label column, or several whose values map one to one",
                remedy=f"drop or rename the wrong column: RIB reads `{column}` first",
            )


def _plain_type(schema: pa.Schema, column: str) -> Any:
    kind: Any = schema.field(column).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def kind_of_labels(file: pq.ParquetFile, column: str) -> str:
    """What a column of labels holds: "numbers" or "names"."""
    return "numbers" if pa.types.is_integer(_plain_type(file.schema_arrow, column)) else "names"


def _is_label(kind: Any) -> bool:
    """Whether a column of this type can hold labels: whole numbers or names."""
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return bool(pa.types.is_integer(kind)) or any(is_kind(kind) for is_kind in texts)


def _word(value: Any, names: tuple[str, ...] | None) -> str | None:
    """A label as text, or None if there is none."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if names and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return None if value is None else str(value)


def read_labels(file: pq.ParquetFile, column: str, names: tuple[str, ...] | None, path: Path, data: str) -> list[str]:
    """The label of every row: a name, or a whole number as text.

    Args:
        file: the opened file.
        column: the column of labels.
        names: the names that whole numbers index, if the file gives them.
        path: the file's path, for errors.
        data: the data set's name, for errors.

    Raises:
        UserError: labels are missing, negative, beyond the names, not valid text, or neither whole numbers nor names.
    """
    kind, total = _plain_type(file.schema_arrow, column), file.metadata.num_rows
    if not _is_label(kind):
        fault = f"are of type {kind}, neither whole numbers nor names"
        raise refuse_labels(data, path, total, total, fault, PLAIN_LABELS)
    try:
        values: list[Any] = file.read(columns=[column]).column(0).to_pylist()
        values = [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError as error:
        raise UserError(
            f"data set {data!r}: a label in {path} is not UTF-8",
            got=ascii(error.object[:40]),
            remedy="write the names in UTF-8",
        ) from None
    return label_words(values, names, path, data)


def label_words(values: Sequence[Any], names: tuple[str, ...] | None, path: Path, data: str) -> list[str]:
    """The label of every row: a name, or a whole number as text. Args and errors as `read_labels`."""
    faults = {
        "are missing (null)": [value is None for value in values],
        "are neither whole numbers nor names": [
            isinstance(value, bool) or not isinstance(value, int | str) for value in values
        ],
        "are negative, such as -1": [isinstance(value, int) and value < 0 for value in values],
        "are empty": [isinstance(value, str) and not value.strip() for value in values],
        f"are words for a missing value ({', '.join(MISSING)})": [
            isinstance(value, str) and value.strip().lower() in MISSING for value in values
        ],
        "are fractions or no numbers": _fractions(values),
        "are names, where others are numbers": _mixed(values),
    }
    if names is not None:
        numbers = [isinstance(value, int) for value in values]
        faults[f"are out of range: the file names {len(names):,} classes"] = [
            number and value >= len(names) for number, value in zip(numbers, values, strict=True)
        ]
        known = set(names)
        faults["are none of the names in the file's metadata"] = [
            not number and value not in known for number, value in zip(numbers, values, strict=True)
        ]
    for words, bad in faults.items():
        if any(bad):
            where, remedy = f"{path}, first in row {bad.index(True) + 1:,}", PLAIN_LABELS if "numbers" in words else ""
            raise refuse_labels(data, where, sum(bad), len(values), words, remedy)
    return [names[value] if names and isinstance(value, int) else str(value) for value in values]


def _fractions(values: Sequence[Any]) -> list[bool]:
    """Which labels are no whole numbers, if all of them are written as numbers: 0.0 and 1.0, or 1e3."""
    words = [value.strip().lower() for value in values if isinstance(value, str)]
    if len(words) < len(values) or not all(re.fullmatch(r"[+-]?[0-9]*\.?[0-9]+(e[+-]?[0-9]+)?", one) for one in words):
        return [False] * len(values)
    return [re.fullmatch("-?[0-9]+", one) is None for one in words]


def _mixed(values: Sequence[Any]) -> list[bool]:
    """Which labels are names, if others are numbers and not texts: a table has one kind of labels."""
    names = [isinstance(value, str) and not value.strip().isdigit() for value in values]
    return names if any(isinstance(value, int) for value in values) else [False] * len(values)


def read_names(file: pq.ParquetFile, column: str, path: Path, data: str) -> tuple[list[str], list[str], bool]:
    """The name of each image, the name of its folder, and whether all names come from a path.

    An image without a path is named by its row. The folder is empty if the path has none.

    Raises:
        UserError: a path is not UTF-8.
    """
    kind = file.schema_arrow.field(column).type
    plain = [f"{path.stem}-{row:07d}" for row in range(file.metadata.num_rows)]
    if not pa.types.is_struct(kind) or all(kind.field(place).name != "path" for place in range(kind.num_fields)):
        return plain, [""] * len(plain), False
    structs: Any = file.read(columns=[f"{column}.path"]).column(0).combine_chunks()
    try:
        paths = structs.field("path").to_pylist()
    except UnicodeDecodeError as error:
        raise UserError(f"data set {data!r}: a path in {path} is not UTF-8", got=ascii(error.object[:60])) from None
    parts = [(text or "").rpartition("/") for text in paths]
    names = [name or row for (*_, name), row in zip(parts, plain, strict=True)]
    return names, [folder.rpartition("/")[2] for folder, *_ in parts], all(paths)
