"""The architecture of a model's row, and its preprocessing with the source of each field."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from rib.data.views import Decode
from rib.errors import RibError, UserError, told, with_near_path
from rib.files import expanded, parse_json, read_plain
from rib.identity import import_object, source_digest
from rib.models import clip, folding, vision
from rib.models.arguments import require_builder, require_shapes, require_text
from rib.models.build import build_net
from rib.models.catalogue import Architecture, ModelRow
from rib.models.preprocessing import (
    FIELDS,
    TRAINED,
    Preprocessing,
    of_builder,
    of_net,
    of_timm,
    of_timm_model,
    timm_config,
)
from rib.models.text import TextInput, built_text, text_input


def describe(row: ModelRow, classes: int, base: Path = Path(), decode: Decode = "exact") -> Architecture:
    """The architecture of a row, with its library's own preprocessing unless the row says otherwise.

    Args:
        row: the model.
        classes: number of outputs.
        base: the folder that relative paths start from.
        decode: how its images are decoded.

    Raises:
        UserError: the library does not know the model, or a folder has no readable configuration.
    """
    if row.is_text:
        return _describe_text(row, classes, base)
    built, own = _built(row, base, classes)
    builder = built.get("build")
    arguments = built.get("arguments", {}) | row.arguments
    require_shapes(f"model {row.title!r}", builder or f"timm:{built['timm']}", arguments)
    view = own.overridden({name: getattr(row, name) for name in FIELDS})
    try:
        architecture = Architecture(
            timm=built.get("timm"),
            build=builder,
            build_source=source_digest(builder.partition(":")[0]) if builder else None,
            arguments=arguments,
            classes=classes,
            head=(None if row.has_new_head else row.head) or built.get("head"),
            decode=None if decode == "exact" else decode,
            fill=view.fill,
            **{name: getattr(view, name) for name in FIELDS},
        )
    except ValidationError as error:  # raised for errors in a folder's configuration
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"model {row.title!r}: {place}: {first['msg'].removeprefix('Value error, ')}",
            got=ascii(first["input"])[:200],
        ) from None
    _require_size(architecture)
    if row.extension is not None:
        return architecture.extended(row.extension.function, **row.extension.arguments)
    return architecture


def _describe_text(row: ModelRow, classes: int, base: Path) -> Architecture:
    found = text_input(row, base)
    builder, arguments = built_text(row, found, base)
    if row.build is not None:
        require_builder(builder)
        import_object(builder, "model builder")
    require_shapes(f"model {row.title!r}", builder, arguments)
    return Architecture(
        timm=None,
        build=builder,
        build_source=source_digest(builder.partition(":")[0]),
        arguments=arguments,
        classes=classes,
        head=None if row.has_new_head else row.head,
        tokens=found.tokens,
    )


StatedInputs = Preprocessing | TextInput
"""How a model takes images, or texts."""


def stated_inputs(row: ModelRow, base: Path = Path(), classes: int = 1000) -> StatedInputs:
    """How a row's model takes its inputs, with sources. Args and errors as `describe`."""
    return text_input(row, base) if row.is_text else preprocessing(row, base, classes)


def preprocessing(row: ModelRow, base: Path = Path(), classes: int = 1000) -> Preprocessing:
    """The view and normalisation of a row, with the source of each field. Args and errors as `describe`."""
    return _built(row, base, classes)[1].overridden({name: getattr(row, name) for name in FIELDS})


def _built(row: ModelRow, base: Path, classes: int) -> tuple[dict[str, Any], Preprocessing]:
    """The builder of a row's model (`timm` or `build`, arguments, head), and the model's own view and normalisation."""
    if row.timm is not None:
        folded = {"build": folding.BUILDER, "arguments": {"timm": row.timm}}
        return folded if row.fold else {"timm": row.timm}, of_timm_model(row.timm)
    if row.hf is not None:
        return _from_folder(expanded(base, row.hf))
    if row.torchvision is not None:
        return _from_torchvision(row.torchvision, row)
    if row.open_clip is not None:
        config, view = clip.model_config(row.open_clip, row.tag, base)
        require_text(f"model {row.title!r}", config)
        return {"build": clip.BUILDER, "arguments": clip.builder_arguments(config), "head": "head"}, view
    assert row.build is not None
    require_builder(row.build)
    require_shapes(f"model {row.title!r}", row.build, row.arguments)  # before the net is built
    assert row.size is not None
    import_object(row.build, "model builder")  # a missing file is reported before anything runs
    return {"build": row.build}, _own_view(row, row.build, row.size, classes)


def _own_view(row: ModelRow, builder: str, size: int, classes: int) -> Preprocessing:
    """Preprocessing of a user's net: that of its row, else of the net's own configuration, else RIB's default."""
    if row.pretrain is not None:
        return of_builder(size, TRAINED)
    if row.mean is None or row.std is None:
        arguments = json.dumps(row.arguments, sort_keys=True)
        carried = _carried(builder, source_digest(builder.partition(":")[0]), arguments, size, classes)
        if carried is not None:
            return carried
    return of_builder(size)


@cache
def _carried(builder: str, source: str | None, arguments: str, size: int, classes: int) -> Preprocessing | None:
    """The preprocessing that is stored in a builder's net; None if there is none.

    Raises:
        UserError: the net cannot be built.
    """
    plain = of_builder(size)
    fields: dict[str, Any] = {name: getattr(plain, name) for name in FIELDS}
    architecture = Architecture(
        timm=None,
        build=builder,
        build_source=source,
        arguments=json.loads(arguments),
        classes=classes,
        head=None,
        **fields,
    )
    with torch.random.fork_rng(devices=[]):
        return of_net(build_net(architecture), size)


def _from_torchvision(name: str, row: ModelRow) -> tuple[dict[str, Any], Preprocessing]:
    """A torchvision model, built as for its published weights if the row uses those."""
    view = vision.own_view(name, row.tag)
    own = {}
    if row.pretrain is None and (row.tag or row.weights is None):
        own = vision.own_arguments(name, row.tag)
    elif row.weights:
        vision.require_arguments(name, row.arguments)
    return {"build": vision.BUILDER, "arguments": {"name": name} | own}, view


def _from_folder(folder: Path) -> tuple[dict[str, Any], Preprocessing]:
    """The model in a folder that timm saved: its name and arguments, and its preprocessing."""
    file = folder / "config.json"
    if not folder.is_dir():
        valid = "a folder with config.json and model.safetensors, as timm saves them"
        raise UserError("no such model folder", got=folder, valid=valid, remedy=with_near_path(folder))
    try:
        document = parse_json(read_plain(file))
        config = document.get("pretrained_cfg", document)
        arguments = {key: value for key, value in document.get("model_args", {}).items() if key != "num_classes"}
        built = {"timm": str(document["architecture"]), "arguments": arguments}
        return built, of_timm({"input_size": config["input_size"], **config}, str(file))
    except KeyError as error:
        raise UserError(
            f"{file} does not describe a timm model",
            got=f"no {error}",
            valid="`architecture` and `pretrained_cfg`, as timm.models.save_for_hf writes them",
            remedy="name the timm model and give the checkpoint as `weights`",
        ) from None
    except RibError:
        raise
    except Exception as error:  # timm completes the configuration, and may raise any error for an unknown one
        raise UserError(
            f"cannot read {file}", got=told(error), valid="the config.json of a model that timm saved"
        ) from None


def _require_size(architecture: Architecture) -> None:
    """Refuse another image size for a timm model of fixed size, unless it is one of the model's arguments.

    Raises:
        UserError: the sizes differ.
    """
    if architecture.timm is None or "img_size" in architecture.arguments:
        return
    config = timm_config(architecture.timm)
    if config.fixed_input_size and config.input_size[-1] != architecture.size:
        raise UserError(
            f"timm model {architecture.timm!r} takes images of {config.input_size[-1]} pixels",
            got=f"size = {architecture.size}",
            remedy=f"add arguments = {{ img_size = {architecture.size} }}, or leave `size` out",
        )
