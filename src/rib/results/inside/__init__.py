"""Inside: the results of analyses and of single predictions, as plain values. A pure function of the results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any

from rib.results.inside.calibration import CalibrationChange, calibration_changes
from rib.results.inside.churn import ChurnRow, WorstClasses, churn_rows, worst_classes
from rib.results.inside.distances import DistanceLoss, distance_losses
from rib.results.inside.effective import EffectiveRobustness, effective_robustness
from rib.results.inside.forgetting import Split, splits
from rib.results.inside.layers import LayerProfile, Square, Whole, profiles, squares, wholes
from rib.results.inside.signatures import SignatureRow, signature_rows
from rib.results.inside.statistics import StatisticsSplit, statistics_splits
from rib.results.inside.worst_group import GroupRow, WorstGroup, group_rows, worst_groups
from rib.results.results import Results


@dataclass(frozen=True)
class Inside:
    """The values of all analyses of a suite. A value without complete records is missing.

    Attributes:
        signatures: signs of lost robustness, by model, method and size.
        wholes: mean CKA, total drift and barrier of each group.
        profiles: CKA and drift by layer, group and kind; accuracy and loss on the line from θ0 to θ1.
        squares: CKA of every layer with every other layer.
        calibration: scores before and after, by score and test set.
        churn: shares of images that became wrong or right.
        classes: classes with the largest losses.
        effective: accuracy beyond the fitted line.
        distances: distance between data sets against loss of accuracy.
        forgetting: losses in the head and in the features.
        statistics: shares of the weights and of BatchNorm's running statistics.
        groups: accuracy of each group of a set that has groups.
        worst_groups: the worst of them, before and after.
    """

    signatures: tuple[SignatureRow, ...]
    wholes: tuple[Whole, ...]
    profiles: tuple[LayerProfile, ...]
    squares: tuple[Square, ...]
    calibration: tuple[CalibrationChange, ...]
    churn: tuple[ChurnRow, ...]
    classes: tuple[WorstClasses, ...]
    effective: tuple[EffectiveRobustness, ...]
    distances: tuple[DistanceLoss, ...]
    forgetting: tuple[Split, ...]
    statistics: tuple[StatisticsSplit, ...]
    groups: tuple[GroupRow, ...]
    worst_groups: tuple[WorstGroup, ...]

    @property
    def empty(self) -> bool:
        """Whether there are no values."""
        return not any(getattr(self, field.name) for field in fields(self))


def inside(results: Results, only: Collection[str] = ()) -> Inside:
    """All values that the finished records give; if `only` names some of them, the others stay empty."""
    read: dict[str, Callable[[Results], Iterable[object]]] = {
        "signatures": signature_rows,
        "wholes": wholes,
        "profiles": profiles,
        "squares": squares,
        "calibration": calibration_changes,
        "churn": churn_rows,
        "classes": worst_classes,
        "effective": effective_robustness,
        "distances": distance_losses,
        "forgetting": splits,
        "statistics": statistics_splits,
        "groups": group_rows,
        "worst_groups": worst_groups,
    }
    found: dict[str, Any] = {name: tuple(of(results)) if name in (only or read) else () for name, of in read.items()}
    return Inside(**found)


__all__ = ["Inside", "inside"]
