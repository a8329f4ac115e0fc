"""A user's data set in containers: one that RIB splits or uses whole for tuning and testing, or two."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Rows
from rib.data.base import DataSet, Form
from rib.data.cells import CelledContainer
from rib.data.classes import Classes, Labelled, name_classes
from rib.data.containers import Container, Listing, changed, digests, short_digests
from rib.data.examples import Index, Part
from rib.data.generated import generated_caveat
from rib.data.groups import UNGROUPED, GroupRule, container_groups, group_bytes
from rib.data.images import SUFFIXES, apply_view, decode_pixels
from rib.data.masks import require_pictures_of_their_own
from rib.data.modes import image_digest
from rib.data.orders import author_order, near_folders
from rib.data.pictures import form_of, picture_digests
from rib.data.sources import BY_NAME, SourceRule, apart, row_sources
from rib.data.splits import carve, divided
from rib.data.threads import side_by_side
from rib.data.views import Inputs, Pixels, View, as_pixels
from rib.errors import UserError
from rib.identity import digest


class ContainedSet(DataSet):
    """A data set in one container or in two.

    Args:
        name: the data set's name.
        tune: the container to tune on; also to test on if `test` is None.
        test: the container to test on.
        test_fraction: share of `tune` that is used only to test.
        classes: the classes to use, in order; default: all, in the order of docs/extending.md.
        family: source family, whose sets show the same source images.
        sources: how to find the source image of each row.
        groups: how to find the group of each row.
        targets: for classes whose names differ from the reference set's, the reference classes that stand for them.
        absent: whether some of `classes` may have no images.
        cache: folder for file digests, so that unchanged files are read once.

    Raises:
        UserError: a class is missing or empty, or two sources state different orders of the classes.
    """

    def __init__(
        self,
        name: str,
        tune: Container,
        *,
        test: Container | None = None,
        test_fraction: float = 0.0,
        classes: Sequence[str] | None = None,
        family: str | None = None,
        sources: SourceRule = BY_NAME,
        groups: GroupRule = UNGROUPED,
        targets: Mapping[str, Sequence[str]] = MappingProxyType({}),
        absent: bool = False,
        cache: Path | None = None,
    ) -> None:
        self.name, self.family, self.units = name, family or name, family or name
        self._cache, self._rule, self._targets, self._groups = cache, sources, targets, groups
        self._of_family = family
        self._contents: dict[str, NDArray[np.uint64]] = {}
        self.matched = family is not None or sources.given or isinstance(tune, CelledContainer)
        containers = (tune, test) if test else (tune,)
        self.caveat = "; ".join(filter(None, dict.fromkeys(generated_caveat(one.where) for one in containers)))
        self.disjoint = bool(test or test_fraction)
        found = name_classes(name, [_labelled(one, name, classes is None) for one in containers], classes, absent)
        self.classes = found.names
        _require_same_origins(name, containers, found)
        for one in containers:
            require_pictures_of_their_own(name, one, sources.given)
        self.left_out = (*dict.fromkeys(note for one in containers for note in one.listing().left_out), *found.left_out)
        index, rows = self._read_index(tune, found.label_of[0])
        if test is not None:
            test_index, test_rows = self._read_index(test, found.label_of[1])
            index, test_index = apart(index, test_index, sources if self.matched else None)
            self._parts = {"tune": (tune, index, rows), "test": (test, test_index, test_rows)}
        else:
            split = divided(index, test_fraction) if family else carve(index, test_fraction, 0, "test part")
            first, second = split
            tested = (tune, index.take(second), rows[second]) if self.disjoint else (tune, index, rows)
            self._parts = {"tune": (tune, index.take(first), rows[first]), "test": tested}

    def _read_index(self, container: Container, label_of: Rows) -> tuple[Index, Rows]:
        """Index of all rows whose class is used, sorted by class, and those rows."""
        listing = container.listing()
        self._check(container, listing, label_of)
        labels = label_of[listing.folder_of]
        rows = np.argsort(labels, kind="stable")[np.count_nonzero(labels < 0) :].astype(np.int64)
        index = Index(labels[rows].astype(np.int64), self._sources(container, rows, labels[rows]))
        if isinstance(container, CelledContainer):
            index = replace(index, cells=container.cell_of[rows], cell_names=container.cell_names)
        return container_groups(index, self.name, container, rows, self._groups), rows

    def _sources(self, container: Container, rows: Rows, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Source image of each row: that of its file if the set needs it, else the number of the row."""
        if not self.matched:
            return np.arange(len(rows))
        names = ["+".join(self._targets.get(name, (name,))) for name in self.classes]
        classes = [names[label] for label in labels.tolist()]
        return row_sources(self.name, container, rows, classes, self._of_family, self._rule)

    def _check(self, container: Container, listing: Listing, label_of: Rows) -> None:
        for folder, label in zip(listing.folders, label_of.tolist(), strict=True):
            if label >= 0 and folder in listing.empty:
                raise UserError(
                    f"data set {self.name!r}: class {folder!r} has no images",
                    got=f"{container.where / folder} {listing.empty[folder]}",
                    valid="image files: " + " ".join(SUFFIXES),
                    remedy=container.way_out(folder),
                )

    def require_files(self, part: Part) -> None:
        container, _, rows = self._parts[part]
        container.stamp(rows)

    def index(self, part: Part) -> Index:
        return self._parts[part][1]

    def fingerprint(self, part: Part) -> str:
        return self._fingerprints[part]

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for part, (container, index, rows) in self._parts.items():
            if part == "test" and not self.disjoint:
                return found | {part: found["tune"]}
            contents = digests(container, rows, self._cache)
            self._contents[part] = short_digests(contents)
            pairs = zip(index.labels.tolist(), contents, strict=True)
            named = index.sources.tobytes() if self.matched else b""
            if index.cells is not None:
                named += index.cells.tobytes() + json.dumps(index.cell_names).encode()
            found[part] = digest(json.dumps(list(pairs)).encode() + named + group_bytes(index))
        return found

    def contents(self, part: Part) -> NDArray[np.uint64]:
        self._fingerprints  # noqa: B018 -- reads the digests
        return self._contents[part if self.disjoint else "tune"]

    def form(self, part: Part) -> Form:
        container, _, rows = self._parts[part]
        return form_of(container, rows, self.contents(part), self._cache)

    def pictures(self, part: Part) -> NDArray[np.uint64]:
        container, _, rows = self._parts[part]
        return picture_digests(container, rows, self.contents(part), self._cache)

    def names(self, part: Part) -> list[str]:
        container, _, rows = self._parts[part]
        return container.paths(rows)

    def reading_order(self, part: Part) -> Rows:
        container, _, rows = self._parts[part]
        return container.reading_order(rows)

    def read(self, part: Part, rows: Sequence[int], view: View) -> Inputs:
        container, _, all_rows = self._parts[part]
        chosen = all_rows[np.asarray(rows)]
        known = self._contents.get(part if self.disjoint else "tune")
        pixels = as_pixels(view, self.name)
        return decoded(container, chosen, pixels, known=None if known is None else known[np.asarray(rows)])


def decoded(
    container: Container,
    rows: Rows,
    view: Pixels,
    border: int = 0,
    native: bool = False,
    known: NDArray[np.uint64] | None = None,
) -> NDArray[np.uint8]:
    """Images of a container in a model's view: uint8 (N, size, size, 3).

    Args:
        container: holds the images.
        rows: int64 (N,), the rows to read.
        view: the model's view.
        border: pixels to cut off on every side before anything else.
        native: as in `apply_view`.
        known: `short_digests` of the rows, to check their bytes against; None if no result depends on them yet.

    Raises:
        UserError: an image cannot be read, or has changed since its fingerprint was computed.
    """

    images = np.empty((len(rows), *view.shape), view.dtype)
    contents = container.read(rows)

    def one(place: int) -> None:
        title = container.title(int(rows[place]))
        if known is not None and short_digests([image_digest(contents[place])])[0] != known[place]:
            raise changed(title)
        pixels = decode_pixels(contents[place], title)
        if border:
            pixels = pixels[border:-border, border:-border]
        images[place] = apply_view(pixels, view, native)

    side_by_side(one, range(len(rows)))  # decoding and resizing release the GIL
    return images


def _require_same_origins(data: str, containers: Sequence[Container], classes: Classes) -> None:
    """Refuse labels if the folders that the images had are classes too, and are other ones.

    Raises:
        UserError: a folder has the name of another class than its label, or another label in the second container.
    """
    seen = {name: label for label, name in enumerate(classes.names)}
    for container, label_of in zip(containers, classes.label_of, strict=True):
        origins = container.origins()
        for word, label in zip(container.listing().folders, label_of.tolist(), strict=True):
            folder = origins.get(word, "")
            if label >= 0 and not folder.isdecimal() and folder and seen.setdefault(folder, label) != label:
                raise UserError(
                    f"data set {data!r}: labels and the folders of the images disagree",
                    got=f"images from folder {folder!r} have label {word!r}, which is class {classes.names[label]!r}, "
                    f"in {container.where}",
                    valid=f"class {classes.names[seen[folder]]!r} for {folder!r}, as elsewhere in the set",
                    remedy="correct the labels or the order of their names; or write the images without their folders",
                )


def _labelled(container: Container, data: str, ordered: bool) -> Labelled:
    """A container's labels; with `ordered`, also the order of classes that its author states."""
    listing, where = container.listing(), container.where
    names, says, near = author_order(container.root, data, container.class_names(), where, ordered)
    folders = near_folders(container.root) if ordered else ()
    return Labelled(where, listing, names, says, container.prefixes, near, folders=folders)
