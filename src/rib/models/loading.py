"""Loads the pretrained weights of a model, and identifies them by their content and by how they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rib.data.class_lists import lists_of
from rib.data.imagenet_classes import wnids
from rib.errors import UserError
from rib.files import file_digest, read_fact, read_plain, state, write_fact
from rib.identity import digest
from rib.models import clip, folding, lite, transformer, vision
from rib.models.build import build
from rib.models.catalogue import Architecture, ModelRow
from rib.models.checkpoints import CheckpointFile, read_checkpoint
from rib.models.class_order import Stated, documents, order_of, reordered, stated_by_files
from rib.models.fitting import Convert, fit_weights, require_numbers
from rib.models.guard import nothing_but_building
from rib.models.new_head import fresh_head, with_new_head
from rib.models.preprocessing import (
    FIELDS,
    require_agreement,
)
from rib.models.sources import cached_digest, weights_file
from rib.models.stated_net import require_stated_net
from rib.models.weights import check_finite, read_weights, write_weights


def weights_digest(
    name: str,
    row: ModelRow,
    base: Path,
    classes: Sequence[str] = (),
    cache_folder: Path | None = None,
    fresh: bool = False,
) -> str:
    """Digest of a row's pretrained weights: of the checkpoint, and of the class names behind a zero-shot head.

    Args:
        name: the name in the suite.
        row: its row.
        base: the folder that relative paths start from.
        classes: the reference set's classes.
        cache_folder: folder for digests of unchanged files.
        fresh: read the checkpoint even if its digest is cached.

    Raises:
        UserError: the checkpoint is missing.
    """
    content = cached_digest(weights_file(name, row, base), cache_folder, fresh)
    if row.open_clip is None or row.has_new_head:
        return content
    text = clip.text_identity(words_of(row, classes), row.prompts)
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
    """Load the pretrained weights of a row and check them against its architecture.

    Args: as `weights_digest`, and
        architecture: of the row.
        device: where the text tower of a CLIP model runs.
        expected: their `weights_identity` at the time of planning.

    Raises:
        UserError: they are missing, do not fit, are not finite, or differ from the expected ones.
    """
    file = weights_file(name, row, base)
    before = state(file.stat())
    if row.open_clip is not None and not is_classifier(row, file, architecture):
        reading = Reading(new_head=row.has_new_head)
        if row.has_new_head:
            config, _ = clip.model_config(row.open_clip, row.tag, base)
            weights = clip.tower_weights(clip.read_model(file, row.open_clip, config)) | fresh_head(build(architecture))
        else:
            weights = _clip_weights(name, row, file, base, classes, cache_folder, device)
    else:
        weights, reading = _read(name, row, architecture, file, classes)
    if expected is not None:
        content = weights_digest(name, row, base, classes)  # digests the bytes that were there when all was read
        if _identity(row, content, reading.text) != expected or state(file.stat()) != before:
            raise replaced(name, file)
    return weights


def _identity(row: ModelRow, content: str, text: str) -> str:
    """`weights_identity` from the digest of a checkpoint and the text of its `Reading`."""
    shipped = row.weights is not None and row.weights.startswith("zoo:")
    return digest(json.dumps([content, text]).encode()) if text and not shipped else content


def replaced(name: str, file: Path) -> UserError:
    return UserError(
        f"the checkpoint of model {name!r} was replaced after it was fingerprinted",
        got=f"other bytes in {file}",
        valid="a file that stays as it is while it is used",
        remedy="run again once nothing writes it; steps of the new weights are then new",
    )


@dataclass(frozen=True)
class Reading:
    """How a checkpoint became the weights of a model, if it needed conversion. It is part of the weights' identity.

    Attributes:
        entry: the state dict that the row chose; "" for the only one.
        cast: whether tensors were stored in another precision.
        order: the checkpoint's output for each class of the reference set; None for the same order.
        new_head: whether its head is dropped.
    """

    entry: str = ""
    cast: bool = False
    order: tuple[int, ...] | None = None
    new_head: bool = False

    @property
    def text(self) -> str:
        """The fields as JSON, without default values; "" if all values are defaults."""
        fields = {"entry": self.entry or None, "cast": self.cast or None, "order": self.order}
        fields |= {"new_head": self.new_head or None}
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
    """Digest of a row's pretrained weights and of how they are read, after a check that they fit.

    The checkpoint is read and checked against the net, unless an earlier check has passed.

    Args: as `load_pretrained`, and
        fresh: read the checkpoint even if its digest is cached.

    Raises:
        UserError: as `load_pretrained`.
    """
    content = weights_digest(name, row, base, classes, cache_folder, fresh)
    if row.weights and row.weights.startswith("zoo:"):
        return content
    file = weights_file(name, row, base)
    stated = [getattr(row, field) is not None for field in FIELDS]
    seen: list[Any] = [
        content,
        architecture.model_dump(mode="json"),
        list(classes),
        row.weights_key,
        row.outputs,
        stated,
    ]
    seen += [_beside(file, classes), row.has_new_head]
    known = cache_folder / f"fits-{digest(json.dumps([*seen, _READINGS]).encode())}.txt" if cache_folder else None
    text = read_fact(known) if known else None
    if text is None:
        text = _reading(name, row, architecture, file, base, classes).text.encode()
        if weights_digest(name, row, base, classes) != content:
            raise replaced(name, file)
        if known:
            write_fact(known, text)
    return _identity(row, content, text.decode())


_READINGS = 7
"""Version of what `weights_identity` caches, and of what it refuses."""


def _beside(file: Path, classes: Sequence[str]) -> list[object]:
    """Digests of the configurations beside a checkpoint, and orders of the classes in other files there."""
    places = (file.with_suffix(".json"), file.with_name("config.json"))
    found = [digest(read_plain(place)) for place in places if place.is_file()]
    return [*found, *(order for order, _ in lists_of((file.parent,), classes))]


def _reading(
    name: str, row: ModelRow, architecture: Architecture, file: Path, base: Path, classes: Sequence[str]
) -> Reading:
    if row.open_clip is not None and not is_classifier(row, file, architecture):
        config, _ = clip.model_config(row.open_clip, row.tag, base)
        clip.read_model(file, row.open_clip, config)
        return Reading(new_head=row.has_new_head)
    return _read(name, row, architecture, file, classes)[1]


def _read(
    name: str, row: ModelRow, architecture: Architecture, file: Path, classes: Sequence[str]
) -> tuple[dict[str, Tensor], Reading]:
    """The weights of a net in a checkpoint, with the head in the order of the reference set's classes."""
    checkpoint, what = read_checkpoint(file), f"model {name!r}"
    classifier = build(architecture)
    head = classifier.head_name
    net = classifier.net
    convert, foreign = _conversions(row, architecture, net)
    if row.has_new_head:
        convert, foreign = with_new_head(convert, net, classifier.head_names), None
    fitted = fit_weights(checkpoint, net, what, head, row.weights_key, convert, foreign)
    check_finite(fitted.weights, what)
    require_stated_net(checkpoint, architecture, net, what)
    view = {field: getattr(architecture, field) for field in FIELDS if getattr(row, field) is None}
    for document, source in documents(checkpoint) if row.weights else ():
        require_agreement(document, view, what, source)
    stated = _stated_classes(row, checkpoint, classes)
    order = order_of(stated, classes, what) if stated and classes else None
    weights = reordered(fitted.weights, net, head, order, what) if order else fitted.weights
    return weights, Reading(fitted.entry if fitted.chosen else "", fitted.cast, order, row.has_new_head)


def _stated_classes(row: ModelRow, checkpoint: CheckpointFile, classes: Sequence[str]) -> Stated | None:
    """The meaning of a model's outputs, from its row, its files, or the library that publishes it."""
    if row.has_new_head:
        return None
    if row.outputs is not None:
        return Stated(row.outputs, "`outputs` of the model's row")
    published = row.weights is None or row.weights.startswith(lite.SCHEME)
    if published and (row.timm or row.torchvision):
        names = wnids()
        return Stated(names, "ImageNet's classes") if set(names) == set(classes) else None
    return stated_by_files(checkpoint, classes)


def _conversions(row: ModelRow, architecture: Architecture, net: nn.Module) -> tuple[Convert, Convert | None]:
    """The library's conversion of the names in its checkpoints, and that of a foreign form, if any."""
    if row.torchvision is not None:
        return partial(vision.converted, row.torchvision), None
    if row.fold:
        return partial(_folded, architecture), None
    if architecture.build == transformer.BUILDER:
        return partial(transformer.in_net_names, net=net, new_head=row.has_new_head), None
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
    """A foreign form under timm's names, if timm can convert it; None otherwise. The head is never replaced."""
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
    except (RuntimeError, KeyError, ValueError, AttributeError, TypeError):  # timm raises any of these
        return None
    return dict(net.state_dict())


def is_classifier(row: ModelRow, file: Path, architecture: Architecture) -> bool:
    """Whether a checkpoint is an image tower with a head, as RIB's tuning saves it, rather than a whole CLIP model."""
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
    """Image tower and zero-shot head. They are cached, because the text tower reads 80,000 sentences for ImageNet."""
    assert row.open_clip is not None
    planned = weights_digest(name, row, base, classes, cache_folder)
    kept = cache_folder / f"clip-{planned}.safetensors" if cache_folder else None
    if kept and kept.exists() and read_fact(kept.with_suffix(".txt")) == file_digest(kept).encode():
        return read_weights(kept)
    config, _ = clip.model_config(row.open_clip, row.tag, base)
    folder = clip.clip_folder(row.open_clip, base)
    weights = clip.classifier_weights(
        file, str(folder or row.open_clip), config, words_of(row, classes), row.prompts, device
    )
    if kept:
        if weights_digest(name, row, base, classes) != planned:
            raise replaced(name, file)
        write_weights(kept, weights)
        write_fact(kept.with_suffix(".txt"), file_digest(kept).encode())
    return weights


def words_of(row: ModelRow, classes: Sequence[str]) -> tuple[str, ...]:
    """Words for the reference set's classes: the row's own, or known ones."""
    if row.class_names is None:
        return clip.class_words(classes)
    if len(row.class_names) != len(classes):
        raise UserError(
            "`class_names` has another number of classes than the reference set",
            got=len(row.class_names),
            valid=len(classes),
        )
    return row.class_names
