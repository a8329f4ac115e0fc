"""New head: the step that adapts pretrained weights to the classes of the reference set."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from rib.data.parts import DataPart
from rib.identity import OPTION, RUNTIME
from rib.methods.base import Passes
from rib.models.build import build
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier
from rib.models.new_head import fresh_head
from rib.models.weights import Weights, put_weights, take_weights
from rib.recipe import LastBatch, Recipe
from rib.steps.base import Left, Step
from rib.steps.pretrain import Load
from rib.steps.workshop import Count, Workshop
from rib.steps.world import World
from rib.training.pretrain import pretrain
from rib.training.training import Training


@dataclass(frozen=True)
class NewHead(Step):
    """Pretrained weights with a new head, trained on frozen features and optionally with the whole net afterwards.

    Attributes:
        backbone: the pretrained weights; their head is not used.
        data: the training set.
        probe: recipe of the head.
        seed: seed of the head's initial weights and of all other random draws.
        finetune: recipe of the whole net afterwards; None to keep the backbone frozen.
        last_batch: "merged" if a short last batch joins the one before it, for a BatchNorm.
    """

    key_name: ClassVar[str] = "NewHead"

    backbone: Load
    data: DataPart
    probe: Recipe
    seed: int
    finetune: Recipe | None = field(default=None, metadata=OPTION)
    last_batch: LastBatch | None = field(default=None, metadata=OPTION)
    called: str = field(default="", metadata=RUNTIME)

    activity: ClassVar[str] = "new heads"
    trains: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """Human-readable label, e.g. "new head of resnet on photos"."""
        return f"new head of {self.label} on {self.data.label}"

    @property
    def label(self) -> str:
        """Name of the model in the suite."""
        return self.called or self.backbone.label

    @property
    def model(self) -> str:
        """Name of the model in the suite."""
        return self.backbone.model

    @property
    def needs(self) -> tuple[Step, ...]:
        """No prerequisites."""
        return ()

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """The training set."""
        return (self.data,)

    @property
    def architecture(self) -> Architecture:
        """Architecture of the model."""
        return self.backbone.architecture

    @property
    def start(self) -> NewHead:
        """Its own weights."""
        return self

    @property
    def leaves(self) -> Left:
        """The weights."""
        return "weights"

    def stays(self, keep: str) -> bool:
        """Pretrained weights stay in the store, except with `keep = "none"`."""
        return keep in ("all", "pretrained")

    def passes(self, world: World, shared: Container[str]) -> Passes:
        """Every image once for its features, plus every image of every epoch of the whole net."""
        count = world.count(self.data)
        if self.architecture.heads:  # without stored features every image of the probe goes through the net
            return Passes(self._tuned(count), self.probe.images(count))
        return Passes(self._tuned(count), count)

    def _tuned(self, count: int) -> int:
        return self.finetune.images(count, self.last_batch == "merged") if self.finetune else 0

    def timed_as(self, recipe: Recipe) -> Recipe:
        """The recipe of the whole net, or else of the head."""
        return self.finetune or self.probe

    def in_architecture(self, architecture: Architecture) -> NewHead:
        """The same weights in another architecture."""
        return replace(self, backbone=self.backbone.in_architecture(architecture))

    def read_weights(self, shop: Workshop) -> Weights:
        """The weights, from the store."""
        return shop.stored_weights(self)

    def run(self, shop: Workshop, watch: Count) -> dict[str, Any]:
        """Train the head, and then the whole net if there is a recipe for it."""
        classifier = build(self.architecture, seed=self.seed)
        put_weights(classifier.net, {**shop.weights(self.backbone), **fresh_head(classifier)})
        classifier = classifier.to(shop.device)
        outcome = pretrain(classifier, self._stages(shop, classifier), shop.checkpoint(self.key), watch)
        shop.store.write_weights(self.key, take_weights(classifier.net))
        return outcome.values

    def _stages(self, shop: Workshop, classifier: Classifier) -> list[Training]:
        examples = shop.examples(self.data, self.architecture.view)
        whole = Training(examples, self.data.label_map, self.finetune or self.probe, self.seed)
        probe = replace(whole, recipe=self.probe, trainable=classifier.head_parameters)
        return [probe, whole] if self.finetune else [probe]
