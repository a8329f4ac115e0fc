"""Building models and loading their pretrained weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from rib.errors import UserError, nearest
from rib.identity import import_object, source_digest
from rib.models.catalogue import Architecture, ModelRow, weights_path
from rib.models.classifier import Classifier
from rib.models.weights import check_weights, file_digest, read_weights

HALF = (0.5, 0.5, 0.5)


def describe(row: ModelRow, classes: int) -> Architecture:
    """The architecture of a row, with timm's own preprocessing where the row does not say otherwise.

    Raises:
        UserError: timm does not know the model.
    """
    own = (
        _timm_view(row.timm)
        if row.timm
        else {"size": row.size, "crop": 1.0, "interpolation": "bicubic", "mean": HALF, "std": HALF}
    )
    said = {field: getattr(row, field) for field in own if getattr(row, field) is not None}
    return Architecture(
        timm=row.timm,
        build=row.build,
        build_source=source_digest(row.build.partition(":")[0]) if row.build else None,
        arguments=row.arguments,
        classes=classes,
        head=row.head,
        **cast(dict[str, Any], own | said),
    )


@cache
def _timm_view(name: str) -> dict[str, Any]:
    import timm

    if not timm.is_model(name):
        raise nearest(name, timm.list_models(), "timm model")
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    assert config is not None
    return {
        "size": config.input_size[-1],
        "crop": config.crop_pct,
        "interpolation": _known_filter(config.interpolation),
        "mean": tuple(config.mean),
        "std": tuple(config.std),
    }


def _known_filter(name: str) -> Literal["bilinear", "bicubic", "nearest", "lanczos"]:
    return cast(Any, name) if name in ("bilinear", "bicubic", "nearest", "lanczos") else "bicubic"


def build(architecture: Architecture, seed: int = 0) -> Classifier:
    """A classifier with freshly drawn weights.

    Args:
        architecture: what to build.
        seed: of the draw; the caller's random state is left as it was.

    Raises:
        UserError: the user's builder cannot be imported or called, or what it builds has no fitting head.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _timm_net(architecture) if architecture.timm else _own_net(architecture)
    return Classifier(net, architecture.classes, architecture.mean, architecture.std, architecture.head)


def _timm_net(architecture: Architecture) -> nn.Module:
    import timm

    assert architecture.timm is not None
    try:
        return timm.create_model(architecture.timm, num_classes=architecture.classes, **architecture.arguments)
    except TypeError as error:
        raise UserError(f"timm cannot build {architecture.timm!r}", got=error, remedy="check `arguments`") from None


def _own_net(architecture: Architecture) -> nn.Module:
    assert architecture.build is not None
    function = import_object(architecture.build, "model builder")
    try:
        net = function(num_classes=architecture.classes, **architecture.arguments)
    except TypeError as error:
        raise UserError(
            f"cannot build the model {architecture.build!r}",
            got=error,
            valid="a function that takes num_classes and the suite's `arguments`",
        ) from None
    if not isinstance(net, nn.Module):
        raise UserError(f"{architecture.build!r} built no torch.nn.Module", got=type(net).__name__)
    return net


def weights_digest(name: str, row: ModelRow, base: Path) -> str:
    """What the pretrained weights of a row are: a digest of the file, or the name of timm's published weights.

    Raises:
        UserError: the file is missing.
    """
    path = weights_path(row, base)
    if path is None:
        return f"timm:{row.timm}"
    if not path.is_file():
        raise UserError(
            f"no weights for model {name!r}",
            got=path,
            remedy="put the checkpoint there, or correct `weights`",
        )
    return file_digest(path)


def load_pretrained(name: str, row: ModelRow, architecture: Architecture, base: Path) -> dict[str, Tensor]:
    """The pretrained weights of a row, checked against its architecture.

    Raises:
        UserError: they are missing, do not fit, or are not finite.
    """
    path = weights_path(row, base)
    weights = read_weights(path) if path else _published(row, architecture)
    check_weights(weights, build(architecture).net, f"model {name!r}")
    return weights


def _published(row: ModelRow, architecture: Architecture) -> dict[str, Tensor]:
    import timm

    assert row.timm is not None
    try:
        net = timm.create_model(row.timm, pretrained=True, num_classes=architecture.classes, **row.arguments)
    except Exception as error:  # the hub's clients raise many kinds, all of them meaning: not there
        raise UserError(
            f"the weights of timm model {row.timm!r} are not on this machine",
            got=str(error).splitlines()[0][:200] if str(error) else type(error).__name__,
            remedy=f"with a network: python -c \"import timm; timm.create_model('{row.timm}', pretrained=True)\"; "
            "or name a local checkpoint as `weights`",
        ) from None
    return dict(net.state_dict())
