"""A part of a data set in a view: the content of a pack or a stream."""

from __future__ import annotations

from dataclasses import dataclass

from rib.data.base import DataSet
from rib.data.examples import Index, Part
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
