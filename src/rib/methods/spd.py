"""SPD: selective projection decay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from rib.methods.base import Task, TrainedMethod
from rib.models.weights import Weights
from rib.training.hooks import StepHook


class SPD(TrainedMethod):
    """Pulls a tensor back to its start if its gradient points there, too (Tian et al. 2024, arXiv 2411.01713, alg. 1).

    Each tensor with c = -gᵀ(θ - θ0) < 0 before the step gets θ' ← θ' - λ r (θ' - θ0) after it, with r = max(0, ‖θ' -
    θ0‖ - ‖θ - θ0‖) / ‖θ' - θ0‖. So it acts if momentum moves a tensor on against its gradient; with λ = 1, the tensor
    is projected back to its previous distance. Without momentum it never acts. The paper's optimizer is Adam; here it
    is the recipe's.
    """

    name: ClassVar[str] = "spd"
    key_name: ClassVar[str] = "rib.methods.spd:SPD"
    strength: float = Field(1.0, ge=0, description="λ")

    def hook(self, start: Weights, task: Task) -> StepHook:
        """The hook that applies the decay."""
        return SelectiveDecay(self.strength, {name: value.to(task.device) for name, value in start.items()})


class SelectiveDecay(StepHook):
    """The decay of `SPD`. Within a step it stores which tensors are chosen, and their distances before the step.

    Args:
        strength: λ.
        anchor: θ0 by parameter name.
    """

    def __init__(self, strength: float, anchor: Mapping[str, Tensor]) -> None:
        self.strength, self.anchor = strength, anchor
        self._before: dict[str, Tensor] = {}

    def gradients(self, net: nn.Module, step: int) -> None:
        """Store the distance of each tensor whose gradient points back to its start; infinity for all others."""
        self._before = {}
        for name, value in net.named_parameters():
            if value.grad is not None and name in self.anchor:
                away = value - self.anchor[name]
                back = (value.grad * away).sum() > 0
                self._before[name] = away.norm().where(back, float("inf"))

    def weights(self, net: nn.Module, step: int) -> None:
        """θ' ← θ' - λ r (θ' - θ0); r is 0 for a tensor that is not chosen."""
        for name, value in net.named_parameters():
            if name in self._before:
                away = value - self.anchor[name]
                distance = away.norm()
                share = ((distance - self._before[name]) / distance.clamp(min=1e-12)).clamp(min=0)
                value.sub_(self.strength * share * away)
