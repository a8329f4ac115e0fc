"""CAR-FT: keeps what the pretrained model says about the context of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rib.methods.base import Task, TrainedMethod
from rib.models.weights import Weights


class CarFT(TrainedMethod):
    """Adds weight · KL(p0 ‖ p), mean over the batch (Mao et al. 2022, arXiv 2211.16175).

    p is the softmax of scale · cosine between an image's features and the contexts. A context is the vector of a text
    template, averaged over classes. p0 is the same of the pretrained model. The weight is 1, as in the paper. The head
    starts as the zero-shot head. If the model has only class vectors, they replace the contexts, unlike in the paper.
    """

    name: ClassVar[str] = "car_ft"
    key_name: ClassVar[str] = "rib.methods.car_ft:CarFT"
    reads_features: ClassVar[bool] = True
    needs_texts: ClassVar[bool] = True
    weight: float = Field(1.0, ge=0)

    def feature_term(self, start: Weights, task: Task) -> ContextDivergence:
        """The term weight · KL(p0 ‖ p)."""
        assert task.texts is not None
        contexts, scale = task.texts.contexts, task.texts.scale
        target = cosines(task.features(start), contexts, scale).log_softmax(dim=1)
        return ContextDivergence(self.weight, task.head_input, contexts, scale, target)


@dataclass(frozen=True)
class ContextDivergence:
    """The term weight · KL(p0 ‖ p).

    Attributes:
        weight: factor of the term.
        layer: name of the head's input.
        contexts: unit vectors (T, D).
        scale: factor of the cosines.
        target: log p0 of the tuning set (N, T).
    """

    weight: float
    layer: str
    contexts: Tensor
    scale: float
    target: Tensor

    @property
    def layers(self) -> tuple[str]:
        """The head's input."""
        return (self.layer,)

    def __call__(self, features: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        found = cosines(features[self.layer], self.contexts, self.scale).log_softmax(dim=1)
        return self.weight * F.kl_div(found, self.target[rows], reduction="batchmean", log_target=True)


def cosines(features: Tensor, texts: Tensor, scale: float) -> Tensor:
    """scale · cosine of features (n, D) with unit vectors (T, D), in float32: (n, T)."""
    return scale * F.normalize(features.float(), dim=1) @ texts.T
