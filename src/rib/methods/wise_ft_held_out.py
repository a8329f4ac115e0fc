"""WiSE-FT with an α that is chosen on held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from rib.methods.base import Ingredient, Method, Passes, Task
from rib.models.weights import Weights, interpolate
from rib.recipe import Recipe


class WiseFTHeldOut(Method):
    """Interpolates at every α and keeps the one with the best held-out accuracy; ties go to the lowest α.

    θ0 + α (θ1 - θ0), as in `wise_ft`. The held-out images belong to the tuned set; no evaluation set is read.
    """

    name: ClassVar[str] = "wise_ft_held_out"
    key_name: ClassVar[str] = "rib.methods.wise_ft_held_out:WiseFTHeldOut"
    needs_held_out: ClassVar[bool] = True
    alphas: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        tuple(step / 10 for step in range(11)), min_length=2
    )
    tuned: str = Field("finetune", description="the method whose weights are θ1")

    def ingredients(self) -> tuple[str | Method | Ingredient, ...]:
        """The fine-tuned model."""
        return (self.tuned,)

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts the held-out examples once per α."""
        return Passes(seen=len(self.alphas) * held_out)

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """The best interpolation. The record has each α's held-out accuracy, and the choice."""
        alphas = sorted(self.alphas)
        accuracies = [task.held_out_accuracy(interpolate(start, fitted[0], alpha)) for alpha in alphas]
        chosen = alphas[max(range(len(alphas)), key=lambda place: (accuracies[place], -place))]
        for alpha, accuracy in zip(alphas, accuracies, strict=True):
            task.note(f"held_out_accuracy_at_{alpha:g}", accuracy)
        task.note("chosen_alpha", chosen)
        return interpolate(start, fitted[0], chosen)
