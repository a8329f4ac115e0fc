"""The pretrained model, unchanged: the baseline, treated like every method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rib.methods.merging import MergedMethod
from rib.models.weights import Weights


class Pretrained(MergedMethod):
    """No tuning at all."""

    name: ClassVar[str] = "pretrained"
    key_name: ClassVar[str] = "rib.methods.pretrained:Pretrained"
    needs_data: ClassVar[bool] = False
    keeps_backbone: ClassVar[bool] = True

    def merge(self, start: Weights, fitted: Sequence[Weights]) -> Weights:
        """The pretrained weights."""
        return start
