"""Frost: pictures of frost on glass, made by formula or read from a folder, and how they are fitted to an image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2

from rib.data.corruptions.base import Image, Plane
from rib.data.images import SUFFIXES, read_image
from rib.errors import UserError

PROCEDURAL = "procedural"
_SIDE = 512
_BRIGHTNESS = ((131, 43), (207, 23), (207, 23), (152, 31), (123, 44))
"""Mean and deviation of the grey levels of the five published pictures, which those made here have too."""

_MARGIN = 1.1


class Textures:
    """Pictures of frost.

    Args:
        pictures: uint8 (h, w, 3) each.
        source: what they are, for the record.
    """

    def __init__(self, pictures: Sequence[Image], source: str) -> None:
        self._pictures, self.source = tuple(pictures), source
        self._fitted: dict[tuple[int, int, int], Image] = {}

    def __len__(self) -> int:
        return len(self._pictures)

    @cached_property
    def digest(self) -> str:
        """Names the pixels of all pictures."""
        found = hashlib.blake2b(digest_size=10)
        for picture in self._pictures:
            found.update(repr(picture.shape).encode() + picture.tobytes())
        return found.hexdigest()

    def fitted(self, number: int, height: int, width: int) -> Image:
        """A picture enlarged as published: to hold an image of that size, and a tenth beyond."""
        key = (number, height, width)
        if key not in self._fitted:
            picture = self._pictures[number]
            tall, wide = picture.shape[:2]
            scale = max(1.0, height / tall, width / wide) * _MARGIN
            self._fitted[key] = enlarged(picture, int(np.ceil(tall * scale)), int(np.ceil(wide * scale)))
        return self._fitted[key]


@lru_cache(maxsize=4)
def read_textures(folder: Path) -> Textures:
    """The pictures of a folder, in the order of their names.

    Raises:
        UserError: there is none, or one cannot be read.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError("no pictures of frost", got=folder, valid=f"a folder of image files ({' '.join(SUFFIXES)})")
    return Textures([np.asarray(read_image(file)) for file in files], str(folder.name))


def enlarged(picture: Image, height: int, width: int) -> Image:
    """Cubic interpolation (a = -0.75) without smoothing, as OpenCV's INTER_CUBIC."""
    down, across = _cubic(picture.shape[0], height), _cubic(picture.shape[1], width)
    wide = _resampled(picture.astype(np.float32), *across, axis=1)
    found = _resampled(wide, *down, axis=0)
    return np.rint(np.clip(found, 0, 255)).astype(np.uint8)


def _cubic(size: int, out: int) -> tuple[NDArray[np.int64], Plane]:
    """Places (4, out) and weights (4, out) along one axis."""
    at = (np.arange(out) + 0.5) * (size / out) - 0.5
    low = np.floor(at).astype(np.int64)
    part = at - low
    a = -0.75
    outer = [a * (x**3 - 5 * x**2 + 8 * x - 4) for x in (part + 1, 2 - part)]
    inner = [(a + 2) * x**3 - (a + 3) * x**2 + 1 for x in (part, 1 - part)]
    weights = np.stack([outer[0], inner[0], inner[1], outer[1]]).astype(np.float32)
    places = np.stack([low - 1, low, low + 1, low + 2]).clip(0, size - 1)
    return places, weights


def _resampled(values: Plane, places: NDArray[np.int64], weights: Plane, axis: int) -> Plane:
    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    parts = (values.take(at, axis=axis) * weight.reshape(shape) for at, weight in zip(places, weights, strict=True))
    return np.asarray(sum(parts), np.float32)


@lru_cache(maxsize=1)
def procedural() -> Textures:
    """Five pictures of frost by formula: needles that grow from many seeds, over a veil of rime; bluish white.

    They are not the published photographs: as bright and as rich in contrast, of another texture.
    """
    return Textures([_frosted(seed, *levels) for seed, levels in enumerate(_BRIGHTNESS)], PROCEDURAL)


def _frosted(seed: int, mean: float, deviation: float) -> Image:
    """One picture: uint8 (512, 512, 3)."""
    generator = np.random.Generator(np.random.SFC64(seed))
    veil = _noise(generator, 2.2)
    ferns = np.zeros((_SIDE, _SIDE), np.float32)
    turn = generator.uniform(0, np.pi)
    for number in range(6):  # crystals grow at multiples of 60 degrees
        angle = turn + number * np.pi / 3 + generator.normal(0, 0.12)
        grain = _streaks(generator, angle, length=90 - 12 * number, width=1.6)
        ferns = np.maximum(ferns, grain * _soft(_noise(generator, 2.6), 0.4, 0.9))
    fine = _noise(generator, 0.9)
    height = 0.55 * ferns + 0.35 * _soft(veil, 0.35, 0.95) + 0.2 * fine * _soft(veil, 0.2, 0.8)
    tint = np.array([0.94, 1.0, 1.06], np.float32)
    for _ in range(4):  # cutting changes both
        height = mean + deviation * (height - height.mean()) / height.std()
        height = np.clip(height, 0, 255 / tint[-1])
    return np.asarray(height[..., None] * tint).astype(np.uint8)


def _soft(values: Plane, low: float, high: float) -> Plane:
    """0 below `low`, 1 above `high`, smooth between."""
    part = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(part * part * (3 - 2 * part), np.float32)


def _ranked(values: NDArray[np.float64]) -> Plane:
    """Values by rank, in [0, 1]."""
    order = values.reshape(-1).argsort()
    ranks = np.empty(len(order), np.float32)
    ranks[order] = np.linspace(0, 1, len(order), dtype=np.float32)
    return ranks.reshape(values.shape)


def _frequencies() -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    return np.fft.fftfreq(_SIDE)[:, None] * _SIDE, np.fft.rfftfreq(_SIDE)[None] * _SIDE


def _noise(generator: np.random.Generator, fall: float) -> Plane:
    """Noise whose amplitude falls with frequency to the power `fall` / 1, by rank in [0, 1]; it wraps around."""
    down, across = _frequencies()
    size = np.hypot(down, across)
    size[0, 0] = 1
    spectrum = rfft2(generator.standard_normal((_SIDE, _SIDE))) * size ** (-fall / 1.0)
    spectrum[0, 0] = 0
    return _ranked(irfft2(spectrum, s=(_SIDE, _SIDE)))


def _streaks(generator: np.random.Generator, angle: float, length: float, width: float) -> Plane:
    """Needles along a direction, sharp at their edges, in [0, 1]."""
    down, across = _frequencies()
    along = (down * np.sin(angle) + across * np.cos(angle)) / _SIDE
    beside = (-down * np.cos(angle) + across * np.sin(angle)) / _SIDE
    filtered = np.exp(-2 * (np.pi * along * length) ** 2 / 4 - 2 * (np.pi * beside * width) ** 2)
    ranks = _ranked(irfft2(rfft2(generator.standard_normal((_SIDE, _SIDE))) * filtered, s=(_SIDE, _SIDE)))
    return _soft(ranks, 0.75, 0.99)
