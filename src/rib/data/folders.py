"""Folder trees: `<root>/<class>/<image>`, or with more levels of folders above the images."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from rib.arrays import Rows
from rib.data.classes import shortened
from rib.data.containers import Container, Listing, read_files
from rib.data.entries import (
    OTHER_IMAGES,
    Folder,
    images_below,
    is_folder,
    is_hidden,
    look_into,
    require_text,
    way_to_images,
)
from rib.data.globs import MISPLACED
from rib.data.metadata_files import columns_of_splits, lists_of_splits, require_same_labels
from rib.errors import UserError, with_near_path
from rib.files import state

_NO_CLASSES = ("images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "data", "files", "samples")
"""Names of folders, in lower case, that hold the images of all classes."""

_TO_FOLDERS = "move each image into a folder with the name of its class, by the table of labels that comes with the set"


class FolderContainer(Container):
    """A folder tree.

    Args:
        root: the folder with one folder per class.
        data: the data set's name, for errors.
        depth: levels of folders between the root and the images.
        skip: folders of the root to ignore.
    """

    def __init__(self, root: Path, data: str, depth: int = 1, skip: Collection[str] = ()) -> None:
        self.where, self._data, self._depth, self._skip = root, data, depth, skip

    @property
    def root(self) -> Path:
        return self.where

    def listing(self) -> Listing:
        return self._listing

    @cached_property
    def _listing(self) -> Listing:
        folders = sorted(self._folders(self.where, self._depth))
        folder_of: list[int] = []
        names: list[str] = []
        empty = {}
        beside: Counter[str] = Counter()
        for place, folder in enumerate(folders):
            found = look_into(f"{self.where}/{folder}")
            names += found.images
            folder_of += [place] * len(found.images)
            beside += found.beside
            if not found.images:
                empty[folder] = _instead(found)
            elif found.folders and (below := images_below(self.where / folder, found.folders)):
                raise self._nested(folder, below)
        require_text([*folders, *names], self.where, self._data)
        if self._depth == 1:
            require_same_labels(self.where, self._data)
        top = look_into(str(self.where))
        beside += Counter({f"{kind} beside the classes": n for kind, n in _pictures(top).items()})
        files = f"{beside.total():,} file{'' if beside.total() == 1 else 's'} ({_counted(beside)})"
        left_out: tuple[str, ...] = (files,) if beside else ()
        if lists := lists_of_splits(self.where):
            left_out += (f"{' and '.join(lists)}, which may name images to test on",)
        if self._depth == 1 and (columns := columns_of_splits(self.where, self._data)):
            left_out += (f"the splits in {' and '.join(columns)}: all images are taken as one set",)
        return Listing(tuple(folders), np.array(folder_of, np.int32), names, empty, left_out=left_out)

    def _nested(self, folder: str, below: int) -> UserError:
        return UserError(
            f"data set {self._data!r}: {below:,} images lie in folders below class {folder!r}",
            got=self.where / folder,
            valid="<root>/<class>/<image>",
            remedy="move them up into the class's folder, or remove them",
        )

    def _folders(self, folder: Path, depth: int, prefix: str = "") -> Iterator[str]:
        for name in _sub_folders(folder, self._data):
            if not prefix and name in self._skip:
                continue
            if depth == 1:
                yield prefix + name
            else:
                yield from self._folders(folder / name, depth - 1, f"{prefix}{name}/")

    def way_out(self, folder: str) -> str:
        return way_to_images(self.where, folder)

    def title(self, row: int) -> str:
        return self._path(row)

    def stamp(self, rows: Rows) -> object:
        """A digest of every file's name and state.

        Raises:
            UserError: a file cannot be read or is empty.
        """
        stamp = hashlib.blake2b(digest_size=20)
        start = len(str(self.where))
        empty: list[str] = []
        for row in rows.tolist():
            path = self._path(row)
            try:
                stat = os.stat(path)  # noqa: PTH116 -- millions of files: a Path each would double the time
            except OSError as error:
                raise _unreadable(error) from None
            if not stat.st_size:
                empty.append(path)
            stamp.update(f"{path[start:]} {state(stat)}\n".encode())
        if empty:
            raise UserError(
                f"cannot read the image {empty[0]}",
                got="an empty file" + (f", as {len(empty) - 1:,} more are" if len(empty) > 1 else ""),
                remedy="copy the files again, or take them out of the data set",
            )
        return stamp.hexdigest()

    def read(self, rows: Rows) -> list[bytes]:
        try:
            return read_files([Path(self._path(row)) for row in rows.tolist()])
        except OSError as error:
            raise _unreadable(error) from None

    def _path(self, row: int) -> str:
        listing = self._listing
        return f"{self.where}/{listing.folders[listing.folder_of[row]]}/{listing.names[row]}"


def _instead(found: Folder) -> str:
    """A description of what a folder without images contains."""
    if found.folders:
        return f"holds only folders ({shortened(found.folders)})"
    return f"holds only files that are not read ({_counted(found.beside)})" if found.beside else "is empty"


def _unreadable(error: OSError) -> UserError:
    return UserError(f"cannot read the image {error.filename}", got=error.strerror, remedy="copy the file again")


def _sub_folders(folder: Path, data: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not is_hidden(entry.name)]
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UserError(
            f"data set {data!r}: folder not found" if not folder.exists() else f"data set {data!r}: {error}",
            got=folder,
            valid="a folder with one sub-folder for each class",
            remedy=with_near_path(folder, MISPLACED),
        ) from None
    if lost := sorted(entry.name for entry in found if entry.is_symlink() and not Path(entry.path).exists()):
        raise UserError(
            f"data set {data!r}: {len(lost):,} links beside the classes are dangling",
            got=f"{folder / lost[0]} → {(folder / lost[0]).readlink()}",
            remedy="repair or remove them: a class may be missing",
        )
    return [entry.name for entry in found if is_folder(entry)]


def _pictures(found: Folder) -> Counter[str]:
    """Number of images directly in a folder of classes, by kind."""
    kinds = Counter(
        {kind: n for kind, n in found.beside.items() if kind in OTHER_IMAGES or kind == "in hidden folders"}
    )
    return kinds + Counter(Path(name).suffix.lower() for name in found.images)


def _counted(kinds: Counter[str]) -> str:
    shown = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(4))
    return shown + (", …" if len(kinds) > 4 else "")


def check_class_folders(container: FolderContainer, data: str) -> None:
    """Refuse a tree without class folders, with a message that says where its images are.

    Raises:
        UserError: it has none.
    """
    folders = container.listing().folders
    if not folders:
        images = len(look_into(str(container.where)).images)
        raise UserError(
            f"data set {data!r}: no class folders",
            got=f"{images:,} images without a class in {container.where}" if images else container.where,
            valid="<root>/<class>/<image>",
            remedy=_TO_FOLDERS if images else "check the path",
        )
    if len(folders) == 1 and folders[0].lower() in _NO_CLASSES:
        raise UserError(
            f"data set {data!r}: all images lie in one folder {folders[0]!r}, which names no class",
            got=container.where / folders[0],
            valid="<root>/<class>/<image>",
            remedy=_TO_FOLDERS,
        )
