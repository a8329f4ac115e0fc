"""Base class of analyses, which measure inside one model or compare a pretrained model with a tuned one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar, cast

import torch
from pydantic import TypeAdapter, ValidationError

from rib.data.examples import Examples
from rib.data.labels import LabelMap
from rib.errors import UserError
from rib.models.build import build
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier
from rib.models.weights import Weights, is_extended, put_weights
from rib.recipe import Frozen, Precision
from rib.training.predict import Watch

Values = Mapping[str, Any]
"""The values of an analysis: names to JSON values (numbers, lists of numbers, words). RIB's own are typed
dictionaries."""

V = TypeVar("V", bound=Values)


def typed(values: Values, kind: type[V]) -> V:
    """The values of a record, with the type that its analysis declares.

    Raises:
        UserError: a value has another type, so RIB did not write the record; also later, if a missing value is read.
    """
    try:
        _adapter(kind).validate_python(values)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            if fault["type"] != "missing":
                raise _foreign(".".join(map(str, fault["loc"])), fault["msg"], f"{fault['input']!r:.60}") from None
    return cast(V, _Known(values))


class _Known(dict[str, Any]):
    """Values of a record; to read one that it lacks is an error of the record."""

    def __missing__(self, name: str) -> Any:
        raise _foreign(name, "a value", "nothing")


def _foreign(name: str, valid: str, got: str) -> UserError:
    return UserError(
        f"the record of an analysis has a value {name!r} that RIB does not write",
        got=got,
        valid=valid,
        remedy="take the records of a store that you trust",
    )


@cache
def _adapter(kind: type[V]) -> TypeAdapter[V]:
    return TypeAdapter(kind)


@dataclass(frozen=True)
class Seen:
    """The test part of a data set.

    Attributes:
        examples: N examples, decoded for the model.
        label_map: maps the model's outputs to the data set's classes.
    """

    examples: Examples
    label_map: LabelMap


@dataclass(frozen=True)
class Scene:
    """The inputs of an analysis.

    Attributes:
        architecture: architecture of the pretrained model.
        before: the pretrained weights.
        after: the tuned weights; for an analysis of one model, the same as before.
        data: test parts by name of the data set, in the suite's order; empty if the analysis reads weights alone.
        device: device for the computation.
        batch_size: images per forward pass.
        precision: precision of forward passes.
        watch: called with the number of processed images.
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
    """An analysis. Its fields are its parameters.

    Attributes:
        name: name in a suite.
        of_pair: whether it compares a tuned model with its pretrained one; else it reads the pretrained model alone.
        on: the data sets that it reads by default: "reference", "tested" (all of them), or "nothing" for weights alone.
        together: whether one step reads all of its data sets; else there is one step per data set.
        needs_features: whether it needs a model whose outputs are a single head applied to its features.
        same_net: whether both models must be the same net, without modules that a method has added.
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
            StepError: the measurement is impossible: too few images, or a layer that does not exist.
        """
