"""Learning without forgetting."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rib.methods.base import Task, TrainedMethod
from rib.models.weights import Weights
from rib.training.training import Penalty


class LwF(TrainedMethod):
    """Adds weight · KL(teacher ‖ student) at a temperature, on masked logits (Li & Hoiem 2016, arXiv 1606.09282).

    The teacher is the pretrained model. As in arXiv 2410.21582: temperature 2, weight 1, mean over the batch, and no
    factor temperature².
    """

    name: ClassVar[str] = "lwf"
    key_name: ClassVar[str] = "rib.methods.lwf:LwF"
    reads_features: ClassVar[bool] = True
    temperature: float = Field(2.0, gt=0)
    weight: float = Field(1.0, ge=0)

    def penalty(self, start: Weights, task: Task) -> Penalty:
        """The term weight · KL(teacher ‖ student)."""
        target = (task.label_map.mask(task.answers(start)) / self.temperature).log_softmax(dim=1)

        def distil(net: nn.Module, logits: Tensor, rows: Tensor) -> Tensor:
            student = (logits.float() / self.temperature).log_softmax(dim=1)
            return self.weight * F.kl_div(
                student, target[rows.to(target.device)], reduction="batchmean", log_target=True
            )

        return distil
