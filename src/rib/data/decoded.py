"""A part of a data set in a view: the content of a pack or a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rib.data.base import DataSet
from rib.data.examples import Index, Part
from rib.data.lengths import Cut, cut_words
from rib.data.views import View


@dataclass(frozen=True)
class Decoded:
    """A part of a data set in a view.

    Attributes:
        data: the data set.
        part: which part.
        view: the form of its inputs.
    """

    data: DataSet
    part: Part
    view: View

    @property
    def index(self) -> Index:
        """Labels, sources and cells."""
        return self.data.index(self.part)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all inputs, (N, *view.shape)."""
        return (len(self.index), *self.view.shape)

    @property
    def bytes(self) -> int:
        """Size of all inputs in bytes."""
        return len(self.index) * self.view.bytes

    @property
    def name(self) -> str:
        """Identifies the inputs: equal only for equal content and equal views."""
        return f"{self.data.fingerprint(self.part)[:24]}-{self.view.name}"


def shortened(parts: Iterable[Decoded], cache: Path | None) -> Iterator[str]:
    """One sentence per view on examples that are longer than the view.

    Args:
        parts: parts in the views of their models.
        cache: folder that keeps the counts.

    Raises:
        UserError: a tokenizer cannot be read.
    """
    found: dict[View, dict[str, Cut]] = {}
    for one in parts:
        if (cut := one.data.cut(one.part, one.view, cache)) is not None:
            found.setdefault(one.view, {})[f"{one.data.label} ({one.part})"] = cut
    yield from filter(None, (cut_words(view, cuts) for view, cuts in found.items()))
