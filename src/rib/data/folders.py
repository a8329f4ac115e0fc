"""Folder trees: `<root>/<class>/<image>`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rib.data.base import DataSet
from rib.data.examples import Index, Part, View
from rib.data.images import SUFFIXES, apply_view, read_image
from rib.data.splits import carve
from rib.errors import UserError
from rib.files import try_write
from rib.identity import digest


@dataclass(frozen=True)
class Tree:
    """A scanned folder tree: class names, and (class, file) for every image, both sorted."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[tuple[int, str], ...]


def scan(root: Path, data: str, classes: Sequence[str] | None = None) -> Tree:
    """List a folder tree.

    Args:
        root: the folder that holds one folder a class.
        data: the data set's name, for errors.
        classes: the classes expected, in order; default: the sub-folders, sorted.

    Raises:
        UserError: the folder is missing or holds no class folders, a class is empty or missing, images lie one
            level too deep, or two class names differ only in case.
    """
    found = _class_folders(root, data)
    if classes is not None and (lost := sorted(set(classes) - set(found))):
        raise UserError(
            f"data set {data!r}: no folder for class {lost[0]!r} in {root}",
            got=_list(found),
            valid=_list(classes),
            remedy="complete the copy, or give [data] `classes` that are there",
        )
    names = tuple(classes) if classes is not None else tuple(found)
    files = [(label, f"{name}/{file}") for label, name in enumerate(names) for file in _images(root / name, data)]
    return Tree(root, names, tuple(files))


def _class_folders(root: Path, data: str) -> list[str]:
    try:
        with os.scandir(root) as entries:
            found = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UserError(
            f"data set {data!r}: folder not found" if not root.exists() else f"data set {data!r}: {error}",
            got=root,
            valid="a folder with one sub-folder a class",
            remedy="correct the path in the suite file, or set --data / RIB_DATA to the folder it is relative to",
        ) from None
    if not found:
        raise UserError(
            f"data set {data!r}: no class folders",
            got=root,
            valid="<root>/<class>/<image>",
            remedy="check the path",
        )
    folded: dict[str, str] = {}
    for name in found:
        if (other := folded.setdefault(name.casefold(), name)) != name:
            raise UserError(
                f"data set {data!r}: two classes differ only in case",
                got=f"{other!r} and {name!r} in {root}",
                remedy="rename or merge one of the folders",
            )
    return found


def _images(folder: Path, data: str) -> list[str]:
    with os.scandir(folder) as entries:
        listing = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    images = sorted(name for name, is_dir in listing if not is_dir and name.lower().endswith(SUFFIXES))
    if not images:
        nested = sorted(name for name, is_dir in listing if is_dir)
        raise UserError(
            f"data set {data!r}: class {folder.name!r} has no images",
            got=f"{folder} holds only folders ({_list(nested)})" if nested else f"{folder} is empty",
            valid="image files: " + " ".join(SUFFIXES),
            remedy="point the data set one level deeper" if nested else "complete the copy, or remove the folder",
        )
    return images


def _list(names: Iterable[str], most: int = 10) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


class FolderSet(DataSet):
    """A data set in one folder tree (split here, or playing both roles whole) or in two.

    Args:
        name: the data set's name.
        root: the tree tuned on, and tested on where `test_root` is None.
        test_root: the tree tested on.
        test_fraction: share of `root` that is tested on and never tuned on.
        classes: expected classes, in order; default: the sub-folders of `root`, sorted.
        family: source family, default the name.
        cache: folder for file digests, so that an unchanged tree is read once.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        *,
        test_root: Path | None = None,
        test_fraction: float = 0.0,
        classes: Sequence[str] | None = None,
        family: str | None = None,
        cache: Path | None = None,
    ) -> None:
        self.name, self.family, self.units = name, family or name, family or name
        self._cache, self._fraction = cache, test_fraction
        self._tune = scan(root, name, classes)
        self._test = scan(test_root, name, self._tune.classes) if test_root else self._tune
        self.classes = self._tune.classes
        self.disjoint = bool(test_root or test_fraction)

    def index(self, part: Part) -> Index:
        return self._indices[part]

    @cached_property
    def _indices(self) -> dict[str, Index]:
        tune = _tree_index(self._tune)
        if self._test is not self._tune:
            test = _tree_index(self._test)
            return {"tune": tune, "test": Index(test.labels, test.sources + len(tune), items=test.items)}
        first, second = carve(tune, self._fraction, 0, "test part")
        return {"tune": tune.take(first), "test": tune.take(second) if self.disjoint else tune}

    def fingerprint(self, part: Part) -> str:
        return self._fingerprints[part]

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        digests = {
            tree.root: file_digests(tree, self._cache) for tree in {id(t): t for t in (self._tune, self._test)}.values()
        }
        return {
            part: digest(
                json.dumps(
                    [[int(label), digests[self._root(part)][item]] for label, item in self._pairs(part)]
                ).encode()
            )
            for part in ("tune", "test")
        }

    def _pairs(self, part: str) -> list[tuple[int, str]]:
        index = self._indices[part]
        assert index.items is not None
        return list(zip(index.labels.tolist(), index.items, strict=True))

    def _root(self, part: str) -> Path:
        return (self._test if part == "test" else self._tune).root

    def pixels(self, part: Part, rows: Sequence[int], view: View) -> NDArray[np.uint8]:
        items, root = self.index(part).items, self._root(part)
        assert items is not None
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the interpreter while it decodes
            return np.stack(list(pool.map(lambda row: apply_view(read_image(root / items[row]), view), rows)))


def _tree_index(tree: Tree) -> Index:
    labels = np.array([label for label, _ in tree.files], np.int64)
    return Index(labels, np.arange(len(labels)), items=tuple(file for _, file in tree.files))


def file_digests(tree: Tree, cache: Path | None) -> dict[str, str]:
    """Digest of every file of a tree by its name, read again only where name, size or time of a file changed."""
    stats = [(file, (tree.root / file).stat()) for _, file in tree.files]
    stamp = digest(json.dumps([[file, stat.st_size, stat.st_mtime_ns] for file, stat in stats]).encode())
    known = cache / f"{stamp}.json" if cache else None
    if known and known.exists():
        cached: dict[str, str] = json.loads(known.read_text())
        return cached
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        contents = pool.map(lambda file: digest((tree.root / file).read_bytes()), [file for file, _ in stats])
        digests = dict(zip((file for file, _ in stats), contents, strict=True))
    if known:
        try_write(known, json.dumps(digests).encode())
    return digests
