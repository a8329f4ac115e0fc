"""Predict: the step that predicts every example of a part."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from rib.analysis.calibration import calibration
from rib.data.examples import Examples
from rib.data.parts import DataPart
from rib.identity import OPTION
from rib.methods.base import Passes
from rib.models.catalogue import Architecture
from rib.recipe import LastBlock, Precision, Recipe
from rib.steps.base import Step
from rib.steps.embed import Embed
from rib.steps.fit import Fit
from rib.steps.start import Start
from rib.steps.workshop import Count, Workshop
from rib.steps.world import World
from rib.store.record import pack_bits
from rib.training.predict import Predictions, predict


@dataclass(frozen=True)
class Predict(Step):
    """Predictions of some weights for every example of a part."""

    key_name: ClassVar[str] = "Predict"

    fit: Fit
    data: DataPart
    batch_size: int
    precision: Precision
    last_block: LastBlock | None = field(default=None, metadata=OPTION)

    activity: ClassVar[str] = "predicting"
    plain: ClassVar[bool] = True  # whether the weights stay as they are, so that several nets can share a pass

    @property
    def title(self) -> str:
        """Human-readable label, e.g. "finetune resnet on sketch (200) → clean"."""
        return f"{self.fit.title} → {self.data.label}"

    @property
    def detail(self) -> str:
        """The data set."""
        return self.data.label

    @property
    def needs(self) -> tuple[Step, ...]:
        """The weights."""
        return (self.fit,)

    @cached_property
    def features(self) -> Embed | None:
        """The pretrained model's features, if only the head differs and the output is head(features)."""
        if not self.fit.method.keeps_backbone or self.architecture.heads:
            return None
        return Embed(self.fit.start, self.data, None, 0.0, None, self.batch_size, self.precision, self.last_block)

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """The part."""
        return (self.data,)

    @property
    def start(self) -> Start:
        """Its pretrained weights."""
        return self.fit.start

    @property
    def architecture(self) -> Architecture:
        """Architecture of the model."""
        return self.fit.architecture

    @property
    def subject(self) -> str:
        """Key of the weights."""
        return self.fit.key

    def passes(self, world: World, shared: Container[str]) -> Passes:
        """Every example once, unless features are read."""
        read = self.features is not None and self.features.key in shared
        return Passes(seen=0 if read else world.count(self.data))

    def timed_as(self, recipe: Recipe) -> Recipe:
        """The suite's recipe, at this batch size and precision."""
        return recipe.model_copy(update={"eval_precision": self.precision, "eval_batch_size": self.batch_size})

    def run(self, shop: Workshop, watch: Count) -> dict[str, Any]:
        """Predict, and compare with the labels."""
        examples = shop.examples(self.data, self.architecture.view)
        predictions = predict(
            shop.classifier(self.fit, self.last_block),
            examples,
            self.data.label_map,
            batch_size=self.batch_size,
            precision=self.precision,
            features=shop.stored_features(self.features.key) if self.features else None,
            watch=watch,
            checkpoint=shop.checkpoint(self.key),
        )
        return self.judged(shop, predictions, examples)

    def judged(self, shop: Workshop, predictions: Predictions, examples: Examples) -> dict[str, Any]:
        """Write predictions; return the values of their record."""
        shop.store.write_predictions(self.key, predictions, example_columns(examples))
        return {
            "examples": len(examples),
            "masked_right": pack_bits(predictions.masked_right),
            "unmasked_right": pack_bits(predictions.unmasked_right),
            **group_accuracies(predictions, examples),
            **calibration(
                predictions.masked_confidence,
                predictions.masked_label_probability,
                predictions.masked_brier,
                predictions.masked_right,
                examples.index.cells,
            ).values,
        }


def group_accuracies(predictions: Predictions, examples: Examples) -> dict[str, dict[str, float]]:
    """Accuracy in percent of each group, and of the worst group; empty for a set without groups."""
    groups, names = examples.index.groups, examples.index.group_names
    if groups is None:
        return {}
    found = {
        name: 100 * float(predictions.masked_right[groups == place].mean())
        for place, name in enumerate(names)
        if (groups == place).any()
    }
    worst = min(found, key=found.__getitem__)
    return {"group_accuracy": found, "worst_group": {worst: found[worst]}}


def predictions_of(steps: Iterable[Step]) -> list[Predict]:
    """The Predict steps among these whose weights stay as they are."""
    return [step for step in steps if isinstance(step, Predict) and step.plain]


def example_columns(examples: Examples) -> dict[str, np.ndarray[Any, Any]]:
    """Columns that describe examples: row in the part, source image, label, cell (-1 if there are none)."""
    cells = examples.index.cells
    return {
        "example": examples.rows.astype(np.int32),
        "source": examples.index.sources,
        "label": examples.labels.astype(np.int16),
        "cell": cells if cells is not None else np.full(len(examples), -1, np.int16),
    }
