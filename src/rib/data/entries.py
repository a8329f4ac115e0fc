"""Contents of folders: images, other files, and images in deeper folders than expected."""

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
"""Maximum number of folders that are searched for images."""

OTHER_IMAGES = (".gif", ".jfif", ".jpe", ".jp2", ".jxl", ".avif", ".heic", ".heif", ".tga", ".pnm", ".psd", ".svg")
"""Suffixes of image formats that RIB does not read."""

LEVELS = {1: "one level", 2: "two levels", 3: "three levels"}


@dataclass(frozen=True)
class Folder:
    """Contents of a folder.

    Attributes:
        images: names of files with an image's suffix; sorted.
        folders: names of its folders without hidden ones; sorted.
        beside: number of other files by kind, such as ".gif" or "hidden .png", without files of operating systems.
    """

    images: list[str]
    folders: list[str]
    beside: Counter[str]


def look_into(folder: str) -> Folder:
    """List the contents of a folder.

    Raises:
        UserError: it cannot be read.
    """
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
    """Whether an entry is a folder or a link to one. A link in a circle is not; reading it raises the error."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_hidden(name: str) -> bool:
    """Whether the name of a folder shows that it is not a class."""
    return name.startswith(".") or is_junk(name)


def _count(folder: Path) -> int:
    """Number of images in a folder and below it."""
    return sum(
        name.lower().endswith(SUFFIXES) and not is_junk(name) for _, _, names in os.walk(folder) for name in names
    )


def images_below(folder: Path, folders: Sequence[str]) -> int:
    """Number of images in some sub-folders of a folder, at any depth."""
    return sum(_count(folder / name) for name in folders)


def require_text(names: Sequence[str], where: Path, data: str) -> None:
    """Refuse names that are not UTF-8, because they can be neither displayed nor stored in results.

    Raises:
        UserError: there are such names; the message has their number and the first.
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
    """Suggest what to do about a folder of a tree that contains no images itself.

    Args:
        root: root of the tree.
        folder: the folder without images.
    """
    if others := [kind for kind in look_into(str(root / folder)).beside if kind in OTHER_IMAGES]:
        return f"convert the {', '.join(sorted(others))} files, to .png for instance, or remove {folder!r}"
    if "without a suffix" in look_into(str(root / folder)).beside:
        return f"give the files the suffix of their format, such as .jpg, or remove {folder!r}"
    holding = [path for path in _folders_with_images(root) if path != Path()]
    below = [path for path in holding if path.is_relative_to(folder)]
    if not below:
        return f"complete the copy, or remove {folder!r}"
    parents = sorted({path.parent for path in holding})
    parts = {part for path in parents for name in path.parts if (part := split_of(name))}
    if len(parents) == 1:
        depth = len(parents[0].parts)
        return f"point the data set {LEVELS.get(depth, f'{depth} levels')} deeper, at {root / parents[0]}"
    if len(parts) < 2 and (sets := _sets_of_classes(holding)):
        rest = ", ".join(map(str, sets[1:6]))
        return f"point the data set one level deeper, at {root / sets[0]}; the others are sets of their own: {rest}"
    if len(parts) > 1:
        return (
            f"point the data set one level deeper, at {root / parents[0]}, and test_folder at another part: "
            + ", ".join(str(path) for path in parents[1:6])
        )
    return f"move the images up, from {below[0]} into {folder}: <root>/<class>/<image>"


def _sets_of_classes(holding: Sequence[Path]) -> list[Path]:
    """Folders whose sub-folders have the same two names or more in all of them: the same classes in several domains."""
    below: dict[Path, set[str]] = {}
    for path in holding:
        below.setdefault(path.parent, set()).add(path.name)
    common = set.intersection(*below.values()) if below else set()
    return sorted(below) if len(below) > 1 and len(common) > 1 else []


def _folders_with_images(root: Path) -> list[Path]:
    found: list[Path] = []
    for looked, (folder, folders, names) in enumerate(os.walk(root)):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        if any(name.lower().endswith(SUFFIXES) for name in names):
            found.append(Path(folder).relative_to(root))
        if looked == MOST:
            break
    return found
