"""Fine-tuning on the same images in another random order, which has the same distribution of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from rib.methods import Method
from rib.methods.base import Passes, Task
from rib.methods.finetune import FineTune
from rib.models.weights import Weights
from rib.recipe import Recipe


class Reshuffled(Method):
    """Fine-tuning with another seed for its batches."""

    name: ClassVar[str] = "reshuffled"

    by: int

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """The passes of plain fine-tuning."""
        return FineTune().passes(recipe, images, held_out)

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """Fine-tune on the same tuning images."""
        return FineTune().fit(start, replace(task, seed=task.seed + self.by, checkpoint=None), fitted)
