"""Blur corruptions: Gaussian, defocus, glass, motion and zoom."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rib.data.corruptions.base import TINY, Draws, Image, Level, Plane, floored, rows_of
from rib.data.corruptions.linear import (
    interleaved,
    padded,
    planes,
    smoothed,
    weighted_shifts,
    zoom_band,
)

_AREA = 65535 // 255
"""Maximum number of pixels whose sum fits into 16 bits."""


def gaussian_blur(image: Image, level: Level, draws: Draws) -> Image:
    """A Gaussian blur whose deviation is `level` pixels, cut at four deviations."""
    return interleaved(_blurred(planes(image), level[0]))


def _blurred(values: Plane, deviation: float) -> Image:
    found = smoothed(values, deviation)
    found += TINY
    return floored(found)


def defocus_blur(image: Image, level: Level, draws: Draws) -> Image:
    """The mean over a disk of radius `level[0]`.

    A Gaussian of deviation `level[1]` smooths the disk's edge. Both in pixels.
    """
    radius, soft = int(level[0]), level[1] > 0.2
    reach = radius + 1 if soft else radius
    wide = padded(image, (reach, reach, reach, reach), np.uint16, reflect=True)
    flat = wide.reshape(len(wide), -1)
    disk = _Disk.of(radius)
    height, width = image.shape[0] + 2 * soft, 3 * (image.shape[1] + 2 * soft)
    total = _disk_sum(flat, disk, height, width)
    if soft:
        total = _softened(total, 3)
        if radius >= 8:
            total += _edge(flat, disk, image.shape[0], 3 * image.shape[1])
    total *= np.float32(1 / disk.area)
    total += TINY
    return floored(total).reshape(image.shape)


class _Disk:
    """A disk of pixels, described by the half width of each row.

    Attributes:
        radius: in pixels.
        half: half widths of the rows at 0, 1, … radius pixels from the centre.
        area: number of pixels.
    """

    def __init__(self, radius: int) -> None:
        self.radius = radius
        self.half = [math.isqrt(radius * radius - row * row) for row in range(radius + 1)]
        self.area = sum((2 * half + 1) * (2 if row else 1) for row, half in enumerate(self.half))

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, radius: int) -> _Disk:
        return cls(radius)


def _disk_sum(flat: NDArray[np.uint16], disk: _Disk, height: int, width: int) -> Plane:
    """Sums over a disk around every pixel that is at least `radius` from the border: float32 (height, width).

    It sums horizontal runs of growing width, and adds each where the disk has a row of that width; both in 16 bits.
    """
    radius = disk.radius
    middle = 3 * radius
    run = flat[:, middle : middle + width].copy()
    parts: list[Plane] = []
    total, area = np.zeros((height, width), np.uint16), 0
    for half in range(radius + 1):
        if half:
            run += flat[:, middle - 3 * half :][:, :width]
            run += flat[:, middle + 3 * half :][:, :width]
        for row in (row for row in range(-radius, radius + 1) if disk.half[abs(row)] == half):
            if area + 2 * half + 1 > _AREA:
                parts.append(total.astype(np.float32))
                total, area = np.zeros((height, width), np.uint16), 0
            total += run[radius + row :][:height]
            area += 2 * half + 1
    found = total.astype(np.float32)
    for part in parts:
        found += part
    return found


_SIDE = float(np.exp(-2) / (1 + 2 * np.exp(-2)))
"""The outer weight of a three-pixel Gaussian of deviation 0.5."""


def _softened(values: Plane, depth: int) -> Plane:
    """A Gaussian of deviation 0.5 on 3 × 3 pixels. The result lacks the outermost pixels."""
    found = values[:-2] + values[2:]
    found *= np.float32(_SIDE)
    found += values[1:-1] * np.float32(1 - 2 * _SIDE)
    across = found[:, : -2 * depth] + found[:, 2 * depth :]
    across *= np.float32(_SIDE)
    across += found[:, depth:-depth] * np.float32(1 - 2 * _SIDE)
    return across


def _edge(flat: NDArray[np.uint16], disk: _Disk, height: int, width: int) -> Plane:
    """What the published kernel adds to a smoothed disk in its four outermost rows and columns.

    The published kernel smooths a disk inside a square that just contains it, and reflects at the square's edge. So the
    next inner row counts once more, and no weight leaves the square.
    """
    radius, reach = disk.radius, disk.radius + 1
    half = disk.half[radius - 1]
    total = np.zeros((height, width), np.uint16)
    for row in (reach - radius, reach + radius):
        for step in range(-half, half + 1):
            total += flat[row:, 3 * (reach + step) :][:height, :width]
    for column in (reach - radius, reach + radius):
        for step in range(-half, half + 1):
            total += flat[reach + step :, 3 * column :][:height, :width]
    found = total.astype(np.float32)
    spilt = flat[0:, 3 * reach :][:height, :width] + flat[2 * reach :, 3 * reach :][:height, :width]
    spilt += flat[reach:, 0:][:height, :width]
    spilt += flat[reach:, 6 * reach :][:height, :width]
    found -= spilt
    found *= np.float32(_SIDE)
    return found


def glass_blur(image: Image, level: Level, draws: Draws) -> Image:
    """Blur, move pixels at random, and blur again. `level` is the deviation, the reach and the number of rounds.

    The published loop swaps two pixels through views of one array, so in fact it copies: each pixel in turn, from the
    last to the first, takes the current value of a neighbour. This function follows the chain of copies for all pixels
    at once.
    """
    deviation, reach, rounds = level[0], int(level[1]), int(level[2])
    height, width = image.shape[:2]
    first = _blurred(planes(image), deviation).reshape(3, -1)
    places = np.arange(height * width)
    for _ in range(rounds):
        count = max(0, height - 2 * reach) * max(0, width - 2 * reach)
        places = places.take(_copied(height, width, reach, draws.shifts(reach, count)))
    moved = first.take(places, axis=1).astype(np.float32).reshape(3, height, width)
    return interleaved(_blurred(moved, deviation))


def _copied(height: int, width: int, reach: int, shifts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The source position of each pixel's value after one round: int64 (height × width,).

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        reach: width of the border that is not visited, in pixels.
        shifts: (visited pixels, 2) steps right and down, in the order of the visits.
    """
    size = height * width
    grid = np.arange(size).reshape(height, width)
    visited = grid[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1]
    here = visited[::-1, ::-1].reshape(-1)
    turn = np.full(size, len(here))
    turn[here] = np.arange(len(here))
    there = here + shifts[:, 1] * width + shifts[:, 0]
    # Positions 0 … size - 1 are values before the round; higher positions are values after it.
    chain = np.arange(2 * size)
    chain[size:] -= size
    chain[size + here] = np.where(turn[there] < np.arange(len(here)), there + size, there)
    found = chain[size:]
    while found.max() >= size:
        chain[size:] = found
        found = chain.take(found)
    return found


def motion_blur(image: Image, level: Level, draws: Draws) -> Image:
    """Motion along a line at a random angle within 45° of horizontal.

    `level` is the radius and the deviation in pixels.
    """
    total = moved(image, level, draws.angle(-45, 45))
    total += TINY
    return floored(total)


def moved(values: NDArray[np.generic], level: Level, angle: float) -> Plane:
    """Values (H, W) or (H, W, 3) smeared along a line with the weights of half a Gaussian.

    Args:
        values: the values to smear.
        level: the line has 2 × level[0] + 1 pixels, and the Gaussian has deviation level[1].
        angle: angle of the line, in degrees.
    """
    width = 2 * int(level[0]) + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * level[1] ** 2))
    weights /= weights.sum()
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    shifts = []
    for step, left in enumerate((1 - np.cumsum(weights) + weights).tolist()):
        shift = math.ceil(step * down - 0.5), math.ceil(step * right - 0.5)
        out = abs(shift[0]) >= values.shape[0] or abs(shift[1]) >= values.shape[1]
        if out or left < 2e-4:  # outside the image, as published; or too small to matter
            break
        shifts.append(shift)
    return weighted_shifts(values, shifts, weights[: len(shifts)].astype(np.float32))


def zoom_blur(image: Image, level: Level, draws: Draws) -> Image:
    """The mean of the image and of zooms into it, with factors from 1 to less than level[0] in steps of level[1]."""
    height, width = image.shape[:2]
    values = planes(image)
    total = values.copy()
    factors = np.arange(1, level[0], level[1]).tolist()
    for factor in factors:
        rows, tall = zoom_band(height, factor, height)
        columns, wide = zoom_band(width, factor, width)
        total += rows.down(columns.along(values[:, tall, wide]))
    total *= np.float32(1 / (len(factors) + 1))
    total += TINY
    return interleaved(floored(total))


ROWS = rows_of(
    "blur",
    (defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)), False),
    (glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)), True),
    (motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), True),
    (zoom_blur, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)), False),
)
EXTRA = rows_of("extra", (gaussian_blur, (1, 2, 3, 4, 6), False))
