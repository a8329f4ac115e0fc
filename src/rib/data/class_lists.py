"""Files of any name that list or number exactly the classes of a set, and so may state their order."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rib.errors import UserError
from rib.files import parse_json, plain

SUFFIXES = ("", ".txt", ".csv", ".tsv", ".json", ".yaml", ".yml", ".names", ".pbtxt", ".lst", ".list", ".labels")
"""Suffixes of the files that are read, in lower case."""

TABLES = ("metadata.csv", "metadata.jsonl", "labels.csv")
"""Tables with a row for each image, which list no classes."""

SUB_FOLDERS = ("meta", "metadata", "annotations")
"""Folders that are searched too."""

LARGEST = 1 << 20
"""Maximum size of a file that is read, in bytes."""

MOST = 500
"""Maximum number of files that are read in a folder."""

_OF_CLASSES = re.compile(r"class|label|categor|synset|wnid|names|idx|mapping", re.IGNORECASE)
"""Words in the names of files that list classes."""

_DEEPEST = 4
"""Maximum nesting of a JSON document in which lists are searched."""

_HEADINGS = ("class", "classes", "name", "names", "label", "labels", "category", "class_name", "class name")
"""First lines, in lower case, that are no class."""

_NUMBER_KEYS = ("id", "index", "idx", "label", "class_id", "category_id", "number")
_NAME_KEYS = ("name", "class", "class_name", "category", "label_name", "title", "wnid")

Order = tuple[str, ...]


def lists_of(folders: Sequence[Path], classes: Collection[str]) -> list[tuple[Order, Path]]:
    """The orders of the classes in files of some folders, each with its file.

    A file states an order if it lists exactly these classes, one in each line, row or entry, or if it gives each of
    them a number from 0 or from 1 up. Files that cannot be read, and files with anything else, state none.

    Args:
        folders: they and their folders of metadata are searched.
        classes: names in Unicode's composed form; two or more, or nothing is found.
    """
    wanted = set(classes)
    if len(wanted) < 2:
        return []
    found: dict[Order, Path] = {}
    for names, file in _all_orders(folders, len(wanted)):
        if set(names) == wanted:
            found.setdefault(names, file)
    return list(found.items())


def lists_of_names(folders: Sequence[Path], count: int) -> list[tuple[Order, Path]]:
    """The lists of `count` different names in files whose own name says that they list classes.

    Args:
        folders: as in `lists_of`.
        count: of the classes.
    """
    found: dict[Path, Order] = {}
    for names, file in _all_orders(folders, count):
        if len(set(names)) == count and _OF_CLASSES.search(file.stem):
            found.setdefault(file, names)
    return [(names, file) for file, names in found.items()]


def _all_orders(folders: Sequence[Path], count: int) -> Iterator[tuple[Order, Path]]:
    for folder in dict.fromkeys(path for one in folders for path in (one, *(one / sub for sub in SUB_FOLDERS))):
        for file in _files(folder):
            for order in _orders(file, count):
                if len(order) == count:
                    yield tuple(unicodedata.normalize("NFC", name) for name in order), file


def only_order(folders: Sequence[Path], classes: Collection[str], what: str, remedy: str) -> tuple[Order, Path] | None:
    """The one order in `lists_of`; None if there is none.

    Args:
        folders, classes: as in `lists_of`.
        what: the owner of the classes, for the error: "data set 'x'".
        remedy: how to choose an order.

    Raises:
        UserError: two files state different orders.
    """
    found = lists_of(folders, classes)
    if len(found) > 1:
        (_, one), (_, other) = found[:2]
        raise UserError(
            f"{what}: two files list its classes in different orders",
            got=f"{one} and {other}" if one != other else f"two lists in {one}",
            valid="one order",
            remedy=remedy,
        )
    return found[0] if found else None


def _files(folder: Path) -> list[Path]:
    """The small text files of a folder, sorted; none if there are too many."""
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if not entry.name.startswith(".")
                and Path(entry.name).suffix.lower() in SUFFIXES
                and entry.name.lower() not in TABLES
                and entry.is_file()
                and entry.stat().st_size <= LARGEST
            ]
    except OSError:
        return []
    return [folder / name for name in sorted(names)] if len(names) <= MOST else []


def _orders(file: Path, count: int) -> Iterator[Order]:
    """Every list in a file that may be one of `count` classes."""
    try:
        text = plain(file).read_text("utf-8-sig")
    except (OSError, ValueError):
        return
    suffix = file.suffix.lower()
    if suffix == ".json":
        try:
            yield from _of_document(parse_json(text))
        except (ValueError, RecursionError):
            return
    elif suffix in (".yaml", ".yml"):
        yield from _of_yaml(text)
    elif suffix == ".pbtxt":
        items = [
            (re.search(r"\bid\s*:\s*(\d+)", item), re.search(r"name\s*:\s*(['\"])(.*?)\1", item))
            for item in re.findall(r"item\s*\{(.*?)\}", text, re.DOTALL)
        ]
        yield from _numbered([(number[1], name[2]) for number, name in items if number and name])
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(lines) in (count, count + 1):
            yield from _of_lines(lines, lines[0].lower() in _HEADINGS)


def _of_lines(lines: Sequence[str], headed: bool) -> Iterator[Order]:
    """Lists in the lines of a text, and in its columns, which may have headings."""
    halves = ([line.split(None, 1) for line in lines], [line.rsplit(None, 1) for line in lines])
    tables: list[Sequence[Sequence[str]]] = [*halves]
    for delimiter in ",\t;":
        tables.append([[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)])
    for table in tables:
        if table and len(table[0]) > 1 and all(len(row) == len(table[0]) for row in table):
            yield from _of_columns(list(zip(*table, strict=True)))
            if not any(cell.isdecimal() for cell in table[0]):
                yield from _of_columns(list(zip(*table[1:], strict=True)))
    yield tuple(lines[1:] if headed else lines)


def _of_columns(columns: Sequence[Sequence[str]]) -> Iterator[Order]:
    """The order of each column of names: that of the numbers beside it, or of its rows if there are none."""
    numbers = [column for column in columns if all(re.fullmatch("[0-9]+", cell) for cell in column)]
    for column in columns:
        if column in numbers:
            continue
        if numbers:
            for order in numbers:
                yield from _numbered(list(zip(order, column, strict=True)))
        else:
            yield tuple(column)


def _numbered(pairs: Sequence[tuple[Any, str]]) -> Iterator[Order]:
    """The names of pairs whose numbers are those from 0 or from 1 up."""
    placed = {int(number): name for number, name in pairs}
    if len(placed) == len(pairs) and sorted(placed) in (list(range(len(pairs))), list(range(1, len(pairs) + 1))):
        yield tuple(placed[number] for number in sorted(placed))


def _of_document(document: Any, depth: int = 0) -> Iterator[Order]:
    """Lists in a JSON document at any depth."""
    inner: Collection[Any] = ()
    if isinstance(document, list):
        inner = document
        if document and all(isinstance(name, str) for name in document):
            yield tuple(document)
        elif document and all(isinstance(row, dict) for row in document):
            yield from _of_rows(document)
    elif isinstance(document, Mapping) and document:
        inner = document.values()
        yield from _of_mapping(document)
    if depth < _DEEPEST:
        for value in inner:
            if isinstance(value, list | dict):
                yield from _of_document(value, depth + 1)


def _of_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[Order]:
    """Lists in objects with a number and a name, such as COCO's categories, whose numbers may have gaps."""
    for key in _NAME_KEYS:
        names = [row.get(key) for row in rows]
        if not all(isinstance(name, str) for name in names):
            continue
        columns = ([row.get(other) for row in rows] for other in _NUMBER_KEYS)
        numbers = next((column for column in columns if all(map(_is_number, column))), list(range(len(rows))))
        if len(set(numbers)) == len(numbers):
            yield tuple(str(name) for _, name in sorted(zip(numbers, names, strict=True)))


def _of_mapping(document: Mapping[str, Any]) -> Iterator[Order]:
    """Lists in a mapping of names to numbers, or of numbers to names or to lists of names."""
    values = list(document.values())
    if all(_is_number(value) for value in values):
        yield from _numbered([(value, name) for name, value in document.items()])
    elif all(re.fullmatch("[0-9]+", key) for key in document):
        if all(isinstance(value, str) for value in values):
            yield from _numbered(list(document.items()))
        elif all(isinstance(value, list) and value for value in values):
            for place in range(min(len(value) for value in values)):
                yield from _numbered([(key, str(value[place])) for key, value in document.items()])


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _of_yaml(text: str) -> Iterator[Order]:
    """Lists in a YAML document: in brackets, with a dash before each name, or with a number before or after it."""
    for inside in re.findall(r":\s*\[([^\[\]]*)\]", text):
        yield tuple(_bare(name) for name in inside.split(",") if name.strip())
    lines = text.splitlines()
    for pattern, name, number in (
        (r"\s*-\s+([^:]+)", 1, 0),
        (r"\s*['\"]?([0-9]+)['\"]?\s*:\s+(.+)", 2, 1),
        (r"\s*(\S.*?)\s*:\s+([0-9]+)", 1, 2),
    ):
        run: list[tuple[Any, str]] = []
        for line in [*lines, "end"]:
            if match := re.fullmatch(pattern, line.partition(" #")[0].rstrip()):
                run.append((match[number] if number else len(run), _bare(match[name])))
            elif run:
                yield from _numbered(run)
                run = []


def _bare(name: str) -> str:
    """A YAML text without quotes."""
    return re.sub(r"^(['\"])(.*)\1$", r"\2", name.strip())
