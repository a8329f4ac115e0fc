"""`rib data check`: whether the data of a suite are present, complete and readable, before RIB runs any step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import cpu_count
from pathlib import Path

import numpy as np

from rib.arrays import Rows
from rib.data.alike import near_copies
from rib.data.base import DataSet
from rib.data.catalogue import DataRow, open_data, require_some
from rib.data.containers import Container, in_chunks
from rib.data.decoded import Decoded, shortened
from rib.data.examples import Part
from rib.data.folders import FolderContainer
from rib.data.imagenet import find_container, mappings_of
from rib.data.imagenet_classes import check_objectnet_mappings
from rib.data.images import decode_pixels
from rib.data.overlap import Overlap, Roles, overlaps
from rib.data.published import PUBLISHED, Published
from rib.data.survey import SetState, Survey, look, match
from rib.data.views import View
from rib.errors import UserError
from rib.text.progress import Advance

SAMPLE = 100
"""Number of images that are decoded if not all are."""


@dataclass(frozen=True)
class Checked:
    """Result of checking one data set.

    Attributes:
        survey: counts and faults.
        title: the set's name in the literature, or its own name if it is not a published set.
        decoded: number of images that were decoded as a test.
        unreadable: names of the images that could not be decoded.
        reasons: why each of them could not be decoded.
        ways_out: what to do about each of them.
        allowed: whether the copy may be incomplete.
        notes: facts that a reader of results should know, such as ignored files.
        licence, url: its terms, and where to get it, if known.
        noun: plural of what it holds.
    """

    survey: Survey
    title: str
    decoded: int = 0
    unreadable: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    ways_out: tuple[str, ...] = ()
    allowed: bool = False
    notes: tuple[str, ...] = ()
    licence: str = ""
    url: str = ""
    noun: str = "images"

    @property
    def fine(self) -> bool:
        """Whether a run would accept the set."""
        return not self.unreadable and (
            self.survey.state in ("complete", "found") or (self.allowed and self.survey.state == "incomplete")
        )


def check(
    name: str,
    row: DataRow,
    base: Path,
    deep: bool = False,
    advance: Advance | None = None,
    views: Sequence[View] = (),
) -> Checked:
    """Check one data set: its folders, its counts, and whether its images can be decoded.

    Args:
        name: the data set's name.
        row: its row.
        base: the folder that relative paths start from.
        deep: decode every image rather than a sample.
        advance: called with the number of images decoded since the last call.
        views: of the models that read it; longer texts are counted.

    Raises:
        UserError: a configuration file has an error. Faults of the data are in the result.
    """
    tell = advance or (lambda _: None)
    if row.imagenet is None:
        return _check_own(name, row, base, deep, tell, views)
    published = PUBLISHED[row.imagenet]
    container, allowed = find_container(name, row.imagenet, row.place, base)
    survey = container if isinstance(container, Survey) else _look(name, published, container)
    found = Checked(survey, published.title, allowed=allowed, licence=published.licence, url=published.url)
    if isinstance(container, Survey) or not survey.images:
        return found
    rows = _rows(published, container)
    rows = rows if deep else _spread(rows)
    notes = tuple(f"leaves out {words}" for words in container.listing().left_out)
    return _with_faults(replace(found, decoded=len(rows), notes=notes), _unreadable(container, rows, tell))


Fault = tuple[str, str, str]
"""An image that cannot be decoded: its name, why, and what to do about it."""


def _with_faults(found: Checked, faults: Sequence[Fault]) -> Checked:
    names, reasons, ways_out = zip(*faults, strict=True) if faults else ((), (), ())
    return replace(found, unreadable=names, reasons=reasons, ways_out=ways_out)


def _fault(error: UserError) -> Fault:
    name = error.problem.removeprefix("cannot read the image ")
    return name, str(error.got or ""), error.remedy or "copy the file again"


def check_overlaps(
    rows: Mapping[str, DataRow],
    found: Sequence[Checked],
    roles: Roles,
    base: Path,
    cache: Path | None,
    deep: bool = False,
) -> list[Overlap]:
    """Images that several sets without faults share. Overlaps for which a run would be refused come first.

    Args:
        rows: data sets by name.
        found: the result of `check` for each set.
        roles: the roles of the sets.
        base: the folder that relative paths start from.
        cache: folder for digests; None reads every image.
        deep: search for near copies, too.
    """
    fine = [checked.survey.name for checked in found if checked.fine]
    sets = {name: open_data(name, rows[name], base, cache) for name in fine}
    here = roles.among(fine)
    return [*overlaps(sets, here, deep), *(near_copies(sets, here) if deep else ())]


def _look(name: str, published: Published, container: Container) -> Survey:
    survey = look(name, published, container)
    if published.classes == "objectnet" and survey.state in ("complete", "incomplete"):
        try:
            check_objectnet_mappings(mappings_of(container.where))
        except UserError as error:
            return replace(survey, state="unreadable", faults=(error.problem,), remedy=error.remedy)
    return survey


def _rows(published: Published, container: Container) -> Rows:
    """The rows of a container that belong to a published set."""
    listing = container.listing()
    labels = match(published, listing, isinstance(container, FolderContainer)).labels
    return np.flatnonzero(labels[listing.folder_of] >= 0)


def _spread(rows: Rows) -> Rows:
    """A sample of evenly spaced rows."""
    places = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).round().astype(np.int64)
    return rows[places]


def _unreadable(container: Container, rows: Rows, tell: Advance) -> list[Fault]:
    """The images that cannot be decoded, each with the reason and the remedy."""
    failed: list[Fault] = []

    def try_one(pair: tuple[int, bytes]) -> Fault | None:
        try:
            decode_pixels(pair[1], container.title(pair[0]))
        except UserError as error:
            return _fault(error)
        return None

    with ThreadPoolExecutor(cpu_count()) as pool:
        for places, contents in in_chunks(container, rows):
            pairs = zip(rows[places].tolist(), contents, strict=True)
            failed += [fault for fault in pool.map(try_one, pairs) if fault]
            tell(len(places))
    return failed


def _check_own(name: str, row: DataRow, base: Path, deep: bool, tell: Advance, views: Sequence[View]) -> Checked:
    """Check a data set whose number of images is not published: one of the user, or one that RIB generates."""
    try:
        data = open_data(name, row, base, None)
        for part in data.parts:
            require_some(data, part)
            data.require_files(part)
    except UserError as error:
        faults = (error.problem + (f" ({error.got})" if error.got is not None else ""),)
        state: SetState = "missing" if "not found" in error.problem else "unreadable"
        where = str(error.got or "")
        return Checked(
            Survey(name, where, state, faults=faults, remedy=error.remedy), name, licence=row.licence, url=row.url,
            noun="texts" if row.text or row.fields else "images",
        )  # fmt: skip
    images = sum(len(data.index(part)) for part in data.parts)
    classes = len(np.unique(np.concatenate([data.index(part).labels for part in data.parts])))
    where = next(
        (str(value) for value in (row.folder, row.parquet, row.shards, row.arrays, row.text) if value), "embedded"
    )
    survey = Survey(name, where, "found", images, classes=classes)
    failed: list[Fault] = []
    count, notes = 0, (*(f"leaves out {words}" for words in data.left_out), *_shortened(data, views))
    for part in data.parts:
        rows = np.arange(len(data.index(part)))
        for place in (rows if deep else _spread(rows)).tolist():
            failed += _try_one(data, part, place)
            count += 1
            tell(1)
    return _with_faults(Checked(survey, name, decoded=count, notes=notes, noun=data.noun), failed)


def _shortened(data: DataSet, views: Sequence[View]) -> tuple[str, ...]:
    """Sentences on the rows that are longer than a view."""
    parts = [Decoded(data, part, view) for view in views for part in data.parts if data.cuts]
    return tuple(shortened(parts, None))


def _try_one(data: DataSet, part: Part, place: int) -> list[Fault]:
    try:
        data.read(part, [place], data.trial)
    except UserError as error:
        return [_fault(error)]
    return []
