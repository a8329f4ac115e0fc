"""Surgical fine-tuning: mainly the layers with the largest gradients, or one part of the net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field

from rib.data.feed import fed
from rib.methods.base import Passes, Task, TrainedMethod
from rib.models.classifier import Classifier
from rib.recipe import Recipe
from rib.training.predict import batches


class Surgical(TrainedMethod):
    """Fine-tuning with a learning rate for each tensor in proportion to its relative gradient norm (Lee et al. 2023,
    arXiv 2210.11466, Auto-RGN).

    RGN = ‖g‖ / ‖θ‖, where g is the gradient of the mean cross-entropy over the tuning set. It is divided by the largest
    RGN of the net. Deviations: the paper computes it in each epoch. Here it is computed once, at the pretrained
    weights, in evaluation mode, on at most `samples` images.
    """

    name: ClassVar[str] = "surgical"
    key_name: ClassVar[str] = "rib.methods.surgical:Surgical"
    samples: int = Field(512, ge=1, description="maximum number of tuning images for the gradient")

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts the training, and the images of the gradient before it."""
        own = super().passes(recipe, images, held_out)
        return own._replace(trained=own.trained + min(self.samples, images))

    def rate_factors(self, classifier: Classifier, task: Task) -> Mapping[str, float]:
        """RGN / largest RGN of each parameter; 0 for one without a gradient."""
        norms = relative_gradients(classifier, task, self.samples)
        largest = max(norms.values())
        return {name: value / largest if largest else 1.0 for name, value in norms.items()}


def relative_gradients(classifier: Classifier, task: Task, samples: int) -> dict[str, float]:
    """‖g‖ / ‖θ‖ of each parameter, by name; 0 if there is no gradient or θ is zero.

    Args:
        classifier: has the weights at which the gradient is computed.
        task: gives the first tuning images; prefixes are balanced over classes.
        samples: maximum number of images.
    """
    count = min(samples, len(task.tuning))
    labels = torch.from_numpy(task.tuning.labels).to(task.device)
    classifier.eval()
    classifier.net.zero_grad()
    chosen = batches(count, task.recipe.batch_size)
    for rows, batch in zip(chosen, fed(task.tuning, chosen, task.device), strict=True):
        logits = task.label_map.mask(classifier(batch))
        (F.cross_entropy(logits, labels[rows], reduction="sum") / count).backward()
        task.watch(len(batch))
    found = {}
    for name, value in classifier.net.named_parameters():
        size = float(value.detach().norm())
        found[name] = float(value.grad.norm()) / size if value.grad is not None and size else 0.0
    classifier.net.zero_grad()
    return found
