"""Examples: images with labels, ready for a model of one input size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Part = Literal["tune", "test"]
Decode = Literal["exact", "fast"]
Filter = Literal["bilinear", "bicubic", "nearest", "lanczos"]
Resize = Literal["squash", "border"]


@dataclass(frozen=True)
class Index:
    """What is known of a part of a data set without its pixels.

    Attributes:
        labels: int64 (N,), index into the data set's own classes.
        sources: int64 (N,), the source image an example was made from: the unit of the paired bootstrap.
        cells: int16 (N,), index into `cell_names` for a set of several cells (corruption x severity); else None.
        cell_names: names such as "fog/3"; empty without cells.
    """

    labels: NDArray[np.int64]
    sources: NDArray[np.int64]
    cells: NDArray[np.int16] | None = None
    cell_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Index:
        """The same index, of these rows only and in their order."""
        return replace(
            self,
            labels=self.labels[rows],
            sources=self.sources[rows],
            cells=None if self.cells is None else self.cells[rows],
        )


@dataclass(frozen=True)
class Examples:
    """Some rows of a pack: what a model trains on or predicts. Taking fewer rows copies no pixels.

    Attributes:
        images: uint8 (M, H, W, 3), the part from its row `first` on; may be mapped from a file. Or a function that
            decodes rows int64 (n,) of the part whenever they are looked at.
        index: labels, sources and cells of the N chosen examples.
        rows: int64 (N,), the row of each chosen example in the part.
        first: the part's row that `images` begins with; 0 unless the images are a chunk of it.
    """

    images: NDArray[np.uint8] | Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    index: Index
    rows: NDArray[np.int64]
    first: int = 0

    @classmethod
    def whole(cls, images: NDArray[np.uint8], index: Index) -> Examples:
        """All rows of a part."""
        assert len(images) == len(index)
        return cls(images, index, np.arange(len(index)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.index.labels

    def take(self, chosen: NDArray[np.int64]) -> Examples:
        """The same part, these of its examples only and in their order."""
        return replace(self, index=self.index.take(chosen), rows=self.rows[chosen])

    def places(self, chosen: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        """Where in `images` some examples lie: int64 (n,)."""
        return self.rows[chosen] - self.first

    def batch(self, chosen: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        """A copy of the pixels of some examples: uint8 (n, H, W, 3)."""
        if callable(self.images):
            return self.images(self.rows[chosen])
        return np.take(self.images, self.places(chosen), axis=0)


@dataclass(frozen=True)
class View:
    """The pixels a model sees before normalisation, as timm, torchvision and open_clip make them.

    Attributes:
        size: side of the square that the model sees, in pixels.
        crop: the image is resized to `size / crop`, and its centre of `size` is cut out.
        interpolation: Pillow's filter.
        decode: "exact" gives Pillow's pixels, bit for bit; "fast" resizes as torchvision does tensors, which differ by
            0.004 grey levels in the mean, and by 7 at most.
        resize: None resizes the shorter side and keeps the shape; "squash" resizes both sides; "border" resizes the
            longer side, keeps the shape and pads what is missing.
        fill: RGB colour of the border, 0 … 255.
    """

    size: int
    crop: float = 1.0
    interpolation: Filter = "bicubic"
    decode: Decode = "exact"
    resize: Resize | None = None
    fill: tuple[int, int, int] | None = None

    @property
    def bytes(self) -> int:
        """Of one image."""
        return 3 * self.size**2
