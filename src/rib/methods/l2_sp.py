"""L2-SP: a pull back to the starting point."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from rib.methods.base import Task, TrainedMethod
from rib.models.weights import Weights
from rib.training import Penalty


class L2SP(TrainedMethod):
    """Adds strength · Σ (θ - θ0)² over all parameters, the head included (Li et al. 2018, arXiv 1802.01483).

    With strength 1 this is what the code of arXiv 2410.21582 runs under the name EWC.
    """

    name: ClassVar[str] = "l2_sp"
    strength: float = Field(1.0, ge=0)

    def penalty(self, start: Weights, task: Task) -> Penalty:
        """strength · Σ (θ - θ0)²."""
        anchor = {name: start[name].to(task.device) for name in start}

        def pull(net: nn.Module, logits: Tensor, rows: Tensor) -> Tensor:
            squares = [(value - anchor[name]).square().sum() for name, value in net.named_parameters()]
            return self.strength * sum(squares[1:], squares[0])

        return pull
