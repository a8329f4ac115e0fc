"""Stand-ins for published sets that are not on this machine, for plans only: they have counts but no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rib.data.base import DataSet
from rib.data.catalogue import DataRow
from rib.data.examples import Index, Part
from rib.data.imagenet import MAP_NAMES, find_container
from rib.data.imagenet_classes import objectnet
from rib.data.published import PUBLISHED
from rib.data.survey import Survey, class_list
from rib.data.views import Inputs, View
from rib.errors import UserError
from rib.identity import digest


class ExpectedSet(DataSet):
    """A stand-in with as many images as published, spread evenly over classes and cells.

    Args:
        name: the name in the suite.
        key: one of `PUBLISHED`.
    """

    def __init__(self, name: str, key: str) -> None:
        published = PUBLISHED[key]
        self.name, self.classes = name, class_list(published)
        self.family = self.units = published.family or name
        self.map_name = MAP_NAMES[published.labels]
        if published.labels == "objectnet":
            self.targets = {folder: row.wnids for folder, row in objectnet().items()}
        self.disjoint = published.test_draw is not None
        self.matched = self.shipped = True
        self.caveat = "not on this machine: its size is the published one"
        cells = max(1, len(published.cells))
        tested = published.test_draw * len(self.classes) if published.test_draw else 0
        tuned = published.draw * len(self.classes) * cells if published.draw else published.images - tested
        self._indices = {"tune": self._evenly(tuned)}
        self._indices["test"] = self._evenly(tested) if tested else self._indices["tune"]

    def _evenly(self, count: int) -> Index:
        rows = np.arange(count)
        return Index(rows % len(self.classes), rows)

    def index(self, part: Part) -> Index:
        return self._indices[part]

    def fingerprint(self, part: Part) -> str:
        return digest(f"expected {self.name} {part if self.disjoint else 'test'}".encode())

    def read(self, part: Part, rows: Sequence[int], view: View) -> Inputs:
        raise UserError(f"data set {self.name!r} is not on this machine", remedy="rib data check says what is missing")


def is_absent(name: str, row: DataRow, base: Path) -> bool:
    """Whether a published set is completely absent from this machine, rather than incomplete or in the wrong place."""
    if row.imagenet is None:
        return False
    container, _ = find_container(name, row.imagenet, row.place, base)
    return isinstance(container, Survey) or not container.where.exists()
