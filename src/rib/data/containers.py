"""Containers of image files: folder trees, Parquet files and tar shards. A file's folder names its class."""

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
"""Maximum number of encoded files in memory while they are read."""


@dataclass(frozen=True)
class Listing:
    """Contents of a container, row by row.

    Attributes:
        folders: names of all folders, "n01440764" or "fog/3/n01440764"; ascending.
        folder_of: int32 (N,), the folder of each row.
        names: name of each row's file within its folder; ascending within a folder.
        empty: for each folder without images, what it holds instead, in words.
        named: whether every name is a file's own, rather than its position in the container.
        left_out: other things in the container that are not rows, in words.
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
        """The number of images in each folder: int64 (folders,)."""
        return np.bincount(self.folder_of, minlength=len(self.folders))


def listed(pairs: Sequence[tuple[str, str]]) -> tuple[Listing, Rows]:
    """The listing of (folder, name) pairs in any order, and for each of its rows the index of the pair."""
    found = sorted({folder for folder, _ in pairs})
    position = {folder: place for place, folder in enumerate(found)}
    order = sorted(range(len(pairs)), key=lambda row: (position[pairs[row][0]], pairs[row][1]))
    folder_of = np.array([position[pairs[row][0]] for row in order], np.int32)
    return Listing(tuple(found), folder_of, [pairs[row][1] for row in order]), np.array(order, np.int64)


class Container(ABC):
    """Image files in some kind of storage.

    Attributes:
        where: the location, for messages.
    """

    where: Path

    @property
    @abstractmethod
    def root(self) -> Path:
        """The folder that may contain a file with the order of the classes."""

    def class_names(self) -> tuple[str, ...] | None:
        """Names of all classes in their author's order, if the files state it.

        Raises:
            UserError: the files contradict each other.
        """
        return None

    def origins(self) -> Mapping[str, str]:
        """For folders of the listing that are labels: the folder that the images of each had before they were packed.

        Empty if it is not known, or if folders and labels are not one to one.
        """
        return {}

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Folders of the container's files, as prefixes of the listing's folders: "" or "fog/3/"."""
        return ("",)

    def way_out(self, folder: str) -> str:
        """Suggest what to do about a folder without images."""
        return f"complete the copy, or remove {folder!r}"

    @abstractmethod
    def listing(self) -> Listing:
        """List the contents.

        Raises:
            UserError: the container cannot be read.
        """

    @abstractmethod
    def title(self, row: int) -> str:
        """The file of a row, for errors."""

    @abstractmethod
    def stamp(self, rows: Rows) -> object:
        """A JSON value that changes whenever the bytes of these rows may have changed."""

    @abstractmethod
    def read(self, rows: Rows) -> list[bytes]:
        """The encoded images of some rows.

        Raises:
            UserError: one cannot be read; the message has its title.
        """

    def column(self, name: str) -> Sequence[object]:
        """The value of every row in a column.

        Raises:
            UserError: there is no column of that name, or a value is missing.
        """
        raise UserError(f"{self.where} has no columns", got=name, valid="source_column goes with parquet")

    def paths(self, rows: Rows) -> list[str]:
        """The paths of some rows within the container, for messages: "ant/1.png" or "fog/3/ant/1.png"."""
        listing = self.listing()
        places = zip(listing.folder_of[rows].tolist(), rows.tolist(), strict=True)
        return [f"{listing.folders[folder]}/{listing.names[row]}" for folder, row in places]

    def reading_order(self, rows: Rows) -> Rows:
        """The positions within `rows`, in the order that is fastest to read: int64 (n,)."""
        return np.arange(len(rows))


def digests(container: Container, rows: Rows, cache: Path | None) -> list[str]:
    """A digest of every row's bytes. Files are read again only after a change. Truncated images are found here.

    Args:
        container: holds the images.
        rows: the rows to digest.
        cache: folder for digests.

    Raises:
        UserError: an image is truncated or cannot be read (the message names it), or a file changed while it was read.
    """
    before = container.stamp(rows)
    # The location is part of the stamp, as two trees unpacked without times may agree in all names, sizes and times.
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
    """The error about images that changed after RIB checked them."""
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
    """Encoded images of all rows, in chunks and in the fastest order.

    Each item has positions within `rows`, and the bytes.
    """
    order = container.reading_order(rows)
    for start in range(0, len(order), CHUNK):
        places = order[start : start + CHUNK]
        yield places, container.read(rows[places])


def read_files(files: Sequence[Path]) -> list[bytes]:
    """The bytes of several files, read in parallel."""
    return side_by_side(read_plain, files)
