"""Compares the architecture that a checkpoint names with the one that its weights are loaded into."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from rib.errors import UserError, is_memory
from rib.models import folding, vision
from rib.models.catalogue import Architecture
from rib.models.checkpoints import CheckpointFile
from rib.models.class_order import documents
from rib.models.guard import nothing_but_building

_ENTRIES = ("arch", "architecture", "model", "model_name")
"""Names of entries with the architecture in training scripts and configurations."""


def require_stated_net(checkpoint: CheckpointFile, architecture: Architecture, net: nn.Module, what: str) -> None:
    """Refuse weights whose file names another net that has tensors of the same names and shapes.

    `tf_efficientnet_lite0` and `efficientnet_lite0` differ in their padding, and CLIP's towers with and without
    QuickGELU in an activation. The weights fit both nets but are right for only one. Nets are compared by their printed
    modules, which show layers, paddings, epsilons and activations but no other differences. Names that the library does
    not know are ignored.

    Args:
        checkpoint: the checkpoint.
        architecture: the architecture of the model.
        net: built from it.
        what: the model, for the error.

    Raises:
        UserError: the file names another net.
    """
    own = _own_name(architecture)
    if own is None:
        return
    for name, source in _stated(checkpoint):
        if _plain(name) == _plain(own):
            continue
        other = _built(name, architecture)
        if other is not None and repr(other) != repr(net):
            raise UserError(
                f"the checkpoint of {what} is of another net, whose tensors have the same names and shapes",
                got=f"{name!r} in {source}, read into {own!r}",
                valid=f"{name!r}, which the weights were trained in",
                remedy=f"name {name!r} in the model's row",
            )


def _own_name(architecture: Architecture) -> str | None:
    if architecture.build == vision.BUILDER:
        return str(architecture.arguments["name"])
    return str(architecture.arguments["timm"]) if architecture.build == folding.BUILDER else architecture.timm


def _plain(name: str) -> str:
    """The name without the tag of the weights."""
    return name.partition(".")[0]


def _stated(checkpoint: CheckpointFile) -> Iterator[tuple[str, str]]:
    """Names of architectures, each with its source."""
    for document, source in documents(checkpoint):
        for entry in _ENTRIES:
            if isinstance(name := document.get(entry), str):
                yield name, f"`{entry}` of {source}"


def _built(name: str, architecture: Architecture) -> nn.Module | None:
    """The net of that name with the model's arguments, without values; None if the library cannot build it."""
    try:
        with torch.device("meta"):
            if architecture.build == vision.BUILDER:
                return vision.torchvision_net(architecture.classes, **{**architecture.arguments, "name": name})
            import timm

            if not timm.is_model(_plain(name)):
                return None
            with nothing_but_building(f"the timm model {name!r}"):
                if architecture.build == folding.BUILDER:
                    return folding.folded_net(architecture.classes, **{**architecture.arguments, "timm": _plain(name)})
                return timm.create_model(_plain(name), num_classes=architecture.classes, **architecture.arguments)
    except Exception as error:  # a name or arguments of another library
        if is_memory(error):
            raise
        return None
