"""Poses of the digit: projective warps of the scans.

Shapes: N images of S×S pixels.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from rib.data.digits.draws import DigitDraws
from rib.data.digits.looks import Pose
from rib.data.digits.scans import scan_fields

SIDE = 28


@cache
def pixel_grid() -> tuple[Tensor, Tensor]:
    """Horizontal and vertical coordinates of the pixel centres in [-1, 1], each [S, S]."""
    centres = (torch.arange(SIDE) + 0.5) / SIDE * 2.0 - 1.0
    return centres.expand(SIDE, SIDE), centres[:, None].expand(SIDE, SIDE)


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]


def drawn_grid(pose: Pose, draws: DigitDraws) -> Tensor:
    """Sampling positions in the enlarged scan for every pixel, [N, S, S, 2]."""
    angle = _column(draws.uniform((-1.0, 1.0)) * math.radians(pose.rotation))
    size, aspect = _column(draws.uniform(pose.size)), _column(draws.uniform((-pose.aspect, pose.aspect)))
    shear = _column(draws.uniform((-pose.shear, pose.shear)))
    right, down = draws.uniform((-pose.shift, pose.shift), 2, 1, 1).unbind(1)
    tilt = draws.uniform((-pose.perspective, pose.perspective), 2, 1, 1).unbind(1)
    x, y = pixel_grid()
    depth = 1.0 + tilt[0] * x + tilt[1] * y
    x, y = (x - right) / depth, (y - down) / depth
    if pose.wobble:
        x, y = _wobbled(x, y, pose.wobble, draws)
    x, y = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    x = (x + shear * y) * (1.0 + aspect)
    return torch.stack([x, y], dim=-1) / size[..., None]


def _wobbled(x: Tensor, y: Tensor, wobble: float, draws: DigitDraws) -> tuple[Tensor, Tensor]:
    phase = draws.uniform((0.0, 2.0 * math.pi), 2, 1, 1).unbind(1)
    pace = draws.uniform((2.0, 5.0), 2, 1, 1).unbind(1)
    return x + wobble * torch.sin(pace[0] * y + phase[0]), y + wobble * torch.sin(pace[1] * x + phase[1])


def warped_ink(source: Tensor, grid: Tensor) -> Tensor:
    """Ink levels of the scans `source` [N] sampled at `grid`, [N, S, S]."""
    fields = scan_fields()[source][:, None]
    return F.grid_sample(fields, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]
