"""Objectives for texts: predict hidden tokens from the others, or each token from those before it."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rib.data.tokens import BYTES_VOCABULARY, MASK, bytes_view
from rib.data.views import View, as_tokens
from rib.objectives.base import Features, Loss, Objective

BLANK = bytes_view(4).blank


class MaskedTokens(Objective):
    """Hides some tokens and predicts them from all others (Devlin et al. 2019, arXiv 1810.04805), for an encoder.

    It does not use labels. Every chosen token is replaced by the mask token. The layer that predicts is dropped
    afterwards.
    """

    name: ClassVar[str] = "masked"
    key_name: ClassVar[str] = "rib.objectives.tokens:MaskedTokens"

    share: float = Field(0.2, gt=0, lt=1, description="share of the tokens that are hidden; 0.15 as published")

    def require_view(self, view: View) -> None:
        as_tokens(view, "of the objective `masked`")

    def loss(self, width: int, classes: int) -> Loss:
        """The cross-entropy of the hidden tokens."""
        return _Masked(self, width)


class NextToken(Objective):
    """Predicts each token from those before it (Radford et al. 2018), for a decoder: an encoder would see the answer.

    It does not use labels. The layer that predicts is dropped afterwards.
    """

    name: ClassVar[str] = "next"
    key_name: ClassVar[str] = "rib.objectives.tokens:NextToken"

    def require_view(self, view: View) -> None:
        as_tokens(view, "of the objective `next`")

    def loss(self, width: int, classes: int) -> Loss:
        """The cross-entropy of every token but the first."""
        return _Next(width)


class _Masked(Loss):
    reads_tokens = True

    def __init__(self, objective: MaskedTokens, width: int) -> None:
        super().__init__()
        self.share, self.guess = objective.share, nn.Linear(width, BYTES_VOCABULARY)

    def forward(self, features: Features, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        ids = images.long()
        hidden = (torch.rand(ids.shape, device=ids.device) < self.share) & (ids != BLANK)
        hidden[:, 1] |= ~hidden.any(dim=1)  # at least one per text
        return _guessed(self.guess(features(torch.where(hidden, MASK, ids))[hidden]), ids[hidden], len(ids))


class _Next(Loss):
    reads_tokens = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.guess = nn.Linear(width, BYTES_VOCABULARY)

    def forward(self, features: Features, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        ids = images.long()
        wanted = ids[:, 1:] != BLANK
        return _guessed(self.guess(features(ids)[:, :-1][wanted]), ids[:, 1:][wanted], len(ids))


def _guessed(logits: Tensor, ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The loss, and the share of correct predictions times the number of texts."""
    right = (logits.detach().argmax(dim=1) == ids).float().mean() * count
    return F.cross_entropy(logits, ids), right
