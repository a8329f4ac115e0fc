"""Checks that a tokenizer belongs to a model, as far as their files show it.

A tokenizer of another vocabulary gives a model the wrong words without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rib.data.tokens import load_tokenizer, tokenizer_digest
from rib.errors import UserError
from rib.files import parse_json, read_plain

MARKS = ("bos", "eos", "cls", "sep", "mask", "unk")
"""Special tokens whose ids a tokenizer and a configuration may both state."""

REMEDY = "copy the model's own tokenizer, or name its folder as `tokenizer`"


def require_own(tokenizer: Any, folder: Path, config: Mapping[str, Any], home: Path) -> bool:
    """Refuse a tokenizer that the model's files contradict.

    Args:
        tokenizer: a tokenizer of transformers, from `folder`.
        folder: the folder of the tokenizer's files.
        config: the configuration of the model.
        home: the model's folder.

    Returns:
        Whether the tokenizer is in the model's folder, or equals one there. If not, only its size and its special
        tokens
        show that it belongs to the model.

    Raises:
        UserError: two files of the tokenizer differ; a special token has another id in config.json; or the model's
            folder has a tokenizer with another vocabulary.
    """
    vocabulary = dict(tokenizer.get_vocab())
    _require_one_vocabulary(vocabulary, folder)
    _require_same_marks(tokenizer, folder, config, home)
    if folder.resolve() == home.resolve():
        return True
    try:
        tokenizer_digest(home)
    except UserError:
        return False
    own = dict(load_tokenizer(home).get_vocab())
    if own != vocabulary:
        raise UserError(
            f"the tokenizer in {folder} has another vocabulary than the one beside the model in {home}",
            got=_difference(vocabulary, own),
            valid="equal ids of all tokens",
            remedy="leave `tokenizer` out; or, if the model was trained with that tokenizer, remove the one beside it",
        )
    return True


def _require_one_vocabulary(vocabulary: Mapping[str, int], folder: Path) -> None:
    """Refuse a folder whose vocab.txt or vocab.json numbers tokens differently from the tokenizer."""
    for name in ("vocab.txt", "vocab.json"):
        if not (folder / name).is_file():
            continue
        listed = _listed(folder / name)
        if any(vocabulary.get(token) != number for token, number in listed.items()):
            raise UserError(
                f"two files of the tokenizer in {folder} differ: {name} and tokenizer.json",
                got=_difference(vocabulary, listed),
                valid="equal ids of all tokens",
                remedy="remove the file that is not the model's",
            )


def _listed(file: Path) -> dict[str, int]:
    """The ids that a vocabulary file gives its tokens."""
    try:
        content = read_plain(file)
        if file.suffix == ".json":
            return {str(token): int(number) for token, number in parse_json(content).items()}
        lines = content.decode().removesuffix("\n").split("\n")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"cannot read {file}", got=str(error), valid="a vocabulary", remedy="copy it again") from None
    return {line.rstrip("\r"): place for place, line in enumerate(lines)}


def _require_same_marks(tokenizer: Any, folder: Path, config: Mapping[str, Any], home: Path) -> None:
    """Refuse a special token whose id in config.json differs from that in the tokenizer."""
    for mark in MARKS:
        mine, its = getattr(tokenizer, f"{mark}_token_id", None), config.get(f"{mark}_token_id")
        if isinstance(mine, int) and isinstance(its, int) and mine != its:
            token = getattr(tokenizer, f"{mark}_token", "")
            raise UserError(
                f"the tokenizer in {folder} is that of another model than {home}",
                got=f"{mark}_token {str(token)!r} with id {mine:,}, and {mark}_token_id = {its:,} in config.json",
                valid="one id",
                remedy=f"{REMEDY}; or correct the wrong file",
            )


def _difference(one: Mapping[str, int], two: Mapping[str, int]) -> str:
    """How two vocabularies differ, with an example."""
    changed = [token for token in two if one.get(token) != two[token]] or [token for token in one if token not in two]
    token = min(changed, key=lambda token: (two.get(token, -1), token))
    ids = " and ".join("none" if each.get(token) is None else f"{each[token]:,}" for each in (one, two))
    return f"{len(changed):,} tokens have other ids, such as {token!r}: {ids}"
