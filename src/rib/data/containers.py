"""Containers: where image files lie, each in a folder that says its class: trees, Parquet files, tar shards."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Rows
from rib.data.images import check_whole
from rib.data.modes import image_digest
from rib.data.threads import side_by_side
from rib.errors import UserError
from rib.files import read_fact, read_plain, state, write_fact
from rib.identity import digest

CHUNK = 256
"""How many files are held in memory at a time while they are read."""


@dataclass(frozen=True)
class Listing:
    """Contents of a container, row by row.

    Attributes:
        folders: names of all folders, "n01440764" or "fog/3/n01440764"; ascending.
        folder_of: int32 (N,), the folder of each row.
        names: name of each row's file within its folder; ascending within a folder.
        empty: what a folder without images holds instead, in words.
        named: whether every name is a file's own, rather than its place in the container.
        left_out: what lies there and is no row, in words.
    """

    folders: tuple[str, ...]
    folder_of: NDArray[np.int32]
    names: Sequence[str]
    empty: Mapping[str, str] = field(default_factory=dict)
    named: bool = True
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.folder_of)

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 (folders,), number of images in each."""
        return np.bincount(self.folder_of, minlength=len(self.folders))


def listed(pairs: Sequence[tuple[str, str]]) -> tuple[Listing, Rows]:
    """The listing of (folder, name) pairs in any order, and which pair stands in each of its rows."""
    found = sorted({folder for folder, _ in pairs})
    position = {folder: place for place, folder in enumerate(found)}
    order = sorted(range(len(pairs)), key=lambda row: (position[pairs[row][0]], pairs[row][1]))
    folder_of = np.array([position[pairs[row][0]] for row in order], np.int32)
    return Listing(tuple(found), folder_of, [pairs[row][1] for row in order]), np.array(order, np.int64)


class Container(ABC):
    """Image files that lie somewhere.

    Attributes:
        where: the place, for people.
    """

    where: Path

    @property
    @abstractmethod
    def root(self) -> Path:
        """The folder in which a file that says the order of the classes may lie."""

    def class_names(self) -> tuple[str, ...] | None:
        """Names of all classes in their author's order, where the files themselves say so. Raises UserError."""
        return None

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Folders of the container's files, each as it stands before the labels in the listing: "" or "fog/3/"."""
        return ("",)

    def way_out(self, folder: str) -> str:
        """Suggest what to do about a folder without images."""
        return f"complete the copy, or remove {folder!r}"

    @abstractmethod
    def listing(self) -> Listing:
        """List the contents. Raises UserError if the container cannot be read."""

    @abstractmethod
    def title(self, row: int) -> str:
        """A row's file, for errors."""

    @abstractmethod
    def stamp(self, rows: Rows) -> object:
        """A JSON value that changes whenever the bytes of these rows may have."""

    @abstractmethod
    def read(self, rows: Rows) -> list[bytes]:
        """The encoded images of some rows. Raises UserError if one cannot be read, with its title."""

    def column(self, name: str) -> Sequence[object]:
        """A value of every row, from a column of that name. Raises UserError if there is none or one is empty."""
        raise UserError(f"{self.where} has no columns", got=name, valid="source_column goes with parquet")

    def paths(self, rows: Rows) -> list[str]:
        """The paths of some rows within the container, for messages: "ant/1.png" or "fog/3/ant/1.png"."""
        listing = self.listing()
        places = zip(listing.folder_of[rows].tolist(), rows.tolist(), strict=True)
        return [f"{listing.folders[folder]}/{listing.names[row]}" for folder, row in places]

    def reading_order(self, rows: Rows) -> Rows:
        """Places within `rows`, in the order in which they are best read."""
        return np.arange(len(rows))


def digests(container: Container, rows: Rows, cache: Path | None) -> list[str]:
    """A digest of every row's bytes, read again only where a file has changed. Truncated images are found here.

    Args:
        container: holds the images.
        rows: which of them.
        cache: folder that keeps digests.

    Raises:
        UserError: an image is truncated or cannot be read; it is named. Or a file changed while it was read.
    """
    before = container.stamp(rows)
    # The place is part of the stamp: trees unpacked without times may agree in every file's name, size and time.
    stamp = digest(json.dumps(["image_digest", str(container.where.resolve()), before]).encode())
    known = cache / f"{stamp}.json" if cache else None
    if known and (kept := read_fact(known)):
        cached: list[str] = json.loads(kept)
        return cached
    found = [""] * len(rows)
    for places, contents in in_chunks(container, rows):
        for place, content in zip(places.tolist(), contents, strict=True):
            check_whole(content, container.title(int(rows[place])))
            found[place] = image_digest(content)
    if container.stamp(rows) != before:
        raise changed(f"a file in {container.where}")
    if known:
        write_fact(known, json.dumps(found).encode())
    return found


def file_states(files: Sequence[tuple[Path, str]]) -> list[list[object]]:
    """Names and states of files that are given with their prefixes."""
    return [[path.name, *state(path.stat())] for path, _ in files]


def changed(what: str) -> UserError:
    """The error for images that have changed since they were checked."""
    return UserError(
        f"{what} has changed since the data were fingerprinted",
        got="other bytes at the same place",
        valid="data that stay as they are while they are used",
        remedy="run again once nothing writes there; steps of the new data are then new",
    )


def short_digests(contents: Sequence[str]) -> NDArray[np.uint64]:
    """The first 64 bits of hexadecimal digests: uint64 (N,)."""
    return np.array([int(content[:16], 16) for content in contents], np.uint64)


def in_chunks(container: Container, rows: Rows) -> Iterator[tuple[Rows, list[bytes]]]:
    """Encoded images of all rows, some at a time and in the best order: places within `rows`, and their bytes."""
    order = container.reading_order(rows)
    for start in range(0, len(order), CHUNK):
        places = order[start : start + CHUNK]
        yield places, container.read(rows[places])


def read_files(files: Sequence[Path]) -> list[bytes]:
    """The bytes of several files, read side by side."""
    return side_by_side(read_plain, files)
