"""Fine-tuning that is stopped on its way: the weights after some steps."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rib.methods.base import Passes
from rib.methods.finetune import FineTune
from rib.recipe import Recipe


class Stopped(FineTune):
    """The weights of `finetune` after `after` steps of its run, at the rates of the whole run; at most at its end."""

    name: ClassVar[str] = "stopped"
    key_name: ClassVar[str] = "rib.methods.stopped:Stopped"
    after: int = Field(10, ge=1, description="steps that are taken")

    def stop_after(self) -> int | None:
        """The steps that are taken."""
        return self.after

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """The images of the steps that are taken."""
        run = self.run_recipe(recipe)
        taken = run.model_copy(update={"steps": min(self.after, run.total_steps(images))})
        return Passes(trained=taken.images(images), seen=images if run.batchnorm == "reestimate" else 0)
