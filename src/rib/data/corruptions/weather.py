"""Weather: snow, frost, fog and brightness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rib.data.corruptions.base import TINY, Draws, Image, Level, Plane, floored, rows_of
from rib.data.corruptions.blur import moved
from rib.data.corruptions.frost import Textures, procedural
from rib.data.corruptions.linear import zoom_band

_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def snow(image: Image, level: Level, draws: Draws) -> Image:
    """Flakes, enlarged and blown along a line, over a paler image.

    `level` is mean and deviation of the flakes' normal law, their size, the threshold below which there is none, radius
    and deviation of the motion, and the share of the image that is kept.
    """
    height, width = image.shape[:2]
    flakes = _flakes(height, width, level, draws)
    layer = np.rint(flakes * np.float32(255))
    layer %= 256  # the published code turns it into bytes
    layer = layer[:height, :width]
    layer += layer[::-1, ::-1].copy()
    values = image.astype(np.float32)
    pale = (values.reshape(-1, 3) @ _GREY).reshape(height, width)
    pale *= np.float32(1.5)
    pale += np.float32(127.5)
    share = np.float32(level[6])
    found = np.maximum(values, spread(pale))
    found *= 1 - share
    values *= share
    found += values
    found += spread(layer)
    found += TINY
    return floored(found)


def _flakes(height: int, width: int, level: Level, draws: Draws) -> Plane:
    """A layer of blown flakes, float32 (at least height, at least width) in [0, 1]."""
    size = level[2]
    rows, tall = zoom_band(height, size, 2 * height)
    columns, wide = zoom_band(width, size, 2 * width)
    seeds = draws.normal(level[0], level[1], (height, width), (tall, wide))
    layer = rows.down(columns.along(seeds))
    layer[layer < level[3]] = 0
    np.clip(layer, 0, 1, out=layer)
    return moved(layer, (level[4], level[5]), draws.angle(-135, -45))


def frost(image: Image, level: Level, draws: Draws, textures: Textures | None = None) -> Image:
    """A random part of a picture of frost, added: shares of image and frost are `level`.

    Args:
        image: uint8 (H, W, 3).
        level: two shares.
        draws: chooses the picture and the part.
        textures: pictures of frost; by default made by formula, with `seed`s of its own.
    """
    height, width = image.shape[:2]
    known = textures or procedural()
    texture = known.fitted(draws.integer(len(known)), height, width)
    top = draws.integer(texture.shape[0] - height)
    left = draws.integer(texture.shape[1] - width)
    found = image * np.float32(level[0])
    part = texture[top : top + height, left : left + width]
    found += part * np.float32(level[1])
    found += TINY
    return floored(found)


def fog(image: Image, level: Level, draws: Draws) -> Image:
    """A cloud of density `level[0]`, by midpoint displacement that dies away by `level[1]` a step."""
    height, width = image.shape[:2]
    cloud = clouds(1 << (max(height, width) - 1).bit_length(), level[1], draws)[:height, :width]
    brightest = int(image.max()) / 255
    scale = brightest / (brightest + level[0])
    found = image * np.float32(scale)
    found += spread(cloud * np.float32(255 * level[0] * scale))
    found += TINY
    return floored(found)


def clouds(size: int, decay: float, draws: Draws) -> Plane:
    """A height map in [0, 1] that wraps around, by the diamond-square algorithm: float32 (size, size).

    Args:
        size: a power of two.
        decay: by what the displacement is divided at each halving of the grid.
        draws: displacements, uniform in ± the square of the present size.
    """
    corners = np.zeros((1, 1), np.float32)
    reach = 100.0
    while len(corners) < size:
        shape = corners.shape
        amount = reach * reach
        middles = _wrapped_sum(_wrapped_sum(corners, 0, 1), 1, 1)
        middles *= np.float32(0.25)
        middles += draws.uniform(-amount, amount, shape)
        above = _wrapped_sum(middles, 0, -1) + _wrapped_sum(corners, 1, 1)
        above *= np.float32(0.25)
        above += draws.uniform(-amount, amount, shape)
        beside = _wrapped_sum(middles, 1, -1) + _wrapped_sum(corners, 0, 1)
        beside *= np.float32(0.25)
        beside += draws.uniform(-amount, amount, shape)
        finer = np.empty((2 * len(corners), 2 * len(corners)), np.float32)
        finer[::2, ::2], finer[1::2, 1::2] = corners, middles
        finer[::2, 1::2], finer[1::2, ::2] = above, beside
        corners = finer
        reach /= decay
    corners -= corners.min()
    corners *= np.float32(1 / corners.max())
    return corners


def _wrapped_sum(values: Plane, axis: int, step: int) -> Plane:
    """Values plus their next (step 1) or last (step -1) neighbours along an axis, which wraps around."""
    found = values.copy()
    if axis == 0:
        ends = (slice(None, -1), slice(1, None))
        wrap = (slice(-1, None), slice(0, 1))
    else:
        ends = ((slice(None), slice(None, -1)), (slice(None), slice(1, None)))  # type: ignore[assignment]
        wrap = ((slice(None), slice(-1, None)), (slice(None), slice(0, 1)))  # type: ignore[assignment]
    here, there = (0, 1) if step == 1 else (1, 0)
    found[ends[here]] += values[ends[there]]
    found[wrap[here]] += values[wrap[there]]
    return found


def brightness(image: Image, level: Level, draws: Draws) -> Image:
    """`level` more of the value of hue, saturation and value: all three colours grow by one factor."""
    highest = brightest(image)
    grown = np.minimum(np.arange(256) / 255 + level[0], 1) * 255
    factors = np.concatenate([[0], grown[1:] / np.arange(1, 256)]).astype(np.float32).take(highest)
    found = np.empty(image.shape, np.uint8)
    for colour in range(3):
        values = image[..., colour] * factors
        values += TINY
        np.minimum(values, 255, out=values)
        found[..., colour] = values
    found[highest == 0] = int(grown[0])
    return found


def brightest(image: Image) -> NDArray[np.uint8]:
    """The highest of the three colours: uint8 (H, W)."""
    found = np.maximum(image[..., 0], image[..., 1])
    return np.maximum(found, image[..., 2], out=found)


def spread(values: Plane) -> Plane:
    """The same values for the three colours: float32 (H, W, 3)."""
    found = np.empty((*values.shape, 3), np.float32)
    for colour in range(3):
        found[..., colour] = values
    return found


ROWS = rows_of(
    "weather",
    (
        snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        True,
    ),
    (frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)), True),
    (fog, ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)), True),
    (brightness, (0.1, 0.2, 0.3, 0.4, 0.5), False),
)
