"""L2-SP: a quadratic penalty on the distance from the pretrained weights."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rib.methods.base import Task, TrainedMethod
from rib.models.weights import Weights
from rib.training.training import Pull


class L2SP(TrainedMethod):
    """Adds strength · Σ (θ - θ0)² over all parameters, including the head (Li et al. 2018, arXiv 1802.01483).

    With strength 1 this is what the code of arXiv 2410.21582 calls EWC.
    """

    name: ClassVar[str] = "l2_sp"
    key_name: ClassVar[str] = "rib.methods.l2_sp:L2SP"
    strength: float = Field(1.0, ge=0)

    def pull(self, start: Weights, task: Task) -> Pull:
        """The term strength · Σ (θ - θ0)²."""
        return Pull(self.strength, {name: value.to(task.device) for name, value in start.items()})
