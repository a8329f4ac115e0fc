"""Text models: from a row to the architecture, with the tokenizer and the length that its files state."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rib.data.tokens import BYTES, bytes_view, load_tokenizer, tokenizer_digest
from rib.data.views import Keep, Tokens, View
from rib.errors import UserError
from rib.files import expanded, parse_json, read_plain
from rib.models import transformer
from rib.models.catalogue import ModelRow
from rib.models.own_tokenizer import REMEDY, require_own

LENGTH = 128
"""Tokens per text if no source states a number."""

UNTIED = (
    "{models} {have} a tokenizer from another folder, and none lies beside the weights: only its size and its special "
    "tokens were compared with config.json; if it is another model's, accuracies are wrong"
)
"""What to say of a tokenizer that nothing ties to its model."""

SPARE = 1_000
"""Maximum difference of a model's embedding table and its tokenizer's vocabulary: tables are rounded up by less."""


@dataclass(frozen=True)
class TextInput:
    """How a model takes texts.

    Attributes:
        tokens: the view.
        pad: the padding id.
        words: a description for messages, with sources.
        document: the same as JSON types.
        unstated: a sentence on what no source states although an error in it costs accuracy, with {models} and {have};
            empty if everything is stated.
    """

    tokens: Tokens
    pad: int
    words: str
    document: Mapping[str, Any]
    unstated: str = ""

    def stated_by(self, fields: Collection[str], source: str) -> TextInput:
        """The same object, because a caller states only fields of images."""
        return self


def text_input(row: ModelRow, base: Path) -> TextInput:
    """The tokenizer, length and padding of a row's model.

    Args:
        row: a row of a text model.
        base: the folder that relative paths start from.

    Raises:
        UserError: the tokenizer is missing or belongs to another model, there is no padding token, or the length
            exceeds the model's positions.
    """
    keep: Keep = row.keep or "start"
    if row.transformers is not None:
        read_config(_folder(row.transformers, base), row.fetch and f"with a network: {row.fetch}")
    if row.tokenizer == BYTES:
        assert row.length is not None
        return _stated(bytes_view(row.length, keep), 0, "RIB's bytes", "the model's row")
    folder = _folder(row.tokenizer or row.transformers or "", base)
    tokenizer = load_tokenizer(folder)
    if row.transformers is None:
        assert row.length is not None
        ids = max(tokenizer.get_vocab().values()) + 1
        tokens = Tokens(row.length, tokenizer_digest(folder), ids, keep=keep, folder=str(folder))
        return _stated(tokens, 0, f"the tokenizer in {folder}", "the model's row")
    return _of_transformers(row, tokenizer, folder, _folder(row.transformers, base), keep)


def _of_transformers(row: ModelRow, tokenizer: Any, folder: Path, home: Path, keep: Keep) -> TextInput:
    """The inputs of a model of transformers in `home` with the tokenizer in `folder`. Raises as `text_input`."""
    config, ids = read_config(home), max(tokenizer.get_vocab().values()) + 1
    vocabulary = int(config.get("vocab_size", ids))
    if not vocabulary - SPARE < ids <= vocabulary:
        raise UserError(
            f"the tokenizer in {folder} is that of another model than {home}",
            got=f"{ids:,} token ids, and embeddings for {vocabulary:,}",
            valid=f"{max(1, vocabulary - SPARE + 1):,} to {vocabulary:,} token ids",
            remedy=REMEDY,
        )
    pad = _pad(row, tokenizer, config, home)
    if not 0 <= pad < vocabulary:
        raise UserError(
            f"model {row.title!r}: its padding token has no embedding", got=f"id {pad:,}",
            valid=f"0 to {vocabulary - 1:,}", remedy="name a token that pads in the model's row: pad = \"…\"",
        )  # fmt: skip
    own = require_own(tokenizer, folder, config, home)
    most = transformer.most_tokens(config, pad)
    length = row.length or min(LENGTH, most or LENGTH)
    if most is not None and length > most:
        raise UserError(
            f"model {row.title!r}: it has no positions for texts of {length:,} tokens", got=f"length = {length}",
            valid=f"2 to {most:,}, as many as its config.json states", remedy="make `length` smaller",
        )  # fmt: skip
    segments = 2 if int(config.get("type_vocab_size") or 0) > 1 and _tells_segments(tokenizer) else 1
    tokens = Tokens(length, tokenizer_digest(folder), vocabulary, segments, keep, str(folder))
    source = "the model's row" if row.length else "RIB's default"
    named = "the model's own tokenizer" if folder == home else f"the tokenizer in {folder}"
    unstated = "" if own else UNTIED
    return replace(_stated(tokens, pad, named, source), unstated=unstated)


def _stated(tokens: Tokens, pad: int, tokenizer: str, length: str) -> TextInput:
    kept = f"the {tokens.keep} of longer texts is kept"
    words = f"{tokenizer} ({tokens.vocabulary:,} ids); {tokens.length} tokens, {kept} ({length})"
    document = {
        "tokenizer": tokens.tokenizer,
        "vocabulary": tokens.vocabulary,
        "length": tokens.length,
        "keep": tokens.keep,
        "pad": pad,
        "sources": {"tokenizer": tokenizer, "length": length},
    }
    return TextInput(tokens, pad, words, document)


def text_views(rows: Iterable[ModelRow], base: Path) -> list[View]:
    """The views of the rows that are text models, each once; a row whose files are absent or wrong is left out."""
    found: dict[View, None] = {}
    for row in rows:
        if row.is_text:
            with contextlib.suppress(UserError):
                found[text_input(row, base).tokens] = None
    return list(found)


def built_text(row: ModelRow, found: TextInput, base: Path) -> tuple[str, dict[str, Any]]:
    """The builder of a row's model and its arguments.

    Raises:
        UserError: its configuration cannot be read.
    """
    if row.build is not None:
        return row.build, dict(row.arguments)
    assert row.transformers is not None
    transformer.require_installed()
    config = read_config(_folder(row.transformers, base))
    shape = {name: value for name, value in config.items() if name not in transformer.VOLATILE and value is not None}
    arguments: dict[str, Any] = {"config": shape, "pad": found.pad}
    arguments |= {"pooling": row.pooling} if row.pooling else {}
    arguments |= {"segments": True} if found.tokens.segments > 1 else {}
    return transformer.BUILDER, arguments


def read_config(folder: Path, fetch: str = "") -> dict[str, Any]:
    """The configuration of a model of transformers.

    Args:
        folder: the model's folder.
        fetch: the command that downloads it, for the error.

    Raises:
        UserError: there is none.
    """
    file = folder / "config.json"
    valid = "config.json with `model_type`, as transformers' save_pretrained writes it"
    if not file.is_file():
        raise UserError(f"no model of transformers in {folder}", got="no config.json", valid=valid,
                        remedy=fetch or "copy the model's folder there, or correct `transformers`")  # fmt: skip
    try:
        config = parse_json(read_plain(file))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}", got=str(error), valid=valid) from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UserError(
            f"{file} describes no model of transformers", got=", ".join(map(str, config))[:200], valid=valid
        )
    return config


def is_transformers(folder: Path) -> bool:
    """Whether a folder's config.json belongs to a model of transformers."""
    try:
        config = parse_json(read_plain(folder / "config.json"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and isinstance(config.get("model_type"), str)


def read_texts_alike(before: ModelRow, after: ModelRow, base: Path) -> bool:
    """Whether two models both read texts, as the same tokens; False if neither reads texts.

    Args:
        before, after: the rows of the two models of a comparison.
        base: the folder that relative paths start from.

    Raises:
        UserError: only one of them reads texts, or they read them differently.
    """
    if before.is_text != after.is_text:
        kinds = ["texts" if row.is_text else "images" for row in (before, after)]
        raise UserError("BASE and TUNED take inputs of different kinds", got=" and ".join(kinds), valid="one kind")
    if not before.is_text:
        return False
    one, two = text_input(before, base), text_input(after, base)
    alike = one.tokens == two.tokens or (
        (one.tokens.length, one.tokens.keep) == (two.tokens.length, two.tokens.keep)
        and one.tokens.folder
        and two.tokens.folder
        and _vocabulary(one.tokens.folder) == _vocabulary(two.tokens.folder)
    )
    if not alike:
        raise UserError(
            "BASE and TUNED read texts differently, so a change would not be one of weights alone",
            got=two.words,
            valid=one.words,
            remedy="give both the same tokenizer, `length` and `keep`, in rows of the suite",
        )
    return True


def _vocabulary(folder: str) -> dict[str, int]:
    return dict(load_tokenizer(Path(folder)).get_vocab())


def _folder(path: str, base: Path) -> Path:
    return expanded(base, path)


def _pad(row: ModelRow, tokenizer: Any, config: Mapping[str, Any], home: Path) -> int:
    """The padding id: that of the row, or the one on which tokenizer and configuration agree."""
    vocabulary = tokenizer.get_vocab()
    if row.pad is not None:
        if row.pad not in vocabulary:
            raise UserError(f"model {row.title!r}: `pad` is no token of its tokenizer", got=row.pad,
                            valid=", ".join(map(str, tokenizer.all_special_tokens)))  # fmt: skip
        return int(vocabulary[row.pad])
    mine, its = tokenizer.pad_token_id, config.get("pad_token_id")
    if mine is None and its is None:
        special = tokenizer.eos_token or next(iter(tokenizer.all_special_tokens), "")
        raise UserError(
            f"model {row.title!r} has no padding token", got=f"none in {home}", valid="a token that pads shorter texts",
            remedy=f'name one in the model\'s row: pad = "{special}"; attention ignores it',
        )  # fmt: skip
    if mine is not None and its is not None and mine != its:
        raise UserError(
            f"model {row.title!r}: its tokenizer and its config.json pad with different tokens",
            got=f"{mine} and {its}", valid="one id",
            remedy="copy the model's own tokenizer, or name the intended token as `pad`",
        )  # fmt: skip
    return int(its if mine is None else mine)  # type: ignore[arg-type]


def _tells_segments(tokenizer: Any) -> bool:
    """Whether a tokenizer gives the two texts of a pair different segments."""
    return any(tokenizer("a", "b").get("token_type_ids") or [])
