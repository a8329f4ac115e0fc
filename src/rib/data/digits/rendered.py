"""The result of rendering."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DigitPart = Literal["tune", "test", "pretrain"]


@dataclass(frozen=True)
class Rendered:
    """Images with their labels, the scan that each one shows, and its cell if the domain has cells."""

    images: NDArray[np.uint8]  # [N, 28, 28, 3]
    labels: NDArray[np.int64]  # [N], index into `CLASSES`
    source: NDArray[np.int64]  # [N], index into the 1,797 scans
    cell: NDArray[np.int16] | None = None  # [N], index into cells
    cells: tuple[str, ...] = ()
