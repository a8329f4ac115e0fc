"""DataSet: the interface of every kind of data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rib.data.examples import Index, Part
from rib.data.views import Inputs, Pixels, View, as_pixels


@dataclass(frozen=True)
class Form:
    """Facts about a part's pictures that need no decoding.

    Attributes:
        lossless: whether some files keep every pixel, such as PNG, so that the same picture may exist elsewhere in
            other bytes.
        pixels: their total number of pixels, estimated from a few pictures.
    """

    lossless: bool
    pixels: int


class DataSet(ABC):
    """Images with labels in two parts: `tune` (may be trained on) and `test` (is scored).

    Attributes:
        name: as the suite names it.
        classes: class names, in the order of the labels.
        family: source family. Two sets of one family show renderings of the same source images, so that tuning on
            one has seen the labels of the other.
        units: namespace of `Index.sources`; sets that share it are resampled together by the bootstrap.
        disjoint: whether `tune` and `test` share no source image. If they do (the whole set plays both roles, as in the
            paper), accuracy on the tuned set itself is not reported.
        chunk: the best number of images per read.
        trial: the view in which `rib data check` reads rows.
        map_name: names the label map in every result.
        targets: classes of the reference set that mean a class of this set, if it has another name.
        map_warning: whether the label map is known to be wrong, and kept for comparison only.
        matched: whether source numbers have the same meaning in other sets, and are not just row numbers.
        shipped: whether the set is in the catalogue, which knows its overlap with other sets.
        caveat: a warning for every result on this set, such as an incomplete copy.
        left_out: files beside its images that RIB leaves out, in words; shown with the caveat, and no part of a result.
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

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts to read separately: both, or the one that plays both roles."""
        return ("tune", "test") if self.disjoint else ("tune",)

    @property
    def label(self) -> str:
        """The name without its namespace, for tables."""
        return self.name.rpartition(":")[2]

    def require_view(self, view: View) -> None:
        """Refuse the view of a model that takes inputs of another kind. Raises UserError."""
        as_pixels(view, self.name)

    def require_files(self, part: Part) -> None:  # noqa: B027 -- what has no files needs none
        """Raise UserError for images that are unreadable, as far as this shows without reading them."""

    @abstractmethod
    def index(self, part: Part) -> Index:
        """Labels, sources and cells of a part."""

    @abstractmethod
    def fingerprint(self, part: Part) -> str:
        """A digest of the part's content: pixels or files and labels, never the path."""

    def contents(self, part: Part) -> NDArray[np.uint64] | None:
        """A digest of the content of each row that `fingerprint` reads, uint64 (N,); None without such digests."""
        return None

    def form(self, part: Part) -> Form | None:
        """The form of the part's pictures; None if `pictures` has none."""
        return None

    def pictures(self, part: Part) -> NDArray[np.uint64] | None:
        """A digest of each row's decoded pixels, uint64 (N,): the same for one picture in two kinds of file.

        Raises:
            UserError: an image cannot be decoded.
        """
        return None

    def names(self, part: Part) -> Sequence[str]:
        """The origin of each row, for messages: CLASS/FILE or a row of a file, unique within the set."""
        return [f"{part}/{row}" for row in range(len(self.index(part)))]

    def reading_order(self, part: Part) -> NDArray[np.int64]:
        """Rows of a part in the fastest order to read."""
        return np.arange(len(self.index(part)))

    @abstractmethod
    def read(self, part: Part, rows: Sequence[int], view: View) -> Inputs:
        """Some rows in a view: (len(rows), *view.shape). Several threads may call it.

        Raises:
            UserError: an image cannot be read, with its name.
        """
