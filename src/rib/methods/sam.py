"""SAM and ASAM: the gradient at the worst weights in a neighbourhood."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from rib.methods.base import Passes, Task, TrainedMethod
from rib.models.weights import Weights
from rib.recipe import Recipe
from rib.training.hooks import SecondPass


class SAM(TrainedMethod):
    """Sharpness-aware minimisation: the gradient at θ + ρ g / ‖g‖ (Foret et al. 2021, arXiv 2010.01412, eq. 2 and 3).

    g is the gradient of the batch over all trained weights together. BatchNorm's statistics come from the first pass.
    """

    name: ClassVar[str] = "sam"
    key_name: ClassVar[str] = "rib.methods.sam:SAM"
    rho: float = Field(0.05, gt=0, description="ρ, distance at which the gradient is computed")

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts every image of every epoch twice."""
        return twice(super().passes(recipe, images, held_out))

    def second_pass(self, start: Weights, task: Task) -> SecondPass:
        """Moves to θ + ρ g / ‖g‖, and back."""
        return lambda net: climb(net, self.rho, None)


class ASAM(TrainedMethod):
    """Adaptive SAM: the gradient at θ + ρ T² g / ‖T g‖ with T = |θ| + η (Kwon et al. 2021, arXiv 2102.11600, eq. 8).

    As in the paper's code, T is 1 for parameters that are not named weight. BatchNorm's statistics come from the first
    pass.
    """

    name: ClassVar[str] = "asam"
    key_name: ClassVar[str] = "rib.methods.sam:ASAM"
    rho: float = Field(0.5, gt=0, description="ρ, as in sam, in units of T")
    eta: float = Field(0.01, ge=0, description="η, added to |θ|")

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts every image of every epoch twice."""
        return twice(super().passes(recipe, images, held_out))

    def second_pass(self, start: Weights, task: Task) -> SecondPass:
        """Moves to θ + ρ T² g / ‖T g‖, and back."""
        return lambda net: climb(net, self.rho, self.eta)


def twice(passes: Passes) -> Passes:
    """Two forward and backward passes per image."""
    return passes._replace(trained=2 * passes.trained)


@torch.no_grad()
def climb(net: nn.Module, rho: float, eta: float | None) -> Callable[[], None]:
    """Move weights that have gradients by ρ T² g / ‖T g‖, with T = 1 without η.

    The returned function moves them back.
    """
    scaled, kept = [], []
    for name, value in net.named_parameters():
        if value.grad is None:
            continue
        scale = value.abs() + eta if eta is not None and "weight" in name else torch.ones_like(value)
        scaled.append((value, scale, scale * value.grad))
        kept.append((value, value.clone()))
    norm = torch.stack([gradient.norm() for _, _, gradient in scaled]).norm() + 1e-12
    for value, scale, gradient in scaled:
        value.add_(rho / norm * scale * gradient)

    def back() -> None:
        with torch.no_grad():
            for value, before in kept:
                value.copy_(before)

    return back
