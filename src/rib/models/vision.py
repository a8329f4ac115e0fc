"""torchvision's models, with the preprocessing that torchvision states for each of their published weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from rib import _compat
from rib.errors import nearest

BUILDER = "rib.models.vision:torchvision_net"


def torchvision_net(num_classes: int, name: str, **arguments: Any) -> nn.Module:
    """A torchvision model with fresh weights.

    Args:
        num_classes: outputs.
        name: as torchvision calls it.
        arguments: of torchvision's builder.
    """
    return _models().get_model(name, weights=None, num_classes=num_classes, **arguments)


def own_view(name: str, tag: str | None) -> dict[str, Any]:
    """Size, crop, interpolation, mean and std of published weights (`tag`; None for the newest).

    Raises:
        UserError: torchvision has no such model or weights.
    """
    transform = _published(name, tag).transforms()
    size = transform.crop_size[0]
    return {
        "size": size,
        "crop": size / transform.resize_size[0],
        "interpolation": transform.interpolation.value,
        "mean": tuple(transform.mean),
        "std": tuple(transform.std),
    }


def cached_file(name: str, tag: str | None) -> tuple[Path, str]:
    """Where torchvision keeps published weights once they are downloaded, and their address. Raises as `own_view`."""
    url = _published(name, tag).url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2], url


def _published(name: str, tag: str | None) -> Any:
    models = _models()
    if name not in models.list_models(module=models):
        raise nearest(name, models.list_models(module=models), "torchvision model")
    known = models.get_model_weights(name)
    if tag is not None and tag not in known.__members__:
        raise nearest(tag, known.__members__, f"weights of torchvision model {name!r}:")
    return known[tag] if tag else known.DEFAULT


def _models() -> Any:
    _compat.declare_missing_operators()
    import torchvision

    return torchvision.models
