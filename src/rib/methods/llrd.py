"""LLRD: a learning rate that decays from the head to the stem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field

from rib.errors import UserError
from rib.methods.base import Task, TrainedMethod
from rib.models.blocks import blocks
from rib.models.classifier import Classifier
from rib.models.layers import depths


class LLRD(TrainedMethod):
    """Fine-tuning with layer-wise learning-rate decay: rate · decay^(L - l) (Clark et al. 2020, arXiv 2003.10555;
    Bao et al. 2022, arXiv 2106.08254, with the layers as here).

    In a net of n blocks, the stem and the embeddings are layer 0 and block i is layer i (from 1). Everything after the
    last block, including the head, is layer L = n + 1. Parameters between two blocks belong to the later one.
    """

    name: ClassVar[str] = "llrd"
    key_name: ClassVar[str] = "rib.methods.llrd:LLRD"
    takes: ClassVar[str] = "a net of blocks"
    decay: float = Field(0.75, gt=0, le=1)

    def require(self, classifier: Classifier) -> None:
        """Refuse a model without blocks, because its layers have no known depth.

        Raises:
            UserError: it has none.
        """
        if not blocks(classifier.net):
            raise UserError("llrd counts the blocks of a net, and this model has none", remedy="leave it out for it")

    def rate_factors(self, classifier: Classifier, task: Task) -> Mapping[str, float]:
        """decay^(L - l) of each parameter."""
        trial = torch.from_numpy(task.architecture.view.batch(2)).to(task.device)
        found = depths(classifier.eval(), trial)
        last = max(found.values())
        return {name: self.decay ** (last - depth) for name, depth in found.items()}
