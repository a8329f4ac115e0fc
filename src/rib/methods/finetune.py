"""Vanilla fine-tuning."""

from __future__ import annotations

from typing import ClassVar

from rib.methods.base import TrainedMethod


class FineTune(TrainedMethod):
    """Cross-entropy on masked logits, all parameters; the baseline of arXiv 2410.21582."""

    name: ClassVar[str] = "finetune"
