"""The arguments that a suite, or the configuration in another person's folder, may pass to a library's model builder.

Builders of timm, torchvision and open_clip also take arguments that download weights, open files or choose where to
write them. So RIB allows only the names in the signatures of the nets, and only values that can be neither a path nor
an address: numbers, plain words and lists of them.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from torch import nn

from rib import _compat
from rib.errors import UserError, nearest
from rib.models import clip, folding, transformer, vision
from rib.models.characters import decoder, encoder
from rib.models.preprocessing import timm_config
from rib.models.small import small_resnet, small_vit

OWN_BUILDERS: Mapping[str, Callable[..., nn.Module]] = {
    "rib.models.small:small_resnet": small_resnet,
    "rib.models.small:small_vit": small_vit,
    clip.BUILDER: clip.clip_classifier,
    vision.BUILDER: vision.torchvision_net,
    folding.BUILDER: folding.folded_net,
    transformer.BUILDER: transformer.transformers_net,
    "rib.models.characters:encoder": encoder,
    "rib.models.characters:decoder": decoder,
}
"""RIB's functions that a suite may name as `build`."""

_NEVER = frozenset(
    [
        "num_classes",
        "device",
        "dtype",
        "weights",
        "weights_backbone",
        "progress",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_strict",
        "checkpoint_path",
        "cache_dir",
        "scriptable",
        "exportable",
        "no_jit",
        "features_only",
        "out_indices",
        "feature_cfg",
        "feature_cls",
        "feature_location",
        "cfg",
        "kwargs",
        "args",
        "self",
        "block",
        "conv_block",
        "hybrid_backbone",
        "stem_backbone",
        "meta",
        "url",
        "transforms",
    ]
)
"""Arguments of any signature that load, write, move a net or replace its parts by objects."""

_WORD = re.compile(r"[\w+-]{0,64}", re.ASCII)
"""A value that is a word, such as "silu" or "avg". Without dot, colon and slash it is neither a path nor an address."""

_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)

_VISION = "vision"


def require_shapes(title: str, builder: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that do not describe the shape of the net.

    Args:
        title: names the model's row in the error.
        builder: "timm:NAME" for a timm model, else a function of `OWN_BUILDERS`; the user's own builders take anything.
        arguments: the arguments that will be passed.

    Raises:
        UserError: a name or a value is not allowed; the message has it and the allowed names.
    """
    if not arguments:
        return
    if builder.startswith("timm:"):
        _require(title, arguments, timm_arguments(builder.removeprefix("timm:")))
    elif builder == vision.BUILDER:
        name = str(arguments.get("name"))
        own = {key: value for key, value in arguments.items() if key != "name"}
        _require(title, own, torchvision_arguments(name))
    elif builder == folding.BUILDER:
        own = {key: value for key, value in arguments.items() if key != "timm"}
        _require(title, own, timm_arguments(str(arguments.get("timm"))))
    elif builder == clip.BUILDER:
        _require_clip(title, arguments)
    elif builder in OWN_BUILDERS:
        _require(title, arguments, frozenset(inspect.signature(OWN_BUILDERS[builder]).parameters) - _NEVER)


def require_text(title: str, config: Mapping[str, Any]) -> None:
    """Refuse an open_clip configuration whose text tower would load more than its tokenizer.

    Args:
        title: names the model's row in the error.
        config: open_clip's `model_cfg`.

    Raises:
        UserError: it has a field that is not open_clip's, or would download a tower.
    """
    tower = _table(title, "text_cfg", config.get("text_cfg", {}))
    if tower.pop("hf_model_pretrained", False):
        raise UserError(f"{title}: `hf_model_pretrained` would download weights", remedy="set it to false")
    for field in ("hf_model_name", "hf_tokenizer_name"):
        name = tower.pop(field, None)
        if name is not None and not (isinstance(name, str) and _REPOSITORY.fullmatch(name)):
            raise UserError(f"{title}: `text_cfg.{field}` names no repository", got=ascii(name), valid="OWNER/NAME")
    _require(title, tower, clip.text_fields(), "text_cfg")


def require_builder(path: str) -> None:
    """Refuse a function inside RIB that is no model builder.

    Raises:
        UserError: it is none of `OWN_BUILDERS`.
    """
    if path.partition(":")[0].partition(".")[0] == "rib" and path not in OWN_BUILDERS:
        raise nearest(path, OWN_BUILDERS, "model builder of RIB's own:")


@cache
def timm_arguments(name: str) -> frozenset[str]:
    """Names of the arguments that shape a timm model: parameters of the nets in its module, and fields of their
    configs.

    Raises:
        UserError: timm has no model of that name.
    """
    timm_config(name)  # raises if timm has no such model
    from timm.models import model_entrypoint

    return _names(sys.modules[model_entrypoint(name.partition(".")[0]).__module__])


@cache
def torchvision_arguments(name: str) -> frozenset[str]:
    """Names of the arguments that shape a torchvision model, from the classes in the module of its builder.

    Raises:
        UserError: torchvision has no classifier of that name.
    """
    _compat.declare_missing_operators()
    from torchvision import models

    if name not in (known := models.list_models(module=models)):
        raise nearest(name, known, "torchvision model")
    return _names(sys.modules[inspect.unwrap(models.get_model_builder(name)).__module__])


def _names(module: Any) -> frozenset[str]:
    kinds = [kind for kind in vars(module).values() if inspect.isclass(kind)]
    nets = (base for kind in kinds if issubclass(kind, nn.Module) for base in _classifiers(kind))
    configs = (kind for kind in kinds if dataclasses.is_dataclass(kind) and not issubclass(kind, nn.Module))
    found = {name for net in nets for name in _parameters(net)}
    return frozenset(found | {field.name for kind in configs for field in dataclasses.fields(kind)}) - _NEVER


def _classifiers(kind: type[nn.Module]) -> Iterator[type[nn.Module]]:
    """The class and those of its bases that take a number of classes, because subclasses often pass arguments on as
    **kwargs.
    """
    for base in kind.__mro__:
        if issubclass(base, nn.Module) and "num_classes" in _parameters(base):
            yield base


def _parameters(kind: Any) -> Collection[str]:
    return inspect.signature(kind.__init__).parameters


def _require(title: str, arguments: Mapping[str, Any], allowed: Collection[str], where: str = "arguments") -> None:
    for name, value in arguments.items():
        if name not in allowed:
            raise UserError(
                f"{title}: `{where}` accepts only parameters that shape the net, and {name!r} is not one",
                got=name,
                valid=", ".join(sorted(allowed)),
                remedy="name a pretrained checkpoint as `weights`" if _loads(name) else "take it out",
            )
        if (bad := next(_unfit(value), None)) is not None:
            raise UserError(
                f"{title}: `{where}.{name}` has a value that cannot shape a net",
                got=ascii(bad),
                valid="numbers, true or false, words of letters and digits, and lists and tables of these",
            )


def _loads(name: str) -> bool:
    return name.startswith(("pretrained", "weights", "checkpoint"))


def _unfit(value: object) -> Iterator[object]:
    """The parts of a value that are not numbers, plain words, or lists or tables of these."""
    if isinstance(value, str):
        if not _WORD.fullmatch(value):
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _unfit(name)
            yield from _unfit(item)
    elif isinstance(value, Iterable):
        for item in value:
            yield from _unfit(item)
    elif value is not None and not isinstance(value, bool | int | float):
        yield value


def _require_clip(title: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of an open_clip image tower that are not fields of its configuration, or that would load
    weights.

    Raises:
        UserError: there is such an argument.
    """
    own = {key: value for key, value in arguments.items() if key != _VISION}
    _require(title, own, frozenset(inspect.signature(clip.clip_classifier).parameters) - _NEVER - {_VISION})
    tower = _table(title, f"arguments.{_VISION}", arguments.get(_VISION, {}))
    if tower.pop("timm_model_pretrained", False):
        raise UserError(f"{title}: `timm_model_pretrained` would download weights", remedy="set it to false")
    name = tower.pop("timm_model_name", None)
    if name is not None and not _is_timm(name):
        raise UserError(f"{title}: the tower is not a timm model", got=ascii(name), valid="a timm model's name")
    _require(title, tower, clip.tower_fields(), f"arguments.{_VISION}")


def _table(title: str, where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(
            f"{title}: `{where}` is no table", got=ascii(value)[:200], valid="a table of open_clip's fields"
        )
    return dict(value)


def _is_timm(name: object) -> bool:
    _compat.declare_missing_operators()
    import timm

    return isinstance(name, str) and bool(re.fullmatch(r"[\w.]+", name, re.ASCII)) and timm.is_model(name)
