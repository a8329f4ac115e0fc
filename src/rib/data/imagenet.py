"""The published ImageNet sets, in their own layout or in another container."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rib.arrays import Rows
from rib.data.base import DataSet, Form
from rib.data.contained import decoded
from rib.data.containers import Container, digests, short_digests
from rib.data.examples import Index, Part
from rib.data.folders import FolderContainer
from rib.data.generated import generated_caveat
from rib.data.imagenet_classes import check_objectnet_mappings, objectnet
from rib.data.parquet import ParquetContainer
from rib.data.pictures import form_of, picture_digests
from rib.data.places import Place, configured
from rib.data.published import EXTRA, PUBLISHED, Published
from rib.data.shards import ShardContainer
from rib.data.sources import published_sources
from rib.data.splits import mixed, named_seed
from rib.data.survey import Survey, class_list, look, match, missing
from rib.data.views import Inputs, View, as_pixels

PREFIX = "imagenet:"

MAP_NAMES = {
    "wnid": "ImageNet ids",
    "integer": "ImageNet class numbers",
    "objectnet": "ObjectNet 113, maximum over synonyms",
    "rib_official_105": "rib_official_105",
}


class ImageNetSet(DataSet):
    """A published set. RIB refuses it unless it is complete.

    Args:
        name: the name in the suite.
        published: the published facts.
        container: holds the images.
        cache: folder for file digests.
        allow_incomplete: accept a copy with missing images, and say so in every result.

    Raises:
        UserError: it is missing, incomplete, misnamed or wrongly nested.
    """

    def __init__(
        self,
        name: str,
        published: Published,
        container: Container,
        cache: Path | None = None,
        allow_incomplete: bool = False,
    ) -> None:
        self.name, self._published, self._container, self._cache = name, published, container, cache
        survey, caveats = look(name, published, container), [generated_caveat(container.where)]
        if survey.state != "complete":
            if not (allow_incomplete and survey.state == "incomplete" and survey.images):
                raise survey.error()
            caveats.append(f"incomplete: {survey.images:,} of {survey.expected:,} images")
        self.caveat = "; ".join(filter(None, caveats))
        self.left_out = container.listing().left_out
        self.classes = class_list(published)
        self.family = self.units = published.family
        self.map_name = MAP_NAMES[published.labels]
        self.map_warning = published.labels == "rib_official_105"
        if published.labels == "objectnet":
            self.targets = {folder: row.wnids for folder, row in objectnet().items()}
        self.disjoint = published.test_draw is not None
        self.chunk = 64 if published.border else 512  # ObjectNet has files of several megabytes
        self._parts = self._read_parts()
        self._contents: dict[str, NDArray[np.uint64]] = {}
        self.matched = self.shipped = True

    def _read_parts(self) -> dict[str, tuple[Index, Rows]]:
        """The index of each part, and the rows of the container that it consists of."""
        published, listing = self._published, self._container.listing()
        matched = match(published, listing, isinstance(self._container, FolderContainer))
        labels, cells = matched.labels[listing.folder_of], matched.cells[listing.folder_of]
        rows = np.lexsort((labels, cells))
        rows = rows[labels[rows] >= 0].astype(np.int64)
        names = [listing.names[row] for row in rows]
        unique = published.classes == "objectnet"  # its file names are unique in the whole set
        sources = published_sources(
            self.units, [] if unique else [self.classes[label] for label in labels[rows]], names
        )
        index = Index(
            labels[rows],
            sources,
            cells[rows].astype(np.int16) if published.celled else None,
            published.cells,
        )
        tune = np.arange(len(rows))
        tested = tune
        if published.test_draw is not None:
            tested = drawn(index, published.test_draw, "test part", at_most=0.2)
            tune = np.setdiff1d(tune, tested)
        if published.draw is not None:
            tune = tune[drawn(index.take(tune), published.draw, "images a cell")]
        if published.test_draw is None:
            tested = tune
        return {"tune": (index.take(tune), rows[tune]), "test": (index.take(tested), rows[tested])}

    def index(self, part: Part) -> Index:
        return self._parts[part][0]

    def fingerprint(self, part: Part) -> str:
        return self._fingerprints[part if self.disjoint else "test"]

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        parts: tuple[Part, ...] = ("tune", "test") if self.disjoint else ("test",)
        return {part: self._fingerprint(part) for part in parts}

    def _fingerprint(self, part: Part) -> str:
        index, rows = self._parts[part]
        contents = digests(self._container, rows, self._cache)
        self._contents[part] = short_digests(contents)
        found = hashlib.blake2b(digest_size=20)
        found.update(f"border {self._published.border} native {self._published.native} ".encode())
        found.update(index.labels.tobytes() + index.sources.tobytes())
        found.update(index.cells.tobytes() if index.cells is not None else b"")
        for content in contents:
            found.update(content.encode())
        return found.hexdigest()

    def contents(self, part: Part) -> NDArray[np.uint64]:
        self._fingerprints  # noqa: B018 -- reads the digests
        return self._contents[part if self.disjoint else "test"]

    def form(self, part: Part) -> Form:
        return form_of(self._container, self._parts[part][1], self.contents(part), self._cache)

    def pictures(self, part: Part) -> NDArray[np.uint64]:
        return picture_digests(self._container, self._parts[part][1], self.contents(part), self._cache)

    def names(self, part: Part) -> list[str]:
        listing, rows = self._container.listing(), self._parts[part][1]
        places = zip(listing.folder_of[rows].tolist(), rows.tolist(), strict=True)
        return [f"{listing.folders[folder]}/{listing.names[row]}" for folder, row in places]

    def reading_order(self, part: Part) -> Rows:
        return self._container.reading_order(self._parts[part][1])

    def read(self, part: Part, rows: Sequence[int], view: View) -> Inputs:
        chosen = self._parts[part][1][np.asarray(rows)]
        known = self._contents.get(part if self.disjoint else "test")
        expected = None if known is None else known[np.asarray(rows)]
        pixels, row = as_pixels(view, self.name), self._published
        return decoded(self._container, chosen, pixels, row.border, row.native, expected)


def drawn(index: Index, count: int, name: str, at_most: float = 1.0) -> Rows:
    """A fixed draw of rows with the same number per class and cell, and independent between cells.

    It depends only on the source images' numbers, so copies in another order or container give the same draw.

    Args:
        index: the rows.
        count: number of rows per class and cell.
        name: names the draw.
        at_most: maximum share of a class; this matters only for small copies.
    """
    cells = index.cells.astype(np.int64) if index.cells is not None else np.zeros(len(index), np.int64)
    names = index.cell_names or ("",)
    seeds = np.array([named_seed("draw", name, cell) for cell in names], np.uint64)
    keys = mixed(index.sources.astype(np.uint64) ^ seeds[cells])
    group = cells * (int(index.labels.max(initial=0)) + 1) + index.labels
    order = np.lexsort((keys, group))
    starts, sizes = np.unique(group[order], return_index=True, return_counts=True)[1:]
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    allowed = np.minimum(count, np.maximum(1, np.floor(at_most * sizes)))
    return np.sort(order[rank < np.repeat(allowed, sizes)]).astype(np.int64)


def find_container(name: str, key: str, place: Place, base: Path) -> tuple[Container | Survey, bool]:
    """Find a published set by the suite's row, by the configuration, or in the default folders.

    Args:
        name: the data set's name, for errors.
        key: one of `PUBLISHED`.
        place: the location in the suite's row.
        base: the folder of all data, which default sub-folders and the row's relative path start from.

    Returns:
        The container (or the survey of a missing set, if no default sub-folder exists), and whether it may be
        incomplete.

    Raises:
        UserError: a configuration file has an error.
    """
    published = PUBLISHED[key]
    known = {PREFIX + other: row for other, row in PUBLISHED.items()}
    said = (place, base) if place.kind else configured(PREFIX + key, known)
    if said is None and published.home:
        said = configured(PREFIX + published.home, known)
    if said is not None and said[0].kind:
        path = said[0].path(said[1])
        assert path is not None
        allowed = place.allow_incomplete or said[0].allow_incomplete
        kinds = {"parquet": ParquetContainer, "shards": ShardContainer}
        if said[0].kind in kinds:
            return kinds[said[0].kind](path, name, said[1], names=False), allowed
        return _tree(name, published, path), allowed
    allowed = place.allow_incomplete or bool(said and said[0].allow_incomplete)
    places = [base / folder for folder in published.folders]
    found = next((path for path in places if path.is_dir()), None)
    return (_tree(name, published, found) if found else missing(name, published, places)), allowed


def _tree(name: str, published: Published, root: Path) -> FolderContainer:
    inside = root / published.inside if published.inside else root
    return FolderContainer(
        inside if inside.is_dir() else root, name, 3 if published.celled else 1, EXTRA if published.celled else ()
    )


def open_imagenet(name: str, key: str, place: Place, base: Path, cache: Path | None) -> ImageNetSet:
    """Open and check a published set.

    Args:
        name: the name in the suite.
        key: one of `PUBLISHED`.
        place: the location in the suite's row.
        base: the folder of all data.
        cache: folder for file digests.

    Raises:
        UserError: it is missing, incomplete, misnamed or wrongly nested.
    """
    published = PUBLISHED[key]
    container, allowed = find_container(name, key, place, base)
    if isinstance(container, Survey):
        raise container.error()
    if published.classes == "objectnet":
        check_objectnet_mappings(mappings_of(container.where))
    return ImageNetSet(name, published, container, cache, allowed)


def mappings_of(where: Path) -> Path:
    """The folder of ObjectNet's mapping files, beside its images or in the same folder."""
    return next((path for path in (where / "mappings", where.parent / "mappings") if path.is_dir()), where)
