"""Blocks, the repeated units of a net, and the depth of each tensor."""

from __future__ import annotations

import re

from torch import nn

from rib.models.classifier import Classifier

_LISTS = (nn.Sequential, nn.ModuleList)
_OUTSIDE = re.compile(r"stem|embed|downsample")


def blocks(net: nn.Module) -> tuple[str, ...]:
    """Names of the repeated units: transformer blocks, residual blocks.

    A block is an element of a list of modules. It contains modules but no other block, and is not part of a stem, an
    embedding or a shortcut.
    """
    found = [
        f"{place}.{name}".removeprefix(".")
        for place, parent in net.named_modules()
        if isinstance(parent, _LISTS)
        for name, child in parent.named_children()
        if not isinstance(child, _LISTS) and any(child.children())
    ]
    found = [name for name in found if not _OUTSIDE.search(name)]
    return tuple(name for name in found if not any(other.startswith(f"{name}.") for other in found))


def units(classifier: Classifier) -> tuple[str, ...]:
    """The blocks of a model in order; for a model without blocks, its layers that have parameters, without the head."""
    body = [name for name, _ in classifier.net.named_parameters() if name not in classifier.head_parameters]
    return blocks(classifier.net) or tuple(dict.fromkeys(map(layer_of, body)))


def layer_of(parameter: str) -> str:
    """The name of the module of a weight or bias. Any other parameter counts as a layer of its own."""
    return parameter.removesuffix(".weight").removesuffix(".bias")
