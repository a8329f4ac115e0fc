"""Noise corruptions. Each draws its outcome from a table, with 16 random bits per value.

Grey levels are integers and the result is rounded down, so the noise of a level is an integer too. Its distribution is
exact up to the 16 bits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import poisson

from rib.data.corruptions.base import TINY, WORDS, Draws, Image, Level, Plane, floored, rows_of

_COLUMNS = 64


def gaussian_noise(image: Image, level: Level, draws: Draws) -> Image:
    """Normal noise of deviation `level`, as a share of the full range, on every value."""
    noise = normal_steps(level[0]).take(draws.words(image.size))
    noise += image.reshape(-1)
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8).reshape(image.shape)


def shot_noise(image: Image, level: Level, draws: Draws) -> Image:
    """Poisson noise with `level` photons at full brightness.

    The outcome of each grey level is drawn by Walker's alias method: a random column, then one of its two outcomes.
    """
    words = draws.words(image.size)
    cells = image.reshape(-1).astype(np.int64)
    cells *= _COLUMNS
    cells += words >> 10
    found = photon_table(level[0]).take(cells)
    first = (words & 1023) < (found >> 16)
    return np.where(first, found.astype(np.uint8), (found >> 8).astype(np.uint8)).reshape(image.shape)


def impulse_noise(image: Image, level: Level, draws: Draws) -> Image:
    """A share `level` of all values becomes 255 or 0 with equal probability."""
    words = draws.words(image.size).reshape(image.shape)
    half = round(level[0] / 2 * WORDS)
    salt = (words < half).view(np.uint8)
    pepper = (words < WORDS - half).view(np.uint8)
    np.negative(salt, out=salt)
    np.negative(pepper, out=pepper)
    salt |= image
    salt &= pepper
    return salt


def speckle_noise(image: Image, level: Level, draws: Draws) -> Image:
    """Normal noise whose deviation is `level` times the value."""
    factors = speckle_factors(level[0]).take(draws.words(image.size))
    factors *= image.reshape(-1)
    factors += TINY
    return floored(factors).reshape(image.shape)


@lru_cache(maxsize=8)
def normal_steps(deviation: float) -> NDArray[np.int16]:
    """Quantiles of floor(255 × normal noise): int16 (65536,)."""
    return np.floor(255 * deviation * _normal_quantiles()).astype(np.int16)


@lru_cache(maxsize=8)
def speckle_factors(deviation: float) -> Plane:
    """Quantiles of 1 + normal noise: float32 (65536,)."""
    return (1 + deviation * _normal_quantiles()).astype(np.float32)


def _normal_quantiles() -> NDArray[np.float64]:
    return ndtri((np.arange(WORDS) + 0.5) / WORDS)


@lru_cache(maxsize=8)
def photon_table(photons: float) -> NDArray[np.uint32]:
    """Alias tables of all 256 grey levels: uint32 (256 × 64,), which pack a 10-bit threshold, the second and the first
    outcome.
    """
    counts = np.arange(_COLUMNS)
    outcomes = np.floor(np.minimum(counts / photons, 1) * 255).astype(np.uint32)
    table = np.empty((256, _COLUMNS), np.uint32)
    for grey in range(256):
        chances = poisson.pmf(counts, grey / 255 * photons)
        chances[int(photons)] += 1 - chances[: int(photons) + 1].sum()  # from here on, white
        chances[int(photons) + 1 :] = 0
        thresholds, other = _alias(chances)
        table[grey] = (thresholds << 16) | (outcomes[other] << 8) | outcomes
    return table.reshape(-1)


def _alias(chances: NDArray[np.float64]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Thresholds in 1024ths, and the second outcome, of columns that each hold an equal share of the total
    probability.
    """
    parts = np.round(chances * _COLUMNS * 1024).astype(np.int64)
    parts[parts.argmax()] += _COLUMNS * 1024 - parts.sum()
    other = np.arange(len(parts))
    thresholds = parts.copy()
    small = [column for column in other.tolist() if parts[column] < 1024]
    large = [column for column in other.tolist() if parts[column] >= 1024]
    while small and large:
        poor, rich = small.pop(), large[-1]
        thresholds[poor], other[poor] = parts[poor], rich
        parts[rich] -= 1024 - parts[poor]
        if parts[rich] < 1024:
            small.append(large.pop())
    for column in large:
        thresholds[column] = 1024
    return thresholds.astype(np.uint32), other


ROWS = rows_of(
    "noise",
    (gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38), True),
    (shot_noise, (60, 25, 12, 5, 3), True),
    (impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27), True),
)
EXTRA = rows_of("extra", (speckle_noise, (0.15, 0.2, 0.35, 0.45, 0.6), True))
