"""The accuracy that a training script saved in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rib.models.checkpoints import CheckpointFile
from rib.models.class_order import documents

_ENTRIES = ("best_acc1", "test_acc1", "acc1", "best_acc", "test_acc", "val_acc", "best_accuracy", "accuracy")
"""Names of accuracies in the scripts of torch, torchvision and MAE, and in common scripts of users."""

_METRIC = "metric"
"""timm's entry: the top-1 accuracy, unless its `eval_metric` is another."""


@dataclass(frozen=True)
class RecordedAccuracy:
    """An accuracy that a checkpoint states.

    Attributes:
        percent: the accuracy in percent.
        source: the entry and the file, for messages.
    """

    percent: float
    source: str


def recorded_accuracy(checkpoint: CheckpointFile) -> RecordedAccuracy | None:
    """The accuracy that a checkpoint or the configuration beside it states; None without one.

    Values up to 1 are taken for shares, larger ones for percent.
    """
    for document, source in documents(checkpoint):
        for entry in (*_ENTRIES, _METRIC):
            value = _number(document.get(entry))
            if value is not None and not (entry == _METRIC and _other_metric(document)):
                return RecordedAccuracy(100 * value if value <= 1 else value, f"`{entry}` of {source}")
    return None


def _other_metric(document: Mapping[str, Any]) -> bool:
    arguments = document.get("args")
    return isinstance(arguments, Mapping) and arguments.get("eval_metric") not in (None, "top1")


def _number(value: Any) -> float | None:
    """A share or a percentage; None for anything else."""
    try:
        number = None if value is None or isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if number is not None and math.isfinite(number) and 0 < number <= 100 else None
