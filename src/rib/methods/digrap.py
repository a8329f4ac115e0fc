"""DiGraP: directional gradient projection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from rib.methods.base import Task, TrainedMethod
from rib.models.weights import Weights
from rib.training.hooks import StepHook


class DiGraP(TrainedMethod):
    """Removes a share of each gradient's component along the way from the start (Huang et al. 2025, arXiv 2502.15895).

    Let g be the gradient of the loss and a = θ - θ0, the gradient of ½ ‖θ - θ0‖². If gᵀa < 0, they conflict, and g ← g
    - ω (gᵀa / ‖a‖²) a. Each tensor has its own ω, which starts at 0 and stays in [0, 1]. If the last step had a
    conflict, with g' and a', ω takes an Adam step (betas 0.9 and 0.999) along the gradient of the next batch's loss,
    which is gᵀa' (g'ᵀa' / ‖a'‖²). Deviations: the gradient of ω is that through a step of plain gradient descent,
    without its learning rate, which Adam would cancel.
    """

    name: ClassVar[str] = "digrap"
    key_name: ClassVar[str] = "rib.methods.digrap:DiGraP"
    rate: float = Field(0.1, gt=0, description="μ, learning rate of ω")

    def hook(self, start: Weights, task: Task) -> StepHook:
        """The hook that projects."""
        return DirectionalProjection({name: value.to(task.device) for name, value in start.items()}, self.rate)


class DirectionalProjection(StepHook):
    """The projection of `DiGraP`. Its state holds, per tensor, ω, its moments, and the component of the last conflict.

    Args:
        anchor: θ0 by parameter name.
        rate: μ.
    """

    def __init__(self, anchor: Mapping[str, Tensor], rate: float) -> None:
        self.anchor, self.rate = anchor, rate

    def gradients(self, net: nn.Module, step: int) -> None:
        """Update ω, then project."""
        taken = self.state.setdefault("steps", torch.zeros((), device=next(net.parameters()).device))
        for name, value in net.named_parameters():
            if value.grad is None or name not in self.anchor:
                continue
            share = self._share(name, value.grad, taken)
            away = value - self.anchor[name]
            along = (value.grad * away).sum().clamp(max=0) / away.square().sum().clamp(min=1e-16)
            component = along * away
            self.state[f"{name}/component"] = component
            value.grad -= share * component
        taken += 1

    def _share(self, name: str, gradient: Tensor, taken: Tensor) -> Tensor:
        """ω of a tensor after its Adam step; 0 at first."""
        state = self.state
        for part in ("share", "first", "second"):
            state.setdefault(f"{name}/{part}", gradient.new_zeros(()))
        share, first, second = (state[f"{name}/{part}"] for part in ("share", "first", "second"))
        if f"{name}/component" in state:
            slope = (gradient * state[f"{name}/component"]).sum()
            first.lerp_(slope, 0.1)
            second.lerp_(slope.square(), 0.001)
            move = (first / (1 - 0.9**taken)) / ((second / (1 - 0.999**taken)).sqrt() + 1e-8)
            share.sub_(self.rate * move).clamp_(0, 1)
        return share
