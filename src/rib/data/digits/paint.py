"""Painting of the digit: strokes, colours, background, clutter.

Shapes: N images of S×S pixels; colours are [N, 3, 1, 1] in [0, 1].
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rib.data.digits.draws import DigitDraws
from rib.data.digits.geometry import drawn_grid, pixel_grid, warped_ink
from rib.data.digits.looks import DigitStyle, Pose, Range
from rib.data.digits.texture import texture

LUMA = torch.tensor([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class DigitScene:
    """A painted image, and the layers that a final pass may draw again."""

    mask: Tensor  # [N, S, S] share of the pixel that the stroke covers
    edge: Tensor  # [N, S, S] share of the pixel that the stroke's outline covers
    image: Tensor  # [N, 3, S, S]


def paint(source: Tensor, strays: Tensor, look: DigitStyle, draws: DigitDraws) -> DigitScene:
    """Paint the scans `source` [N]. Pieces of clutter come from the scans `strays` [N]."""
    ink = warped_ink(source, drawn_grid(look.pose, draws))
    threshold, softness = draws.uniform(look.threshold, 1, 1), draws.uniform(look.softness, 1, 1)
    solid = _stroke(ink, threshold, softness)
    edge = (1.3 - (ink - threshold).abs() / (0.8 * softness)).clamp(0.0, 1.0)
    mask = torch.where(draws.coin(look.hollow)[:, None, None], edge, solid)
    figure, ground = _colours(look, draws)
    image = ground + _shading(look, draws)
    if look.clutter:
        image = _with_clutter(image, figure, strays, look, draws)
    over = mask[:, None]
    image = image * (1.0 - over) + (figure + _pattern(look.figure, look.figure_depth, draws)) * over
    return DigitScene(solid, edge, _lens(image, look, draws).clamp(0.0, 1.0))


def _stroke(ink: Tensor, threshold: Tensor, softness: Tensor) -> Tensor:
    return ((ink - threshold) / softness + 0.5).clamp(0.0, 1.0)


def _colours(look: DigitStyle, draws: DigitDraws) -> tuple[Tensor, Tensor]:
    """Colours of figure and ground. The difference of their luminances is drawn at random and has either sign."""
    gap = draws.uniform(look.gap)
    base = 0.05 + draws.uniform() * (0.90 - gap)
    dark = draws.coin(look.dark)
    luminance = torch.stack([torch.where(dark, base, base + gap), torch.where(dark, base + gap, base)], dim=1)
    tint = draws.normal(2, 3)
    tint = tint - tint @ LUMA[:, None]
    tint = tint / tint.norm(dim=-1, keepdim=True) * draws.uniform(look.chroma, 2, 1)
    tint = tint * (~draws.coin(look.grey))[:, None, None]
    colours = (luminance[:, :, None] + tint).clamp(0.0, 1.0)[..., None, None]
    return colours[:, 0], colours[:, 1]


def _shading(look: DigitStyle, draws: DigitDraws) -> Tensor:
    x, y = pixel_grid()
    slope = draws.uniform(look.gradient, 1, 1, 1)
    right, down = draws.uniform((-1.0, 1.0), 2, 1, 1, 1).unbind(1)
    return slope * (right * x + down * y) + _pattern(look.backdrop, look.backdrop_depth, draws)


def _pattern(share: float, depth: Range, draws: DigitDraws) -> Tensor:
    if not share:
        return torch.zeros(1, 1, 1, 1)
    strength = draws.uniform(depth, 1, 1) * draws.coin(share)[:, None, None]
    weights = draws.uniform((0.5, 1.0), 3, 1, 1)
    return (strength * texture(draws))[:, None] * weights


_STRAY = Pose(rotation=90.0, size=(0.6, 1.0), shift=0.15)


def _with_clutter(image: Tensor, figure: Tensor, strays: Tensor, look: DigitStyle, draws: DigitDraws) -> Tensor:
    """Add a piece of another digit at the border, in a colour between those of figure and ground."""
    other = strays[draws.choice(len(strays))]
    angle = draws.uniform((0.0, 2.0 * torch.pi), 1, 1)
    away = torch.stack([angle.cos(), angle.sin()], dim=-1) * draws.uniform((1.1, 1.6), 1, 1, 1)
    piece = _stroke(warped_ink(other, drawn_grid(_STRAY, draws) + away), torch.tensor(0.42), torch.tensor(0.26))
    share = piece[:, None] * (draws.uniform((0.4, 0.9)) * draws.coin(look.clutter))[:, None, None, None]
    tint = draws.uniform((-0.2, 0.2), 3, 1, 1)
    return image * (1.0 - share) + (figure + tint) * share


def _lens(image: Tensor, look: DigitStyle, draws: DigitDraws) -> Tensor:
    if look.blur[1] > 0.0:
        image = blurred(image, draws.uniform(look.blur))
    if look.noise[1] > 0.0:
        image = image + draws.uniform(look.noise, 1, 1, 1) * draws.normal(*image.shape[1:])
    return image


def blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with deviation `sigma` [N] pixels, as two small matrix products. Border pixels are repeated."""
    side = image.shape[-1]
    pixels = torch.arange(-side, 2 * side, dtype=torch.float32)
    distance = torch.arange(side, dtype=torch.float32)[:, None] - pixels
    weights = torch.exp(-0.5 * (distance / sigma.clamp(min=0.05)[:, None, None]) ** 2)
    inner = weights[..., side : 2 * side].clone()
    inner[..., 0] += weights[..., :side].sum(-1)
    inner[..., -1] += weights[..., 2 * side :].sum(-1)
    inner = (inner / inner.sum(-1, keepdim=True))[:, None]
    return inner @ image @ inner.transpose(-1, -2)
