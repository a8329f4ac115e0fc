"""Tiny random models of transformers with a tokenizer of their own, written as its library writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

SENTENCE = "the a film was fine bad not very long short and it so of he she they said no yes old new red two"
WORDS = tuple(SENTENCE.split())
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = [*SPECIAL, *WORDS]

SHAPES: dict[str, dict[str, Any]] = {
    "bert": {"max_position_embeddings": 24, "type_vocab_size": 2},
    "roberta": {"max_position_embeddings": 24, "type_vocab_size": 1},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24, "bos_token_id": 2, "eos_token_id": 3},
    "opt": {
        "max_position_embeddings": 24, "word_embed_proj_dim": 16, "ffn_dim": 32, "bos_token_id": 2, "eos_token_id": 3,
    },
}  # fmt: skip
DECODERS = ("gpt2", "opt")
COMMON = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def write_tokenizer(folder: Path, kind: str, words: Sequence[str] = VOCABULARY, pad: bool = True) -> Any:
    """Words split at spaces; with BERT's marks and segments, RoBERTa's marks, or a mark at the end for decoders."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [("[CLS]", 2), ("[SEP]", 3)]
    second = "1" if kind == "bert" else "0"
    single = "$A [SEP]" if kind in DECODERS else "[CLS] $A [SEP]"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=f"{single} $B:{second} [SEP]:{second}", special_tokens=marks
    )
    padding = {"pad_token": "[PAD]"} if pad else {}
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        **padding, model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if kind == "bert" else [])],
    )  # fmt: skip
    made.save_pretrained(str(folder))
    return made


def write_model(
    folder: Path,
    kind: str,
    classes: Sequence[str] | int = 3,
    seed: int = 0,
    task: str = "SequenceClassification",
    pad: bool = True,
    **shape: Any,
) -> Any:
    """A model of transformers with its tokenizer in a folder. `classes` may be names, or a number of unnamed ones."""
    import transformers

    names = {} if isinstance(classes, int) else {"id2label": dict(enumerate(classes))}
    count = classes if isinstance(classes, int) else len(classes)
    fields = {**({} if kind == "gpt2" else COMMON), **SHAPES[kind], **shape}
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=len(VOCABULARY), pad_token_id=0 if pad else None, num_labels=count, **names, **fields
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"AutoModel{'For' + task if task else ''}").from_config(config)
        with torch.no_grad():  # as large as trained weights are, so that answers differ
            for value in model.parameters():
                if value.ndim > 1:
                    value.mul_(8.0)
    model.eval()
    model.save_pretrained(str(folder))
    write_tokenizer(folder, kind, pad=pad)
    if not pad:  # the library writes null, and older files leave it out
        file = folder / "config.json"
        document = json.loads(file.read_text("utf-8"))
        file.write_text(
            json.dumps({name: value for name, value in document.items() if name != "pad_token_id"}), "utf-8"
        )
    return model


def sentences(count: int, seed: int = 0, longest: int = 12) -> list[str]:
    """Sentences of 1 to `longest` words."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for place in range(count):
        size = 1 + (place * 5) % longest
        words = torch.randint(len(WORDS), (size,), generator=generator)
        found.append(" ".join(WORDS[word] for word in words.tolist()))
    return found
