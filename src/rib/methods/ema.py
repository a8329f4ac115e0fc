"""EMA: the exponential moving average of the weights during a training."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from rib.methods.base import Task, TrainedMethod
from rib.models.weights import Weights
from rib.training.hooks import StepHook


class EMA(TrainedMethod):
    """Fine-tuning that returns the average θ̄ ← d θ̄ + (1 - d) θ over all steps, from the pretrained weights on
    (Tarvainen & Valpola 2017, arXiv 1703.01780, eq. 1, which averages a teacher in this way).

    BatchNorm's statistics are averaged like the weights. The decay is the paper's for early steps, 0.99. Its later
    value 0.999 needs runs of several thousand steps.
    """

    name: ClassVar[str] = "ema"
    key_name: ClassVar[str] = "rib.methods.ema:EMA"
    decay: float = Field(0.99, ge=0, lt=1)

    def hook(self, start: Weights, task: Task) -> StepHook:
        """The hook that averages."""
        return Average(self.decay)


class Average(StepHook):
    """The exponential moving average of a net's floating-point tensors, which is also its state.

    Args:
        decay: d.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def gradients(self, net: nn.Module, step: int) -> None:
        """Before the first step, set the average to the weights."""
        if not self.state:
            self.state.update({name: value.detach().clone() for name, value in floating(net).items()})

    def weights(self, net: nn.Module, step: int) -> None:
        """θ̄ ← d θ̄ + (1 - d) θ."""
        values = floating(net)
        torch._foreach_lerp_([self.state[name] for name in values], list(values.values()), 1 - self.decay)

    def finish(self, net: nn.Module) -> None:
        """Replace the weights by the average."""
        put(net, self.state)


def floating(net: nn.Module) -> dict[str, Tensor]:
    """The floating-point parameters and buffers of a net, by name."""
    return {name: value for name, value in net.state_dict().items() if value.is_floating_point()}


def put(net: nn.Module, values: dict[str, Tensor]) -> None:
    """Set some of a net's tensors, by name."""
    for name, value in floating(net).items():
        if name in values:
            value.copy_(values[name])
