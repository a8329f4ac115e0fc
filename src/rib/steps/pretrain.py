"""Pretrained weights: loaded from a file, or trained from scratch by a step."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from rib.data.parts import DataPart
from rib.identity import OPTION, RUNTIME
from rib.methods.base import Passes
from rib.models.build import build
from rib.models.catalogue import Architecture, find_row
from rib.models.classifier import Classifier
from rib.models.loading import load_pretrained
from rib.models.weights import Weights, take_weights
from rib.objectives.base import Objective
from rib.recipe import LastBatch, Recipe
from rib.steps.base import Keyed, Left, Step
from rib.steps.workshop import Count, Workshop
from rib.steps.world import World
from rib.text.names import short
from rib.training.pretrain import pretrain
from rib.training.training import Training


@dataclass(frozen=True)
class Load(Keyed):
    """Pretrained weights in a file. Not a step: it has no work and no record."""

    key_name: ClassVar[str] = "Load"

    model: str = field(metadata=RUNTIME)
    architecture: Architecture
    weights: str
    called: str = field(default="", metadata=RUNTIME)

    @property
    def label(self) -> str:
        """Name of the model in the suite; if unknown, its name without the namespace."""
        return self.called or short(self.model)

    @property
    def needs(self) -> tuple[Step, ...]:
        """No prerequisites."""
        return ()

    def in_architecture(self, architecture: Architecture) -> Load:
        """The same weights in another architecture."""
        return replace(self, architecture=architecture)

    def read_weights(self, shop: Workshop) -> Weights:
        """Load the weights from their file. Raises UserError if the file has changed since planning."""
        row = find_row(self.model, shop.suite.model)
        with shop.loading:
            classes = shop.world[shop.suite.reference].classes
            return load_pretrained(
                *(self.model, row, self.architecture, shop.suite.base, classes, shop.store.facts, str(shop.device)),
                expected=self.weights,
            )


@dataclass(frozen=True)
class Reference:
    """The stage that adapts a pretrained model to the classes of the reference set, as is common for CLIP and ImageNet.

    Attributes:
        data: the training set of this stage.
        probe: recipe of the head, trained on frozen features.
        finetune: recipe of the whole net afterwards.
    """

    data: DataPart
    probe: Recipe
    finetune: Recipe


@dataclass(frozen=True)
class Pretrain(Step):
    """Weights trained from scratch.

    Attributes:
        model: name of the model in the suite.
        architecture: architecture of the model.
        data: the pretraining set.
        recipe: recipe of the training.
        seed: seed of all random draws, including the initial weights.
        objective: the loss; None for the cross-entropy.
        reference: the stage afterwards; None if there is none.
        last_batch: "merged" if a short last batch joins the one before it, for a BatchNorm.
    """

    key_name: ClassVar[str] = "Pretrain"

    model: str = field(metadata=RUNTIME)
    architecture: Architecture
    data: DataPart
    recipe: Recipe
    seed: int
    objective: Objective | None = field(default=None, metadata=OPTION)
    reference: Reference | None = field(default=None, metadata=OPTION)
    last_batch: LastBatch | None = field(default=None, metadata=OPTION)
    called: str = field(default="", metadata=RUNTIME)

    activity: ClassVar[str] = "pretraining"
    trains: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """Human-readable label, e.g. "pretrain resnet on large"."""
        return f"pretrain {self.label} on {self.data.label}"

    @property
    def label(self) -> str:
        """Name of the model in the suite; if unknown, its name without the namespace."""
        return self.called or short(self.model)

    @property
    def needs(self) -> tuple[Step, ...]:
        """No prerequisites."""
        return ()

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """The pretraining set, and the reference stage's."""
        return (self.data, self.reference.data) if self.reference else (self.data,)

    @property
    def start(self) -> Pretrain:
        """Its own weights."""
        return self

    @property
    def leaves(self) -> Left:
        """The weights."""
        return "weights"

    def stays(self, keep: str) -> bool:
        """Pretrained weights stay in the store, except with `keep = "none"`."""
        return keep in ("all", "pretrained")

    @property
    def views(self) -> int:
        """Number of forward passes per image of a batch, before the reference stage."""
        return self.objective.views if self.objective else 1

    def passes(self, world: World, shared: Container[str]) -> Passes:
        """Every image of every epoch of every stage."""
        images, then = self.views * self.recipe.images(world.count(self.data)), self.reference
        if then is None:
            return Passes(trained=images)
        count = world.count(then.data)
        return Passes(images + then.finetune.images(count), count)

    def timed_as(self, recipe: Recipe) -> Recipe:
        """The recipe of the pretraining."""
        return self.recipe

    def in_architecture(self, architecture: Architecture) -> Pretrain:
        """The same weights in another architecture."""
        return replace(self, architecture=architecture)

    def read_weights(self, shop: Workshop) -> Weights:
        """The weights, from the store."""
        return shop.stored_weights(self)

    def run(self, shop: Workshop, watch: Count) -> dict[str, Any]:
        """Train the stages in order."""
        classifier = build(self.architecture, seed=self.seed).to(shop.device)
        watch.passes *= self.views  # the short reference stage has one view per image
        outcome = pretrain(classifier, self._stages(shop, classifier), shop.checkpoint(self.key), watch)
        shop.store.write_weights(self.key, take_weights(classifier.net))
        return outcome.values

    def _stages(self, shop: Workshop, classifier: Classifier) -> list[Training]:
        def stage(data: DataPart, recipe: Recipe) -> Training:
            return Training(shop.examples(data, self.architecture.view), data.label_map, recipe, self.seed)

        stages = [stage(self.data, self.recipe)]
        if self.objective is not None:
            drawn = self.objective.drawn(classifier, len(self.data.label_map.groups), self.seed)
            stages = [replace(stages[0], objective=drawn)]
        if (then := self.reference) is not None:
            probe = replace(stage(then.data, then.probe), trainable=classifier.head_parameters)
            stages += [probe, stage(then.data, then.finetune)]
        return stages
