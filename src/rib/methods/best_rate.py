"""Fine-tuning with a learning rate that is chosen on held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from rib.methods.base import Ingredient, Method, Passes, Task
from rib.methods.finetune import FineTune, NetPart
from rib.models.weights import Weights
from rib.recipe import Recipe


class BestRate(Method):
    """Fine-tunes at every rate and keeps the one with the best held-out accuracy; ties go to the lowest rate."""

    name: ClassVar[str] = "best_rate"
    key_name: ClassVar[str] = "rib.methods.best_rate:BestRate"
    needs_held_out: ClassVar[bool] = True
    takes_diverged: ClassVar[bool] = True
    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field((3e-4, 1e-3, 3e-3, 1e-2, 3e-2), min_length=2)
    freeze: tuple[NetPart, ...] | None = Field(None, description="what is not trained, as in finetune")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """Fine-tuning at each rate, lowest first."""
        return tuple(FineTune(lr=rate, freeze=self.freeze or ()) for rate in sorted(self.rates))

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts the held-out examples once per rate."""
        return Passes(seen=len(self.rates) * held_out)

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """The best run's weights. The record has each rate's held-out accuracy."""
        accuracies = [task.held_out_accuracy(weights) for weights in fitted]
        best = max(range(len(fitted)), key=lambda run: (accuracies[run], -run))
        for rate, accuracy in zip(sorted(self.rates), accuracies, strict=True):
            task.note(f"held_out_accuracy_at_{rate:g}", accuracy)
        task.note("chosen_lr", sorted(self.rates)[best])
        return fitted[best]
