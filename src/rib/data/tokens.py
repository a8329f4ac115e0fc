"""Conversion of texts to a model's token ids, by RIB's byte tokenizer or by a tokenizer in a folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rib.data.views import Inputs, Keep, Tokens
from rib.errors import UserError, told
from rib.files import read_plain
from rib.identity import digest

BYTES = "bytes"
"""RIB's own tokenizer: the UTF-8 bytes of a text, with marks at the start, between two texts and at the end."""

BEGIN, END, MASK = 256, 257, 258
"""Ids of the mark before a text, of the mark after each text, and of a hidden byte."""

BYTES_VOCABULARY = 259

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
"""Files that may make up a tokenizer."""

Encode = Callable[[Sequence[str], Sequence[str] | None, int], list[tuple[list[int], list[int] | None]]]
"""Encodes texts, second texts and a maximum number of tokens to the ids and the segments of each."""


def bytes_view(length: int, keep: Keep = "start") -> Tokens:
    """The view of a model that reads bytes."""
    return Tokens(length, BYTES, BYTES_VOCABULARY, keep=keep)


def tokenized(view: Tokens, texts: Sequence[str], seconds: Sequence[str] | None = None) -> Inputs:
    """Texts in the form of a view: (N, length), with `view.blank` after the last token.

    Args:
        view: the view.
        texts: N texts.
        seconds: the second text of each, for pairs.

    Raises:
        UserError: the tokenizer is missing, cannot be read, or differs from the view's.
    """
    encoded = _bytes(view, texts, seconds) if view.tokenizer == BYTES else _by_library(view, texts, seconds)
    inputs = np.full((len(texts), view.length), view.blank, view.dtype)
    for row, (ids, segments) in enumerate(encoded):
        numbers = np.asarray(ids, np.int64)
        if segments is not None and view.segments > 1:
            numbers = numbers + view.vocabulary * np.asarray(segments, np.int64)
        inputs[row, : len(ids)] = numbers
    return inputs


def token_counts(view: Tokens, texts: Sequence[str], seconds: Sequence[str] | None = None) -> NDArray[np.int64]:
    """The number of tokens of each text without truncation: int64 (N,)."""
    if view.tokenizer == BYTES:
        counts = [len(text.encode()) + 2 for text in texts]
        more = [len(text.encode()) + 1 for text in seconds] if seconds else [0] * len(counts)
        return np.array([one + two for one, two in zip(counts, more, strict=True)], np.int64)
    encode = _encoder(view.folder, view.tokenizer, view.keep)
    return np.array([len(ids) for ids, _ in encode(texts, seconds, 0)], np.int64)


def blank_as(inputs: NDArray[Any], view: Tokens, pad: int) -> NDArray[np.int64]:
    """Token ids int64 (N, length) with `pad` in place of blanks, without segments."""
    numbers = inputs.astype(np.int64)
    return np.where(numbers == view.blank, pad, numbers % view.vocabulary)


def _bytes(
    view: Tokens, texts: Sequence[str], seconds: Sequence[str] | None
) -> list[tuple[list[int], list[int] | None]]:
    """Begin mark, bytes, end mark; for pairs, then bytes and end mark.

    The longer text is truncated; end marks are kept.
    """
    found: list[tuple[list[int], list[int] | None]] = []
    for row, text in enumerate(texts):
        pieces = [text.encode(), *([seconds[row].encode()] if seconds is not None else [])]
        room = view.length - 1 - len(pieces)
        ids = [BEGIN]
        for piece in _cut(pieces, room, view.keep):
            ids += [*piece, END]
        found.append((ids[: view.length], None))
    return found


def _cut(pieces: Sequence[bytes], room: int, keep: Keep) -> list[bytes]:
    """Pieces that together fit into `room` bytes: the longest is cut at its start or end."""
    sizes = _rooms([len(piece) for piece in pieces], max(0, room))
    if keep == "start":
        return [piece[:size] for piece, size in zip(pieces, sizes, strict=True)]
    return [piece[len(piece) - size :] for piece, size in zip(pieces, sizes, strict=True)]


def _rooms(sizes: Sequence[int], room: int) -> list[int]:
    """The sizes of one or two pieces after they are cut to `room` in total."""
    if sum(sizes) <= room or len(sizes) == 1:
        return [min(size, room) for size in sizes]
    half = room // 2
    if min(sizes) <= half:
        return [size if size == min(sizes) else room - min(sizes) for size in sizes]
    return [room - half, half]


def _by_library(
    view: Tokens, texts: Sequence[str], seconds: Sequence[str] | None
) -> list[tuple[list[int], list[int] | None]]:
    return _encoder(view.folder, view.tokenizer, view.keep)(texts, seconds, view.length)


@lru_cache(maxsize=4)
def _encoder(folder: str, expected: str, keep: Keep) -> Encode:
    """The tokenizer of a folder. All threads share it, so calls are serialised."""
    tokenizer, lock = load_tokenizer(Path(folder)), threading.Lock()
    if (found := tokenizer_digest(Path(folder))) != expected:
        raise UserError(
            f"the tokenizer in {folder} was replaced after the plan was made", got=found, valid=expected,
            remedy="run again once nothing writes it; steps of the new tokenizer are then new",
        )  # fmt: skip
    tokenizer.padding_side, tokenizer.truncation_side = "right", "right" if keep == "start" else "left"

    def encode(
        texts: Sequence[str], seconds: Sequence[str] | None, most: int
    ) -> list[tuple[list[int], list[int] | None]]:
        pair = {} if seconds is None else {"text_pair": list(seconds)}
        cut = {"truncation": "longest_first" if seconds is not None else True, "max_length": most} if most else {}
        with lock:
            found = tokenizer(list(texts), **pair, **cut, padding=False, verbose=False)
        segments = found.get("token_type_ids")
        return [(ids, None if segments is None else segments[row]) for row, ids in enumerate(found["input_ids"])]

    return encode


def load_tokenizer(folder: Path) -> Any:
    """Load transformers' tokenizer from a folder, without running code from it and without a download.

    Raises:
        UserError: transformers is not installed, or the folder has no tokenizer that it can read.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise UserError(
            "models of text need transformers and tokenizers", got="not installed",
            remedy="pip install 'rib-benchmark[text]'",
        ) from None  # fmt: skip
    tokenizer_digest(folder)
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # hostile files may make transformers raise any error
        raise UserError(
            f"cannot read the tokenizer in {folder}", got=told(error),
            valid="tokenizer.json, as transformers' save_pretrained writes it",
        ) from None  # fmt: skip


def tokenizer_digest(folder: Path) -> str:
    """Digest of the files of a tokenizer.

    Raises:
        UserError: there are none.
    """
    found = [(name, digest(read_plain(folder / name))) for name in FILES if (folder / name).is_file()]
    if not any(name not in ("tokenizer_config.json", "special_tokens_map.json") for name, _ in found):
        raise UserError(
            f"no tokenizer in {folder}", got=", ".join(name for name, _ in found) or "none of its files",
            valid="tokenizer.json, or vocab.txt, vocab.json with merges.txt, …",
            remedy="copy the tokenizer's files there, or name their folder as `tokenizer`",
        )  # fmt: skip
    return digest(json.dumps(found).encode())
