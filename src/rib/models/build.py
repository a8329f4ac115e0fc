"""Builds a net with random weights from its architecture."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import nn

from rib.errors import RibError, UserError, is_memory, told
from rib.identity import import_object
from rib.models import transformer
from rib.models.arguments import OWN_BUILDERS
from rib.models.catalogue import Architecture
from rib.models.classifier import Classifier, TokenIds
from rib.models.extensions import Site, extend
from rib.models.guard import nothing_but_building
from rib.models.last_block import compute_pooled_only
from rib.recipe import LastBlock
from rib.usercode.reading import files_read, require_declared


def build(architecture: Architecture, seed: int = 0, last_block: LastBlock | None = None) -> Classifier:
    """A classifier with random weights.

    Args:
        architecture: the architecture.
        seed: seed of the weights; the caller's random state does not change.
        last_block: "pooled" to compute only the pooled token in a transformer's last block.

    Raises:
        UserError: the user's builder cannot be imported or fails, or the net has no fitting head.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_net(architecture)
        if architecture.extension is not None:
            _extend(net, architecture)
    if last_block:
        compute_pooled_only(net)
    return classifier_of(net, architecture, architecture.heads)


def meta_classifier(architecture: Architecture) -> Classifier:
    """A classifier whose tensors have shapes and no values, where its builder allows it. Raises as `build`."""
    try:
        with torch.device("meta"):
            return build(architecture)
    except Exception as error:  # a builder of the user's may need values; its own fault shows below
        if is_memory(error):
            raise
        return build(architecture)


def classifier_of(net: nn.Module, architecture: Architecture, heads: tuple[str, ...] | None) -> Classifier:
    """A classifier of a net and the preparation of its inputs.

    Args:
        net: built from the architecture.
        architecture: defines how inputs are prepared.
        heads: the linear layers that the output is computed from, if it is not the output of a single one.
    """
    prepare = TokenIds(architecture.tokens.blank) if architecture.tokens else None
    return Classifier(
        net, architecture.classes, architecture.mean, architecture.std, architecture.head, heads, prepare=prepare
    )


def _extend(net: nn.Module, architecture: Architecture) -> None:
    plain = classifier_of(net, architecture, None)
    blank = plain.prepared(torch.from_numpy(architecture.view.batch(2)).to(plain.device))
    extend(architecture, Site(net, plain.head_name, blank))


def build_net(architecture: Architecture) -> nn.Module:
    if architecture.timm is not None:
        import timm

        with nothing_but_building(f"the timm model {architecture.timm!r}"):
            return _timm_net(architecture)
    if architecture.build not in OWN_BUILDERS:
        return _own_net(architecture)  # the user's code may do anything
    import timm  # noqa: F401 -- as above, for the nets that are built of its layers

    if architecture.build == transformer.BUILDER:
        transformer.require_installed()
    with nothing_but_building(f"the model {architecture.build!r}"):
        return _own_net(architecture)


def _timm_net(architecture: Architecture) -> nn.Module:
    import timm

    name = architecture.timm
    assert name is not None
    try:
        return timm.create_model(name, num_classes=architecture.classes, **architecture.arguments)
    except Exception as error:  # the arguments come from the suite, and their effects in the library are unknown
        _unbuilt(error, f"timm cannot build {name!r}", remedy="check `arguments`")


def _own_net(architecture: Architecture) -> nn.Module:
    assert architecture.build is not None
    function = import_object(architecture.build, "model builder")
    try:
        with files_read() as read:
            net = function(num_classes=architecture.classes, **architecture.arguments)
    except Exception as error:
        _unbuilt(
            error,
            f"cannot build the model {architecture.build!r}",
            valid="a function that takes num_classes and the suite's `arguments`",
            remedy="check `arguments`",
        )
    require_declared(architecture.build.partition(":")[0], read)
    if not isinstance(net, nn.Module):
        raise UserError(f"{architecture.build!r} built no torch.nn.Module", got=type(net).__name__)
    return net


def _unbuilt(error: Exception, problem: str, **words: str) -> NoReturn:
    """Raise a builder's error as a UserError, with its traceback for the record of a step.

    Raises:
        UserError: the error; a UserError and an out-of-memory error are raised unchanged.
    """
    if isinstance(error, RibError) or is_memory(error):
        raise error
    raise UserError(problem, got=told(error), **words) from error
