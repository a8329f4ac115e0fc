"""Inside: what analyses and single predictions say of the models, as plain values. A pure function of results."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rib.results.inside.calibration import CalibrationChange, calibration_changes
from rib.results.inside.churn import ChurnRow, WorstClasses, churn_rows, worst_classes
from rib.results.inside.distances import DistanceLoss, distance_losses
from rib.results.inside.effective import EffectiveRobustness, effective_robustness
from rib.results.inside.forgetting import Split, splits
from rib.results.inside.layers import LayerProfile, Square, Whole, profiles, squares, wholes
from rib.results.inside.signatures import SignatureRow, signature_rows
from rib.results.inside.statistics import StatisticsSplit, statistics_splits
from rib.results.results import Results


@dataclass(frozen=True)
class Inside:
    """The values of all analyses of a suite; values without evidence are missing.

    Attributes:
        signatures: the signs of lost robustness, by model, method and size.
        wholes: mean CKA, total drift, barrier.
        profiles: CKA and drift by layer, group and kind; accuracy and loss on the way from θ0 to θ1.
        squares: CKA of every layer with every other.
        calibration: before and after, by score and the set tested on.
        churn: answers that became wrong and right.
        classes: those that lost most.
        effective: accuracy beyond the line.
        distances: between data sets, against loss of accuracy.
        forgetting: head against features.
        statistics: weights against BatchNorm's running statistics.
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

    @property
    def empty(self) -> bool:
        """Whether nothing is known."""
        return not any(getattr(self, field.name) for field in fields(self))


def inside(results: Results) -> Inside:
    """Everything that is known."""
    return Inside(
        signatures=tuple(signature_rows(results)),
        wholes=tuple(wholes(results)),
        profiles=tuple(profiles(results)),
        squares=tuple(squares(results)),
        calibration=tuple(calibration_changes(results)),
        churn=tuple(churn_rows(results)),
        classes=tuple(worst_classes(results)),
        effective=tuple(effective_robustness(results)),
        distances=tuple(distance_losses(results)),
        forgetting=tuple(splits(results)),
        statistics=tuple(statistics_splits(results)),
    )


__all__ = ["Inside", "inside"]
