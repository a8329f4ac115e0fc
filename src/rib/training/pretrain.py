"""Pretraining: several trainings in sequence, from random weights to a model for the reference set's classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rib.errors import DivergedError
from rib.models.classifier import Classifier
from rib.training.checkpoint import Checkpoint
from rib.training.loop import train
from rib.training.outcome import Outcome
from rib.training.predict import Watch
from rib.training.training import Training


def pretrain(classifier: Classifier, stages: Sequence[Training], checkpoint: Checkpoint, watch: Watch) -> Outcome:
    """Train the stages in order, in place. A run that resumes from any checkpoint equals an uninterrupted one.

    Args:
        classifier: with random weights, on the device to use.
        stages: at least one.
        checkpoint: stores the state; the training resumes from it.
        watch: called with the number of images.

    Returns:
        The outcome of the last stage.

    Raises:
        DivergedError: a stage diverged.
    """
    kept = checkpoint.load()
    first = kept.get("stage", 0) if kept else 0
    if kept:
        classifier.net.load_state_dict(kept["net"])  # a probe computes its features before it loads its own state
    for stage in stages[:first]:
        once = _passes_once(classifier, stage)
        watch(len(stage.examples) if once else stage.recipe.total_steps(len(stage.examples)) * stage.recipe.batch_size)
    for number, stage in enumerate(stages[first:], first):
        counted = watch
        if _passes_once(classifier, stage):
            watch(len(stage.examples))
            counted = partial(_as_none, watch)
        outcome = train(classifier, stage, _OfStage(checkpoint, number), counted)
        if outcome.diverged:
            raise DivergedError(f"training diverged, loss {outcome.losses[-1]:.2f}; try a lower learning rate")
    return outcome


def _passes_once(classifier: Classifier, stage: Training) -> bool:
    """Whether a stage trains the head alone, on features that are computed once."""
    return classifier.direct and stage.trainable == classifier.head_parameters


def _as_none(watch: Watch, images: int) -> None:
    """Report that time passes, and no image through the net."""
    watch(0)


@dataclass(frozen=True)
class _OfStage:
    """The checkpoint of one stage within the checkpoint of all stages."""

    place: Checkpoint
    number: int

    def load(self) -> dict[str, Any] | None:
        state = self.place.load()
        return state if state and state.get("stage", 0) == self.number else None

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        self.place.save(lambda: state() | {"stage": self.number})
