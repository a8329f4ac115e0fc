"""Final passes that turn a painted scene into a sketch, a cartoon or a drawing.

Cartoon and drawing start from the painted image, as the sets that they imitate start from photographs.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from rib.data.digits.draws import DigitDraws
from rib.data.digits.geometry import SIDE, pixel_grid
from rib.data.digits.looks import Finish
from rib.data.digits.paint import LUMA, DigitScene
from rib.data.digits.texture import clouds


def luminance(image: Tensor) -> Tensor:
    """[N, 1, S, S] from [N, 3, S, S]."""
    return (image * LUMA[:, None, None]).sum(1, keepdim=True)


def photo(scene: DigitScene, draws: DigitDraws) -> Tensor:
    return scene.image


def sketch(scene: DigitScene, draws: DigitDraws) -> Tensor:
    """Dark outlines on near-white paper; some ink is missing, and some strokes are filled: [N, 3, S, S]."""
    filled = draws.coin(0.25)[:, None, None]
    ink = torch.where(filled, scene.mask, scene.edge)
    worn = (1.0 + draws.uniform((0.4, 1.4), 1, 1) * clouds(draws, 9)).clamp(0.0, 1.0)
    paper = draws.uniform((0.88, 1.0), 1, 1)
    dark = draws.uniform((0.0, 0.45), 1, 1)
    grey = paper - (paper - dark) * ink * worn + 0.03 * draws.normal(SIDE, SIDE)
    return grey[:, None].expand(-1, 3, -1, -1)


def cartoon(scene: DigitScene, draws: DigitDraws) -> Tensor:
    """Four saturated levels per channel, and a black outline: [N, 3, S, S]."""
    grey = luminance(scene.image)
    loud = (0.5 + 1.3 * (grey - 0.5) + 2.5 * (scene.image - grey)).clamp(0.0, 1.0)
    flat = (loud * 3.0).round() / 3.0
    outline = (2.0 * scene.edge).clamp(0.0, 1.0)[:, None]
    return flat * (1.0 - outline)


def drawing(scene: DigitScene, draws: DigitDraws) -> Tensor:
    """Pencil: hatching in the dark areas, on grained paper, with some of the colour: [N, 3, S, S]."""
    x, y = pixel_grid()
    angle = draws.uniform((0.0, math.pi), 1, 1)
    pace = math.pi * SIDE / draws.uniform((2.5, 4.0), 1, 1)
    hatch = torch.sin(pace * (angle.cos() * x + angle.sin() * y) + 1.5 * clouds(draws, 7))
    grey = luminance(scene.image)[:, 0]
    low, high = grey.amin((1, 2), keepdim=True), grey.amax((1, 2), keepdim=True)
    tone = (grey - low) / (high - low).clamp(min=0.1)
    grain = draws.uniform((0.03, 0.18), 1, 1) * draws.normal(SIDE, SIDE)
    pressure = draws.uniform((0.25, 0.55), 1, 1)
    shade = 0.95 - (1.0 - tone) * pressure * (1.0 + 0.6 * hatch) + grain
    shade = shade - 0.35 * scene.edge * (clouds(draws, 12) + 0.5).clamp(0.0, 1.0)
    colour = scene.image - grey[:, None]
    return shade[:, None] + draws.uniform((0.0, 0.5), 1, 1, 1) * colour


FINISHES: Mapping[Finish, Callable[[DigitScene, DigitDraws], Tensor]] = {
    "photo": photo,
    "sketch": sketch,
    "cartoon": cartoon,
    "drawing": drawing,
}
