"""Vanilla fine-tuning."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from rib.methods.base import TrainedMethod
from rib.models.classifier import Classifier
from rib.recipe import Recipe

NetPart = Literal["norm", "head", "statistics"]


class FineTune(TrainedMethod):
    """Trains all parameters with cross-entropy on masked logits; the baseline of arXiv 2410.21582.

    With `freeze`, the parameters of norm layers or of the head do not change; a frozen BatchNorm also keeps its
    statistics. `freeze = ["statistics"]` keeps only BatchNorm's statistics and trains its scale and shift.
    """

    name: ClassVar[str] = "finetune"
    key_name: ClassVar[str] = "rib.methods.finetune:FineTune"
    freeze: tuple[NetPart, ...] = Field((), description="what is not trained: norm, head, statistics")

    def trainable(self, classifier: Classifier) -> frozenset[str] | None:
        """All parameters that are not frozen."""
        if not set(self.freeze) - {"statistics"}:
            return None
        frozen = {"norm": classifier.norm_parameters, "head": classifier.head_parameters}
        everything = frozenset(name for name, _ in classifier.net.named_parameters())
        return everything.difference(*(frozen[part] for part in self.freeze if part in frozen))

    def run_recipe(self, recipe: Recipe) -> Recipe:
        """The suite's recipe with the values of this method's own fields."""
        own = super().run_recipe(recipe)
        return own.model_copy(update={"batchnorm": "freeze"}) if "statistics" in self.freeze else own
