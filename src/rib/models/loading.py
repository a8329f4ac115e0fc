"""Building models and loading their pretrained weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from rib.data.imagenet_classes import wnids
from rib.data.views import Decode
from rib.errors import RibError, UserError, is_memory, told
from rib.files import at_home, file_digest, parse_json, read_fact, read_plain, state, write_fact
from rib.identity import digest, import_object, source_digest
from rib.models import clip, folding, lite, vision
from rib.models.arguments import OWN_BUILDERS, require_builder, require_shapes, require_text
from rib.models.catalogue import Architecture, ModelRow
from rib.models.checkpoints import CheckpointFile, read_checkpoint
from rib.models.class_order import Stated, documents, order_of, reordered, stated_by_files
from rib.models.classifier import Classifier
from rib.models.fitting import Convert, fit_weights, require_numbers
from rib.models.guard import nothing_but_building
from rib.models.last_block import compute_pooled_only
from rib.models.preprocessing import (
    FIELDS,
    TRAINED,
    Preprocessing,
    of_builder,
    of_net,
    of_timm,
    of_timm_model,
    require_agreement,
    timm_config,
)
from rib.models.sources import cached_digest, weights_file
from rib.models.stated_net import require_stated_net
from rib.models.weights import check_finite, read_weights, write_weights
from rib.recipe import LastBlock


def describe(row: ModelRow, classes: int, base: Path = Path(), decode: Decode = "exact") -> Architecture:
    """The architecture of a row, with its library's own preprocessing where the row does not say otherwise.

    Args:
        row: the model.
        classes: outputs.
        base: the folder that relative paths start from.
        decode: how its images are decoded.

    Raises:
        UserError: the library does not know the model, or a folder has no readable configuration.
    """
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
            head=row.head or built.get("head"),
            decode=None if decode == "exact" else decode,
            fill=view.fill,
            **{name: getattr(view, name) for name in FIELDS},
        )
    except ValidationError as error:  # of what a folder's configuration says
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"model {row.title!r}: {place}: {first['msg']}", got=ascii(first["input"])[:200]) from None
    _require_size(architecture)
    return architecture


def preprocessing(row: ModelRow, base: Path = Path(), classes: int = 1000) -> Preprocessing:
    """The view and normalisation of a row, and who stated each field. Takes and raises as `describe`."""
    return _built(row, base, classes)[1].overridden({name: getattr(row, name) for name in FIELDS})


def _built(row: ModelRow, base: Path, classes: int) -> tuple[dict[str, Any], Preprocessing]:
    """How a row's model is built (`timm` or `build`, arguments, head), and its own view and normalisation."""
    if row.timm is not None:
        folded = {"build": folding.BUILDER, "arguments": {"timm": row.timm}}
        return folded if row.fold else {"timm": row.timm}, of_timm_model(row.timm)
    if row.hf is not None:
        return _from_folder(base / at_home(os.path.expandvars(row.hf)))
    if row.torchvision is not None:
        return _from_torchvision(row.torchvision, row)
    if row.open_clip is not None:
        config, view = clip.model_config(row.open_clip, row.tag, base)
        require_text(f"model {row.title!r}", config)
        return {"build": clip.BUILDER, "arguments": clip.builder_arguments(config), "head": "head"}, view
    assert row.build is not None
    require_builder(row.build)
    require_shapes(f"model {row.title!r}", row.build, row.arguments)  # before the net is built for what it carries
    assert row.size is not None
    import_object(row.build, "model builder")  # that it is there is known before anything runs
    return {"build": row.build}, _own_view(row, row.build, row.size, classes)


def _own_view(row: ModelRow, builder: str, size: int, classes: int) -> Preprocessing:
    """View of a user's net: its row, then the net's own configuration, then RIB's default."""
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
    """The preprocessing that a builder's net carries. Raises UserError if the net cannot be built."""
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
        return of_net(_built_net(architecture), size)


def _from_torchvision(name: str, row: ModelRow) -> tuple[dict[str, Any], Preprocessing]:
    """Built as torchvision builds it for its own weights, where those are meant."""
    view = vision.own_view(name, row.tag)
    own = {}
    if row.pretrain is None and (row.tag or row.weights is None):
        own = vision.own_arguments(name, row.tag)
    elif row.weights:
        vision.require_arguments(name, row.arguments)
    return {"build": vision.BUILDER, "arguments": {"name": name} | own}, view


def _from_folder(folder: Path) -> tuple[dict[str, Any], Preprocessing]:
    """The model in a folder that timm saved: its name and arguments, and its view."""
    file = folder / "config.json"
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
    except Exception as error:  # timm completes the configuration, and does not foresee what a stranger's holds
        raise UserError(
            f"cannot read {file}", got=told(error), valid="the config.json of a model that timm saved"
        ) from None


def _require_size(architecture: Architecture) -> None:
    """A timm model of a fixed size takes another one only as an argument."""
    if architecture.timm is None or "img_size" in architecture.arguments:
        return
    config = timm_config(architecture.timm)
    if config.fixed_input_size and config.input_size[-1] != architecture.size:
        raise UserError(
            f"timm model {architecture.timm!r} takes images of {config.input_size[-1]} pixels",
            got=f"size = {architecture.size}",
            remedy=f"add arguments = {{ img_size = {architecture.size} }}, or leave `size` out",
        )


def build(architecture: Architecture, seed: int = 0, last_block: LastBlock | None = None) -> Classifier:
    """A classifier with freshly drawn weights.

    Args:
        architecture: what to build.
        seed: of the draw; the caller's random state is left as it was.
        last_block: "pooled" where only what is pooled of a transformer's last block is to be computed.

    Raises:
        UserError: the user's builder cannot be imported, or fails, or what it builds has no fitting head.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _built_net(architecture)
    if last_block:
        compute_pooled_only(net)
    view = architecture.mean, architecture.std
    return Classifier(net, architecture.classes, *view, architecture.head, architecture.heads)


def _built_net(architecture: Architecture) -> nn.Module:
    if architecture.timm is not None:
        import timm

        with nothing_but_building(f"the timm model {architecture.timm!r}"):
            return _timm_net(architecture)
    if architecture.build not in OWN_BUILDERS:
        return _own_net(architecture)  # the user's own code may do whatever it likes
    import timm  # noqa: F401 -- as above, for the nets that are built of its layers

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


def weights_digest(
    name: str,
    row: ModelRow,
    base: Path,
    classes: Sequence[str] = (),
    cache_folder: Path | None = None,
    fresh: bool = False,
) -> str:
    """Digest of a row's pretrained weights: of the checkpoint, and of the words behind its head.

    Args:
        name: as the suite names it.
        row: its row.
        base: the folder that relative paths start from.
        classes: the reference set's classes.
        cache_folder: folder of digests of files that have not changed.
        fresh: read the checkpoint, whatever is known of its file.

    Raises:
        UserError: the checkpoint is missing.
    """
    content = cached_digest(weights_file(name, row, base), cache_folder, fresh)
    if row.open_clip is None:
        return content
    text = clip.text_identity(_words(row, classes), row.prompts)
    return digest(json.dumps([content, text]).encode())


def load_pretrained(
    name: str,
    row: ModelRow,
    architecture: Architecture,
    base: Path,
    classes: Sequence[str] = (),
    cache_folder: Path | None = None,
    device: str = "cpu",
    expected: str | None = None,
) -> dict[str, Tensor]:
    """The pretrained weights of a row, checked against its architecture.

    Args: as `weights_digest`, and
        architecture: of the row.
        device: where the text tower of a CLIP model runs.
        expected: their `weights_identity`, as it was when they were planned with.

    Raises:
        UserError: they are missing, do not fit, are not finite, or are others than expected.
    """
    file = weights_file(name, row, base)
    before = state(file.stat())
    if row.open_clip is not None and not _is_classifier(row, file, architecture):
        weights, reading = _clip_weights(name, row, file, base, classes, cache_folder, device), Reading()
    else:
        weights, reading = _read(name, row, architecture, file, classes)
    if expected is not None:
        content = weights_digest(name, row, base, classes)  # of the bytes that are there once all was read
        if _identity(row, content, reading.text) != expected or state(file.stat()) != before:
            raise _replaced(name, file)
    return weights


def _identity(row: ModelRow, content: str, text: str) -> str:
    """`weights_identity`, of the digest of a checkpoint and of the words for how it is read."""
    shipped = row.weights is not None and row.weights.startswith("zoo:")
    return digest(json.dumps([content, text]).encode()) if text and not shipped else content


def _replaced(name: str, file: Path) -> UserError:
    return UserError(
        f"the checkpoint of model {name!r} was replaced after it was fingerprinted",
        got=f"other bytes in {file}",
        valid="a file that stays as it is while it is used",
        remedy="run again once nothing writes it; steps of the new weights are then new",
    )


@dataclass(frozen=True)
class Reading:
    """How a checkpoint became the weights of a model, where that is not plain. Part of what the weights are.

    Attributes:
        entry: the set of weights that the row chose; "" for the only one.
        cast: whether tensors were stored in another precision.
        order: the checkpoint's output for each class of the reference set; None for its own order.
    """

    entry: str = ""
    cast: bool = False
    order: tuple[int, ...] | None = None

    @property
    def text(self) -> str:
        """The architecture as JSON, without default values; "" if all values are defaults."""
        fields = {"entry": self.entry or None, "cast": self.cast or None, "order": self.order}
        given = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(given) if given else ""


def weights_identity(
    name: str,
    row: ModelRow,
    architecture: Architecture,
    base: Path,
    classes: Sequence[str] = (),
    cache_folder: Path | None = None,
    fresh: bool = False,
) -> str:
    """Digest of a row's pretrained weights after they fit: `weights_digest`, and how they are read.

    The checkpoint is read and checked against the net, unless an earlier check has passed.

    Args: as `load_pretrained`, and
        fresh: read the checkpoint, whatever is known of its file.

    Raises:
        UserError: as `load_pretrained`.
    """
    content = weights_digest(name, row, base, classes, cache_folder, fresh)
    if row.weights and row.weights.startswith("zoo:"):
        return content
    file = weights_file(name, row, base)
    stated = [getattr(row, field) is not None for field in FIELDS]
    seen = [content, architecture.model_dump(mode="json"), list(classes), row.weights_key, row.outputs, stated]
    seen.append(_beside(file))
    known = cache_folder / f"fits-{digest(json.dumps([*seen, _READINGS]).encode())}.txt" if cache_folder else None
    text = read_fact(known) if known else None
    if text is None:
        text = _reading(name, row, architecture, file, base, classes).text.encode()
        if weights_digest(name, row, base, classes) != content:
            raise _replaced(name, file)
        if known:
            write_fact(known, text)
    return _identity(row, content, text.decode())


_READINGS = 4
"""Version of what `weights_identity` keeps, and of what it refuses."""


def _beside(file: Path) -> list[str]:
    """Digests of the configurations beside a checkpoint, which may state its classes."""
    places = (file.with_suffix(".json"), file.with_name("config.json"))
    return [digest(read_plain(place)) for place in places if place.is_file()]


def _reading(
    name: str, row: ModelRow, architecture: Architecture, file: Path, base: Path, classes: Sequence[str]
) -> Reading:
    if row.open_clip is not None and not _is_classifier(row, file, architecture):
        config, _ = clip.model_config(row.open_clip, row.tag, base)
        clip.read_model(file, row.open_clip, config)
        return Reading()
    return _read(name, row, architecture, file, classes)[1]


def _read(
    name: str, row: ModelRow, architecture: Architecture, file: Path, classes: Sequence[str]
) -> tuple[dict[str, Tensor], Reading]:
    """The weights of a net that a checkpoint holds, their head in the order of the reference set's classes."""
    checkpoint, what = read_checkpoint(file), f"model {name!r}"
    classifier = build(architecture)
    head = classifier.head_name
    net = classifier.net
    fitted = fit_weights(checkpoint, net, what, head, row.weights_key, *_conversions(row, architecture, net))
    check_finite(fitted.weights, what)
    require_stated_net(checkpoint, architecture, net, what)
    view = {field: getattr(architecture, field) for field in FIELDS if getattr(row, field) is None}
    for document, source in documents(checkpoint) if row.weights else ():
        require_agreement(document, view, what, source)
    stated = _stated_classes(row, checkpoint, classes)
    order = order_of(stated, classes, what) if stated and classes else None
    weights = reordered(fitted.weights, net, head, order, what) if order else fitted.weights
    return weights, Reading(fitted.entry if fitted.chosen else "", fitted.cast, order)


def _stated_classes(row: ModelRow, checkpoint: CheckpointFile, classes: Sequence[str]) -> Stated | None:
    """The meaning of a model's outputs, from its row, its files, or the library that publishes it."""
    if row.outputs is not None:
        return Stated(row.outputs, "`outputs` of the model's row")
    published = row.weights is None or row.weights.startswith(lite.SCHEME)
    if published and (row.timm or row.torchvision):
        names = wnids()
        return Stated(names, "ImageNet's classes") if set(names) == set(classes) else None
    return stated_by_files(checkpoint)


def _conversions(row: ModelRow, architecture: Architecture, net: nn.Module) -> tuple[Convert, Convert | None]:
    """How a library changes the names of its checkpoints, and what it makes of a foreign form."""
    if row.torchvision is not None:
        return partial(vision.converted, row.torchvision), None
    if row.fold:
        return partial(_folded, architecture), None
    if architecture.timm is not None:
        ported = architecture.timm.startswith(lite.ARCHITECTURES)
        convert = partial(lite.in_timms_names, net=net.state_dict().keys()) if ported else dict
        return convert, partial(_converted_by_timm, architecture)
    return dict, None


def _folded(architecture: Architecture, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a timm model in the form of its folded net."""
    names = architecture.arguments
    if str(names["timm"]).startswith(lite.ARCHITECTURES):
        weights = lite.in_timms_names(weights, folding.plain_names(architecture.classes, **names))
    return folding.fold_weights(weights, architecture.classes, **names)


def _converted_by_timm(architecture: Architecture, weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """A foreign form in timm's own names, if timm converts it; None otherwise. Its head is never replaced."""
    import timm

    assert architecture.timm is not None
    require_numbers(weights, f"the checkpoint of timm model {architecture.timm!r}")
    overlay = {"state_dict": dict(weights), "num_classes": architecture.classes, "source": "", "custom_load": False}
    try:
        with nothing_but_building(f"the timm model {architecture.timm!r}"):
            net = timm.create_model(
                architecture.timm,
                pretrained=True,
                num_classes=architecture.classes,
                pretrained_cfg_overlay=overlay,
                **architecture.arguments,
            )
    except (RuntimeError, KeyError, ValueError, AttributeError, TypeError):  # as many as there are foreign forms
        return None
    return dict(net.state_dict())


def _is_classifier(row: ModelRow, file: Path, architecture: Architecture) -> bool:
    """Whether a checkpoint is an image tower with its head, as tuning leaves it, and no whole CLIP model."""
    if row.weights is None:
        return False
    named = build(architecture).net.state_dict().keys()
    return any(
        named <= {name.removeprefix("module.") for name in state} for state in read_checkpoint(file).states.values()
    )


def _clip_weights(
    name: str,
    row: ModelRow,
    file: Path,
    base: Path,
    classes: Sequence[str],
    cache_folder: Path | None,
    device: str,
) -> dict[str, Tensor]:
    """Image tower and zero-shot head, kept in the cache: the text tower reads 80,000 sentences for ImageNet."""
    assert row.open_clip is not None
    planned = weights_digest(name, row, base, classes, cache_folder)
    kept = cache_folder / f"clip-{planned}.safetensors" if cache_folder else None
    if kept and kept.exists() and read_fact(kept.with_suffix(".txt")) == file_digest(kept).encode():
        return read_weights(kept)
    config, _ = clip.model_config(row.open_clip, row.tag, base)
    folder = clip.clip_folder(row.open_clip, base)
    weights = clip.classifier_weights(
        file, str(folder or row.open_clip), config, _words(row, classes), row.prompts, device
    )
    if kept:
        if weights_digest(name, row, base, classes) != planned:
            raise _replaced(name, file)
        write_weights(kept, weights)
        write_fact(kept.with_suffix(".txt"), file_digest(kept).encode())
    return weights


def _words(row: ModelRow, classes: Sequence[str]) -> tuple[str, ...]:
    """Words for the reference set's classes: the row's own, or what is known of them."""
    if row.class_names is None:
        return clip.class_words(classes)
    if len(row.class_names) != len(classes):
        raise UserError(
            "`class_names` has another number of classes than the reference set",
            got=len(row.class_names),
            valid=len(classes),
        )
    return row.class_names
