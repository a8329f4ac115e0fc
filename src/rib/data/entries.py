"""Entries of folders: images, what lies beside them, and images that lie deeper than they should."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rib.data.globs import is_junk
from rib.data.images import SUFFIXES
from rib.data.numbering import split_of
from rib.errors import UserError

MOST = 2000
"""Folders that are looked into for the way to images."""

OTHER_IMAGES = (".gif", ".jfif", ".jpe", ".jp2", ".jxl", ".avif", ".heic", ".heif", ".tga", ".pnm", ".psd", ".svg")
"""Suffixes of images that are not read."""

LEVELS = {1: "one level", 2: "two levels", 3: "three levels"}


@dataclass(frozen=True)
class Folder:
    """Contents of a folder.

    Attributes:
        images: names of files with an image's suffix; sorted.
        folders: names of its folders but hidden ones; sorted.
        beside: how many files there are besides, by kind, as ".gif" or "hidden .png"; those of systems do not count.
    """

    images: list[str]
    folders: list[str]
    beside: Counter[str]


def look_into(folder: str) -> Folder:
    """List the contents of a folder. Raises UserError if it cannot be read."""
    images: list[str] = []
    folders: list[str] = []
    beside: Counter[str] = Counter()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.lower().endswith(SUFFIXES) and not name.startswith(".") and not is_folder(entry):
                    images.append(sys.intern(name))
                elif is_junk(name):
                    continue
                elif is_folder(entry):
                    if is_hidden(name):
                        beside["in hidden folders"] += _count(Path(folder) / name)
                    else:
                        folders.append(name)
                elif suffix := Path(name).suffix.lower() or ("" if name.startswith(".") else "without a suffix"):
                    beside[f"hidden {suffix}" if name.startswith(".") else suffix] += 1
    except OSError as error:
        raise UserError(
            f"cannot read the folder {folder}", got=error.strerror, remedy="change its permissions"
        ) from None
    return Folder(sorted(images), sorted(folders), +beside)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or leads to one. A link that leads in a circle is none: its reader says so."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_hidden(name: str) -> bool:
    """Whether a folder is no class, by its name."""
    return name.startswith(".") or is_junk(name)


def _count(folder: Path) -> int:
    """Images in a folder and below it."""
    return sum(
        name.lower().endswith(SUFFIXES) and not is_junk(name) for _, _, names in os.walk(folder) for name in names
    )


def images_below(folder: Path, folders: Sequence[str]) -> int:
    """Images in some folders of a folder, however deep."""
    return sum(_count(folder / name) for name in folders)


def require_text(names: Sequence[str], where: Path, data: str) -> None:
    """Refuse names that are not UTF-8: they can be neither shown nor written into a result.

    Raises:
        UserError: with how many there are, and the first.
    """
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        odd = [name for name in names if any("\ud800" <= letter <= "\udfff" for letter in name)]
        raise UserError(
            f"data set {data!r}: {len(odd):,} names of files or folders are not UTF-8",
            got=f"{odd[0]!a} in {where}",
            remedy="rename them, as in convmv -r -f latin1 -t utf8 --notest DIR",
        ) from None


def way_to_images(root: Path, folder: str) -> str:
    """Suggest what to do about a folder of a tree that holds no image itself.

    Args:
        root: of the tree.
        folder: the one without images.
    """
    if others := [kind for kind in look_into(str(root / folder)).beside if kind in OTHER_IMAGES]:
        return f"convert the {', '.join(sorted(others))} files, to .png for instance, or remove {folder!r}"
    holding = [path for path in _folders_with_images(root) if path != Path()]
    below = [path for path in holding if path.is_relative_to(folder)]
    if not below:
        return f"complete the copy, or remove {folder!r}"
    parents = sorted({path.parent for path in holding})
    parts = {part for path in parents for name in path.parts if (part := split_of(name))}
    if len(parents) == 1:
        depth = len(parents[0].parts)
        return f"point the data set {LEVELS.get(depth, f'{depth} levels')} deeper, at {root / parents[0]}"
    if len(parts) > 1:
        return (
            f"point the data set one level deeper, at {root / parents[0]}, and test_folder at another part: "
            + ", ".join(str(path) for path in parents[1:6])
        )
    return f"move the images up, from {below[0]} into {folder}: <root>/<class>/<image>"


def _folders_with_images(root: Path) -> list[Path]:
    found: list[Path] = []
    for looked, (folder, folders, names) in enumerate(os.walk(root)):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        if any(name.lower().endswith(SUFFIXES) for name in names):
            found.append(Path(folder).relative_to(root))
        if looked == MOST:
            break
    return found
