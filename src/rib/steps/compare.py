"""Compare: the step that analyses one model, or a pretrained model and its tuned version."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, ClassVar

from rib.analysis import Analysis, Scene, Seen
from rib.data.parts import DataPart
from rib.methods.base import Passes
from rib.models.catalogue import Architecture
from rib.recipe import Precision, Recipe
from rib.steps.base import Step
from rib.steps.fit import Fit
from rib.steps.start import Start
from rib.steps.workshop import Count, Workshop
from rib.steps.world import World


@dataclass(frozen=True)
class Compare(Step):
    """An analysis of one model, or of a pretrained model and its tuned version.

    Attributes:
        analysis: the analysis with its parameters.
        before: the pretrained weights.
        after: the tuned weights; None for an analysis of the pretrained model alone.
        on: names of the data sets in its values.
        data: their test parts; empty for an analysis of weights alone.
        batch_size: images per forward pass.
        precision: precision of forward passes.
    """

    key_name: ClassVar[str] = "Compare"

    analysis: Analysis
    before: Fit
    after: Fit | None
    on: tuple[str, ...]
    data: tuple[DataPart, ...]
    batch_size: int
    precision: Precision

    activity: ClassVar[str] = "comparing"

    @property
    def title(self) -> str:
        """Human-readable label, e.g. "cka of finetune resnet on sketch (200) → clean"."""
        seen = f" → {self.data[0].label}" if len(self.data) == 1 else ""
        return f"{self.analysis.name} of {(self.after or self.before).title}{seen}"

    @property
    def variant(self) -> str:
        """The analysis."""
        return self.analysis.name

    @property
    def needs(self) -> tuple[Step, ...]:
        """The weights."""
        return (self.before, self.after) if self.after else (self.before,)

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """The test parts."""
        return self.data

    @property
    def start(self) -> Start:
        """Its pretrained weights."""
        return self.before.start

    @property
    def architecture(self) -> Architecture:
        """Architecture of the model, before and after."""
        return self.before.architecture

    @property
    def subject(self) -> str:
        """Key of its weights: the tuned ones if there are two."""
        return (self.after or self.before).key

    def passes(self, world: World, shared: Container[str]) -> Passes:
        """The analysis's estimate."""
        return Passes(seen=round(sum(self.analysis.image_passes(world.count(data)) for data in self.data)))

    def timed_as(self, recipe: Recipe) -> Recipe:
        """The suite's recipe, at this batch size and precision."""
        return recipe.model_copy(update={"eval_precision": self.precision, "eval_batch_size": self.batch_size})

    def run(self, shop: Workshop, watch: Count) -> dict[str, Any]:
        """Run the analysis."""
        view = self.architecture.view
        scene = Scene(
            architecture=self.architecture,
            before=shop.weights(self.before),
            after=shop.weights(self.after or self.before),
            data={
                name: Seen(shop.examples(data, view), data.label_map)
                for name, data in zip(self.on, self.data, strict=True)
            },
            device=shop.device,
            batch_size=self.batch_size,
            precision=self.precision,
            watch=watch,
            tuned=self.after.architecture if self.after else None,
        )
        return dict(self.analysis.look(scene))
