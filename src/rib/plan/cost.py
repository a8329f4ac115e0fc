"""Cost: the work of a plan's missing steps, computed before any of them runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rib.data.budget import divided
from rib.data.pack import pack_file
from rib.models.catalogue import Architecture
from rib.models.flops import ModelCost, kept_count
from rib.plan import Plan, missing
from rib.recipe import Recipe
from rib.steps import Step, predictions_of
from rib.steps.how import AT_ONCE
from rib.steps.sweep import sweeps
from rib.store.store import Store


@dataclass(frozen=True)
class Cost:
    """Cost of the missing steps.

    Attributes:
        decoded: number of images to decode into packs, once per view.
        packed: bytes of the decoded images.
        streamed: number of images to decode during passes over them, because their packs do not fit.
        forward: number of images with forward passes only.
        trained: number of images with forward and backward passes.
        flops: FLOPs of all passes.
        models: number of sets of weights to keep.
        weights: their bytes.
        free: free bytes on the disk of the store.
        assumed: data sets and weights that are missing here; their published sizes are assumed.
        seeds: tuning seeds of the plan; tuning and predictions grow with their number.
        left_out: files beside the images of data sets that RIB leaves out, in words.
        hours: hours on this machine; None without a measurement.
    """

    decoded: int
    packed: int
    streamed: int
    forward: int
    trained: int
    flops: float
    models: int
    weights: int
    free: int
    assumed: tuple[str, ...]
    left_out: tuple[str, ...]
    seeds: tuple[int, ...] = ()
    hours: float | None = None


class CostEstimate:
    """Computes the cost of a plan.

    Args:
        plan: the plan.
        store: the store with the finished steps and the cached cost of each architecture.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.todo = missing(plan.steps, store)
        self._models: dict[str, ModelCost] = {}

    @cached_property
    def cost(self) -> Cost:
        """The cost, without hours."""
        decoded, packed, streamed = self._decoding()
        kept = [step for step in self.todo if step.keeps_weights]
        passes = [self.plan.passes(step) for step in self.todo]
        return Cost(
            decoded=decoded,
            packed=packed,
            streamed=streamed,
            forward=sum(each.seen for each in passes),
            trained=sum(each.trained for each in passes),
            flops=sum(each.cost * self.of_model(step).flops for each, step in zip(passes, self.todo, strict=True)),
            models=len(kept),
            weights=sum(4 * self.of_model(step).parameters for step in kept),
            free=_free(self.store.root),
            assumed=self.plan.assumed,
            seeds=tuple(sorted({run.seed for run in self.plan.runs if run.seed is not None})),
            left_out=self.plan.world.left_out,
        )

    def _decoding(self) -> tuple[int, int, int]:
        """Images to decode into packs, the bytes of these packs, and images to decode in passes over streamed data."""
        wanted = list(dict.fromkeys(decoded for step in self.todo for decoded in step.looked_at(self.plan.world)))
        packed, streamed = divided(wanted, self.store.packs)
        new = {pack_file(one, self.store.packs): one for one in packed}
        to_do = [one for file, one in new.items() if not file.exists()]
        apart = set(streamed)
        swept = [step for step in predictions_of(self.todo) if apart.issuperset(step.looked_at(self.plan.world))]
        passes = (self.plan.world.count(group[0].data) for group in sweeps(swept, AT_ONCE))
        return sum(len(one.index) for one in to_do), sum(one.bytes for one in to_do), sum(passes)

    def of_model(self, step: Step) -> ModelCost:
        """FLOPs and parameters of a step's model, counted once and cached in the store."""
        net = _net(step)
        if net not in self._models:
            self._models[net] = kept_count(step.architecture, self.store.facts)
        return self._models[net]

    def with_hours(self, measure: Callable[[Architecture, Recipe], tuple[float, float]], workers: int) -> Cost:
        """The cost, with hours.

        Args:
            measure: measures seconds per image of a forward pass and of a training step; called once per model and
                recipe.
            workers: number of workers.
        """
        seconds = 0.0
        known: dict[tuple[str, Recipe], tuple[float, float]] = {}
        for step in self.todo:
            if any(passes := self.plan.passes(step)):
                recipe = self._recipe(step)
                place = (_net(step), recipe)
                if place not in known:
                    known[place] = measure(step.architecture, recipe)
                forward, training = known[place]
                seconds += passes.seen * forward + passes.trained * training
        return replace(self.cost, hours=seconds / 3600 / workers)

    def _recipe(self, step: Step) -> Recipe:
        """The recipe that determines a step's speed: the suite's, with the step's precisions and batch sizes."""
        kept = ("precision", "batch_size", "eval_precision", "eval_batch_size")
        own = step.timed_as(self.plan.suite.recipe)
        return Recipe(**{field: getattr(own, field) for field in kept})


def _free(folder: Path) -> int:
    there = next((path for path in (folder, *folder.resolve().parents) if path.exists()), Path.cwd())
    return shutil.disk_usage(there).free


def _net(step: Step) -> str:
    """Identifies the net of a step: the model, and the modules that a method has added."""
    return f"{step.start.key} {step.architecture.extension or ''}"
