"""UniCL: images and the names of their classes are matched in both directions, as in CLIP."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rib.data.views import View, as_pixels
from rib.objectives.augment import Augmentation
from rib.objectives.base import Features, Loss, Objective

LARGEST_SCALE = 100.0
"""Maximum factor of the cosines (Radford et al. 2021, section 2.5)."""


class UniCL(Objective):
    """Matches images with class names; every pair of one class is positive (Yang et al. 2022, arXiv 2204.03610).

    This is CLIP's loss (Radford et al. 2021, arXiv 2103.00020) in which several images of a batch share their text. The
    text tower is one learned vector per class; the image's side is a linear projection of the features. Both, and the
    learned temperature, are dropped afterwards.
    """

    name: ClassVar[str] = "unicl"
    key_name: ClassVar[str] = "rib.objectives.unicl:UniCL"

    temperature: float = Field(0.07, gt=0, description="initial value; it is learned")
    dimensions: int = Field(64, ge=2, description="of the space in which images and names are compared")
    augmentation: Augmentation | None = Field(None, description="default: none")

    def require_view(self, view: View) -> None:
        if self.augmentation is not None:
            as_pixels(view, "of the objective `unicl` with an augmentation of images")

    def loss(self, width: int, classes: int) -> Loss:
        """The bidirectional loss with a new projection and new class vectors."""
        return _ImagesAndNames(self, width, classes)


class _ImagesAndNames(Loss):
    def __init__(self, objective: UniCL, width: int, classes: int) -> None:
        super().__init__()
        self.objective = objective
        self.projection = nn.Linear(width, objective.dimensions, bias=False)
        self.names = nn.Parameter(torch.randn(classes, objective.dimensions) / math.sqrt(objective.dimensions))
        self.log_scale = nn.Parameter(torch.tensor(-math.log(objective.temperature)))

    def forward(self, features: Features, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.objective.augmentation(images) if self.objective.augmentation else images
        shown = F.normalize(self.projection(features(seen)).float(), dim=1)
        names = F.normalize(self.names.float(), dim=1)
        scale = self.log_scale.exp().clamp(max=LARGEST_SCALE)
        right = ((shown.detach() @ names.detach().T).argmax(dim=1) == labels).sum()
        return bidirectional(scale * shown @ names[labels].T, labels), right


def bidirectional(logits: Tensor, labels: Tensor) -> Tensor:
    """Equations 3 and 4 of the paper as means over the batch, and the mean of the two, as in CLIP.

    Args:
        logits: (n, n), image i with the text of image j.
        labels: int64 (n,); i and j are a positive pair if they are equal.
    """
    positive = (labels[:, None] == labels[None, :]).to(logits.dtype)
    target = positive / positive.sum(dim=1, keepdim=True)  # symmetric: a class has the same counts in rows and columns
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
