"""Spatter: drops of water or of mud on the lens.

The published code draws water with OpenCV: Canny edges, a distance transform with a 5 × 5 mask, histogram equalisation
and filters on bytes. This module implements the same rules in numpy and scipy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rib.data.corruptions.base import TINY, Draws, Image, Level, Plane, floored, rows_of
from rib.data.corruptions.linear import padded, smoothed
from rib.data.corruptions.weather import spread

_WATER = np.array([175, 238, 238], np.float32)
_MUD = np.array([63, 42, 20], np.float32)
_FARTHEST = 20.0

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def spatter(image: Image, level: Level, draws: Draws) -> Image:
    """Drops at high values of smoothed normal noise; drops of water have a shaded rim.

    `level` holds, in order, the mean and deviation of the noise, the deviation of its blur, the threshold below which
    there is no drop, the strength of water or the blur of mud, and 1 for mud.
    """
    everything = (slice(None), slice(None))
    liquid = smoothed(draws.normal(level[0], level[1], image.shape[:2], everything), level[2])
    liquid[liquid < level[3]] = 0
    if level[5]:
        share = smoothed((liquid > level[3]).astype(np.float32), level[4])
        share[share < 0.8] = 0
        found, colour = image * spread(1 - share), _MUD
    else:
        share = _shaded(liquid) * np.float32(level[4])
        found, colour = image.astype(np.float32), _WATER
    for channel, strength in enumerate(colour):
        found[..., channel] += share * strength
    found += TINY
    return floored(found)


def _shaded(liquid: Plane) -> Plane:
    """Brightness of drops of water, at most 1: float32 (H, W)."""
    drops = (liquid * np.float32(255)).astype(np.uint8)
    depth = boxed(np.minimum(chamfer(edges(drops, 50, 150)), np.float32(_FARTHEST))).astype(np.uint8)
    shade = boxed(embossed(equalized(depth)).astype(np.float32))
    shaded = drops * np.rint(shade)
    highest = shaded.max()
    return np.asarray(shaded / highest if highest else shaded, np.float32)


def edges(values: Bytes, low: int, high: int) -> Mask:
    """Canny edges as OpenCV finds them: Sobel gradients, the sum of their magnitudes, 8 neighbours.

    Args:
        values: uint8 (H, W).
        low: the gradient of every edge pixel is above this.
        high: every edge has a pixel whose gradient is above this.
    """
    right, down = _gradients(values)
    strength = np.abs(right) + np.abs(down)
    step = strength.shape[1]
    flat = strength.reshape(-1)
    place = np.flatnonzero(flat > low)
    here, across, along = flat.take(place), right.take(place).astype(np.int32), down.take(place).astype(np.int32)
    shallow = 13573 * np.abs(across)  # tan 22.5° in 15 bits
    steep = np.abs(along) << 15
    level, upright = steep < shallow, steep > shallow + (np.abs(across) << 16)
    beside = np.where(level, 1, np.where(upright, step, step + np.where((across ^ along) < 0, -1, 1)))
    after = flat.take(place + beside)
    thin = (here > flat.take(place - beside)) & ((here > after) | ((level | upright) & (here == after)))
    kept = np.zeros(strength.shape, np.bool_)
    kept.reshape(-1)[place[thin]] = True
    groups, count = ndimage.label(kept, np.ones((3, 3), np.bool_))
    strong = np.zeros(count + 1, np.bool_)
    strong[groups.take(place[thin & (here > high)])] = True
    return np.asarray(strong[groups[1:-1, 1:-1]], np.bool_)


def _gradients(values: Bytes) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Sobel gradients to the right and down, int16 (H + 2, W + 2), 0 at the border.

    Values beyond the image repeat the last.
    """
    wide = padded(values, (1, 1, 1, 1), np.int16, reflect=False)
    rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    columns = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    right, down = np.zeros(wide.shape, np.int16), np.zeros(wide.shape, np.int16)
    np.subtract(rows[:, 2:], rows[:, :-2], out=right[1:-1, 1:-1])
    np.subtract(columns[2:], columns[:-2], out=down[1:-1, 1:-1])
    return right, down


def chamfer(marked: Mask) -> Plane:
    """Distance to the nearest marked pixel in steps of 1 (straight), 1.4 (diagonal) and 2.1969 (knight's move).

    The nearest pixel is that by Euclidean distance; by these steps, another pixel may be slightly nearer.
    """
    if not marked.any():
        return np.full(marked.shape, np.inf, np.float32)
    nearest = ndimage.distance_transform_edt(~marked, return_distances=False, return_indices=True)
    height, width = marked.shape
    down = np.abs(nearest[0] - np.arange(height, dtype=np.int32)[:, None]).astype(np.float32)
    right = np.abs(nearest[1] - np.arange(width, dtype=np.int32)).astype(np.float32)
    most, least = np.maximum(down, right), np.minimum(down, right)
    # Near an axis: knight's and straight moves; near a diagonal: knight's and diagonal moves.
    axis = most + np.float32(2.1969 - 2) * least
    diagonal = np.float32(2.1969 - 1.4) * most + np.float32(2.8 - 2.1969) * least
    return np.asarray(np.maximum(axis, diagonal), np.float32)


def boxed(values: Plane) -> Plane:
    """Means over 3 × 3 pixels, reflected at the border (… 2 1 0 1 2 …)."""
    wide = padded(values, (1, 1, 1, 1), np.float32, reflect=True)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return np.asarray((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) * np.float32(1 / 9), np.float32)


def equalized(values: Bytes) -> Bytes:
    """Grey levels after histogram equalisation; the lowest becomes 0."""
    counts = np.bincount(values.reshape(-1), minlength=256)
    lowest = int(values.min())
    if counts[lowest] == values.size:
        return values
    counts[lowest] = 0
    table = np.rint(np.cumsum(counts) * (255 / counts.sum()))
    return np.asarray(table.astype(np.uint8)[values])


def embossed(values: Bytes) -> Bytes:
    """Embossed with light from the lower right: a 3 × 3 filter, clipped to [0, 255]."""
    wide = padded(values, (1, 1, 1, 1), np.int16, reflect=True)
    total = wide[1:-1, 1:-1] + wide[1:-1, 2:] + wide[2:, 1:-1] + 2 * wide[2:, 2:]
    total -= 2 * wide[:-2, :-2] + wide[:-2, 1:-1] + wide[1:-1, :-2]
    return np.clip(total, 0, 255).astype(np.uint8)


EXTRA = rows_of(
    "extra",
    (
        spatter,
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
        True,
    ),
)
