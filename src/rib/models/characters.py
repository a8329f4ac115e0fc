"""Two small transformers for the embedded suite of texts: an encoder that reads both ways, and a causal decoder.

Both read token ids int64 (N, L), negative if there is no token, and end in a linear layer named `head`. It sees the
mean over the tokens of an encoder, and the last token of a decoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TextBlock(nn.Module):
    """Attention and a perceptron of one hidden layer, each after a LayerNorm and beside a shortcut."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Tokens (N, L, D), and which token (N, 1, L, L) each may look at."""
        count, length, dim = x.shape
        parts = self.qkv(self.norm1(x)).view(count, length, 3, self.heads, dim // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        x = x + self.proj(found.transpose(1, 2).reshape(count, length, dim))
        y: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return y


class CharacterNet(nn.Module):
    """Embeddings of bytes and places, blocks, a norm and a head.

    Args:
        num_classes: outputs.
        causal: whether a token sees only those before it, and the answer is that of the last.
        dim: width, a multiple of `heads`.
        depth: number of blocks.
        heads: of the attention.
        length: most tokens.
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
        """What is known at each token: (N, L, D)."""
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
    """One vector of a text (N, D) from those of its tokens (N, L, D).

    Args:
        hidden: of the tokens.
        there: bool (N, L), which are tokens.
        how: "mean" over the tokens, "first" or "last" token.
    """
    if how == "mean":
        weight = there[:, :, None].to(hidden.dtype)
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    if how == "first":
        return hidden[:, 0]
    last = there.long().cumsum(dim=1).argmax(dim=1)  # the first place with the largest count
    return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[2]))[:, 0]


def encoder(
    num_classes: int, dim: int = 48, depth: int = 2, heads: int = 4, length: int = 32, vocabulary: int = 259
) -> nn.Module:
    """A transformer in which every token sees every other; the mean over the tokens answers."""
    return CharacterNet(num_classes, False, dim, depth, heads, length, vocabulary)


def decoder(
    num_classes: int, dim: int = 48, depth: int = 2, heads: int = 4, length: int = 32, vocabulary: int = 259
) -> nn.Module:
    """A transformer in which a token sees those before it; the last token answers."""
    return CharacterNet(num_classes, True, dim, depth, heads, length, vocabulary)
