"""Comparison of a copy of a published set with the published facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rib.data.containers import Container, Listing
from rib.data.folders import FolderContainer
from rib.data.imagenet_classes import class_names, objectnet, subset, wnids
from rib.data.images import SUFFIXES
from rib.data.published import Published
from rib.errors import UserError

SetState = Literal["complete", "found", "incomplete", "wrong folder", "missing", "unreadable"]


@dataclass(frozen=True)
class Survey:
    """Present and missing images of a published set.

    Attributes:
        name: the data set's name.
        where: the location that was searched.
        state: in a word or two.
        images, expected: number of images present and published; 0 if unknown.
        classes, expected_classes: number of classes present and published; a class counts once per cell.
        faults: descriptions of the faults, the first few of each kind.
        remedy: what to do about them.
    """

    name: str
    where: str
    state: SetState
    images: int = 0
    expected: int = 0
    classes: int = 0
    expected_classes: int = 0
    faults: tuple[str, ...] = ()
    remedy: str | None = None

    def error(self) -> UserError:
        """The error for a copy that is not complete."""
        return UserError(
            f"data set {self.name!r} is {self.state}: {self.faults[0]}",
            got=f"{self.images:,} images of {self.classes:,} classes in {self.where}",
            valid=f"{self.expected:,} images of {self.expected_classes:,} classes",
            remedy=self.remedy,
        )


@dataclass(frozen=True)
class Matched:
    """The class and cell of every folder of a listing.

    Attributes:
        labels: int64 (folders,), index into the set's classes; -1 for a folder that is not one of them.
        cells: int64 (folders,), index into the set's cells; 0 without cells.
    """

    labels: NDArray[np.int64]
    cells: NDArray[np.int64]


def class_list(published: Published) -> tuple[str, ...]:
    """The classes of a set, in the order of its labels: wnids, or ObjectNet's folders."""
    if published.labels == "rib_official_105":
        return tuple(sorted({row.official for row in objectnet().values()}))
    if published.classes == "objectnet":
        return tuple(objectnet())
    return wnids() if published.classes == "imagenet" else subset(published.classes)


def folder_labels(published: Published) -> dict[str, int]:
    """The label of each class folder, by its published name."""
    position = {name: label for label, name in enumerate(class_list(published))}
    if published.labels == "rib_official_105":
        return {folder: position[row.official] for folder, row in objectnet().items()}
    if published.labels == "integer":
        return {str(label): label for label in position.values()}
    return position


def match(published: Published, listing: Listing, files: bool) -> Matched:
    """The class and cell of each folder.

    Args:
        published: the set.
        listing: the contents of a container.
        files: whether it is a folder tree; other containers may label by number or English name too.
    """
    known = folder_labels(published)
    tokens = [folder.rpartition("/")[2] for folder in listing.folders]
    if not files:
        known = known | _other_labels(published, tokens)
    labels = np.array([known.get(token, -1) for token in tokens], np.int64)
    if not published.celled:
        return Matched(labels, np.zeros(len(labels), np.int64))
    place = {cell: number for number, cell in enumerate(published.cells)}
    cells = np.array([place.get("/".join(f.split("/")[-3:-1]), -1) for f in listing.folders], np.int64)
    return Matched(np.where(cells < 0, -1, labels), np.maximum(cells, 0))


def _other_labels(published: Published, tokens: Sequence[str]) -> dict[str, int]:
    """Labels by names other than the published folders': class ids, numbers, English names."""
    classes, position = class_list(published), folder_labels(published)
    if published.classes == "objectnet":
        named = {row.label: position[folder] for folder, row in objectnet().items()}
        return named | {str(number): position[folder] for number, folder in enumerate(objectnet())}
    found = {wnid: label for label, wnid in enumerate(classes)}
    by_number = {str(number): found[wnid] for number, wnid in enumerate(wnids()) if wnid in found}
    if len(classes) < len(wnids()) and all(int(token) < len(classes) for token in tokens if token.isdecimal()):
        by_number = {str(number): number for number in range(len(classes))}
    english = {name: found[wnid] for wnid, name in _unambiguous().items() if wnid in found}
    return found | by_number | english


@cache
def _unambiguous() -> dict[str, str]:
    """English names by wnid, without names that two classes share."""
    names = list(class_names().values())
    return {wnid: name for wnid, name in class_names().items() if names.count(name) == 1}


def look(name: str, published: Published, container: Container) -> Survey:
    """Compare a container with the published facts. It reads no image."""
    if published.labels == "rib_official_105":
        published = replace(published, labels="objectnet")  # the same folders with another label map
    files = isinstance(container, FolderContainer)
    if files and not container.where.is_dir():
        return missing(name, published, [container.where])
    try:
        listing = container.listing()
    except UserError as error:
        return _survey(name, published, container, "unreadable", (f"{error.problem} ({error.got})",))
    matched = match(published, listing, files)
    counts = np.zeros((max(1, len(published.cells)), len(class_list(published))), np.int64)
    np.add.at(counts, (matched.cells, matched.labels), np.where(matched.labels < 0, 0, listing.counts))
    present = {"images": int(counts.sum()), "classes": int((counts > 0).sum())}
    if not (matched.labels >= 0).any():
        nothing = (_nothing(published, container, listing),)
        return _survey(name, published, container, "wrong folder", nothing, **present)
    there = np.zeros(counts.shape, np.bool_)
    there[matched.cells[matched.labels >= 0], matched.labels[matched.labels >= 0]] = True
    lost = (*_misnamed(published, listing, matched), *_lost(published, there))
    faults = (*lost, *_short(published, counts, there))
    state: SetState = "incomplete" if faults else "complete"
    return _survey(name, published, container, state, faults, **present)


def missing(name: str, published: Published, looked: Sequence[Path]) -> Survey:
    """The survey of a set that was not found."""
    survey = _survey(name, published, None, "missing", ("there is no folder " + " or ".join(map(str, looked)),))
    return Survey(**{**survey.__dict__, "where": str(looked[0])})


def _survey(
    name: str,
    published: Published,
    container: Container | None,
    state: SetState,
    faults: tuple[str, ...],
    images: int = 0,
    classes: int = 0,
) -> Survey:
    remedies: dict[SetState, str | None] = {
        "complete": None,
        "found": None,
        "incomplete": f"complete the copy from {published.url}, or say allow_incomplete = true (docs/datasets.md)",
        "wrong folder": "point the path at the folder that holds the classes (docs/datasets.md)",
        "missing": f'get it from {published.url}; if it is elsewhere, say so in rib.toml: [paths] "{name}" = "/path"',
        "unreadable": f"copy it again from {published.url}",
    }
    folders = len(folder_labels(published))
    return Survey(
        name=name,
        where=str(container.where) if container else "",
        state=state,
        images=images,
        expected=published.images,
        classes=classes,
        expected_classes=max(1, len(published.cells)) * min(folders, len(class_list(published))),
        faults=faults,
        remedy=remedies[state],
    )


def _nothing(published: Published, container: Container, listing: Listing) -> str:
    """Why no folder of a container is a class of the set, with the folder that has the classes if it is near."""
    tops = {cell.partition("/")[0] for cell in published.cells} or set(folder_labels(published))
    example = "/".join((*published.cells[:1], next(iter(folder_labels(published)))))
    if not isinstance(container, FolderContainer):
        return f"no label in {container.where} is a class, such as {example!r}; got {_few(listing.folders)}"
    for folder in _near(container.where):
        if any(name.name in tops for name in _folders(folder)):
            return f"its folders are in {folder}, not in {container.where}"
    if any(path.suffix.lower() in SUFFIXES for path in container.where.iterdir()):
        return f"images lie in {container.where} itself, where class folders such as {example!r} are expected"
    found = [path.name for path in _folders(container.where)]
    return f"{container.where} holds no folder such as {example!r}; got {_few(found) or 'nothing'}"


def _near(root: Path) -> Iterator[Path]:
    """The folders up to two levels below a folder, and the two levels above."""
    below = _folders(root)[:50]
    yield from below
    for folder in below:
        yield from _folders(folder)[:50]
    yield from list(root.parents)[:2]


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _misnamed(published: Published, listing: Listing, matched: Matched) -> list[str]:
    """Folders that are no class of the set. ObjectNet's 200 folders that do not overlap with ImageNet are ignored."""
    if published.classes == "objectnet":
        return []
    places = np.flatnonzero(matched.labels < 0).tolist()
    names = [listing.folders[place] for place in places]
    return [f"folder {names[0]!r} is no class of {published.title}{_more(names)}"] if names else []


def _lost(published: Published, there: NDArray[np.bool_]) -> list[str]:
    """Classes without a folder, by cell; a cell without any folder is named as a whole."""
    cells, folders = published.cells or ("",), _folder_of(published)
    empty = np.asarray(~there.any(axis=1))
    lost = [cells[number] for number in np.flatnonzero(empty)]
    faults = [f"cell {lost[0]!r} is missing{_more(lost)}"] if lost else []
    places = np.argwhere(~there & ~empty[:, None]).tolist()
    names = [f"{cells[cell]}/{folders[label]}".lstrip("/") for cell, label in places]
    return faults + ([f"class {names[0]!r} has no folder{_more(names)}"] if names else [])


def _short(published: Published, counts: NDArray[np.int64], there: NDArray[np.bool_]) -> list[str]:
    """Classes whose folder has too few or too many images; the total, if no single class has a fault."""
    fewest, most = published.per_class or (1, published.images)
    cells, folders = published.cells or ("",), _folder_of(published)
    wrong = np.argwhere(((counts < fewest) | (counts > most)) & there)
    names = [f"{cells[cell]}/{folders[label]}".lstrip("/") for cell, label in wrong.tolist()]
    if names:
        cell, label = wrong[0]
        valid = str(fewest) if fewest == most else f"{fewest} to {most}"
        count = f"has {counts[cell, label]} images, not {valid}" if published.per_class else "has no images"
        return [f"class {names[0]!r} {count}{_more(names)}"]
    total = int(counts.sum())
    return [] if total == published.images or not there.all() else [f"{total:,} images, not {published.images:,}"]


def _folder_of(published: Published) -> list[str]:
    """The published folder of each label; if there are several, the first."""
    found: dict[int, str] = {}
    for folder, label in folder_labels(published).items():
        found.setdefault(label, folder)
    return [found[label] for label in range(len(found))]


def _more(names: Sequence[str], most: int = 3) -> str:
    """The names after the first, shortened."""
    rest = [repr(name) for name in names[1:most]]
    left = len(names) - 1 - len(rest)
    words = rest + ([f"{left:,} more"] if left > 0 else [])
    return f" (and {', '.join(words)})" if words else ""


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names):,} in all)" if len(names) > most else "")
