"""Folder trees: `<root>/<class>/<image>`, or with more levels of folders above the images."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from rib.data.containers import Container, Listing, Rows, read_files
from rib.data.images import SUFFIXES
from rib.errors import UserError
from rib.files import state


class FolderContainer(Container):
    """A folder tree.

    Args:
        root: the folder that holds one folder a class.
        data: the data set's name, for errors.
        depth: levels of folders between the root and the images.
        skip: folders of the root that are left alone.
    """

    def __init__(self, root: Path, data: str, depth: int = 1, skip: Collection[str] = ()) -> None:
        self.where, self._data, self._depth, self._skip = root, data, depth, skip

    def listing(self) -> Listing:
        return self._listing

    @cached_property
    def _listing(self) -> Listing:
        folders = sorted(self._folders(self.where, self._depth))
        folder_of: list[int] = []
        names: list[str] = []
        empty = {}
        for place, folder in enumerate(folders):
            images, others = _images(f"{self.where}/{folder}")
            names += images
            folder_of += [place] * len(images)
            if not images:
                empty[folder] = f"holds only folders ({shortened(others)})" if others else "is empty"
        return Listing(tuple(folders), np.array(folder_of, np.int32), names, empty)

    def _folders(self, folder: Path, depth: int, prefix: str = "") -> Iterator[str]:
        for name in _sub_folders(folder, self._data):
            if not prefix and name in self._skip:
                continue
            if depth == 1:
                yield prefix + name
            else:
                yield from self._folders(folder / name, depth - 1, f"{prefix}{name}/")

    def title(self, row: int) -> str:
        return self._path(row)

    def stamp(self, rows: Rows) -> object:
        """A digest of every file's name and state. Raises UserError as `read`."""
        stamp = hashlib.blake2b(digest_size=20)
        start = len(str(self.where))
        for row in rows.tolist():
            path = self._path(row)
            try:
                stat = os.stat(path)  # noqa: PTH116 -- millions of files: a Path each would double the time
            except OSError as error:
                raise _unreadable(error) from None
            stamp.update(f"{path[start:]} {state(stat)}\n".encode())
        return stamp.hexdigest()

    def read(self, rows: Rows) -> list[bytes]:
        try:
            return read_files([Path(self._path(row)) for row in rows.tolist()])
        except OSError as error:
            raise _unreadable(error) from None

    def _path(self, row: int) -> str:
        listing = self._listing
        return f"{self.where}/{listing.folders[listing.folder_of[row]]}/{listing.names[row]}"


def _unreadable(error: OSError) -> UserError:
    return UserError(f"cannot read the image {error.filename}", got=error.strerror, remedy="copy the file again")


def _sub_folders(folder: Path, data: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if _is_folder(entry) and not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UserError(
            f"data set {data!r}: folder not found" if not folder.exists() else f"data set {data!r}: {error}",
            got=folder,
            valid="a folder with one sub-folder a class",
            remedy="correct the path in the suite file, or set --data / RIB_DATA to the folder it is relative to",
        ) from None


def _images(folder: str) -> tuple[list[str], list[str]]:
    """Names of the images of a folder, and of the folders in it; both sorted. Raises UserError."""
    try:
        with os.scandir(folder) as entries:
            listing = [(entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}", got=error.strerror, remedy="change its rights") from None
    images = sorted(sys.intern(name) for name, is_dir in listing if not is_dir and name.lower().endswith(SUFFIXES))
    return images, sorted(name for name, is_dir in listing if is_dir)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or leads to one. A link that leads in a circle is none: its reader says so."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def check_class_folders(container: FolderContainer, data: str) -> None:
    """Refuse a tree without class folders, or with classes that are empty or differ only in case. Raises UserError."""
    listing = container.listing()
    if not listing.folders:
        raise UserError(
            f"data set {data!r}: no class folders",
            got=container.where,
            valid="<root>/<class>/<image>",
            remedy="check the path",
        )
    folded: dict[str, str] = {}
    for name in listing.folders:
        if (other := folded.setdefault(name.casefold(), name)) != name:
            raise UserError(
                f"data set {data!r}: two classes differ only in case",
                got=f"{other!r} and {name!r} in {container.where}",
                remedy="rename or merge one of the folders",
            )


def shortened(names: list[str], most: int = 10) -> str:
    """Names for people, the first few and how many there are."""
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")
