"""The learning rate of every step, and the examples of every batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from rib.arrays import Rows
from rib.data.splits import named_generator
from rib.recipe import Recipe


class Schedule:
    """The batches of a training. The batches of an epoch depend only on the seed and the number of the epoch.

    Args:
        labels: int64 (N,), of the tuning set, in an order whose prefixes are balanced.
        recipe: batch size and length.
        seed: of the order.
        stages: shares of the tuning set, one per equal part of the run; batches use the first examples only.
        merged: whether a last batch of one example joins the one before it.
        hold: share of the run after which the learning rate is constant.
        stop: steps after which the run ends, though its rates are those of the whole run; None for the whole run.

    Attributes:
        sizes: number of examples of each batch of an epoch.
        total: number of steps; the last epoch may be incomplete.
    """

    def __init__(
        self,
        labels: Rows,
        recipe: Recipe,
        seed: int,
        stages: Sequence[float] = (1.0,),
        merged: bool = False,
        hold: float = 1.0,
        stop: int | None = None,
    ) -> None:
        self._recipe, self._seed = recipe, seed
        self._prefixes = prefixes(labels, stages)
        self.sizes = recipe.batches(len(labels), merged)
        self.total = recipe.total_steps(len(labels), merged)
        self._held = int(hold * self.total)
        self._end = self.total if stop is None else min(stop, self.total)

    def steps(self, epoch: int) -> range:
        """The numbers of the steps of an epoch."""
        first = epoch * len(self.sizes)
        return range(first, min(first + len(self.sizes), self._end))

    def is_over(self, epoch: int) -> bool:
        """Whether an epoch has no steps."""
        return epoch * len(self.sizes) >= self._end

    def lr(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self._recipe.lr * rate(min(step, self._held), self._recipe.warmup(self.total), self.total)

    def images(self, epochs: int) -> int:
        """Number of examples in the first epochs."""
        whole, rest = divmod(min(epochs * len(self.sizes), self._end), len(self.sizes))
        return whole * sum(self.sizes) + sum(self.sizes[:rest])

    def seen(self, epoch: int) -> int:
        """Number of examples in an epoch."""
        return sum(self.sizes[: self._end - epoch * len(self.sizes)])

    def order(self, epoch: int) -> Rows:
        """The examples of an epoch in order, int64 (n,); examples of a prefix are repeated until the epoch is full."""
        generator = named_generator("shuffle", self._seed, epoch)
        drawn = []
        steps = range(epoch * len(self.sizes), (epoch + 1) * len(self.sizes))
        for prefix, group in itertools.groupby(steps, self._prefix):
            wanted = sum(self.sizes[step % len(self.sizes)] for step in group)
            rounds = [generator.permutation(prefix) for _ in range(-(-wanted // prefix))]
            drawn.append(np.concatenate(rounds)[:wanted])
        return np.concatenate(drawn)

    def _prefix(self, step: int) -> int:
        """Number of first examples from which a step draws."""
        return self._prefixes[min(step * len(self._prefixes) // self.total, len(self._prefixes) - 1)]


def prefixes(labels: Rows, stages: Sequence[float]) -> tuple[int, ...]:
    """Number of examples of each stage: its share, but at least one per class.

    Args:
        labels: int64 (N,), in an order whose prefixes are balanced.
        stages: shares in (0, 1].
    """
    fewest = len(np.unique(labels))
    return tuple(min(max(round(share * len(labels)), fewest), len(labels)) for share in stages)


def rate(step: int, warmup: int, total: int) -> float:
    """The factor of the peak learning rate at a step, counted from 0.

    Linear during the warm-up, (step + 1) / warmup, then half a cosine to 0. A run that is not longer than its warm-up
    does not decay.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
