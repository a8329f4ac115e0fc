"""The embedded world `fields`: what kind of value is this text? Ten classes, in the conventions of many countries.

The values were drawn once with Faker (recipe.py) and are stored in `fields.parquet`, so RIB needs neither a download
nor Faker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rib.data.base import DataSet
from rib.data.containers import short_digests
from rib.data.examples import Index, Part
from rib.data.lengths import Pairs
from rib.data.texts import MisspeltTexts, Texts, text_digests
from rib.errors import UserError, nearest
from rib.identity import digest

CLASSES = ("account", "city", "company", "date", "email", "job", "person", "phone", "product", "street")

REFERENCE = "us"

DOWNSTREAM = ("uk", "de", "fr", "es", "pl", "tr", "ru", "ja")
"""The domains; each has the conventions of one country."""

MISSPELT = "misspelt"
"""The reference set's test values with 5 kinds of misspelling at 5 severities."""

PRETRAINING: Mapping[str, int] = {"pretrain_small": 3_000, "pretrain_medium": 12_000, "pretrain_large": 50_000}
"""Pretraining sets and their sizes: from one, several and many countries.

Each starts with the values of the one before.
"""

FIELDS: tuple[str, ...] = (REFERENCE, *DOWNSTREAM, MISSPELT, *PRETRAINING)

PER_CELL = 40
"""Number of values per cell of the misspelt set; every cell has the same values."""

TABLE = Path(__file__).with_name("fields.parquet")


class FieldsSet(Texts):
    """One domain of `fields`, or one of its pretraining sets.

    Args:
        name: the data set's name.
        domain: a domain of the table, or a pretraining set.
    """

    def __init__(self, name: str, domain: str) -> None:
        self.name, self._domain = name, domain
        self.classes = CLASSES
        self.family, self.units = domain, "value"
        self.matched = self.shipped = self.disjoint = True

    @property
    def parts(self) -> tuple[Part, ...]:
        return ("tune",) if self._domain in PRETRAINING else ("tune", "test")

    def index(self, part: Part) -> Index:
        rows = self._rows(part)
        return Index(_table()[1][rows], rows)

    def fingerprint(self, part: Part) -> str:
        texts, labels = self.texts(part, range(len(self._rows(part))))[0], self.index(part).labels
        return digest("\n".join(texts).encode() + labels.tobytes() + self._rows(part).tobytes())

    def contents(self, part: Part) -> NDArray[np.uint64]:
        return short_digests(text_digests(*self.texts(part, range(len(self._rows(part))))))

    def texts(self, part: Part, rows: Sequence[int]) -> Pairs:
        texts, chosen = _table()[0], self._rows(part)[np.asarray(rows, np.int64)]
        return [texts[row] for row in chosen.tolist()], None

    def _rows(self, part: Part) -> NDArray[np.int64]:
        if part not in self.parts:
            raise UserError(
                f"data set {self.name!r} has no test part: it is for pretraining only",
                got=self.name,
                valid=", ".join(f"fields:{name}" for name in (REFERENCE, *DOWNSTREAM)),
            )
        places = _table()[2]
        if self._domain in PRETRAINING:
            return places["pretrain", "tune"][: PRETRAINING[self._domain]]
        return places[self._domain, part]


def open_fields(name: str, domain: str) -> DataSet:
    """Open a domain as a data set.

    Raises:
        UserError: there is no domain of that name.
    """
    if domain not in FIELDS:
        raise nearest(domain, FIELDS, "fields domain")
    if domain == MISSPELT:
        return MisspeltTexts(name, FieldsSet(name, REFERENCE), most=PER_CELL)
    return FieldsSet(name, domain)


@cache
def _table() -> tuple[list[str], NDArray[np.int64], dict[tuple[str, str], NDArray[np.int64]]]:
    """All texts; their labels int64 (N,); and the rows of each domain and part."""
    table = pq.read_table(TABLE)
    labels = pc.index_in(table.column("label").cast("string"), value_set=_strings(CLASSES)).to_numpy().astype(np.int64)
    places: dict[tuple[str, str], list[int]] = {}
    domains, parts = (table.column(name).to_pylist() for name in ("domain", "part"))
    for row, place in enumerate(zip(domains, parts, strict=True)):
        places.setdefault(place, []).append(row)
    return table.column("text").to_pylist(), labels, {place: np.array(rows) for place, rows in places.items()}


def _strings(values: Sequence[str]) -> object:
    import pyarrow as pa

    return pa.array(values)
