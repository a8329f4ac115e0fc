"""The fifteen corruptions of ImageNet-C by name, at five severities, for images of 28 pixels.

Each takes float images [N, 3, S, S] in [0, 1]; the result is clipped by the caller.
"""

import io
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from rib.data.digits.domains import STRENGTHS
from rib.data.digits.draws import DigitDraws
from rib.data.digits.geometry import SIDE, pixel_grid
from rib.data.digits.paint import blurred
from rib.data.digits.texture import clouds


def corrupt(images: Tensor, name: str, severity: int, draws: DigitDraws) -> Tensor:
    """Images [N, 3, S, S] under corruption `name` at `severity` 1..5, with the random numbers of `draws`."""
    return _KERNELS[name](images, STRENGTHS[name][severity - 1], draws).clamp(0.0, 1.0)


def gaussian_noise(images: Tensor, deviation: float, draws: DigitDraws) -> Tensor:
    return images + deviation * draws.normal(*images.shape[1:])


def shot_noise(images: Tensor, photons: float, draws: DigitDraws) -> Tensor:
    return torch.poisson(images * photons, generator=draws.generator) / photons


def impulse_noise(images: Tensor, share: float, draws: DigitDraws) -> Tensor:
    roll = draws.uniform((0.0, 1.0), *images.shape[1:])
    salted = torch.where(roll < share / 2, torch.ones(()), images)
    return torch.where(roll > 1.0 - share / 2, torch.zeros(()), salted)


def defocus_blur(images: Tensor, radius: float, draws: DigitDraws) -> Tensor:
    reach = math.ceil(radius)
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    disk = (radius + 0.5 - (steps[:, None] ** 2 + steps**2).sqrt()).clamp(0.0, 1.0)
    kernel = (disk / disk.sum()).expand(3, 1, -1, -1)
    return F.conv2d(F.pad(images, (reach,) * 4, mode="replicate"), kernel, groups=3)


def glass_blur(images: Tensor, reach: float, draws: DigitDraws) -> Tensor:
    shifts = draws.uniform((-reach, reach), SIDE, SIDE, 2) * (2.0 / SIDE)
    return blurred(_displaced(images, shifts), torch.full((len(images),), 0.3 * reach))


def motion_blur(images: Tensor, reach: float, draws: DigitDraws) -> Tensor:
    angle = draws.uniform((0.0, math.pi), 1, 1)
    way = torch.stack([angle.cos(), angle.sin()], dim=-1).expand(-1, SIDE, SIDE, -1)
    steps = torch.linspace(-reach, reach, 9) * (2.0 / SIDE)
    return torch.stack([_displaced(images, step * way) for step in steps]).mean(0)


def zoom_blur(images: Tensor, most: float, draws: DigitDraws) -> Tensor:
    x, y = pixel_grid()
    grid = torch.stack([x, y], dim=-1).expand(len(images), -1, -1, -1)
    zooms = torch.linspace(1.0, most, 9)
    return torch.stack([_sampled(images, grid / zoom) for zoom in zooms]).mean(0)


def snow(images: Tensor, depth: float, draws: DigitDraws) -> Tensor:
    flakes = (draws.uniform((0.0, 1.0), 1, SIDE, SIDE) < 0.12 * depth).to(torch.float32)
    fallen = motion_blur(flakes.expand(-1, 3, -1, -1), 1.5, draws) * 2.5
    greyer = images.mean(1, keepdim=True) * 0.5 + 0.4
    veiled = images + 0.35 * depth * (greyer - images).clamp(min=0.0)
    return veiled + depth * fallen.clamp(max=1.0)


def frost(images: Tensor, depth: float, draws: DigitDraws) -> Tensor:
    ridges = 1.0 - (clouds(draws, 6).abs() + clouds(draws, 12).abs())
    crystals = (1.3 * ridges).clamp(0.0, 1.0)[:, None]
    tint = torch.tensor([0.75, 0.85, 0.95])[:, None, None]
    return images * (1.0 - depth * crystals) + depth * crystals * tint


def fog(images: Tensor, depth: float, draws: DigitDraws) -> Tensor:
    haze = 0.6 + 0.25 * clouds(draws, 3) + 0.15 * clouds(draws, 7)
    share = (depth * haze).clamp(0.0, 0.97)[:, None]
    return images * (1.0 - share) + 0.85 * share


def brightness(images: Tensor, shift: float, draws: DigitDraws) -> Tensor:
    return images + shift


def contrast(images: Tensor, factor: float, draws: DigitDraws) -> Tensor:
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + factor * (images - mean)


def elastic_transform(images: Tensor, reach: float, draws: DigitDraws) -> Tensor:
    shifts = torch.stack([clouds(draws, 6), clouds(draws, 6)], dim=-1)
    return _displaced(images, shifts * (2.0 * reach / SIDE))


def pixelate(images: Tensor, side: float, draws: DigitDraws) -> Tensor:
    small = F.interpolate(images, size=(int(side), int(side)), mode="area")
    return F.interpolate(small, size=images.shape[-2:], mode="nearest-exact")


def jpeg_compression(images: Tensor, quality: float, draws: DigitDraws) -> Tensor:
    pixels = (images * 255.0 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    decoded = np.stack([_through_jpeg(one, int(quality)) for one in pixels])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).to(torch.float32) / 255.0


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _displaced(images: Tensor, shifts: Tensor) -> Tensor:
    """Sample each pixel at a displacement `shifts` [N, S, S, 2], in units of half the image side."""
    x, y = pixel_grid()
    return _sampled(images, torch.stack([x, y], dim=-1) + shifts)


def _sampled(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


DigitKernel = Callable[[Tensor, float, DigitDraws], Tensor]

_KERNELS: Mapping[str, DigitKernel] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}
