"""The source of a model's text side: a CLIP checkpoint, or a file of class vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from rib.errors import UserError
from rib.files import file_digest, read_fact, write_fact
from rib.identity import digest
from rib.models import clip
from rib.models.catalogue import Architecture, ModelRow, named_file
from rib.models.loading import is_classifier, replaced, words_of
from rib.models.skeleton import width_of
from rib.models.sources import cached_digest, weights_file
from rib.models.text_side import ClipTexts, TextSide, first_and_last, read_class_vectors, text_key
from rib.models.weights import read_weights, write_weights

CONTEXT = 77
"""Number of tokens that open_clip's text towers read if their configuration does not state it."""


def text_digest(
    name: str,
    row: ModelRow,
    architecture: Architecture,
    base: Path,
    classes: Sequence[str],
    cache_folder: Path | None,
) -> str:
    """The identity of a model's text side, from its content.

    Args:
        name: the name in the suite.
        row: its row.
        architecture: of the row.
        base: the folder that relative paths start from.
        classes: the reference set's classes.
        cache_folder: folder for digests of unchanged files.

    Raises:
        UserError: the model has no text side, or one that does not fit.
    """
    if row.open_clip is None:
        file = _vectors_file(name, row, base)
        read_class_vectors(file, len(classes), width_of(architecture), f"model {name!r}")
        return cached_digest(file, cache_folder)
    file = weights_file(name, row, base)
    if is_classifier(row, file, architecture):
        raise _without(name, "a checkpoint of the image tower and its head")
    texts = clip.text_identity(words_of(row, classes), row.prompts)
    return digest(text_key(cached_digest(file, cache_folder), texts).encode())


def require_random(row: ModelRow, base: Path, length: int) -> None:
    """Refuse a model whose text tower cannot read texts of random tokens.

    Args:
        row: of the model.
        base: the folder that relative paths start from.
        length: number of random tokens in a text.

    Raises:
        UserError: as `first_and_last`, or the tokenizer cannot be built.
    """
    if row.open_clip is None:  # a text of random tokens is then a mean of class vectors
        return
    config, _ = clip.model_config(row.open_clip, row.tag, base)
    tokenizer = clip.tokenizer_of(str(clip.clip_folder(row.open_clip, base) or row.open_clip))
    first_and_last(tokenizer, length, int(config.get("text_cfg", {}).get("context_length", CONTEXT)))


def load_text(
    name: str,
    row: ModelRow,
    architecture: Architecture,
    base: Path,
    classes: Sequence[str],
    cache_folder: Path | None,
    device: torch.device,
    expected: str,
) -> TextSide:
    """Load the text side of a model.

    The vectors of a CLIP model's texts are cached, because ImageNet has 80,000 sentences.

    Args: as `text_digest`, and
        device: device of the vectors and of a text tower.
        expected: the `text_digest` at the time of planning.

    Raises:
        UserError: as `text_digest`, or the file differs from the expected one.
    """
    place = (name, row, architecture, base, classes, cache_folder)
    if row.open_clip is None:
        side = read_class_vectors(
            _vectors_file(name, row, base), len(classes), width_of(architecture), f"model {name!r}"
        )
        side.classes = side.contexts = side.classes.to(device)
        if text_digest(*place) != expected:
            raise replaced(name, _vectors_file(name, row, base))
        return side
    file = weights_file(name, row, base)
    config, _ = clip.model_config(row.open_clip, row.tag, base)
    called = str(clip.clip_folder(row.open_clip, base) or row.open_clip)
    kept = cache_folder / f"texts-{expected}.safetensors" if cache_folder else None
    there = kept and kept.exists() and read_fact(kept.with_suffix(".txt")) == file_digest(kept).encode()
    texts = ClipTexts(
        partial(clip.read_model, file, called, config),
        clip.tokenizer_of(called),
        words_of(row, classes),
        clip.templates_of(row.prompts),
        device,
        read_weights(kept) if kept and there else None,
    )
    if text_digest(*place) != expected:
        raise replaced(name, file)
    if kept and not there:
        write_weights(kept, texts.known)
        write_fact(kept.with_suffix(".txt"), file_digest(kept).encode())
    return texts


def _vectors_file(name: str, row: ModelRow, base: Path) -> Path:
    if row.class_vectors is None:
        raise _without(name, row.title)
    return named_file(row.class_vectors, base)


def _without(name: str, got: str) -> UserError:
    return UserError(
        f"model {name!r} has no texts to train with",
        got=got,
        valid="an open_clip model with its text tower, or a row with `class_vectors`",
        remedy="leave out the methods that train with texts for this model (car_ft, lipsum_ft, flyp), or add a file of "
        "class vectors",
    )
