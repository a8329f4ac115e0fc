"""What all corruptions share: the row that describes one, and the random numbers of one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rib.data.splits import named_seed

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]

Family = Literal["noise", "blur", "weather", "digital", "extra"]
Level = tuple[float, ...]

SMALLEST = 32
"""Minimum height and width in pixels: in smaller images, blurs reach over the whole image."""

TINY = np.float32(1e-3)
"""Added before rounding down, so that floating-point errors do not change the grey level of a flat area."""

WORDS = 1 << 16
"""Number of values of a 16-bit random word. A distribution read from a table is exact to 1 / WORDS."""


class Draws:
    """The random numbers of one image under one corruption.

    Args:
        seed: the seed of the image.
        names: the purpose of the draws, such as the corruption and the severity.
    """

    def __init__(self, seed: int, *names: object) -> None:
        self._entropy = [int(seed), _named(*names)]

    @cached_property
    def _bits(self) -> np.random.SFC64:  # made on first use, because a third of the corruptions draw nothing
        return np.random.SFC64(np.random.SeedSequence(self._entropy))

    @cached_property
    def _generator(self) -> np.random.Generator:
        return np.random.Generator(self._bits)

    def words(self, count: int) -> NDArray[np.uint16]:
        """Random 16-bit words: uint16 (count,)."""
        return self._bits.random_raw(-(-count // 4)).view(np.uint16)[:count]

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Plane:
        """Uniform numbers in (low, high): the midpoints of 65,536 equal intervals."""
        count = int(np.prod(shape))
        step = (high - low) / WORDS
        numbers = np.multiply(self.words(count), np.float32(step), dtype=np.float32)
        numbers += np.float32(low + step / 2)
        return numbers.reshape(shape)

    def angle(self, low: float, high: float) -> float:
        """One uniform number in [low, high)."""
        return float(self._generator.uniform(low, high))

    def integer(self, high: int) -> int:
        """One integer in [0, high)."""
        return int(self._generator.integers(high))

    def shifts(self, reach: int, count: int) -> NDArray[np.int64]:
        """Integers in [-reach, reach): int64 (count, 2). They are uniform if `reach` divides 2**15, else to 1e-4."""
        numbers = self.words(2 * count).astype(np.int64)
        numbers *= 2 * reach
        numbers >>= 16
        numbers -= reach
        return numbers.reshape(count, 2)

    def normal(self, mean: float, deviation: float, shape: tuple[int, int], window: tuple[slice, slice]) -> Plane:
        """Normal numbers for a window of a field of this shape. Numbers outside the window are not drawn."""
        size = [len(range(*part.indices(length))) for part, length in zip(window, shape, strict=True)]
        numbers = self._generator.standard_normal(size, dtype=np.float32)
        numbers *= np.float32(deviation)
        numbers += np.float32(mean)
        return numbers


@lru_cache(maxsize=256)
def _named(*names: object) -> int:
    return named_seed("corruption", *names)


Kernel = Callable[..., Image]


@dataclass(frozen=True)
class Corruption:
    """One corruption of ImageNet-C.

    Attributes:
        name: as published.
        family: noise, blur, weather or digital; "extra" for the four outside the benchmark.
        levels: parameters of the kernel at severities 1 to 5.
        kernel: turns an image uint8 (H, W, 3), a level and `Draws` into an image uint8 (H, W, 3); frost also takes
            textures.
        random: whether it draws random numbers.
    """

    name: str
    family: Family
    levels: tuple[Level, ...]
    kernel: Kernel
    random: bool = True


def rows_of(family: Family, *rows: tuple[Kernel, tuple[Any, ...], bool]) -> tuple[Corruption, ...]:
    """Rows of a family, from tuples of kernel, five levels (numbers or tuples) and whether it is random.

    Names are the kernels'.
    """
    return tuple(
        Corruption(
            kernel.__name__,
            family,
            tuple(level if isinstance(level, tuple) else (level,) for level in levels),
            kernel,
            random,
        )
        for kernel, levels, random in rows
    )


def floored(values: Plane) -> Image:
    """Float values as grey levels: clipped to [0, 255] and rounded down, as in the published sets. Changes `values`."""
    np.maximum(values, 0, out=values)
    np.minimum(values, 255, out=values)
    return values.astype(np.uint8)
