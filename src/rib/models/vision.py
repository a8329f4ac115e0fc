"""torchvision's models, with the preprocessing that torchvision states for their published weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rib import _compat
from rib.errors import UserError, nearest
from rib.models.preprocessing import Preprocessing, known_filter, stated, triple

BUILDER = "rib.models.vision:torchvision_net"


_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Models with auxiliary heads for training, and the prefixes of those heads' tensors."""

_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")


def torchvision_net(num_classes: int, name: str, **arguments: Any) -> nn.Module:
    """A torchvision model with random weights, without auxiliary heads unless `arguments` request them.

    Args:
        num_classes: number of outputs.
        name: torchvision's name.
        arguments: arguments of torchvision's builder.
    """
    own = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY else {}
    return _models().get_model(name, weights=None, num_classes=num_classes, **(own | arguments))


def own_arguments(name: str, tag: str | None) -> dict[str, Any]:
    """Arguments that torchvision's builder sets for published weights, if they differ from its defaults.

    Args:
        name: torchvision's name.
        tag: which published weights; None for the newest.

    Raises:
        UserError: torchvision has no such model or weights.
    """
    weights = _published(name, tag)
    if name in _AUXILIARY:
        return {"transform_input": True}
    side = weights.meta.get("min_size", (224, 224))
    if name.startswith("vit_") and side[0] != 224:
        return {"image_size": side[0]}
    return {}


def require_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuse a user's weights for a net that torchvision builds differently with and without published weights.

    Raises:
        UserError: the arguments do not say which of the two is meant.
    """
    if name in _AUXILIARY and "transform_input" not in arguments:
        raise UserError(
            f"nothing says how {name!r} normalises images within the net",
            got="`weights` without `tag` and without arguments.transform_input",
            valid="transform_input = true, as for nets that start from torchvision's weights; or false",
            remedy="add arguments = { transform_input = true } to the model's row, or false",
        )


def converted(name: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under torchvision's current names, without auxiliary heads.

    torchvision's own loading does the same: the published files of its densenets have older names, and those of
    googlenet and inception_v3 contain heads that the net lacks.
    """
    if name.startswith("densenet"):
        return {_OLD_DENSENET.sub(r"\1\2.", key): tensor for key, tensor in weights.items()}
    auxiliary = _AUXILIARY.get(name, ())
    return {key: tensor for key, tensor in weights.items() if not (auxiliary and key.startswith(auxiliary))}


def own_view(name: str, tag: str | None) -> Preprocessing:
    """The preprocessing that torchvision states for published weights.

    Args:
        name: torchvision's name.
        tag: which published weights; None for the newest.

    Raises:
        UserError: torchvision has no such model or weights.
    """
    weights = _published(name, tag)
    transform = weights.transforms()
    source = f"torchvision's transform of {name} {weights.name}"
    size = transform.crop_size[0]
    return stated(
        source,
        size=size,
        crop=size / transform.resize_size[0],
        resize=None,
        interpolation=known_filter(transform.interpolation.value, source),
        mean=triple(transform.mean, source),
        std=triple(transform.std, source),
    )


def cached_file(name: str, tag: str | None) -> tuple[Path, str]:
    """torchvision's path for downloaded weights, and their address. Raises as `own_view`."""
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
