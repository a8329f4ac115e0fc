"""Files beside the images that state which class has which number."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rib.errors import UserError
from rib.files import parse_json, plain

FILES = ("classes.txt", "class_names.txt", "classnames.txt", "labels.txt")
"""Files with one name per line, which may follow its number, counted from 0 or 1."""

DOCUMENTS = ("classes.json", "class_names.json", "class_to_idx.json", "dataset_info.json")
"""JSON files with a list of names, a number for each name, or a name for each number; or as Hugging Face writes them.
"""


CARDS = ("README.md",)
"""A data card of the Hugging Face Hub, whose front matter may number the names of the classes."""


def near_folders(folder: Path) -> tuple[Path, Path]:
    """The folder of a set, and the one above the place that it is named by, not above what it links to."""
    return folder, Path(os.path.abspath(folder)).parent  # noqa: PTH100 -- `resolve` would follow links


def orders_beside(folder: Path) -> list[tuple[tuple[str, ...], Path]]:
    """The orders in files of the folder above a set's own folder, each with its file.

    They may belong to another set, so unreadable files are ignored.
    """
    found = []
    above = near_folders(folder)[1]
    for file in (above / name for name in (*FILES, *DOCUMENTS, *CARDS)):
        try:
            names = _read(file, "") if file.is_file() else None
        except (UserError, OSError):
            continue
        if names is not None:
            found.append((names, file))
    return found


def read_order(folder: Path, data: str) -> tuple[tuple[str, ...], Path] | None:
    """The names of the classes in their author's order, and the file that states it; None if there is no such file.

    Args:
        folder: the folder of the images.
        data: the data set's name, for errors.

    Raises:
        UserError: a file cannot be read, or two files disagree.
    """
    found: list[tuple[tuple[str, ...], Path]] = []
    for file in (folder / name for name in (*FILES, *DOCUMENTS, *CARDS)):
        if file.is_file() and (names := _read(file, data)) is not None:
            found.append((names, file))
    if other := next((file for names, file in found[1:] if names != found[0][0]), None):
        raise UserError(
            f"data set {data!r}: two files give the classes in different orders",
            got=f"{found[0][1].name} and {other.name} in {folder}",
            remedy="remove one of them, or give [data] `classes`",
        )
    return found[0] if found else None


def _read(file: Path, data: str) -> tuple[str, ...] | None:
    try:
        text = plain(file).read_text("utf-8-sig")
        if file.name in CARDS:
            return _of_card(text)
        names = _of_lines(text) if file.name in FILES else _of_document(parse_json(text), file.name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"data set {data!r}: cannot read the order of the classes in {file}",
            got=str(error) or type(error).__name__,
            valid="one class name per line" if file.name in FILES else "a list of class names, or a number for each",
            remedy="repair or remove the file, or give [data] `classes`",
        ) from None
    return names


def _of_lines(text: str) -> tuple[str, ...]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [re.fullmatch(r"([0-9]+)[\s,:;]+(.+)", line) for line in lines]
    pairs = {match[2]: int(match[1]) for match in numbered if match}
    return _by_number(pairs) if lines and len(pairs) == len(lines) else _all_different(lines)


def _of_document(document: Any, name: str) -> tuple[str, ...] | None:
    if name == "dataset_info.json":
        features = document.get("features") if isinstance(document, Mapping) else None
        labels = [row["names"] for row in (features or {}).values() if isinstance(row, Mapping) and "names" in row]
        return _all_different(labels[0]) if len(labels) == 1 else None
    if isinstance(document, list):
        return _all_different(document)
    if isinstance(document, Mapping) and all(isinstance(value, int) for value in document.values()):
        return _by_number(document)
    if isinstance(document, Mapping) and all(re.fullmatch("[0-9]+", key) for key in document):
        names = _all_different(list(document.values()))
        return _by_number({each: int(key) for each, key in zip(names, document, strict=True)})
    raise ValueError("neither a list of names nor a number for each")


def _of_card(text: str) -> tuple[str, ...] | None:
    """The names in the front matter of a data card, as Hugging Face's library writes them; None without any.

    Several lists of names, of several columns or configurations, say nothing.
    """
    front = re.match(r"---\r?\n(.*?)\n---", text, re.DOTALL)
    lists = re.findall(
        r"^ +names:\n((?: +['\"]?[0-9]+['\"]?: .+\n?)+)", front[1].replace("\r", "") if front else "", re.M
    )
    numbered = [re.findall(r"^ +['\"]?([0-9]+)['\"]?: (.+?) *$", each, re.M) for each in lists]
    if len(numbered) != 1 or [int(number) for number, _ in numbered[0]] != list(range(len(numbered[0]))):
        return None
    names = [re.sub(r"^(['\"])(.*)\1$", r"\2", name) for _, name in numbered[0]]
    return _all_different(names)


def _all_different(names: Sequence[Any]) -> tuple[str, ...]:
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError("a class has no name")
    if len(set(names)) < len(names):
        raise ValueError(f"{Counter(names).most_common(1)[0][0]!r} appears twice")
    return tuple(names)


def _by_number(numbers: Mapping[str, int]) -> tuple[str, ...]:
    names = sorted(numbers, key=lambda name: numbers[name])
    if [numbers[name] for name in names] not in (list(range(len(names))), list(range(1, len(names) + 1))):
        raise ValueError("the classes are not numbered from 0 or 1 without a gap")
    return _all_different(names)


def author_order(
    root: Path, data: str, names: tuple[str, ...] | None, where: Path, ordered: bool
) -> tuple[tuple[str, ...] | None, str, Sequence[tuple[tuple[str, ...], Path]]]:
    """The author's order of the classes, its source in words, and the orders in files beside the set.

    Args:
        root: folder of the set.
        data: its name, for errors.
        names: the order in the metadata of its files, if they have one.
        where: location of those files, for messages.
        ordered: whether to read files that state an order.

    Raises:
        UserError: metadata and file disagree.
    """
    says = f"the metadata in {where}"
    beside = read_order(root, data) if ordered else None
    if names is None and beside:
        names, says = beside[0], str(beside[1])
    elif names is not None and beside and beside[0] != names:
        raise UserError(
            f"data set {data!r}: the classes are in different orders",
            got=f"{says} and {beside[1]}",
            valid="one order in all files of a set",
            remedy="remove the file, or give [data] `classes`, in the intended order",
        )
    return names, says if names is not None else "", orders_beside(root) if ordered else []
