"""Replay: images of the reference set in every batch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rib.methods.base import Passes, TrainedMethod
from rib.recipe import Recipe
from rib.training.hooks import beside


class Replay(TrainedMethod):
    """Fine-tuning with training images of the reference set in every batch (Rolnick et al. 2019, arXiv 1811.11682,
    experience replay without its distillation).

    The images come from the reference set's part `tune`, never from scored images. They are added to each batch of
    tuning images and make up the share `share` of the larger batch. Their cross-entropy is over the reference set's
    classes, and the loss is the mean over all images. The method needs training data of the pretrained model's own
    task.
    """

    name: ClassVar[str] = "replay"
    key_name: ClassVar[str] = "rib.methods.replay:Replay"
    replays: ClassVar[bool] = True
    share: float = Field(0.1, gt=0, lt=1, description="share of each batch")

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts every image of every epoch, and the images of the reference set."""
        own = super().passes(recipe, images, held_out)
        return own._replace(trained=own.trained + beside(self.share, own.trained))

    def replayed(self) -> float:
        """Share of each batch that is drawn from the reference set."""
        return self.share
