"""The source images: scikit-learn's 1,797 scans of handwritten digits, split by scan.

The data set does not identify its writers, so scans by one writer can be in several parts.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from rib.data.digits.draws import DigitDraws
from rib.data.digits.rendered import DigitPart

SCANS = 1797
SHARES: dict[DigitPart, float] = {"pretrain": 0.55, "tune": 0.20, "test": 0.25}
ENLARGED = 40


@cache
def _scans() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.float32) / 16.0
    return images, torch.from_numpy(bunch.target).to(torch.int64)


def scan_labels() -> Tensor:
    """The digit of every scan, int64 [1797]."""
    return _scans()[1]


@cache
def scan_fields() -> Tensor:
    """The scans as smooth ink levels in [0, 1], with a margin of one scan pixel, [1797, 40, 40]."""
    padded = F.pad(_scans()[0], (1, 1, 1, 1))[:, None]
    smooth = F.interpolate(padded, size=(ENLARGED, ENLARGED), mode="bicubic", align_corners=False)
    return smooth[:, 0].clamp(0.0, 1.0)


@cache
def scans_of(part: DigitPart, label: int) -> Tensor:
    """Indices of the part's scans of one class, in a fixed random order: int64 [n]."""
    of_class = torch.nonzero(scan_labels() == label).flatten()
    shuffled = of_class[DigitDraws(1, "split", label).permutation(len(of_class))]
    first = round(SHARES["pretrain"] * len(of_class))
    last = first + round(SHARES["tune"] * len(of_class))
    bounds = {"pretrain": (0, first), "tune": (first, last), "test": (last, len(of_class))}
    return shuffled[slice(*bounds[part])]


def scans_in(part: DigitPart) -> Tensor:
    """Indices of all scans of the part, ascending: int64 [n]."""
    return torch.cat([scans_of(part, label) for label in range(10)]).sort().values
