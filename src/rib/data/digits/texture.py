"""Patterns that cover figure and ground: stripes, checks, dots, clouds and grain."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rib.data.digits.draws import DigitDraws
from rib.data.digits.geometry import SIDE, pixel_grid

KINDS = 5


def texture(draws: DigitDraws) -> Tensor:
    """One pattern per image, values in about [-1, 1], [N, S, S]."""
    along, across = _rotated_coordinates(draws)
    waves = torch.sin(along), torch.sin(across)
    sharp = torch.stack(
        [
            (3.0 * waves[0]).clamp(-1.0, 1.0),
            (6.0 * waves[0] * waves[1]).clamp(-1.0, 1.0),
            (4.0 * (waves[0] + waves[1]) - 3.0).clamp(-1.0, 1.0),
            clouds(draws, 7),
            clouds(draws, 14),
        ]
    )
    return sharp[draws.choice(KINDS), torch.arange(draws.count)]


def clouds(draws: DigitDraws, cells: int) -> Tensor:
    """Smooth noise from `cells` random values per side, [N, S, S]."""
    coarse = draws.uniform((-1.0, 1.0), 1, cells, cells)
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]


def _rotated_coordinates(draws: DigitDraws) -> tuple[Tensor, Tensor]:
    x, y = pixel_grid()
    angle, period, phase_a, phase_b = draws.uniform((0.0, 1.0), 4, 1, 1).unbind(1)
    pace = math.pi * SIDE / (4.0 + 5.0 * period)
    angle = math.pi * angle
    along = pace * (angle.cos() * x + angle.sin() * y) + 2.0 * math.pi * phase_a
    across = pace * (angle.cos() * y - angle.sin() * x) + 2.0 * math.pi * phase_b
    return along, across
