"""Merging: methods that compute weights only from other weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from rib.methods.base import Ingredient, Method, Task
from rib.models.build import build
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier
from rib.models.skeleton import skeleton
from rib.models.weights import Weights


@dataclass(frozen=True)
class MergeContext:
    """The model and the run that a merge belongs to.

    Attributes:
        architecture: the architecture of the model.
        seed: the seed of the run; None if the merge draws nothing.
    """

    architecture: Architecture
    seed: int | None = None

    @cached_property
    def classifier(self) -> Classifier:
        """The model; its structure and names are meaningful, its weights are random."""
        found = skeleton(self.architecture)
        return found.classifier if found else build(self.architecture)


class Merging(Method):
    """Computes weights from the pretrained ones and the ingredients whenever they are needed; they are not stored.

    Attributes:
        seeded: whether it draws random numbers.
        kept: whether its weights are stored after all, because computing them takes longer than reading them.
    """

    seeded: ClassVar[bool] = False
    kept: ClassVar[bool] = False

    @abstractmethod
    def combine(self, start: Weights, fitted: Sequence[Weights], place: MergeContext) -> Weights:
        """The merged weights.

        Args:
            start: the pretrained weights.
            fitted: the ingredients' weights, in their order.
            place: the model and the run.
        """

    @final
    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """Merge."""
        return self.combine(start, fitted, MergeContext(task.architecture, task.seed))


class MergedMethod(Merging):
    """Arithmetic on weights, without data."""

    @abstractmethod
    def merge(self, start: Weights, fitted: Sequence[Weights]) -> Weights:
        """Weights computed from the pretrained ones and the ingredients'."""

    @final
    def combine(self, start: Weights, fitted: Sequence[Weights], place: MergeContext) -> Weights:
        """Merge."""
        return self.merge(start, fitted)


class SetMerge(Merging):
    """Merges models tuned on different data sets from the same pretrained weights.

    `ingredients` are those of each data set. A subclass computes the change of the trained tensors. Running statistics
    of BatchNorm are not trained; they become the mean over the models, as in a soup. Counters are those of the last
    model.
    """

    merges_sets: ClassVar[bool] = True
    tuned: str = Field("finetune", description="the method whose models are merged")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The ingredients for each data set; the first is the tuned model."""
        return (self.tuned,)

    @abstractmethod
    def change(
        self, start: Weights, models: Sequence[Weights], others: Sequence[Sequence[Weights]], place: MergeContext
    ) -> Mapping[str, Tensor]:
        """The merged weights minus the pretrained ones, float32, for every trained tensor.

        Args:
            start: the trained tensors of the pretrained model.
            models: those of the model of each data set.
            others: each data set's further ingredients.
            place: the model and the run.
        """

    @final
    def combine(self, start: Weights, fitted: Sequence[Weights], place: MergeContext) -> Weights:
        """The pretrained weights plus `change`."""
        kinds = len(self.ingredients())
        models, others = fitted[::kinds], [fitted[at + 1 : at + kinds] for at in range(0, len(fitted), kinds)]
        names = trained(start)
        change = self.change(_only(start, names), [_only(model, names) for model in models], others, place)
        found: dict[str, Tensor] = {}
        for name, tensor in start.items():
            if name in names:
                found[name] = (tensor.float() + change[name]).to(tensor.dtype)
            elif tensor.is_floating_point():
                found[name] = torch.stack([model[name] for model in models]).mean(dim=0)
            else:
                found[name] = models[-1][name]
        return found


STATISTICS = ("running_mean", "running_var")


def trained(weights: Weights) -> tuple[str, ...]:
    """Names of the tensors that gradients train, and of constant parameters; without statistics and counters."""
    return tuple(
        name
        for name, tensor in weights.items()
        if tensor.is_floating_point() and name.rpartition(".")[2] not in STATISTICS
    )


def task_vectors(start: Weights, models: Sequence[Weights]) -> list[dict[str, Tensor]]:
    """Each model minus the pretrained weights, float32."""
    return [{name: model[name].float() - start[name].float() for name in start} for model in models]


def _only(weights: Weights, names: Sequence[str]) -> Weights:
    return {name: weights[name] for name in names}
