"""LDIFS: a penalty on the distance of features from those of the pretrained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rib.methods.base import Passes, Task, TrainedMethod
from rib.models.classifier import Classifier
from rib.models.layers import choose, watched
from rib.models.weights import Weights
from rib.recipe import Recipe
from rib.training.predict import collect


class LDIFS(TrainedMethod):
    """Adds weight · ‖Φ(x) - Φ0(x)‖², averaged over the batch (Mukhoti et al. 2023, arXiv 2308.13320).

    Φ concatenates the outputs of all blocks and the head's input; Φ0 is the same of the pretrained model. Each layer's
    output is first averaged over its tokens or positions. Deviations: the paper uses the class token, which most nets
    lack, and chooses the weight on held-out images for each data set.
    """

    name: ClassVar[str] = "ldifs"
    key_name: ClassVar[str] = "rib.methods.ldifs:LDIFS"
    weight: float = Field(1.0, ge=0)

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts the training, and one forward pass per image for Φ0."""
        own = super().passes(recipe, images, held_out)
        return own._replace(seen=own.seen + images)

    def feature_term(self, start: Weights, task: Task) -> FeatureDistance:
        """The penalty. Φ0 of the tuning set is computed once, because its images never change."""
        classifier = task.build(start).eval()
        trial = torch.from_numpy(task.architecture.view.batch(2)).to(task.device)
        layers = choose(classifier, trial)

        def pooled(batch: Tensor) -> Tensor:
            return torch.cat([mean_of(output) for output in outputs(classifier, layers, batch).values()], dim=1)

        target = collect(classifier, pooled, task.tuning, task.recipe.eval_batch_size, watch=task.seen)
        return FeatureDistance(self.weight, layers, target.clone().to(task.device))


@dataclass(frozen=True)
class FeatureDistance:
    """The term weight · ‖Φ - Φ0‖².

    Attributes:
        weight: factor of the term.
        layers: the layers whose outputs are concatenated, in the order of Φ0.
        target: Φ0 of the tuning set, float32 (N, D).
    """

    weight: float
    layers: Sequence[str]
    target: Tensor

    def __call__(self, features: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        found = torch.cat([mean_of(features[name]).float() for name in self.layers], dim=1)
        return self.weight * (found - self.target[rows]).square().sum(dim=1).mean()


def outputs(classifier: Classifier, layers: Sequence[str], batch: Tensor) -> dict[str, Tensor]:
    """The outputs of the named layers for a batch of inputs, in the order of the names."""
    found: dict[str, Tensor] = {}

    def see(name: str, output: Tensor) -> None:
        found.setdefault(name, output)

    with watched(classifier, layers, see):
        classifier(batch)
    return {name: found[name] for name in layers}


def mean_of(output: Tensor) -> Tensor:
    """A layer's output as one vector per image: the mean over tokens (n, T, D), or over the positions of a map (n, C,
    H, W).

    Maps with channels last (n, H, W, C) have the same number of dimensions. The smaller of the two possible sides is
    taken for the height.
    """
    if output.dim() == 4:
        return output.mean(dim=(2, 3))
    return output.flatten(1, -2).mean(dim=1) if output.dim() > 2 else output
