"""SimCLR: the two views of an image match each other among all views of the batch."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rib.data.views import View, as_pixels
from rib.objectives.augment import Augmentation
from rib.objectives.base import Features, Loss, Objective


class SimCLR(Objective):
    """Matches two augmented views of each image with NT-Xent (Chen et al. 2020, arXiv 2002.05709).

    It does not use labels. The loss sees the features through an MLP with one hidden layer, which is as wide as the
    features and has batch normalisation as in the authors' code. The MLP is dropped afterwards.
    """

    name: ClassVar[str] = "simclr"
    key_name: ClassVar[str] = "rib.objectives.simclr:SimCLR"
    views: ClassVar[int] = 2

    temperature: float = Field(0.5, gt=0, description="divides the cosines; 0.5 as published for CIFAR-10")
    dimensions: int = Field(128, ge=2, description="of the space in which views are compared")
    augmentation: Augmentation = Augmentation()

    def require_view(self, view: View) -> None:
        as_pixels(view, "of the objective `simclr`, which augments images,")

    def loss(self, width: int, classes: int) -> Loss:
        """NT-Xent of two views, with a new projection."""
        return _TwoViews(self, width)


class _TwoViews(Loss):
    def __init__(self, objective: SimCLR, width: int) -> None:
        super().__init__()
        self.objective = objective
        self.projection = nn.Sequential(
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, objective.dimensions, bias=False),
            nn.BatchNorm1d(objective.dimensions),
        )

    def forward(self, features: Features, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([self.objective.augmentation(images), self.objective.augmentation(images)])
        return nt_xent(self.projection(features(both)).float(), self.objective.temperature)


def nt_xent(views: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The normalised temperature-scaled cross-entropy: equation 1 of the paper, averaged over all views.

    Args:
        views: (2n, d), of any length; rows i and n + i show the same image.
        temperature: divides the cosines.

    Returns:
        The loss, and the number of pairs found: half the number of views whose nearest other view is their match.
    """
    count = len(views)
    directions = F.normalize(views, dim=1)
    itself = torch.eye(count, dtype=torch.bool, device=views.device)
    similarity = (directions @ directions.T / temperature).masked_fill(itself, -torch.inf)
    match = torch.arange(count, device=views.device).roll(count // 2)
    found = (similarity.detach().argmax(dim=1) == match).sum() / 2
    return F.cross_entropy(similarity, match), found
