"""FTP: fast trainable projection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from rib.methods.base import Task, TrainedMethod
from rib.models.weights import Weights
from rib.training.hooks import StepHook

LEAST = 1e-8
"""Minimum radius, and a term that keeps divisors from 0."""


class FTP(TrainedMethod):
    """Projects every row of every tensor onto a ball around its start after each step, and learns the radius of each
    tensor from the gradients of the next batch (Tian et al. 2023, arXiv 2310.19182, algorithm 1 and its code).

    Let θ' be the weights after the optimizer's step and n the sum of |θ' - θ0| over a row (the MARS norm; a vector is
    one row, as in the code). Then θ ← θ0 + min(1, γ / n) (θ' - θ0). The radius γ starts at 1e-8 and stays between 1e-8
    and the largest n. It takes an Adam step (rate 0.01, betas 0.9 and 0.999) along Σ gᵀ(θ' - θ0) / n, with the current
    gradient g and the last step's weights; if that is positive, it is multiplied by `anneal`.
    """

    name: ClassVar[str] = "ftp"
    key_name: ClassVar[str] = "rib.methods.ftp:FTP"
    rate: float = Field(0.01, gt=0, description="learning rate of the radii; 0.01 in the paper's code")
    anneal: float = Field(1.0, ge=0, le=1, description="κ, factor of steps that shrink a radius; with 0 it only grows")
    exclude_head: bool = Field(False, description="whether the head is not projected")

    def hook(self, start: Weights, task: Task) -> StepHook:
        """The hook that projects."""
        left_out = task.build(start).head_parameters if self.exclude_head else frozenset()
        anchor = {name: value.to(task.device) for name, value in start.items() if name not in left_out}
        return TrainableProjection(anchor, self.rate, self.anneal)


class TrainableProjection(StepHook):
    """The projection of `FTP`. Its state holds, per tensor, the radius, its moments, and the direction of the last
    step.

    Args:
        anchor: θ0 by parameter name.
        rate: learning rate of the radii.
        anneal: κ.
    """

    def __init__(self, anchor: Mapping[str, Tensor], rate: float, anneal: float) -> None:
        self.anchor, self.rate, self.anneal = anchor, rate, anneal

    def gradients(self, net: nn.Module, step: int) -> None:
        """Update each radius by its gradient at the last step's weights."""
        state = self.state
        taken = state.setdefault("steps", torch.zeros((), device=next(net.parameters()).device))
        for name, value in net.named_parameters():
            if value.grad is None or f"{name}/direction" not in state:
                continue
            slope = (value.grad * state[f"{name}/direction"]).sum()
            slope = torch.where(slope > 0, self.anneal * slope, slope)
            first, second = state[f"{name}/first"], state[f"{name}/second"]
            first.lerp_(slope, 0.1)
            second.lerp_(slope.square(), 0.001)
            count = taken + 1
            move = (first / (1 - 0.9**count)) / ((second / (1 - 0.999**count)).sqrt() + LEAST)
            state[f"{name}/radius"] -= self.rate * move
        taken += 1

    def weights(self, net: nn.Module, step: int) -> None:
        """θ ← θ0 + min(1, γ / n) (θ' - θ0)."""
        state = self.state
        for name, value in net.named_parameters():
            if value.grad is None or name not in self.anchor:
                continue
            away = value - self.anchor[name]
            norms = away.abs().sum(dim=tuple(range(min(1, away.dim() - 1), away.dim())), keepdim=True) + LEAST
            for part in ("first", "second"):
                state.setdefault(f"{name}/{part}", norms.new_zeros(()))
            radius = state.setdefault(f"{name}/radius", norms.new_full((), LEAST))
            radius.clamp_(min=LEAST).copy_(torch.minimum(radius, norms.max()))
            value.copy_(self.anchor[name] + (radius / norms).clamp(max=1) * away)
            state[f"{name}/direction"] = away / norms
