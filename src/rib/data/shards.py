"""Tar shards as WebDataset lays them out: files of one key, an image and its label, beside each other."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from rib.data.containers import Container, Listing, Rows, changed, file_states, listed
from rib.data.globs import files_under
from rib.data.images import SUFFIXES
from rib.errors import UserError

LABEL_FIELDS = ("label", "cls", "wnid", "class")


@dataclass
class _Pair:
    """The files of one key.

    Attributes:
        name: the image's file name.
        offset: where its bytes begin in the shard.
        size: how many there are.
        label: of the image; a `.cls` file's word goes before a `.json` file's.
    """

    name: str = ""
    offset: int = -1
    size: int = 0
    label: dict[str, str] = field(default_factory=dict)


class ShardContainer(Container):
    """The .tar files of a folder, or those that a pattern names. Read at random, by an index of offsets.

    Args:
        pattern: a folder, searched with its sub-folders, or a pattern such as "DIR/*.tar" or "DIR/{000..063}.tar".
        data: the data set's name, for errors.

    The label is what `KEY.cls` holds, or the field label, cls, wnid or class of `KEY.json`. A shard in a sub-folder
    has its images in folders of that prefix.
    """

    def __init__(self, pattern: Path, data: str) -> None:
        self.where, self._data = pattern, data

    @cached_property
    def _files(self) -> list[tuple[Path, str]]:
        return files_under(self.where, ".tar", self._data)

    @cached_property
    def _scan(self) -> tuple[Listing, list[tuple[int, _Pair]]]:
        """The listing; shard and place of each of its rows."""
        self._states = file_states(self._files)
        found: list[tuple[int, _Pair]] = []
        folders: list[tuple[str, str]] = []
        for place, (path, prefix) in enumerate(self._files):
            for key, pair in _pairs(path, self._data).items():
                if pair.offset >= 0:
                    folders.append((prefix + self._label(path, key, pair), pair.name))
                    found.append((place, pair))
        listing, rows = listed(folders)
        return listing, [found[row] for row in rows.tolist()]

    def _label(self, path: Path, key: str, pair: _Pair) -> str:
        label = pair.label.get("cls", pair.label.get("json"))
        if label is None:
            raise UserError(
                f"data set {self._data!r}: no label for {key} in {path}",
                valid=f"{key}.cls, or {key}.json with one of {', '.join(LABEL_FIELDS)}",
            )
        return label

    def listing(self) -> Listing:
        return self._scan[0]

    def title(self, row: int) -> str:
        place, pair = self._scan[1][row]
        return f"{self._files[place][0]}:{pair.name}"

    def stamp(self, rows: Rows) -> object:
        self._scan  # noqa: B018 -- notes the files' states first
        if (now := file_states(self._files)) != self._states:
            raise changed(f"a file in {self.where}")
        return [rows.tolist(), now]

    def reading_order(self, rows: Rows) -> Rows:
        places = [(self._scan[1][row][0], self._scan[1][row][1].offset) for row in rows.tolist()]
        return np.array(sorted(range(len(rows)), key=places.__getitem__), np.int64)

    def read(self, rows: Rows) -> list[bytes]:
        contents: dict[int, bytes] = {}
        by_shard: dict[int, list[int]] = {}
        for row in rows.tolist():
            by_shard.setdefault(self._scan[1][row][0], []).append(row)
        for place, inside in by_shard.items():
            with self._files[place][0].open("rb") as file:
                for row in inside:
                    pair = self._scan[1][row][1]
                    file.seek(pair.offset)
                    contents[row] = file.read(pair.size)
        return [contents[row] for row in rows.tolist()]


def _pairs(path: Path, data: str) -> dict[str, _Pair]:
    """What a shard holds by key: everything of a member's name before the first dot after its last slash."""
    pairs: dict[str, _Pair] = {}
    name = "its first member"
    total = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                name = member.name
                if member.isfile():
                    if member.offset_data + member.size > total:
                        raise tarfile.ReadError("the file ends before the member does")
                    _take(shard, member, pairs)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(
            f"data set {data!r}: the shard {path} is cut off or damaged at {name}",
            got=error,
            valid="an uncompressed tar file",
            remedy="copy the shard again",
        ) from None
    return pairs


def _take(shard: tarfile.TarFile, member: tarfile.TarInfo, pairs: dict[str, _Pair]) -> None:
    folder, slash, name = member.name.rpartition("/")
    stem, _, suffix = name.partition(".")
    pair = pairs.setdefault(folder + slash + stem, _Pair())
    if f".{suffix.lower()}".endswith(SUFFIXES):
        pair.name, pair.offset, pair.size = name, member.offset_data, member.size
    elif suffix in ("cls", "json"):
        content = shard.extractfile(member)
        assert content is not None
        label = _label_of(content.read().decode("utf-8", "replace").strip(), suffix)
        if label is not None:
            pair.label[suffix] = label


def _label_of(text: str, suffix: str) -> str | None:
    if suffix == "cls":
        return text
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return (
        next((str(fields[name]) for name in LABEL_FIELDS if name in fields), None) if isinstance(fields, dict) else None
    )
