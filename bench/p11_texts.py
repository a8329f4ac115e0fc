"""P11: tokens from a pack, compared with datasets, a DataLoader and a tokenizer; and memory over packs of two sizes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.base import Row, Setting, at_least
from rib.data.catalogue import DataRow, open_data
from rib.data.decoded import Decoded
from rib.data.examples import Examples
from rib.data.feed import fed
from rib.data.pack import open_pack
from rib.data.tokens import tokenizer_digest
from rib.data.views import Tokens
from rib.training.predict import batches

LENGTH, BATCH = 64, 64
CPU = torch.device("cpu")
WORDS = tuple(f"{first}{last}" for first in ("ka", "lo", "mi", "ne", "pu", "ra", "so", "ti") for last in "abcdefghij")


def measure(setting: Setting) -> list[Row]:
    """Time both pipelines in turn, with the same texts and the same tokenizer."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        count = 2_000 if setting.quick else 20_000
        write(folder, count)
        examples = packed(folder)
        peer, rows = texts_of(folder)
        check(examples, folder, rows)
        ours, theirs = lambda: through_pack(examples), lambda: through_loader(folder, rows)
        speeds: tuple[list[float], list[float]] = ([], [])
        for _ in range(setting.repeats(3)):
            for kept, road in zip(speeds, (ours, theirs), strict=True):
                kept.append(tokens_per_second(road, setting.clock))
        mine, other = (statistics.median(each) for each in speeds)
        what = f"{mine / 1e6:.1f} M tokens per processor second from a pack"
        grown = [peak(folder, size) for size in (count, 4 * count)]
        return [
            at_least("P11", what, f"{peer}, DataLoader, tokenizer: {other / 1e6:.2f} M", 20, mine / other),
            Row("P11", "memory of a pack of four times as many texts", "of one", "≤ 16 MiB more",
                f"{(grown[1] - grown[0]) / 2**20:.0f} MiB", grown[1] - grown[0] <= 16 * 2**20),
        ]  # fmt: skip


def write(folder: Path, count: int) -> None:
    """Write texts of 5 to 60 words, and a tokenizer of these words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    drawn = np.random.default_rng(0)
    with (folder / "t.jsonl").open("w") as handle:
        for place in range(count):
            text = " ".join(drawn.choice(WORDS, drawn.integers(5, 61)))
            handle.write(json.dumps({"text": text, "label": "ab"[place % 2]}) + "\n")
    vocabulary = {word: place for place, word in enumerate(("[PAD]", "[UNK]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    made.save_pretrained(str(folder))


def packed(folder: Path) -> Examples:
    """The texts as a pack of token ids."""
    view = Tokens(LENGTH, tokenizer_digest(folder), 2 + len(WORDS), folder=str(folder))
    return open_pack(Decoded(open_data("t", DataRow(text="t.jsonl"), folder, None), "tune", view), folder / "packs")


def through_pack(examples: Examples) -> Iterator[Any]:
    """Batches of token ids in random order, as in training."""
    order = np.random.default_rng(1).permutation(len(examples))
    return fed(examples, [order[each] for each in batches(len(examples), BATCH)], CPU)


def through_loader(folder: Path, rows: Any) -> Iterator[Any]:
    """The same from rows, with a tokenizer of a whole batch and a DataLoader that shuffles and pads."""
    return iter(torch.utils.data.DataLoader(rows, BATCH, shuffle=True, collate_fn=encoder(folder)))


def encoder(folder: Path) -> Callable[[list[Any]], Any]:
    """A function of rows that returns their padded token ids: (N, LENGTH)."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))

    def collate(rows: list[Any]) -> Any:
        texts = [row["text"] for row in rows]
        return tokenizer(texts, truncation=True, padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids

    return collate


def texts_of(folder: Path) -> tuple[str, Any]:
    """The peer's name and its rows: of `datasets`, or without that library a list of the same rows, no slower."""
    try:
        from datasets import disable_progress_bars, load_dataset
    except ImportError:
        return "a list (no datasets)", [json.loads(line) for line in (folder / "t.jsonl").read_text().splitlines()]
    disable_progress_bars()
    file, cache = str(folder / "t.jsonl"), str(folder / "cache")
    return "datasets", load_dataset("json", data_files=file, split="train", cache_dir=cache).select_columns("text")


def check(examples: Examples, folder: Path, rows: Any) -> None:
    """Assert that both sides give the same tokens.

    Raises:
        AssertionError: the first rows differ.
    """
    count = min(500, len(examples))
    ours = examples.batch(np.arange(count)).astype(np.int64)
    theirs = encoder(folder)([rows[place] for place in range(count)]).numpy()
    ours[ours == np.iinfo(np.uint16).max] = 0  # padding: the blank of a pack, and the token [PAD]
    np.testing.assert_array_equal(ours, theirs)


def tokens_per_second(road: Callable[[], Iterator[Any]], clock: Callable[[], float]) -> float:
    """Tokens per second of a clock that a pipeline gives, padding included."""
    began, done = clock(), 0
    for batch in road():
        done += batch.numel()
    return done / (clock() - began)


def peak(folder: Path, count: int) -> int:
    """Bytes of private memory that a process needs to read every batch of a pack of `count` texts."""
    lines = (
        "import sys, numpy as np, torch",
        "from pathlib import Path",
        "from rib.data.examples import Examples, Index",
        "from rib.data.feed import fed",
        "from rib.training.predict import batches",
        f"count = {count}; place = Path(sys.argv[1])",
        f"tokens = np.lib.format.open_memmap(place, 'w+', np.uint16, (count, {LENGTH}))",
        "tokens[:] = 1; tokens.flush(); del tokens",
        "index = Index(np.zeros(count, np.int64), np.arange(count))",
        "examples = Examples.whole(np.lib.format.open_memmap(place, 'r'), index)",
        f"for batch in fed(examples, batches(count, {BATCH}), torch.device('cpu')): pass",
        "held = dict(line.split(':') for line in open('/proc/self/status') if ':' in line)",
        "print(int(held['RssAnon'].split()[0]) * 1024)",
    )
    code = "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", code, str(folder / f"{count}.npy")], capture_output=True, text=True,
                          check=True)  # fmt: skip
    return int(done.stdout)
