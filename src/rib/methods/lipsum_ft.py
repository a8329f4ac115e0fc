"""Lipsum-FT: what images say of random texts is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from rib.methods.base import Task, TrainedMethod
from rib.methods.car_ft import cosines
from rib.models.text_side import TextSide
from rib.models.weights import Weights


class LipsumFT(TrainedMethod):
    """Adds weight · ‖v - v0‖² / (2 · texts), mean over the batch (Nam et al. 2024, arXiv 2404.00860).

    v are scale · cosine between an image's features and texts of `length` random tokens, drawn at each step; v0 those
    of the pretrained model. Weight 1, 80 texts and 8 tokens, as in the authors' code. A random text of a model with
    class vectors alone is the mean of 8 random class vectors, which the paper does not have. The text tower reads the
    texts at each step, which the cost leaves out.
    """

    name: ClassVar[str] = "lipsum_ft"
    key_name: ClassVar[str] = "rib.methods.lipsum_ft:LipsumFT"
    reads_features: ClassVar[bool] = True
    needs_texts: ClassVar[bool] = True
    weight: float = Field(1.0, ge=0)
    texts: int = Field(80, ge=1, description="random texts at each step")
    length: int = Field(8, ge=1, description="random tokens of each text")

    def feature_term(self, start: Weights, task: Task) -> RandomTextDistance:
        """weight · ‖v - v0‖² / (2 · texts)."""
        assert task.texts is not None
        return RandomTextDistance(self, task.head_input, task.texts, task.features(start))


@dataclass(frozen=True)
class RandomTextDistance:
    """weight · ‖v - v0‖² / (2 · texts).

    Attributes:
        method: its hyper-parameters.
        layer: name of what the head sees.
        texts: draw random texts from torch's random state, which depends on seed and epoch alone.
        before: the pretrained model's features of the tuning set (N, D).
    """

    method: LipsumFT
    layer: str
    texts: TextSide
    before: Tensor

    @property
    def layers(self) -> tuple[str]:
        """The head's input."""
        return (self.layer,)

    def __call__(self, features: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        drawn, scale = self.texts.random(self.method.texts, self.method.length), self.texts.scale
        change = cosines(features[self.layer], drawn, scale) - cosines(self.before[rows], drawn, scale)
        return self.method.weight * change.square().sum(dim=1).mean() / (2 * self.method.texts)
