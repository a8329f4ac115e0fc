"""Base class of analyses, which measure inside one model, or compare a pretrained model with a tuned one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import torch

from rib.data.examples import Examples
from rib.data.labels import LabelMap
from rib.models.build import build
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier
from rib.models.weights import Weights, is_extended, put_weights
from rib.recipe import Frozen, Precision
from rib.training.predict import Watch

Values = Mapping[str, Any]
"""The values of an analysis: names to JSON values (numbers, lists of numbers, words); typed dictionaries in RIB's."""

V = TypeVar("V", bound=Values)


def typed(values: Values, kind: type[V]) -> V:
    """The values of a record, by the type that the analysis of the step gives them."""
    return cast(V, values)


@dataclass(frozen=True)
class Seen:
    """The test part of a data set.

    Attributes:
        examples: N of them, decoded for the model.
        label_map: from the model's outputs to its classes.
    """

    examples: Examples
    label_map: LabelMap


@dataclass(frozen=True)
class Scene:
    """The inputs of an analysis.

    Attributes:
        architecture: of the model.
        before: the pretrained weights.
        after: the tuned weights; for an analysis of one model, the same as before.
        data: test parts by the data sets' names, in the suite's order; empty if the analysis looks at weights
            alone.
        device: where to compute.
        batch_size: images per forward pass.
        precision: of forward passes.
        watch: called with the number of images.
        tuned: architecture of the tuned weights, if a method has extended the model.
    """

    architecture: Architecture
    before: Weights
    after: Weights
    data: Mapping[str, Seen]
    device: torch.device
    batch_size: int
    precision: Precision
    watch: Watch
    tuned: Architecture | None = None

    def build(self, weights: Weights) -> Classifier:
        """A classifier with these weights, on the scene's device, in evaluation mode."""
        classifier = build(self.tuned if self.tuned and is_extended(weights) else self.architecture)
        put_weights(classifier.net, weights)
        return classifier.to(self.device).eval()


class Analysis(Frozen, ABC):
    """An analysis and its parameters, which are its fields.

    Attributes:
        name: what a suite calls it.
        of_pair: whether it compares a tuned model with its pretrained one; else it looks at the pretrained model.
        on: which data sets it looks at if the suite does not say: "reference", "tested" (all of them), or
            "nothing" for weights alone.
        together: whether one step looks at all of its data sets; else there is a step for each.
        needs_features: whether it needs a model whose answer is what one head makes of its features.
        same_net: whether both models must be one net, to which no method has added anything.
    """

    name: ClassVar[str]
    of_pair: ClassVar[bool] = True
    on: ClassVar[str] = "reference"
    together: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False
    same_net: ClassVar[bool] = False

    def image_passes(self, images: int) -> float:
        """Estimate the cost on a data set of `images` images, in forward passes of one image."""
        return (2.0 if self.of_pair else 1.0) * images

    @abstractmethod
    def look(self, scene: Scene) -> Values:
        """Measure, and return the values.

        Raises:
            StepError: it cannot be seen here: too few images, a layer that does not exist.
        """
