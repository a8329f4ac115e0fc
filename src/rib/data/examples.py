"""Examples: inputs with labels, in the form that a model takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rib.data.views import Inputs

Part = Literal["tune", "test"]


@dataclass(frozen=True)
class Index:
    """Facts about a part of a data set that need no pixels.

    Attributes:
        labels: int64 (N,), index into the data set's own classes.
        sources: int64 (N,), the source image of each example: the unit of the paired bootstrap.
        cells: int16 (N,), index into `cell_names` for a set with several cells (corruption × severity); else None.
        cell_names: names such as "fog/3"; empty without cells.
        groups: int16 (N,), index into `group_names` for a set whose worst group is reported; else None.
        group_names: names of the groups; empty without groups.
    """

    labels: NDArray[np.int64]
    sources: NDArray[np.int64]
    cells: NDArray[np.int16] | None = None
    cell_names: tuple[str, ...] = ()
    groups: NDArray[np.int16] | None = None
    group_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Index:
        """An index of only these rows, in their order."""
        return replace(
            self,
            labels=self.labels[rows],
            sources=self.sources[rows],
            cells=None if self.cells is None else self.cells[rows],
            groups=None if self.groups is None else self.groups[rows],
        )


@dataclass(frozen=True)
class Examples:
    """Rows of a pack to train on or to predict. A subset copies no inputs.

    Attributes:
        images: the inputs (M, *view.shape) of the part from row `first` on, possibly memory-mapped; or a function that
            decodes rows int64 (n,) of the part whenever they are read.
        index: labels, sources and cells of the N chosen examples.
        rows: int64 (N,), the row of each chosen example in the part.
        first: the row of the part at which `images` starts; 0 unless the images are a chunk.
    """

    images: Inputs | Callable[[NDArray[np.int64]], Inputs]
    index: Index
    rows: NDArray[np.int64]
    first: int = 0

    @classmethod
    def whole(cls, images: Inputs, index: Index) -> Examples:
        """All rows of a part."""
        assert len(images) == len(index)
        return cls(images, index, np.arange(len(index)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.index.labels

    def take(self, chosen: NDArray[np.int64]) -> Examples:
        """Only these examples, in their order."""
        return replace(self, index=self.index.take(chosen), rows=self.rows[chosen])

    def places(self, chosen: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        """The positions of some examples in `images`: int64 (n,)."""
        return self.rows[chosen] - self.first

    def batch(self, chosen: NDArray[np.int64] | slice) -> Inputs:
        """A copy of the inputs of some examples: (n, *view.shape)."""
        if callable(self.images):
            return self.images(self.rows[chosen])
        return np.take(self.images, self.places(chosen), axis=0)
