"""Ranges of pose and style of the rendered images, as data."""

from dataclasses import dataclass, field
from typing import Literal

Range = tuple[float, float]
Finish = Literal["photo", "sketch", "cartoon", "drawing"]


@dataclass(frozen=True)
class Pose:
    """Ranges of the pose. Lengths are in half image sides: 1 is the distance from the centre to the border."""

    rotation: float = 10.0
    shear: float = 0.10
    size: Range = (0.84, 1.00)
    aspect: float = 0.10
    shift: float = 0.06
    perspective: float = 0.0
    wobble: float = 0.0


@dataclass(frozen=True)
class DigitStyle:
    """Ranges of everything that is drawn for an image. A single number is the share of images that have the feature."""

    pose: Pose = field(default_factory=Pose)
    threshold: Range = (0.34, 0.50)
    softness: Range = (0.20, 0.32)
    gap: Range = (0.35, 0.60)
    dark: float = 0.3
    chroma: Range = (0.0, 0.25)
    gradient: Range = (0.0, 0.15)
    backdrop: float = 0.0
    backdrop_depth: Range = (0.05, 0.15)
    figure: float = 0.0
    figure_depth: Range = (0.05, 0.20)
    hollow: float = 0.0
    clutter: float = 0.0
    grey: float = 0.0
    blur: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
