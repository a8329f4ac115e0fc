"""A part of a data set, identified by its content, with its label map."""

from __future__ import annotations

from dataclasses import dataclass, field

from rib.data.examples import Part
from rib.data.labels import LabelMap
from rib.identity import RUNTIME
from rib.text.names import short


@dataclass(frozen=True)
class DataPart:
    """A part of a data set, identified by its content.

    Attributes:
        name: the data set's name in keys and records.
        part: "tune" or "test".
        fingerprint: digest of its content.
        label_map: the model's classes for each class of the set.
        both: whether the other part has the same images, because the set is used whole for both.
        called: the name in the suite.
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
