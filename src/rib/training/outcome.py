"""Outcome: how a training went, and whether it diverged or learned nothing."""

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
"""A run ends at chance unless guessing the most frequent class would do as well with a probability below this."""


@dataclass(frozen=True)
class Outcome:
    """How a run went. Losses are the mean over an epoch of the cross-entropy without penalty, or of the objective.

    Attributes:
        losses: one per epoch.
        accuracies: percent of the tuning set that was right, or matched right, during each epoch.
        diverged: whether the last epoch's loss is well above where it began and that of a uniform guess.
        chance: percent of the tuning set that its most frequent class has; None for an objective.
        seen: images of the last epoch.
    """

    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    diverged: bool
    chance: float | None
    seen: int

    @property
    def accuracy(self) -> float:
        """That of the last epoch."""
        return self.accuracies[-1]

    @property
    def at_chance(self) -> bool:
        """Whether the last epoch's accuracy is not above chance: see `is_at_chance`."""
        return self.chance is not None and is_at_chance(self.accuracy, self.chance, self.seen)

    @property
    def values(self) -> dict[str, float]:
        """For a record: last loss and accuracy, and `chance` and `at_chance` (0 or 1) where there are classes."""
        found = {"last_loss": self.losses[-1], "tuning_accuracy": self.accuracy}
        return found if self.chance is None else found | {"chance": self.chance, "at_chance": float(self.at_chance)}


def is_diverged(losses: Sequence[float], first_batch: float, classes: int | None) -> bool:
    """Whether a finite loss ends well above where it began.

    An objective draws new views of few images in each epoch, so its loss may rise by a tenth, or end at that of chance,
    in a sound run. Of it, only a loss that explodes is a divergence.

    Args:
        losses: mean of each epoch.
        first_batch: loss of the first batch, before any step.
        classes: of the cross-entropy; None for an objective, of which no uniform guess is known.
    """
    if classes is None:
        return losses[-1] > EXPLODED * max(abs(losses[0]), abs(first_batch))
    uniform = math.log(max(2, classes))
    return losses[-1] > min(DIVERGED * max(uniform, losses[0]), EXPLODED * max(uniform, first_batch))


def is_at_chance(accuracy: float, chance: float, count: int) -> bool:
    """Whether an accuracy is no evidence of more than always naming the most frequent class.

    It is if the number of images that are right lies within the lower 95 % of what a binomial draw with the chance
    gives, P(X >= right) > 0.05. With one class alone there is no evidence to be had.

    Args:
        accuracy: in percent.
        chance: share of the most frequent class, in percent.
        count: images.
    """
    if not 0 < chance < 100 or not count:
        return False
    right = round(accuracy * count / 100)
    return binomial_tail(right, count, chance / 100) > AT_CHANCE
