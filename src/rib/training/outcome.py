"""The outcome of a training, and whether it diverged or learned nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rib.metrics.chance import binomial_tail

DIVERGED = 1.1
"""Diverged: last loss > DIVERGED × max(first epoch, uniform guess), or > EXPLODED × max(first batch, uniform guess)."""

EXPLODED = 3.0
"""See DIVERGED."""

AT_CHANCE = 0.05
"""A run ends above chance only if guessing the most frequent class would do as well with at most this probability."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a training. A loss is the mean of an epoch, of the objective or the cross-entropy without penalty.

    Attributes:
        losses: one per epoch.
        accuracies: percent of the tuning set that was right, or matched correctly, during each epoch.
        diverged: whether the last loss is well above the first one and above that of a uniform guess.
        chance: percent of the tuning set in its most frequent class; None for an objective.
        seen: number of images of the last epoch.
    """

    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    diverged: bool
    chance: float | None
    seen: int

    @property
    def accuracy(self) -> float:
        """The accuracy of the last epoch."""
        return self.accuracies[-1]

    @property
    def at_chance(self) -> bool:
        """Whether the last epoch's accuracy is not above chance: see `is_at_chance`."""
        return self.chance is not None and is_at_chance(self.accuracy, self.chance, self.seen)

    @property
    def values(self) -> dict[str, float]:
        """Values of a record: last loss and accuracy, and `chance` and `at_chance` (0 or 1) if there are classes."""
        found = {"last_loss": self.losses[-1], "tuning_accuracy": self.accuracy}
        return found if self.chance is None else found | {"chance": self.chance, "at_chance": float(self.at_chance)}


def is_diverged(losses: Sequence[float], first_batch: float, classes: int | None) -> bool:
    """Whether a finite loss ends well above its start.

    An objective draws new views of few images in each epoch. So in a sound training its loss may rise by a tenth, or
    end at the loss of chance. An objective only diverges if its loss explodes.

    Args:
        losses: mean of each epoch.
        first_batch: loss of the first batch, before any step.
        classes: number of classes of the cross-entropy; None for an objective, which has no uniform guess.
    """
    if classes is None:
        return losses[-1] > EXPLODED * max(abs(losses[0]), abs(first_batch))
    uniform = math.log(max(2, classes))
    return losses[-1] > min(DIVERGED * max(uniform, losses[0]), EXPLODED * max(uniform, first_batch))


def is_at_chance(accuracy: float, chance: float, count: int) -> bool:
    """Whether an accuracy is no better than that of always guessing the most frequent class.

    It is so if a binomial draw at chance gives as many right images or more with P(X >= right) > 0.05. With a single
    class it is always so.

    Args:
        accuracy: in percent.
        chance: share of the most frequent class, in percent.
        count: number of images.
    """
    if not 0 < chance < 100 or not count:
        return False
    right = round(accuracy * count / 100)
    return binomial_tail(right, count, chance / 100) > AT_CHANCE
