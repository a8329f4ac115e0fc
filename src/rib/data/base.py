"""DataSet: the interface of every kind of data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rib.data.examples import Index, Part
from rib.data.lengths import Cut
from rib.data.views import Decode, Inputs, Pixels, View, as_pixels


@dataclass(frozen=True)
class Form:
    """Facts about the images of a part that are known without decoding all of them.

    Attributes:
        lossless: whether some files are in a lossless format, such as PNG, so that the same picture may exist elsewhere
            with other bytes.
        pixels: total number of pixels, estimated from a few images.
    """

    lossless: bool
    pixels: int


class DataSet(ABC):
    """Examples with labels in two parts: `tune` (models may train on it) and `test` (models are scored on it).

    Attributes:
        name: the name in the suite.
        classes: class names, in the order of the labels.
        family: source family. Two sets of one family show the same source images, so a model tuned on one has seen the
            labels of the other.
        units: namespace of `Index.sources`; the bootstrap resamples sets with the same namespace together.
        disjoint: whether `tune` and `test` share no source image. If they share some (the whole set is used for both,
            as in the paper), RIB does not report accuracy on the tuned set itself.
        chunk: the best number of images per read.
        trial: the view in which `rib data check` reads rows.
        map_name: the name of the label map in results.
        targets: for classes whose names differ from the reference set's, the reference classes that stand for them.
        map_warning: whether the label map is known to be wrong and kept for comparison only.
        matched: whether source numbers have the same meaning in other sets, rather than being row numbers.
        shipped: whether the set is in the catalogue, which knows its overlap with other sets.
        caveat: a warning that is shown with every result on this set, for example about an incomplete copy.
        noun: what its rows are, for messages.
        columns: of texts, the columns that are read: one, or the two of pairs.
        copied: how `pictures` compares rows, for messages.
        cuts: whether a view may cut off a part of a row (`cut`).
        left_out: files beside the images that RIB ignores, in words; shown with the caveat, not part of a result.
    """

    name: str
    classes: tuple[str, ...]
    family: str
    units: str
    disjoint: bool
    chunk: int = 512
    trial: View = Pixels(32)
    map_name: str = "by name"
    targets: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    map_warning: bool = False
    matched: bool = False
    shipped: bool = False
    caveat: str = ""
    left_out: tuple[str, ...] = ()
    noun: str = "images"
    columns: tuple[str, ...] = ()
    copied: str = "pixel for pixel"
    cuts: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts to read separately: both, or the single one if both are the same."""
        return ("tune", "test") if self.disjoint else ("tune",)

    @property
    def label(self) -> str:
        """The name without its namespace, for tables."""
        return self.name.rpartition(":")[2]

    def require_view(self, view: View) -> None:
        """Check that the set can be read in a view.

        Raises:
            UserError: the view is that of a model with other inputs.
        """
        as_pixels(view, self.name)

    def require_files(self, part: Part) -> None:  # noqa: B027 -- what has no files needs none
        """Check images as far as possible without reading them.

        Raises:
            UserError: an image is missing or empty.
        """

    def words(self, part: Part, rows: Sequence[int]) -> list[str]:
        """Some rows as text; empty if rows are images, which `read` gives."""
        return []

    def settings(self, decode: Decode) -> tuple[str, ...]:
        """What of the suite's settings concerns only rows of this kind, in words."""
        return (f"images decoded: {decode}",)

    @abstractmethod
    def index(self, part: Part) -> Index:
        """Labels, sources and cells of a part."""

    @abstractmethod
    def fingerprint(self, part: Part) -> str:
        """A digest of the part's content: pixels or files and labels, never the path."""

    def contents(self, part: Part) -> NDArray[np.uint64] | None:
        """The digests of the rows' content that `fingerprint` combines, uint64 (N,); None if there are none."""
        return None

    def form(self, part: Part) -> Form | None:
        """Facts about the part's images; None if `pictures` returns None."""
        return None

    def pictures(self, part: Part) -> NDArray[np.uint64] | None:
        """A digest of each row's decoded pixels, uint64 (N,), which is the same for one picture in two file formats.

        None for a set without images.

        Raises:
            UserError: an image cannot be decoded.
        """
        return None

    def cut(self, part: Part, view: View, cache: Path | None) -> Cut | None:
        """The number of rows that are too long for the view, which cuts off their ends; None if it never does.

        Args:
            part: which part.
            view: the view of a model that reads the set.
            cache: folder for the count.

        Raises:
            UserError: the view's tokenizer cannot be read.
        """
        return None

    def names(self, part: Part) -> Sequence[str]:
        """The name of each row for messages: CLASS/FILE or a row of a file, unique within the set."""
        return [f"{part}/{row}" for row in range(len(self.index(part)))]

    def reading_order(self, part: Part) -> NDArray[np.int64]:
        """Rows of a part in the fastest order to read: int64 (N,)."""
        return np.arange(len(self.index(part)))

    @abstractmethod
    def read(self, part: Part, rows: Sequence[int], view: View) -> Inputs:
        """Read rows in a view: (len(rows), *view.shape). Several threads may call it at the same time.

        Raises:
            UserError: an image cannot be read; the message names it.
        """
