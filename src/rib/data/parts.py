"""Part of a data set, identified by content, with its label map."""

from __future__ import annotations

from dataclasses import dataclass, field

from rib.data.examples import Part
from rib.data.labels import LabelMap
from rib.identity import RUNTIME
from rib.text.names import short


@dataclass(frozen=True)
class DataPart:
    """A part of a data set, identified by content.

    Attributes:
        name: the data set's name in the suite.
        part: "tune" or "test".
        fingerprint: digest of its content.
        label_map: the model's classes for each class of the set.
        both: whether the other part holds the same images: the set plays both roles whole.
        called: what the suite calls it.
    """

    name: str = field(metadata=RUNTIME)
    part: Part
    fingerprint: str
    label_map: LabelMap
    both: bool = field(default=False, metadata=RUNTIME)
    called: str = field(default="", metadata=RUNTIME)

    @property
    def label(self) -> str:
        """Its name in the suite, or else the name without its namespace."""
        return self.called or short(self.name)
