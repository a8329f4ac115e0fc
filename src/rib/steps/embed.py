"""Embed: the step that computes features for several steps."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rib.data.parts import DataPart
from rib.data.splits import tuning_rows
from rib.identity import OPTION
from rib.methods.base import Passes
from rib.models.catalogue import Architecture
from rib.recipe import LastBlock, Precision, Recipe
from rib.steps.base import Left, Step
from rib.steps.start import Start
from rib.steps.workshop import Count, Workshop
from rib.steps.world import World
from rib.training.predict import collected


@dataclass(frozen=True)
class Embed(Step):
    """Computes the features of examples in a pretrained model, once for all steps that read them.

    If the features are not stored, each reader computes them itself, with the same results.

    Attributes:
        start: the pretrained weights.
        data: the data set of the examples.
        size, held_out, seed: the tuning set, as in `Fit`; size None and held_out 0 mean all examples.
        batch_size: images per forward pass.
        precision: precision of the forward passes.
        last_block: as in the recipe.
    """

    key_name: ClassVar[str] = "Embed"

    start: Start
    data: DataPart
    size: int | None
    held_out: float
    seed: int | None
    batch_size: int
    precision: Precision
    last_block: LastBlock | None = field(default=None, metadata=OPTION)

    activity: ClassVar[str] = "features"
    optional: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """Human-readable label, e.g. "features resnet of sketch (200)"."""
        return f"features {self.start.label} of {self.data.label}{drawn(self.size, self.seed)}"

    @property
    def needs(self) -> tuple[Step, ...]:
        """The pretraining, if it is a step of the plan."""
        return (self.start,) if isinstance(self.start, Step) else ()

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """The examples' data set."""
        return (self.data,)

    @property
    def architecture(self) -> Architecture:
        """Architecture of the model."""
        return self.start.architecture

    @property
    def leaves(self) -> Left:
        """The features."""
        return "features"

    def passes(self, world: World, shared: Container[str]) -> Passes:
        """Every example once."""
        return Passes(seen=world.drawn(self.data, self.size, self.held_out, self.seed)[0])

    def timed_as(self, recipe: Recipe) -> Recipe:
        """The suite's recipe, at this batch size and precision."""
        return recipe.model_copy(update={"eval_precision": self.precision, "eval_batch_size": self.batch_size})

    def run(self, shop: Workshop, watch: Count) -> dict[str, Any]:
        """Compute the features and write them in pieces."""
        examples = shop.examples(self.data, self.architecture.view)
        if self.seed is not None:
            tuning, _ = tuning_rows(examples.index, self.size, self.held_out, self.seed, self.data.name)
            examples = examples.take(tuning)
        classifier = shop.classifier(self.start, self.last_block)
        pieces = collected(classifier, classifier.features, examples, self.batch_size, self.precision, watch)
        width = shop.store.write_features(self.key, len(examples), (piece.numpy() for piece in pieces))
        return {"examples": len(examples), "width": width}


def drawn(size: int | None, seed: int | None) -> str:
    """The tuning set in a title: " (200, seed 1)"; empty for all images of the first seed."""
    words = [str(size)] if size is not None else []
    words += [f"seed {seed}"] if seed else []
    return f" ({', '.join(words)})" if words else ""
