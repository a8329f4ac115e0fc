"""Fit: the step that tunes pretrained weights with a method."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from rib.data.parts import DataPart
from rib.data.splits import named_seed, tuning_rows
from rib.errors import DivergedError, StepError
from rib.identity import OPTION
from rib.methods.base import Method, Passes, Task
from rib.methods.merging import MergeContext, Merging
from rib.models.catalogue import Architecture
from rib.models.weights import Weights, first_not_finite
from rib.recipe import LastBatch, OneImage, Recipe
from rib.steps.base import Left, Step
from rib.steps.embed import Embed, drawn
from rib.steps.start import Start
from rib.steps.workshop import Count, Workshop
from rib.steps.world import World


@dataclass(frozen=True)
class Fit(Step):
    """Weights that a method computes from pretrained ones.

    Attributes:
        start: the pretrained weights.
        method: the method with its hyper-parameters.
        data: the downstream set; it and the next four are None for a method without data.
        size: number of tuning images; None for all.
        held_out: share of the pool that is held out for choices.
        recipe: recipe of the training.
        seed: seed of all random draws.
        ingredients: the steps whose weights the method starts from.
        last_batch: "merged" if a short last batch joins the one before it, for a BatchNorm.
        one_image: "dense" if gradients of single images use the norms of `rib.models.one_image`, which are right on a
            CPU too.
        replay: training images of the reference set, for a method that replays them.
        replica: distinguishes several trainings on the same images, for ingredients that differ in their seed.
        texts: digest of the model's text side, for a method that trains with texts.
    """

    key_name: ClassVar[str] = "Fit"

    start: Start
    method: Method
    data: DataPart | None
    size: int | None
    held_out: float
    recipe: Recipe | None
    seed: int | None
    ingredients: tuple[Fit, ...]
    last_batch: LastBatch | None = field(default=None, metadata=OPTION)
    one_image: OneImage | None = field(default=None, metadata=OPTION)
    replay: DataPart | None = field(default=None, metadata=OPTION)
    replica: int | None = field(default=None, metadata=OPTION)
    texts: str | None = field(default=None, metadata=OPTION)

    activity: ClassVar[str] = "fitting"
    trains: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """Human-readable label, e.g. "finetune resnet on sketch (200)"."""
        sized = next((fit for fit in (self, *self.ingredients) if fit.size is not None), self)
        on = f" on {', '.join(data.label for data in self.sets)}{drawn(sized.size, sized.seed)}" if self.sets else ""
        again = f", run {self.replica + 1}" if self.replica else ""
        return f"{self.method.name} {self.start.label}{on}{again}"

    @property
    def variant(self) -> str:
        """The method."""
        return self.method.name

    @property
    def needs(self) -> tuple[Step, ...]:
        """The pretraining, if it is a step of the plan, and the ingredients."""
        return (*((self.start,) if isinstance(self.start, Step) else ()), *self.ingredients)

    @cached_property
    def features(self) -> Embed | None:
        """The pretrained model's features of the tuning set that its method reads."""
        if not (self.method.reads_features and self.data and self.recipe) or self.architecture.heads:
            return None
        data, seed = self.data, self.seed if self.size is not None else 0  # all images are the same for every seed
        if self.size is None and not self.held_out and data.both:  # predictions of that set then read them too
            data, seed = replace(data, part="test"), None
        size, block = self.recipe.eval_batch_size, self.recipe.last_block
        return Embed(self.start, data, self.size, self.held_out, seed, size, "fp32", block)

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """The downstream set and the replayed images."""
        return tuple(part for part in (self.data, self.replay) if part)

    @cached_property
    def architecture(self) -> Architecture:
        """Architecture of the weights: that of the model, or the one that the method changes it into."""
        return self.method.extend(self.start.architecture)

    @property
    def is_merged(self) -> bool:
        """Whether its weights are never stored, but merged again when a step needs them."""
        return isinstance(self.method, Merging) and not self.method.kept

    @property
    def leaves(self) -> Left | None:
        """The weights, unless they are merged."""
        return None if self.is_merged else "weights"

    @cached_property
    def sets(self) -> tuple[DataPart, ...]:
        """Every downstream set that these weights were tuned on, including by ingredients at any depth."""
        own = (self.data,) if self.data else ()
        seen = (data for item in self.ingredients for data in item.sets)
        return tuple({(data.name, data.fingerprint): data for data in (*own, *seen)}.values())

    @property
    def tuned_on(self) -> DataPart | None:
        """The downstream set that these weights were tuned on; None if there are none or several."""
        return self.sets[0] if len(self.sets) == 1 else None

    def passes(self, world: World, shared: Container[str]) -> Passes:
        """The passes of the method, and of the tuning set's features if this step computes them."""
        if self.data is None or self.recipe is None:
            return Passes()
        images, held_out = world.drawn(self.data, self.size, self.held_out, self.seed)
        own = self.method.passes(self.recipe, images, held_out)
        if self.architecture.heads and self.method.reads_features:  # if features are not stored, all images pass
            seen = self.method.head_alone(self.recipe, images) if self.method.keeps_backbone else images
            return own._replace(seen=own.seen + seen)
        read = self.features is None or self.features.key in shared
        return own if read else own._replace(seen=own.seen + images)

    def timed_as(self, recipe: Recipe) -> Recipe:
        """The method's recipe, if it trains."""
        return self.recipe or recipe

    def read_weights(self, shop: Workshop) -> Weights:
        """The weights: merged, or from the store."""
        return self._combined(shop) if self.is_merged else shop.stored_weights(self)

    def run(self, shop: Workshop, watch: Count) -> dict[str, Any]:
        """Tune. A merge is only tried here, because it is computed again whenever it is needed."""
        if self.is_merged:
            shop.weights(self)
            return {}
        values: dict[str, Any] = {}
        if isinstance(self.method, Merging):
            self._keep(shop, self._combined(shop))
            return values
        task = self._task(shop, watch, values)
        weights = self.method.fit(shop.weights(self.start), task, self._ingredients(shop))
        self._keep(shop, weights)
        return values

    def _keep(self, shop: Workshop, weights: Weights) -> None:
        _require_finite(weights)
        shop.store.write_weights(self.key, weights)
        shop.remember(self, weights)

    def _combined(self, shop: Workshop) -> Weights:
        assert isinstance(self.method, Merging)
        place = MergeContext(self.architecture, self.seed)
        merged = self.method.combine(shop.weights(self.start), self._ingredients(shop), place)
        _require_finite(merged)
        return merged

    def _ingredients(self, shop: Workshop) -> list[Weights]:
        records = [(ingredient, shop.store.record(ingredient.key)) for ingredient in self.ingredients]
        diverged = [(each, record.values) for each, record in records if record and record.values.get("diverged")]
        none_left = len(diverged) == sum(each.method.needs_data for each in self.ingredients)
        if diverged and (none_left or not self.method.takes_diverged):
            ingredient, values = diverged[0]
            several = f" and so did its {len(diverged) - 1} others" if none_left and len(diverged) > 1 else ""
            raise StepError(
                f"its ingredient {ingredient.title} diverged (loss {values['first_loss']:.2f} → "
                f"{values['last_loss']:.2f}){several}; try a lower learning rate or another strength for it"
            )
        return [shop.weights(ingredient) for ingredient in self.ingredients]

    def _task(self, shop: Workshop, watch: Count, values: dict[str, Any]) -> Task:
        assert self.data is not None
        assert self.recipe is not None
        assert self.seed is not None
        pool = shop.examples(self.data, self.architecture.view)
        tuning, held_out = tuning_rows(pool.index, self.size, self.held_out, self.seed, self.data.name)
        return Task(
            architecture=self.start.architecture,
            tuning=pool.take(tuning),
            held_out=pool.take(held_out),
            label_map=self.data.label_map,
            recipe=self.recipe,
            seed=named_seed("replica", self.replica, self.seed) if self.replica else self.seed,
            device=shop.device,
            watch=watch,
            checkpoint=shop.checkpoint(self.key),
            note=values.__setitem__,
            known=shop.stored_features(self.features.key) if self.features else None,
            seen=watch.seen,
            reference=shop.examples(self.replay, self.architecture.view) if self.replay else None,
            reference_map=self.replay.label_map if self.replay else None,
            extended=self.architecture if self.architecture.extension else None,
            texts=shop.texts(self.start.model, self.start.architecture, self.texts) if self.texts else None,
        )


def _require_finite(weights: Weights) -> None:
    if bad := first_not_finite(weights):
        raise DivergedError(f"weights are no longer finite ({bad}); try a lower learning rate")
