"""Files in the root of a folder tree that state labels or splits of its images, as Hugging Face's library reads
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from rib.data.classes import disagreement
from rib.data.columns import LABEL_COLUMNS
from rib.data.companions import may_speak, require_rows_of_one_split
from rib.data.numbering import split_of
from rib.data.table_files import Column, table_columns
from rib.errors import UserError

TABLES = (".csv", ".jsonl")
"""Suffixes of tables of any other name that are read too, if they can be."""

LARGEST = 1 << 26
"""Maximum size of such a table, in bytes."""

FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "labels.csv")
FILE_COLUMNS = ("file_name", "filename", "file", "image", "path", "image_id", "id")
LIST_SUFFIXES = (".txt", ".csv", ".json", ".lst")


def require_same_labels(root: Path, data: str) -> None:
    """Refuse a table of labels that contradicts the folders. Its labels may be other words for the same classes.

    Args:
        root: root of the tree: <root>/<class>/<image>.
        data: the data set's name, for the error.

    Raises:
        UserError: it contradicts them, or cannot be read.
    """
    for file, table in _tables(root, data):
        names = next((table[name] for name in FILE_COLUMNS if name in table), None)
        label = next((name for name in LABEL_COLUMNS if name in table), None)
        if names is None or label is None:
            continue
        pairs = [(PurePosixPath(str(name)).parts, str(word)) for name, word in zip(names, table[label], strict=True)]
        known = [(parts[-2], word) for parts, word in pairs if len(parts) > 1 and root.joinpath(*parts).is_file()]
        if found := disagreement([folder for folder, _ in known], [word for _, word in known]):
            raise UserError(
                f"data set {data!r}: {file.name} says other classes than the folders",
                got=f"an image in {found[0]!r} with {label} {found[1]!r}",
                valid="the same classes in both",
                remedy=f"correct {file}, or move it away",
            )


def _tables(root: Path, data: str) -> Iterator[tuple[Path, dict[str, Column]]]:
    """The tables of a folder, those of known names first.

    Raises:
        UserError: one of a known name cannot be read.
    """
    for file in sorted(root.iterdir(), key=lambda path: (path.name not in FILES, path.name)):
        known = file.name in FILES
        if not (known or file.suffix.lower() in TABLES) or not file.is_file():
            continue
        try:
            if known or file.stat().st_size <= LARGEST:
                yield file, table_columns(file, data)[0]
        except (UserError, OSError):
            if known:
                raise


def columns_of_splits(root: Path, data: str) -> list[str]:
    """Columns of the tables of a folder that name several splits, in words: "`split` of metadata.csv"."""
    found = []
    for file, table in _tables(root, data):
        for name in may_speak(table):
            try:
                require_rows_of_one_split({name: table[name]}, file, data)
            except UserError:
                found.append(f"`{name}` of {file.name}")
    return found


def lists_of_splits(root: Path) -> list[str]:
    """Names of the files of a folder that are named after several splits, such as train.txt and test.txt."""
    found = sorted(path.name for path in root.iterdir() if path.suffix.lower() in LIST_SUFFIXES and path.is_file())
    splits = {name: split_of(Path(name).stem) for name in found}
    return [name for name, split in splits.items() if split] if len(set(splits.values()) - {""}) > 1 else []
