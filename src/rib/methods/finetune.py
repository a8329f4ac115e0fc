"""Vanilla fine-tuning."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from rib.methods.base import TrainedMethod
from rib.models.classifier import Classifier
from rib.recipe import Recipe

NetPart = Literal["norm", "head", "statistics"]


class FineTune(TrainedMethod):
    """Cross-entropy on masked logits, all parameters; the baseline of arXiv 2410.21582.

    With `freeze`, the norm layers' or the head's parameters stay as they are, and so do the statistics of a frozen
    BatchNorm. `freeze = ["statistics"]` keeps BatchNorm's statistics alone, and trains its scale and shift.
    """

    name: ClassVar[str] = "finetune"
    key_name: ClassVar[str] = "rib.methods.finetune:FineTune"
    freeze: tuple[NetPart, ...] = Field((), description="what stays as it was: norm, head, statistics")

    def trainable(self, classifier: Classifier) -> frozenset[str] | None:
        """All that is not frozen."""
        if not set(self.freeze) - {"statistics"}:
            return None
        frozen = {"norm": classifier.norm_parameters, "head": classifier.head_parameters}
        everything = frozenset(name for name, _ in classifier.net.named_parameters())
        return everything.difference(*(frozen[part] for part in self.freeze if part in frozen))

    def run_recipe(self, recipe: Recipe) -> Recipe:
        """The suite's recipe with this method's own fields in place."""
        own = super().run_recipe(recipe)
        return own.model_copy(update={"batchnorm": "freeze"}) if "statistics" in self.freeze else own
