"""Builds a net from its architecture, with freshly drawn weights."""

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


def build(architecture: Architecture, seed: int = 0, last_block: LastBlock | None = None) -> Classifier:
    """A classifier with freshly drawn weights.

    Args:
        architecture: what to build.
        seed: of the draw; the caller's random state is left as it was.
        last_block: "pooled" if only what is pooled of a transformer's last block is to be computed.

    Raises:
        UserError: the user's builder cannot be imported, or fails, or what it builds has no fitting head.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_net(architecture)
        if architecture.extension is not None:
            _extend(net, architecture)
    if last_block:
        compute_pooled_only(net)
    return classifier_of(net, architecture, architecture.heads)


def classifier_of(net: nn.Module, architecture: Architecture, heads: tuple[str, ...] | None) -> Classifier:
    """A net with what prepares its inputs.

    Args:
        net: of the architecture.
        architecture: says how inputs are prepared.
        heads: the linear layers that the answer is made of, if it is not what one gives.
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
        return _own_net(architecture)  # the user's own code may do whatever it likes
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
    except Exception as error:  # arguments are the suite's, and what they lead to in there is not foreseen
        _unbuilt(error, f"timm cannot build {name!r}", remedy="check `arguments`")


def _own_net(architecture: Architecture) -> nn.Module:
    assert architecture.build is not None
    function = import_object(architecture.build, "model builder")
    try:
        net = function(num_classes=architecture.classes, **architecture.arguments)
    except Exception as error:
        _unbuilt(
            error,
            f"cannot build the model {architecture.build!r}",
            valid="a function that takes num_classes and the suite's `arguments`",
            remedy="check `arguments`",
        )
    if not isinstance(net, nn.Module):
        raise UserError(f"{architecture.build!r} built no torch.nn.Module", got=type(net).__name__)
    return net


def _unbuilt(error: Exception, problem: str, **words: str) -> NoReturn:
    """Raise a builder's error in words, its traceback kept for the record of a step; one that has words, and a lack of
    memory, as it is."""
    if isinstance(error, RibError) or is_memory(error):
        raise error
    raise UserError(problem, got=told(error), **words) from error
