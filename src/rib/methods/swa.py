"""SWA: the mean of the weights over the last part of a training."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from rib.methods.base import Passes, Task, TrainedMethod
from rib.methods.ema import floating, put
from rib.models.weights import Weights
from rib.recipe import Recipe
from rib.training.hooks import StepHook


class SWA(TrainedMethod):
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407, algorithm 1 with a constant rate).

    After the share `begin` of the run the learning rate is constant, and θ̄ becomes the mean of the weights after each
    cycle of `cycle` steps and after the last step. As in the paper, BatchNorm's statistics are estimated again with the
    averaged weights, unless the recipe keeps the pretrained ones. Deviation: the constant rate is that of the recipe's
    schedule at `begin`, not a separate one.
    """

    name: ClassVar[str] = "swa"
    key_name: ClassVar[str] = "rib.methods.swa:SWA"
    begin: float = Field(0.75, ge=0, lt=1, description="share of the run before the averaging")
    cycle: int = Field(1, ge=1, description="steps between two averaged weights")

    def run_recipe(self, recipe: Recipe) -> Recipe:
        """The suite's recipe; if it would keep the statistics of the last weights, they are estimated again instead."""
        own = super().run_recipe(recipe)
        return own if own.batchnorm else own.model_copy(update={"batchnorm": "reestimate"})

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts every image of every epoch. The estimate of statistics, which only BatchNorm needs, is not counted."""
        return Passes(trained=super().passes(recipe, images, held_out).trained)

    def hold_rate_after(self) -> float:
        """The share at which the averaging begins."""
        return self.begin

    def hook(self, start: Weights, task: Task) -> StepHook:
        """The hook that averages."""
        return Mean(self.begin, self.cycle)


class Mean(StepHook):
    """The mean of a net's weights after some steps. Its state holds the mean and the number of averaged weights.

    Args:
        begin: share of the run before the first cycle.
        cycle: steps per cycle.
    """

    COUNT = "count of means"

    def __init__(self, begin: float, cycle: int) -> None:
        self.begin, self.cycle = begin, cycle

    def weights(self, net: nn.Module, step: int) -> None:
        """θ̄ ← θ̄ + (θ - θ̄) / (n + 1) at the end of a cycle."""
        first = int(self.begin * self.total)
        ended = step >= first and (step - first + 1) % self.cycle == 0
        if not (ended or step == self.total - 1):
            return
        values = floating(net)
        count = self.state.setdefault(self.COUNT, torch.zeros((), device=next(net.parameters()).device))
        for name, value in values.items():
            mean = self.state.setdefault(name, value.detach().clone())
            mean += (value - mean) / (count + 1)
        count += 1

    def finish(self, net: nn.Module) -> None:
        """Replace the weights by the mean."""
        put(net, self.state)
