"""Adapt: the step that predicts every example of a part with a net that adapts to it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, ClassVar

from rib.methods.base import Passes
from rib.recipe import LastBlock, Precision
from rib.steps.embed import Embed
from rib.steps.predict import Predict
from rib.steps.workshop import Count, Workshop
from rib.steps.world import World
from rib.training.adapt import Adaptation, adapted


@dataclass(frozen=True)
class Adapt(Predict):
    """Predictions of some weights that change on the unlabelled examples of a part. Never swept with others.

    Attributes:
        adaptation: how they change; its batch is the step's.
    """

    key_name: ClassVar[str] = "Adapt"

    batch_size: int = 0
    precision: Precision = "fp32"
    last_block: LastBlock | None = None
    adaptation: Adaptation | None = None

    activity: ClassVar[str] = "adapting"
    plain: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """Human-readable label, e.g. "finetune resnet on sketch (200) → clean, adapted by tent"."""
        return f"{super().title}, adapted by {self.variant}"

    @property
    def variant(self) -> str:
        """The adaptation."""
        assert self.adaptation is not None
        return self.adaptation.name

    @property
    def features(self) -> Embed | None:
        """None: features of the weights as they were say nothing."""
        return None

    def passes(self, world: World, shared: Container[str]) -> Passes:
        """Every example once; a step of training counts as three passes."""
        assert self.adaptation is not None
        return Passes(seen=self.adaptation.cost * world.count(self.data))

    def run(self, shop: Workshop, watch: Count) -> dict[str, Any]:
        """Adapt and predict, and compare with the labels."""
        assert self.adaptation is not None
        examples = shop.examples(self.data, self.architecture.view)
        predictions = adapted(
            lambda: shop.build(self.fit, self.last_block),
            examples,
            self.data.label_map,
            self.adaptation,
            self.precision,
            watch,
        )
        named = {"kind": self.adaptation.name, **self.adaptation.model_dump()}
        return {**self.judged(shop, predictions, examples), "adapted_on_test_inputs": named}
