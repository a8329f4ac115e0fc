"""The last block of a vision transformer, computed only for the token that the head uses.

If a model pools the class token, the last block's outputs for other tokens are never used. It needs their keys and
values, but not their queries, projections and MLP. Logits are equal up to rounding.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def compute_pooled_only(net: nn.Module) -> bool:
    """Make the last block of a net compute only the class token, if the net is a timm transformer that pools it.

    Parameters and their names do not change. A net with another pooling, another kind of block, or dropout (whose draws
    would change) is left unchanged.

    Args:
        net: changed in place.

    Returns:
        Whether it was changed.
    """
    if not _pools_class_token(net):
        return False
    block: Any = net.get_submodule("blocks")[-1]  # type: ignore[index]
    block.forward = partial(_class_token, block)
    return True


def _pools_class_token(net: Any) -> bool:
    from timm.layers.attention import Attention
    from timm.models.vision_transformer import Block, VisionTransformer

    if net.__class__ is not VisionTransformer or net.global_pool != "token" or net.attn_pool:
        return False
    block = net.blocks[-1]
    if block.__class__ is not Block or block.attn.__class__ is not Attention or getattr(block.attn, "gate", None):
        return False
    return not any(isinstance(part, nn.Dropout) and part.p > 0 for part in block.modules())


def _class_token(block: Any, tokens: Tensor, *_: object, **__: object) -> Tensor:
    """The block's output for the first of the tokens (N, T, D): (N, 1, D)."""
    first = tokens[:, :1]
    first = first + block.drop_path1(block.ls1(_attended(block.attn, block.norm1(tokens))))
    result: Tensor = first + block.drop_path2(block.ls2(block.mlp(block.norm2(first))))
    return result


def _attended(attention: Any, tokens: Tensor) -> Tensor:
    """Attention output of the first token over all tokens: (N, T, D) to (N, 1, D)."""
    width, weight, bias = attention.attn_dim, attention.qkv.weight, attention.qkv.bias
    own, others = (None, None) if bias is None else (bias[:width], bias[width:])
    query = _heads(attention, F.linear(tokens[:, :1], weight[:width], own))
    key, value = (_heads(attention, half) for half in F.linear(tokens, weight[width:], others).chunk(2, dim=-1))
    query, key = attention.q_norm(query), attention.k_norm(key)
    taken = F.scaled_dot_product_attention(query, key, value)
    joined: Tensor = attention.proj(attention.norm(taken.transpose(1, 2).flatten(2)))
    return joined


def _heads(attention: Any, tokens: Tensor) -> Tensor:
    """(N, T, heads · d) to (N, heads, T, d)."""
    return tokens.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)
