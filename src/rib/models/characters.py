"""Two small transformers for the embedded texts: a bidirectional encoder and a causal decoder.

Both read token ids int64 (N, L), which are negative for padding, and end in a linear layer named `head`. Its input is
the mean over the tokens for an encoder, and the last token for a decoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TextBlock(nn.Module):
    """Attention and an MLP with one hidden layer, each after a LayerNorm and with a residual connection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Transform tokens (N, L, D); `seen` (N, 1, L, L) masks the tokens that each token attends to."""
        count, length, dim = x.shape
        parts = self.qkv(self.norm1(x)).view(count, length, 3, self.heads, dim // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        x = x + self.proj(found.transpose(1, 2).reshape(count, length, dim))
        y: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return y


class CharacterNet(nn.Module):
    """Token and position embeddings, blocks, a norm and a head.

    Args:
        num_classes: number of outputs.
        causal: whether a token attends only to itself and earlier ones, and the last token is pooled.
        dim: width, a multiple of `heads`.
        depth: number of blocks.
        heads: number of attention heads.
        length: maximum number of tokens.
        vocabulary: number of token ids.
    """

    def __init__(
        self, num_classes: int, causal: bool, dim: int, depth: int, heads: int, length: int, vocabulary: int
    ) -> None:
        super().__init__()
        self.causal = causal
        self.tokens, self.places = nn.Embedding(vocabulary, dim), nn.Embedding(length, dim)
        self.blocks = nn.ModuleList([TextBlock(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.1)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Hidden state of each token: (N, L, D)."""
        there, length = tokens >= 0, tokens.shape[1]
        seen = there[:, None, None, :].expand(-1, 1, length, -1)
        if self.causal:
            seen = seen & torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        x = self.tokens(tokens.clamp(min=0)) + self.places.weight[:length]
        for block in self.blocks:
            x = block(x, seen)
        found: Tensor = self.norm(x)
        return found

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (N, num_classes)."""
        logits: Tensor = self.head(pooled(self.hidden(tokens), tokens >= 0, "last" if self.causal else "mean"))
        return logits


def pooled(hidden: Tensor, there: Tensor, how: str) -> Tensor:
    """One vector per text (N, D) from the vectors of its tokens (N, L, D).

    Args:
        hidden: the vectors of the tokens.
        there: bool (N, L), true for tokens and false for padding.
        how: "mean" of the tokens, "first" or "last" token.
    """
    if how == "mean":
        weight = there[:, :, None].to(hidden.dtype)
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    if how == "first":
        return hidden[:, 0]
    last = there.long().cumsum(dim=1).argmax(dim=1)  # the first position with the largest count
    return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[2]))[:, 0]


def encoder(
    num_classes: int, dim: int = 48, depth: int = 2, heads: int = 4, length: int = 32, vocabulary: int = 259
) -> nn.Module:
    """A transformer in which every token attends to all tokens. The mean over the tokens is classified."""
    return CharacterNet(num_classes, False, dim, depth, heads, length, vocabulary)


def decoder(
    num_classes: int, dim: int = 48, depth: int = 2, heads: int = 4, length: int = 32, vocabulary: int = 259
) -> nn.Module:
    """A transformer in which a token attends only to itself and earlier ones. The last token is classified."""
    return CharacterNet(num_classes, True, dim, depth, heads, length, vocabulary)
