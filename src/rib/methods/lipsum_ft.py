"""Lipsum-FT: keeps the pretrained model's similarities of images and random texts."""

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

    v is scale · cosine between an image's features and texts of `length` random tokens, drawn at each step; v0 is the
    same of the pretrained model. Weight 1, 80 texts and 8 tokens, as in the authors' code. If the model has only class
    vectors, a random text is the mean of 8 random class vectors, unlike in the paper. The text tower reads the texts at
    each step; the cost does not include it.
    """

    name: ClassVar[str] = "lipsum_ft"
    key_name: ClassVar[str] = "rib.methods.lipsum_ft:LipsumFT"
    reads_features: ClassVar[bool] = True
    needs_texts: ClassVar[bool] = True
    weight: float = Field(1.0, ge=0)
    texts: int = Field(80, ge=1, description="random texts at each step")
    length: int = Field(8, ge=1, description="random tokens of each text")

    def random_tokens(self) -> int:
        """Tokens of each random text."""
        return self.length

    def feature_term(self, start: Weights, task: Task) -> RandomTextDistance:
        """The term weight · ‖v - v0‖² / (2 · texts)."""
        assert task.texts is not None
        return RandomTextDistance(self, task.head_input, task.texts, task.features(start))


@dataclass(frozen=True)
class RandomTextDistance:
    """The term weight · ‖v - v0‖² / (2 · texts).

    Attributes:
        method: its hyper-parameters.
        layer: name of the head's input.
        texts: draws random texts from torch's random state, which depends only on seed and epoch.
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
