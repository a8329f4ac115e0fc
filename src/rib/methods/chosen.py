"""A hyper-parameter that is chosen on held-out images: `choose` in a suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field, SerializeAsAny

from rib.methods.base import Ingredient, Method, Passes, Task
from rib.methods.merging import MergeContext, Merging
from rib.models.weights import Weights
from rib.recipe import Recipe


class Chosen(Method):
    """The candidate with the best accuracy on held-out images of the tuned set; ties go to the first.

    If all candidates merge the same ingredients, they are computed one after the other and are no steps of their own.
    """

    name: ClassVar[str] = "chosen"
    key_name: ClassVar[str] = "rib.methods.chosen:Chosen"
    listed: ClassVar[bool] = False
    needs_held_out: ClassVar[bool] = True
    takes_diverged: ClassVar[bool] = True
    candidates: tuple[SerializeAsAny[Method], ...] = Field(min_length=2)
    labels: tuple[str, ...] = Field(description="values of the candidates, for the record")

    @property
    def _shared(self) -> tuple[str | Method | Ingredient, ...] | None:
        """The ingredients that all candidates merge; None if they differ."""
        lists = [one.ingredients() if isinstance(one, Merging) else None for one in self.candidates]
        return lists[0] if all(each == lists[0] for each in lists) else None

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The common ingredients of the candidates, or else the candidates."""
        return self.candidates if self._shared is None else self._shared

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts the held-out examples once per candidate."""
        return Passes(seen=len(self.candidates) * held_out)

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """The best candidate's weights. The record has the held-out accuracy of each candidate, and the choice."""
        best: tuple[float, Weights, str] | None = None
        for label, weights in zip(self.labels, self._made(start, task, fitted), strict=True):
            accuracy = task.held_out_accuracy(weights)
            task.note(f"held_out_accuracy_at_{label}", accuracy)
            if best is None or accuracy > best[0]:
                best = accuracy, weights, label
        assert best is not None
        task.note("chosen", best[2])
        return best[1]

    def _made(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Iterator[Weights]:
        if self._shared is None:
            yield from fitted
            return
        place = MergeContext(task.architecture, task.seed)
        for candidate in self.candidates:
            assert isinstance(candidate, Merging)
            yield candidate.combine(start, fitted, place)
