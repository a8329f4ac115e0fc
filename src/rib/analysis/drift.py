"""Drift: how far the weights of each layer have moved."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from typing_extensions import TypedDict

from rib.analysis.base import Analysis, Scene
from rib.models.blocks import layer_of, units
from rib.models.classifier import Classifier
from rib.models.weights import Weights

GROUPS = ("early", "middle", "late", "head")
KINDS = ("embedding", "attention", "mlp", "conv", "norm", "head", "other")

_EMBEDDING = re.compile(r"embed|_token$|conv_proj")
_ATTENTION = re.compile(r"attn|attention")


class DriftValues(TypedDict):
    """Values of `Drift`."""

    layers: list[str]
    kinds: list[str]
    groups: list[str]
    change: list[float | None]
    norm_before: list[float]
    group_names: list[str]
    group_change: list[float | None]
    kind_names: list[str]
    kind_change: list[float | None]
    total: float | None
    statistics: float | None


class Drift(Analysis):
    """Relative change ‖θ1 - θ0‖ / ‖θ0‖ of the parameters of each layer, third of the depth and kind of layer.

    The norms are Euclidean. A layer is the weight and bias of a module, or a single parameter (`pos_embed`). Block k of
    B blocks lies at depth (k + ½) / B. A layer between two blocks belongs to the one before it; layers before the first
    block are early; the head is a group by itself. BatchNorm's running statistics are not weights and have a separate
    number.

    Values: `layers`, L names, with their `kinds`, `groups`, `change` and `norm_before`, lists of L; `group_names` and
    `group_change`; `kind_names` and `kind_change`, for the kinds in the model; `total`, over all parameters;
    `statistics`, null for a net without them. A change is null if ‖θ0‖ = 0 and θ1 ≠ 0, because the ratio is undefined.
    """

    name: ClassVar[str] = "drift"
    key_name: ClassVar[str] = "rib.analysis.drift:Drift"
    on: ClassVar[str] = "nothing"

    def image_passes(self, images: int) -> float:
        """No forward pass."""
        return 0.0

    def look(self, scene: Scene) -> DriftValues:
        """Compute the changes of all layers."""
        classifier = scene.build(scene.before)
        places = layer_places(classifier)
        statistics = [name for name in scene.before if name.endswith((".running_mean", ".running_var"))]

        def changes(names: Iterable[str], of: Callable[[LayerPlace], str]) -> dict[str, float | None]:
            """The relative change of all parameters with the same value of `of`, for each such value."""
            parts = {each: [name for name, place in places.items() if of(place) == each] for each in names}
            return {each: relative_change(scene.before, scene.after, part) for each, part in parts.items() if part}

        layers = {place.layer: place for place in places.values()}
        groups = changes(GROUPS, lambda place: place.group)
        kinds = changes(KINDS, lambda place: place.kind)
        return {
            "layers": list(layers),
            "kinds": [place.kind for place in layers.values()],
            "groups": [place.group for place in layers.values()],
            "change": list(changes(layers, lambda place: place.layer).values()),
            "norm_before": [
                _rounded(norm(scene.before, [name for name in places if places[name].layer == layer]))
                for layer in layers
            ],
            "group_names": list(groups),
            "group_change": list(groups.values()),
            "kind_names": list(kinds),
            "kind_change": list(kinds.values()),
            "total": relative_change(scene.before, scene.after, places),
            "statistics": relative_change(scene.before, scene.after, statistics) if statistics else None,
        }


@dataclass(frozen=True)
class LayerPlace:
    """Position of a parameter in its net.

    Attributes:
        layer: name of its module; the parameter's own name if it is neither a weight nor a bias.
        group: one of `GROUPS`.
        kind: one of `KINDS`.
    """

    layer: str
    group: str
    kind: str


def layer_places(classifier: Classifier) -> dict[str, LayerPlace]:
    """The place of every parameter, by its name within `net`."""
    norms = classifier.norm_parameters
    groups = _groups(classifier)
    return {
        name: LayerPlace(layer_of(name), groups[name], _kind(name, classifier, name in norms))
        for name, _ in classifier.net.named_parameters()
    }


def relative_change(before: Weights, after: Weights, names: Iterable[str]) -> float | None:
    """‖after - before‖ / ‖before‖ over all tensors of these names together.

    0 if nothing has changed; None if something has changed and all values before were 0.
    """
    listed = list(names)
    moved = norm({name: after[name].double() - before[name].double() for name in listed}, listed)
    start = norm(before, listed)
    if moved == 0:
        return 0.0
    return _rounded(moved / start) if start else None


def norm(weights: Weights, names: Iterable[str]) -> float:
    """Euclidean norm of all tensors of these names together, summed in float64."""
    return math.sqrt(sum(float(weights[name].double().square().sum()) for name in names))


def _groups(classifier: Classifier) -> dict[str, str]:
    body = [name for name, _ in classifier.net.named_parameters() if name not in classifier.head_parameters]
    places = units(classifier)
    found, reached = dict.fromkeys(classifier.head_parameters, "head"), -1
    for name in body:
        reached = next((place for place, unit in enumerate(places) if f"{name}.".startswith(f"{unit}.")), reached)
        found[name] = GROUPS[max(0, int(3 * (reached + 0.5) / len(places)))]
    return found


def _kind(name: str, classifier: Classifier, is_norm: bool) -> str:
    owner = classifier.net.get_submodule(name.rpartition(".")[0])
    if name in classifier.head_parameters:
        return "head"
    if is_norm:
        return "norm"
    if _EMBEDDING.search(name):
        return "embedding"
    if _ATTENTION.search(name):
        return "attention"
    if isinstance(owner, nn.Linear):
        return "mlp"
    return "conv" if isinstance(owner, nn.modules.conv._ConvNd) else "other"


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
