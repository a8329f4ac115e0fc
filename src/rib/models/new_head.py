"""New heads: pretrained weights without their own head, for classes that they were not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from rib.models.classifier import Classifier
from rib.models.fitting import Convert


def with_new_head(convert: Convert, net: nn.Module, heads: Sequence[str]) -> Convert:
    """A conversion of a checkpoint's tensors that also replaces the head by the net's random one.

    It drops whatever the checkpoint has under the head's name: a layer with other classes, a projection of several
    layers, or nothing.

    Args:
        convert: the library's conversion of names.
        net: has random weights.
        heads: names of the linear layers that its output is computed from.
    """
    inside = tuple(f"{head}." for head in heads)
    fresh = {name: value for name, value in net.state_dict().items() if name.startswith(inside)}

    def replaced(tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
        named = convert({name: value for name, value in tensors.items() if not name.startswith(inside)})
        return None if named is None else _outside(named, inside) | fresh

    return replaced


def _outside(named: Mapping[str, Tensor], inside: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: value for name, value in named.items() if not name.startswith(inside)}


def fresh_head(classifier: Classifier) -> dict[str, Tensor]:
    """The parameters of a net's head, by name."""
    return {name: value for name, value in classifier.net.state_dict().items() if name in classifier.head_parameters}
