"""Augmentation: random views of a batch of images, drawn separately for each image."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rib.recipe import Frozen

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601)."""


class Augmentation(Frozen):
    """The range of views. Every amount is drawn uniformly between its negative and itself, for each image."""

    key_name: ClassVar[str] = "rib.objectives.augment:Augmentation"

    rotation: float = Field(15.0, ge=0, le=180, description="degrees")
    shear: float = Field(0.15, ge=0, lt=1, description="horizontal shift per unit of height")
    zoom: float = Field(0.2, ge=0, lt=1, description="natural logarithm of the enlargement")
    shift: float = Field(0.12, ge=0, le=1, description="in each direction, as a share of half the side")
    brightness: float = Field(0.3, ge=0, le=1, description="added to all channels, as a share of the full scale")
    colour: float = Field(0.4, ge=0, le=1, description="added to each channel, as a share of the full scale")
    contrast: float = Field(0.7, ge=0, lt=2, description="natural logarithm of the factor around the image's mean")
    inversion: float = Field(0.5, ge=0, le=1, description="share of the images whose levels are inverted")
    grey: float = Field(0.5, ge=0, le=1, description="share of the images that lose their colour")
    noise: float = Field(0.05, ge=0, le=1, description="largest standard deviation, as a share of the full scale")

    def __call__(self, images: Tensor) -> Tensor:
        """A random view of each image.

        The draws come from torch's random state on the CPU, so they are the same on every device.

        Args:
            images: uint8 (n, H, W, 3).

        Returns:
            float32 (n, H, W, 3) on the same scale, 0 … 255.
        """
        pixels = images.permute(0, 3, 1, 2).float() / 255
        pixels = self._painted(self._moved(pixels))
        noise = torch.randn(pixels.shape).to(pixels.device) * (self.noise * torch.rand(len(pixels), 1, 1, 1)).to(pixels)
        return (pixels + noise).clamp(0, 1).permute(0, 2, 3, 1) * 255

    def _moved(self, pixels: Tensor) -> Tensor:
        count = len(pixels)
        angle, scale = _draw(count, math.radians(self.rotation)), _draw(count, self.zoom).exp()
        shear, (right, down) = _draw(count, self.shear), (_draw(count, self.shift), _draw(count, self.shift))
        rows = (
            torch.stack([angle.cos() / scale, (angle.sin() + shear) / scale, right], dim=1),
            torch.stack([-angle.sin() / scale, angle.cos() / scale, down], dim=1),
        )
        grid = F.affine_grid(torch.stack(rows, dim=1).to(pixels.device), list(pixels.shape), align_corners=False)
        return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _painted(self, pixels: Tensor) -> Tensor:
        count, device = len(pixels), pixels.device
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        factor = _draw(count, self.contrast, 1, 1, 1).exp().to(device)
        added = _draw(count, self.brightness, 1, 1, 1) + _draw(count, self.colour, 3, 1, 1)
        pixels = mean + factor * (pixels - mean) + added.to(device)
        inverted = (torch.rand(count, 1, 1, 1) < self.inversion).to(device)
        pixels = torch.where(inverted, 1 - pixels, pixels)
        luma = (pixels * torch.tensor(LUMA, device=device).view(3, 1, 1)).sum(dim=1, keepdim=True)
        grey = (torch.rand(count, 1, 1, 1) < self.grey).to(device)
        return torch.where(grey, luma, pixels)


def _draw(count: int, limit: float, *shape: int) -> Tensor:
    """Uniform in [-limit, limit], (count, *shape)."""
    return limit * (2 * torch.rand(count, *shape) - 1)
