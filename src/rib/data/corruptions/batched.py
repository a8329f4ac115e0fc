"""Corruptions of whole batches in torch, for GPUs. On a CPU, the kernels for single images are faster.

Corruptions without random numbers differ from those kernels by at most one grey level. Random ones have the same
distribution, but other random numbers, which also depend on the device. Each image has its own generator, so its result
depends neither on its position nor on the other images of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional

from rib.data.corruptions.base import TINY, Draws, Level
from rib.data.corruptions.catalogue import check_images, check_severity, corrupt, find_corruption
from rib.data.corruptions.frost import Textures, procedural
from rib.data.corruptions.linear import gaussian_band
from rib.data.splits import named_seed

_TINY = float(TINY)


@dataclass(frozen=True)
class _Batch:
    """The inputs of a batched corruption besides the images: a generator per image, and the frost pictures."""

    seeds: Sequence[int]
    name: str
    severity: int
    device: torch.device
    textures: Textures | None

    def generators(self) -> Iterator[torch.Generator]:
        word = named_seed("corruption", self.name, self.severity)
        for seed in self.seeds:
            yield torch.Generator(self.device).manual_seed((int(seed) ^ word) & (2**63 - 1))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1): (N, *shape)."""
        found = torch.empty(len(self.seeds), *shape, device=self.device)
        for row, generator in zip(found, self.generators(), strict=True):
            row.uniform_(generator=generator)
        return found

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers: (N, *shape)."""
        found = torch.empty(len(self.seeds), *shape, device=self.device)
        for row, generator in zip(found, self.generators(), strict=True):
            row.normal_(generator=generator)
        return found


def corrupt_batch(
    images: Tensor, name: str, severity: int, seeds: Sequence[int], *, textures: Textures | None = None
) -> Tensor:
    """Corrupt images as `corrupt` does, on their own device.

    The corruptions in `ON_DEVICE` run there. The others run on the CPU, image by image, and the result is copied back.

    Args:
        images: uint8 (N, H, W, 3), with H and W at least 32.
        name, severity, seeds, textures: as of `corrupt`.

    Returns:
        uint8 (N, H, W, 3).

    Raises:
        UserError: as `corrupt`.
    """
    row = find_corruption(name)
    check_severity(severity)
    if name not in ON_DEVICE:
        found = corrupt(images.cpu().numpy(), name, severity, seeds, textures=textures)
        return torch.from_numpy(found).to(images.device)
    check_images(np.empty(images.shape, np.uint8) if images.dtype == torch.uint8 else images.cpu().numpy(), seeds)
    batch = _Batch(seeds, name, severity, images.device, textures)
    values = ON_DEVICE[name](images.permute(0, 3, 1, 2).float(), row.levels[severity - 1], batch)
    return values.clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _gaussian_noise(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    return images + batch.normal(*images.shape[1:]) * (255 * level[0])


def _speckle_noise(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    return images + images * batch.normal(*images.shape[1:]) * level[0] + _TINY


def _shot_noise(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    rates = images * (level[0] / 255)
    counts = [torch.poisson(rate, generator) for rate, generator in zip(rates, batch.generators(), strict=True)]
    return torch.stack(counts) * (255 / level[0]) + _TINY


def _impulse_noise(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    numbers = batch.uniform(*images.shape[1:])
    return images.masked_fill(numbers < level[0] / 2, 255).masked_fill(numbers >= 1 - level[0] / 2, 0)


def _gaussian_blur(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    reach = int(4 * level[0] + 0.5)
    steps = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-0.5 * (steps / level[0]) ** 2)
    weights /= weights.sum()
    wide = functional.pad(images, (reach,) * 4, mode="replicate")
    return _filtered(_filtered(wide, weights[None]), weights[:, None]) + _TINY


def _filtered(images: Tensor, kernel: Tensor) -> Tensor:
    """Each colour channel correlated with a kernel, without padding."""
    count, _, height, width = images.shape
    found = functional.conv2d(images.reshape(3 * count, 1, height, width), kernel[None, None])
    return found.reshape(count, 3, *found.shape[2:])


def _defocus_blur(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    kernel = _disk(int(level[0]), level[1]).to(images.device)
    return _filtered(functional.pad(images, (len(kernel) // 2,) * 4, mode="reflect"), kernel) + _TINY


@lru_cache(maxsize=8)
def _disk(radius: int, deviation: float) -> Tensor:
    """The published kernel: a disk in a square, smoothed by a Gaussian that is reflected at the square's edge."""
    reach, side = max(8, radius), 1 if radius <= 8 else 2
    steps = torch.arange(-reach, reach + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).double()
    weights = torch.exp(-(torch.arange(-side, side + 1) ** 2) / (2 * deviation**2)).double()
    weights /= weights.sum()
    wide = functional.pad(disk[None, None] / disk.sum(), (side,) * 4, mode="reflect")
    return functional.conv2d(wide, (weights[:, None] * weights)[None, None])[0, 0].float()


def _zoom_blur(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    sides = images.shape[2:]
    factors = np.arange(1, level[0], level[1]).tolist()
    total = images.clone()
    for factor in factors:
        cut = [math.ceil(side / factor) for side in sides]
        top, left = ((side - part) // 2 for side, part in zip(sides, cut, strict=True))
        part = images[:, :, top : top + cut[0], left : left + cut[1]]
        size = [round(side * factor) for side in cut]
        layer = functional.interpolate(part, size, mode="bilinear", align_corners=True)[:, :, : sides[0], : sides[1]]
        total[:, :, : layer.shape[2], : layer.shape[3]] += layer
    return total / (len(factors) + 1) + _TINY


def _frost(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    known = batch.textures or procedural()
    height, width = images.shape[2:]
    parts = []
    for seed in batch.seeds:  # the same pictures and crops as on the CPU
        draws = Draws(int(seed), batch.name, batch.severity)
        number = draws.integer(len(known))
        tall, wide = known.fitted(number, height, width).shape[:2]
        top, left = draws.integer(tall - height), draws.integer(wide - width)
        parts.append(_picture(known, number, height, width, batch.device)[:, top : top + height, left : left + width])
    return images * level[0] + torch.stack(parts) * level[1] + _TINY


@lru_cache(maxsize=32)
def _picture(textures: Textures, number: int, height: int, width: int, device: torch.device) -> Tensor:
    return torch.from_numpy(textures.fitted(number, height, width)).to(device).permute(2, 0, 1)


def _fog(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    height, width = images.shape[2:]
    size = 1 << (max(height, width) - 1).bit_length()
    cloud = clouds(batch.uniform(size * size - 1), level[1])[:, None, :height, :width]
    brightest = images.amax((1, 2, 3), keepdim=True) / 255
    return (images + cloud * (255 * level[0])) * (brightest / (brightest + level[0])) + _TINY


def clouds(numbers: Tensor, decay: float) -> Tensor:
    """A batch of height maps as `weather.clouds` makes them: (N, size, size).

    Args:
        numbers: uniform in [0, 1), (N, size × size - 1).
        decay: the factor by which the displacement shrinks at each halving of the grid.
    """
    count, size = len(numbers), math.isqrt(numbers.shape[1] + 1)
    corners = torch.zeros(count, 1, 1, device=numbers.device)
    reach, used = 100.0, 0
    while corners.shape[1] < size:
        side = corners.shape[1]
        part = numbers[:, used : used + 3 * side * side].reshape(count, 3, side, side)
        moved = (2 * part - 1) * (reach * reach)
        used += 3 * side * side
        under = corners + corners.roll(-1, 1)
        middles = (under + under.roll(-1, 2)) / 4 + moved[:, 0]
        above = (middles + middles.roll(1, 1) + corners + corners.roll(-1, 2)) / 4 + moved[:, 1]
        beside = (middles + middles.roll(1, 2) + under) / 4 + moved[:, 2]
        rows = torch.stack([torch.stack([corners, above], 3), torch.stack([beside, middles], 3)], 2)
        corners = rows.reshape(count, 2 * side, 2 * side)
        reach /= decay
    corners = corners - corners.amin((1, 2), keepdim=True)
    return corners / corners.amax((1, 2), keepdim=True)


def _brightness(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    highest = images.amax(1, keepdim=True)
    grown = (highest + 255 * level[0]).clamp(max=255)
    return torch.where(highest > 0, images * (grown / highest.clamp(min=1)), grown) + _TINY


def _contrast(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    means = images.mean((2, 3), keepdim=True)
    return (images - means) * level[0] + means + _TINY


def _saturate(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    highest, lowest = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    span = highest - lowest
    wanted = torch.minimum(span * level[0] + highest * level[1], highest)
    away = (highest - images) * (wanted / span.clamp(min=1))
    red = torch.tensor([0.0, 1.0, 1.0], device=images.device).reshape(3, 1, 1)
    return highest - torch.where(span > 0, away, wanted * red) + _TINY  # greys get the hue of red


def _elastic_transform(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    height, width = images.shape[2:]
    steps = (batch.uniform(2, height, width) - 0.5) * (0.01 * height)
    rows, columns = (_smoothing(side).to(images.device) for side in (height, width))
    right, down = (rows @ steps @ columns.T * level[0]).unbind(1)
    return displaced(images, down, right) + _TINY


def displaced(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Bilinear samples at displacements (N, H, W) in pixels; images (N, 3, H, W) are mirrored beyond their border."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device)[:, None] + down
    columns = torch.arange(width, device=images.device) + right
    places = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], 3)
    return functional.grid_sample(images, places, mode="bilinear", padding_mode="reflection", align_corners=False)


@lru_cache(maxsize=16)
def _smoothing(side: int) -> Tensor:
    """A Gaussian as a matrix: its deviation is 1 % of the side, it is cut at three deviations, and the border is
    mirrored.
    """
    return torch.from_numpy(gaussian_band(side, side * 0.01, 3, True).down(np.eye(side, dtype=np.float32)))


def _pixelate(images: Tensor, level: Level, batch: _Batch) -> Tensor:
    (rows, tops), (columns, lefts) = (_boxes(side, int(side * level[0])) for side in images.shape[2:])
    small = rows.to(images.device) @ images @ columns.T.to(images.device)
    return torch.floor(small + 0.5)[:, :, tops.to(images.device)][..., lefts.to(images.device)]


@lru_cache(maxsize=32)
def _boxes(side: int, small: int) -> tuple[Tensor, Tensor]:
    """Pillow's BOX filter as a matrix (small, side), and the index of the cell that its NEAREST filter takes for each
    pixel.
    """
    there = Pillow.fromarray(np.eye(side, dtype=np.float32)).resize((side, small), Pillow.Resampling.BOX)
    cells = Pillow.fromarray(np.arange(small, dtype=np.float32)[None])
    back = np.array(cells.resize((side, 1), Pillow.Resampling.NEAREST))[0]
    return torch.from_numpy(np.array(there)), torch.from_numpy(back).long()


ON_DEVICE: Mapping[str, Callable[[Tensor, Level, _Batch], Tensor]] = {
    function.__name__[1:]: function
    for function in (
        *(_gaussian_noise, _shot_noise, _impulse_noise, _defocus_blur, _zoom_blur, _frost, _fog, _brightness),
        *(_contrast, _elastic_transform, _pixelate, _speckle_noise, _gaussian_blur, _saturate),
    )
}
"""Corruptions with a batched form. Glass, motion blur, snow, spatter and JPEG stay on the CPU."""
