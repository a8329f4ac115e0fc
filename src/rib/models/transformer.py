"""Models of the transformers library as nets of token ids: encoders and decoders, with their own head or with RIB's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rib.errors import UserError
from rib.models.characters import pooled

BUILDER = "rib.models.transformer:transformers_net"

VOLATILE = frozenset(
    [
        "_name_or_path", "_commit_hash", "_attn_implementation", "_attn_implementation_autoset", "_num_labels",
        "transformers_version", "torch_dtype", "dtype", "architectures", "auto_map", "id2label", "label2id",
        "num_labels", "problem_type", "finetuning_task", "task_specific_params", "use_cache",
        "gradient_checkpointing", "output_past", "tokenizer_class", "return_dict", "output_attentions",
        "output_hidden_states", "prefix", "is_decoder", "pad_token_id", "custom_pipelines", "adapters",
        "attn_implementation", "experts_implementation", "quantization_config",
    ]
)  # fmt: skip
"""Entries of a configuration that do not shape the net, or that RIB sets. Some name code that transformers would load.
"""

BUFFERS = ("position_ids", "attn.bias", "attn.masked_bias", "rotary_emb.inv_freq")
"""Suffixes of tensors that older versions of transformers saved with the weights."""

OFFSET = (
    "roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "mpnet", "data2vec-text",
    "longformer", "ibert", "xmod", "esm", "luke", "lilt",
)  # fmt: skip
"""Kinds of models whose position table starts after the padding token's position."""


class TransformersNet(nn.Module):
    """Logits from token ids int64 (N, L), negative for padding. Ids of a second segment are id + vocabulary.

    Args:
        model: of transformers.
        vocabulary: number of ids.
        pad: the padding id, which attention ignores.
        segments: whether the model gets the segment of each token.
        pooling: None for a model with a head of its own; else which vector the new head sees.
        classes, width: number of outputs and inputs of the new head.
    """

    def __init__(
        self, model: Any, vocabulary: int, pad: int, segments: bool, pooling: str | None, classes: int, width: int
    ) -> None:
        super().__init__()
        self.model, self.vocabulary, self.pad, self.segments, self.pooling = model, vocabulary, pad, segments, pooling
        if pooling is not None:
            self.head = nn.Linear(width, classes)

    def inputs(self, tokens: Tensor) -> dict[str, Tensor]:
        """Keyword arguments for a model of transformers: token ids, attention mask, and segments if it takes them."""
        there, known = tokens >= 0, tokens.clamp(min=0)
        found = {"input_ids": torch.where(there, known % self.vocabulary, self.pad), "attention_mask": there.long()}
        if self.segments:
            found["token_type_ids"] = known // self.vocabulary
        return found

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (N, classes)."""
        inputs = self.inputs(tokens)
        if self.pooling is not None:
            hidden = self.model(**inputs).last_hidden_state
            logits: Tensor = self.head(pooled(hidden, tokens >= 0, self.pooling))
        elif hasattr(self.model, "score"):  # a decoder, whose head sees only the last token, whatever follows it
            hidden = self.model.base_model(**inputs).last_hidden_state
            logits = self.model.score(pooled(hidden, tokens >= 0, "last"))
        else:
            logits = self.model(**inputs).logits
        return logits


def transformers_net(
    num_classes: int, config: Mapping[str, Any], pad: int, pooling: str | None = None, segments: bool = False
) -> nn.Module:
    """A model of transformers with random weights.

    Args:
        num_classes: number of outputs.
        config: of the model, as in its config.json, without entries that do not shape the net.
        pad: the padding id.
        pooling: None for AutoModelForSequenceClassification; "mean", "first" or "last" for AutoModel and a new head.
        segments: whether texts are pairs whose segments the model distinguishes.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    fields = {name: value for name, value in config.items() if name != "model_type"}
    made = AutoConfig.for_model(str(config["model_type"]), **fields, num_labels=num_classes, pad_token_id=pad)
    kind = AutoModelForSequenceClassification if pooling is None else AutoModel
    model = kind.from_config(made)
    if pooling is not None and getattr(model, "pooler", None) is not None:
        model.pooler = None  # the new head sees the tokens themselves, and other tasks' checkpoints lack the pooler
    return TransformersNet(model, int(made.vocab_size), pad, segments, pooling, num_classes, int(made.hidden_size))


def in_net_names(tensors: Mapping[str, Tensor], net: nn.Module, new_head: bool) -> dict[str, Tensor]:
    """Tensors of a checkpoint of transformers under the names of a `TransformersNet`.

    The names in checkpoints of other tasks may have the prefix of the base model or lack it. If the net has RIB's head,
    the checkpoint's own head is dropped.

    Args:
        tensors: of the checkpoint.
        net: has the wanted names.
        new_head: whether the checkpoint may lack the net's head.

    Raises:
        UserError: the checkpoint is of another task, and its head is needed.
    """
    assert isinstance(net, TransformersNet)
    expected = net.state_dict()
    base = f"{net.model.base_model_prefix}."
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        plain = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        places = (plain, f"model.{plain}", f"model.{base}{plain}", f"model.{plain.removeprefix(base)}")
        place = next((place for place in places if place in expected), None)
        if place is not None:
            found[place] = value
        elif net.pooling is None and not plain.endswith(BUFFERS):
            found[f"model.{plain}"] = value
    lost = expected.keys() - found.keys()
    if lost and not new_head and not any(name.startswith(f"model.{base}") and "pooler" not in name for name in lost):
        raise UserError(
            "the checkpoint has no classification head",
            got=f"no {min(lost).removeprefix('model.')}",
            valid="a model that was tuned for classification, as AutoModelForSequenceClassification saves it",
            remedy='train a head on the reference set: head = "new" and pooling = "mean" in the model\'s row '
            '(of a decoder, pooling = "last")',
        )
    return found


def most_tokens(config: Mapping[str, Any], pad: int) -> int | None:
    """The maximum number of tokens in a model's position table; None if it has no such table."""
    table = next((int(config[name]) for name in ("n_positions", "max_position_embeddings") if config.get(name)), None)
    if table is None or table < 0:
        return None
    return table - pad - 1 if config.get("model_type") in OFFSET else table


def require_installed() -> None:
    """Check that transformers is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise UserError(
            "models of text need transformers and tokenizers",
            got="not installed",
            remedy="pip install 'rib-benchmark[text]'",
        ) from None
