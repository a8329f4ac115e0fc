"""Start: the origin of the pretrained weights of a model."""

from __future__ import annotations

from rib.steps.new_head import NewHead
from rib.steps.pretrain import Load, Pretrain

Start = Load | Pretrain | NewHead
"""Pretrained weights: loaded, trained from scratch, or loaded and given a new head."""
