"""Fine-tuning that stops early: the weights after a number of steps."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rib.methods.base import Passes
from rib.methods.finetune import FineTune
from rib.recipe import Recipe


class Stopped(FineTune):
    """The weights of `finetune` after `after` steps of its run, or at its end; learning rates are those of the whole
    run.
    """

    name: ClassVar[str] = "stopped"
    key_name: ClassVar[str] = "rib.methods.stopped:Stopped"
    after: int = Field(10, ge=1, description="number of steps")

    def stop_after(self) -> int | None:
        """Number of steps after which the run ends."""
        return self.after

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts the images of the steps until the run ends."""
        run = self.run_recipe(recipe)
        taken = run.model_copy(update={"steps": min(self.after, run.total_steps(images))})
        return Passes(trained=taken.images(images), seen=images if run.batchnorm == "reestimate" else 0)
