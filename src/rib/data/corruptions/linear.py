"""Filters and resampling along one axis, as band matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import saxpy

from rib.data.corruptions.base import Image, Plane


@dataclass(frozen=True)
class Band:
    """A matrix (out, in) with non-zero values only near a diagonal.

    Attributes:
        size: number of rows.
        blocks: (first row, end row, first column, end column, float32 block) of consecutive rows; ends are exclusive.
    """

    size: int
    blocks: tuple[tuple[int, int, int, int, Plane], ...]

    @classmethod
    def of(cls, matrix: NDArray[np.float64], rows: int = 32) -> Band:
        """The band of a full matrix, in blocks of `rows` rows."""
        blocks = []
        for start in range(0, len(matrix), rows):
            part = matrix[start : start + rows]
            used = np.flatnonzero(part.any(axis=0))
            first, last = int(used[0]), int(used[-1]) + 1
            block = np.ascontiguousarray(part[:, first:last], dtype=np.float32)
            blocks.append((start, start + len(part), first, last, block))
        return cls(len(matrix), tuple(blocks))

    def down(self, values: Plane) -> Plane:
        """The matrix times values (..., in, n): (..., out, n)."""
        found = np.empty((*values.shape[:-2], self.size, values.shape[-1]), np.float32)
        for start, stop, first, last, block in self.blocks:
            np.matmul(block, values[..., first:last, :], out=found[..., start:stop, :])
        return found

    def along(self, values: Plane) -> Plane:
        """Values (..., in) times the transposed matrix: (..., out)."""
        flat = values.reshape(-1, values.shape[-1])
        found = np.empty((len(flat), self.size), np.float32)
        for start, stop, first, last, block in self.blocks:
            np.matmul(flat[:, first:last], block.T, out=found[:, start:stop])
        return found.reshape(*values.shape[:-1], self.size)


@lru_cache(maxsize=64)
def gaussian_band(size: int, deviation: float, truncate: float, mirrored: bool) -> Band:
    """A Gaussian filter along one axis. Beyond the ends, values are mirrored or the last value is repeated."""
    reach = int(truncate * deviation + 0.5)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / deviation) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size, size))
    for step, weight in zip(steps.tolist(), weights.tolist(), strict=True):
        places = np.arange(size) + step
        places = mirror(places, size) if mirrored else places.clip(0, size - 1)
        np.add.at(matrix, (np.arange(size), places), weight)
    return Band.of(matrix)


def smoothed(values: Plane, deviation: float | tuple[float, float], cut: float = 4, mirrored: bool = False) -> Plane:
    """Values (..., H, W) after a Gaussian filter.

    Args:
        values: float32.
        deviation: in pixels; or a pair, vertical and horizontal.
        cut: number of deviations beyond which the Gaussian is 0.
        mirrored: whether values are mirrored at the border; otherwise the last value is repeated.
    """
    down, across = deviation if isinstance(deviation, tuple) else (deviation, deviation)
    height, width = values.shape[-2:]
    found = gaussian_band(width, across, cut, mirrored).along(values)
    return gaussian_band(height, down, cut, mirrored).down(found)


@lru_cache(maxsize=256)
def zoom_band(size: int, factor: float, kept: int) -> tuple[Band, slice]:
    """Linear interpolation of the middle 1 / `factor` of an axis. End points map to end points.

    Returns:
        A matrix that computes the first `kept` values (or all, if there are fewer) from a slice; and the slice.
    """
    cut = int(np.ceil(size / factor))
    first = (size - cut) // 2
    out = round(cut * factor)
    places = np.arange(min(out, kept)) * ((cut - 1) / (out - 1))
    low = np.minimum(places.astype(np.int64), cut - 2)
    matrix = np.zeros((len(places), cut))
    matrix[np.arange(len(places)), low] = 1 - (places - low)
    matrix[np.arange(len(places)), low + 1] += places - low
    return Band.of(matrix), slice(first, first + cut)


def mirror(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Positions along an axis, mirrored at its ends so that the last value appears twice: … 1 0 0 1 …"""
    places = places % (2 * size)
    return np.minimum(places, 2 * size - 1 - places)


def planes(image: Image) -> Plane:
    """float32 (3, H, W) of uint8 (H, W, 3)."""
    return image.transpose(2, 0, 1).astype(np.float32, order="C")


def interleaved(values: Image) -> Image:
    """uint8 (H, W, 3) of uint8 (3, H, W)."""
    return np.ascontiguousarray(values.transpose(1, 2, 0))


def padded(values: NDArray[np.generic], sides: tuple[int, int, int, int], dtype: type, reflect: bool) -> np.ndarray:
    """Values (H, W, …) with a border at top, bottom, left and right, which repeats the last value or reflects the
    values (… 2 1 0 1 2 …).
    """
    height, width = values.shape[:2]
    top, bottom, left, right = sides
    out = np.empty((height + top + bottom, width + left + right, *values.shape[2:]), dtype)
    out[top : top + height, left : left + width] = values
    out[top : top + height, :left] = values[:, _beyond(-left, 0, width, reflect)]
    out[top : top + height, left + width :] = values[:, _beyond(width, width + right, width, reflect)]
    out[:top] = out[top + _beyond(-top, 0, height, reflect)]
    out[top + height :] = out[top + _beyond(height, height + bottom, height, reflect)]
    return out


def _beyond(start: int, stop: int, size: int, reflect: bool) -> NDArray[np.int64]:
    places = np.arange(start, stop)
    if not reflect:
        return places.clip(0, size - 1)
    places = places % (2 * size - 2)
    return np.minimum(places, 2 * size - 2 - places)


def weighted_shifts(values: NDArray[np.generic], shifts: Sequence[tuple[int, int]], weights: Plane) -> Plane:
    """Weighted sum of shifted copies of an image, whose last values are repeated beyond its border.

    Args:
        values: (H, W) or (H, W, 3).
        shifts: pairs (right, down); a copy has at (y, x) the value at (y + down, x + right).
        weights: one per shift.
    """
    downs, rights = [down for down, _ in shifts], [right for _, right in shifts]
    top, left = max(0, -min(downs)), max(0, -min(rights))
    wide = padded(values, (top, max(0, *downs), left, max(0, *rights)), np.float32, reflect=False)
    depth = wide[0, 0].size
    across = wide.shape[1] * depth
    flat = wide.reshape(-1)
    rows = np.zeros((len(values), across), np.float32)
    total = rows.reshape(-1)
    for (down, right), weight in zip(shifts, weights.tolist(), strict=True):
        start = (top + down) * across + (left + right) * depth
        saxpy(flat, total, n=min(len(total), len(flat) - start), a=weight, offx=start)
    return rows[:, : values.shape[1] * depth].reshape(values.shape)
