"""Language models of the catalogue: their sources and pretraining. Table: docs/models.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

PYTHIA_BATCH = 2_097_152
"""Tokens per step of Pythia's pretraining (Biderman et al. 2023, arXiv 2304.01373)."""

PYTHIA_STEPS = (1_000, 8_000, 32_000, 143_000)
OLMO_REVISIONS = {"step20000-tokens84B": 84, "step117850-tokens494B": 494, "step738020-tokens3094B": 3_094}
"""Revisions of OLMo-1B, with the billions of tokens in their names."""


@dataclass(frozen=True)
class LanguageLine:
    """One model.

    Attributes:
        name: in the catalogue.
        hub: repository, and "@revision" if it is not the newest.
        family: architecture at its size.
        objective: what its pretraining minimised.
        pretraining: the pretraining set.
        tokens: number of tokens in its pretraining, or number of words of the set; None if not stated.
        pooling: the input of a new head.
        pad: the padding token, if the tokenizer has none.
    """

    name: str
    hub: str
    family: str
    objective: str
    pretraining: str
    tokens: int | None
    pooling: Literal["mean", "first", "last"]
    pad: str | None = None

    @property
    def folder(self) -> str:
        """Where the catalogue expects it, relative to the folder that a suite's paths start from."""
        return f"models/{self.name}"

    @property
    def command(self) -> str:
        """The command that downloads it."""
        repository, _, revision = self.hub.partition("@")
        chosen = f" --revision {revision}" if revision else ""
        return f"hf download {repository}{chosen} --local-dir {self.folder}"


def _lines() -> Iterator[LanguageLine]:
    books, webs, text = "Books and Wikipedia", "160 GB of text", "masked tokens"
    yield LanguageLine("bert_base", "google-bert/bert-base-uncased", "bert_base", text, books, 3_300_000_000, "mean")
    yield LanguageLine("bert_large", "google-bert/bert-large-uncased", "bert_large", text, books, 3_300_000_000, "mean")
    yield LanguageLine("roberta_base", "FacebookAI/roberta-base", "roberta_base", text, webs, None, "mean")
    yield LanguageLine("roberta_large", "FacebookAI/roberta-large", "roberta_large", text, webs, None, "mean")
    yield LanguageLine(
        "distilbert", "distilbert/distilbert-base-uncased", "distilbert", "distilled", books, 3_300_000_000, "mean"
    )
    yield LanguageLine(
        "deberta_v3", "microsoft/deberta-v3-base", "deberta_v3_base", "replaced tokens", webs, None, "mean"
    )
    end = "<|endoftext|>"
    for size in ("", "-medium", "-large"):
        family = f"gpt2{size.replace('-', '_')}"
        yield LanguageLine(family, f"openai-community/gpt2{size}", family, "next token", "WebText", None, "last", end)
    for step in PYTHIA_STEPS:
        yield LanguageLine(
            f"pythia_160m_{step}", f"EleutherAI/pythia-160m@step{step}", "pythia_160m", "next token",
            f"The Pile, {step:,} steps", step * PYTHIA_BATCH, "last", end,
        )  # fmt: skip
    for revision, billions in OLMO_REVISIONS.items():
        yield LanguageLine(
            f"olmo_1b_{billions}b", f"allenai/OLMo-1B-hf@{revision}", "olmo_1b", "next token",
            f"Dolma, {billions} B tokens", billions * 10**9, "last",
        )  # fmt: skip


LINES: tuple[LanguageLine, ...] = tuple(_lines())
