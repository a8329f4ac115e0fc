"""Digital corruptions: contrast, elastic deformation, pixelation and JPEG; and saturation."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from rib.data.corruptions.base import TINY, Draws, Image, Level, Plane, floored, rows_of
from rib.data.corruptions.linear import mirror, smoothed
from rib.data.corruptions.weather import brightest
from rib.data.images import decode_pixels


def contrast(image: Image, level: Level, draws: Draws) -> Image:
    """Scale the difference from each channel's mean by `level`."""
    height, width = image.shape[:2]
    rows = image.reshape(height, -1)
    means = rows.sum(axis=0, dtype=np.uint32).reshape(width, 3).sum(axis=0) / (height * width)
    values = rows * np.float32(level[0])
    values += np.tile(means * (1 - level[0]) + 1e-3, width).astype(np.float32)
    return values.astype(np.uint8).reshape(image.shape)


def saturate(image: Image, level: Level, draws: Draws) -> Image:
    """Saturation times `level[0]` plus `level[1]`, with unchanged hue and value; greys get the hue of red."""
    highest = brightest(image)
    lowest = np.minimum(np.minimum(image[..., 0], image[..., 1]), image[..., 2])
    span = (highest - lowest).astype(np.float32)
    value = highest.astype(np.float32)
    wanted = np.minimum(span * np.float32(level[0]) + value * np.float32(level[1]), value)
    grey = span == 0
    span[grey] = 1
    factor = wanted / span
    found = np.empty(image.shape, np.uint8)
    for colour in range(3):
        away = (highest - image[..., colour]) * factor
        if colour:
            away[grey] = wanted[grey]
        found[..., colour] = np.maximum(value - away + TINY, 0)
    return found


def elastic_transform(image: Image, level: Level, draws: Draws) -> Image:
    """Sample every pixel at a smoothed random displacement, scaled by `level`."""
    height, width = image.shape[:2]
    reach = height * 0.005
    deviation = (height * 0.01, width * 0.01)
    right, down = (
        smoothed(draws.uniform(-reach, reach, (height, width)), deviation, cut=3, mirrored=True) for _ in range(2)
    )
    right *= np.float32(level[0])
    down *= np.float32(level[0])
    down += np.arange(height, dtype=np.float32)[:, None]
    right += np.arange(width, dtype=np.float32)
    found = interpolated(image, down, right)
    found += TINY
    return floored(found)


def interpolated(image: Image, down: Plane, right: Plane) -> Plane:
    """Bilinear samples at positions (H, W) of an image that is mirrored beyond its border: float32 (H, W, 3)."""
    height, width = image.shape[:2]
    pixels, found = packed(image), np.empty(image.shape, np.float32)
    (rows, top), (columns, left) = _unfolded(down, height), _unfolded(right, width)
    rows *= width
    for start in range(0, height, _ROWS_AT_ONCE):  # keeps the rows in the CPU cache
        part = slice(start, start + _ROWS_AT_ONCE)
        above, low = _floored(down[part], top)
        before, near = _floored(right[part], left)
        lefts, rights = columns.take(before), columns.take(before + 1)
        upper, under = rows.take(above), rows.take(above + 1)
        here = _between(pixels.take(upper + lefts), pixels.take(upper + rights), near)
        below = _between(pixels.take(under + lefts), pixels.take(under + rights), near)
        below -= here
        below *= low
        here += below
        found[part] = here.reshape(-1, width, 4)[..., :3]
    return found


_ROWS_AT_ONCE = 32


def _unfolded(places: Plane, size: int) -> tuple[NDArray[np.int64], int]:
    """The pixels along an axis that is mirrored at its ends, as far as the positions reach; and the first position."""
    first, last = math.floor(places.min()), math.floor(places.max()) + 1
    return mirror(np.arange(first, last + 1), size), first


def _floored(places: Plane, first: int) -> tuple[NDArray[np.int64], Plane]:
    """Whole part of positions relative to `first`, and the fractional part, (n, 1)."""
    whole = np.floor(places).reshape(-1)
    return whole.astype(np.int64) - first, (places.reshape(-1) - whole)[:, None]


def _between(one: NDArray[np.uint32], other: NDArray[np.uint32], share: Plane) -> Plane:
    """Linear interpolation between packed pixels: float32 (n, 4)."""
    found = one.view(np.uint8).reshape(-1, 4).astype(np.float32)
    way = other.view(np.uint8).reshape(-1, 4) - found
    way *= share
    found += way
    return found


def packed(image: Image) -> NDArray[np.uint32]:
    """Every pixel as one number: uint32 (H × W,)."""
    wide = np.zeros((*image.shape[:2], 4), np.uint8)
    wide[..., :3] = image
    return wide.view(np.uint32).reshape(-1)


def pixelate(image: Image, level: Level, draws: Draws) -> Image:
    """Shrink each side to `level` times its length with Pillow's BOX filter, and enlarge again with its NEAREST
    filter.
    """
    height, width = image.shape[:2]
    whole, wide, tall = Pillow.fromarray(image), int(width * level[0]), int(height * level[0])
    if width % wide == height % tall == 0:  # boxes of whole pixels allow a faster method
        small = whole.reduce((width // wide, height // tall))
    else:
        small = whole.resize((wide, tall), Pillow.Resampling.BOX)
    return np.asarray(small.resize((width, height), Pillow.Resampling.NEAREST))


def jpeg_compression(image: Image, level: Level, draws: Draws) -> Image:
    """Encode with Pillow's JPEG encoder at quality `level`, and decode."""
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=int(level[0]))
    return decode_pixels(buffer.getvalue(), "encoded a moment ago")


ROWS = rows_of(
    "digital",
    (contrast, (0.4, 0.3, 0.2, 0.1, 0.05), False),
    (elastic_transform, (250 * 0.05, 250 * 0.065, 250 * 0.085, 250 * 0.1, 250 * 0.12), True),
    (pixelate, (0.6, 0.5, 0.4, 0.3, 0.25), False),
    (jpeg_compression, (25, 18, 15, 10, 7), False),
)
EXTRA = rows_of("extra", (saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)), False))
