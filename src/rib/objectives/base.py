"""Objectives: what a net is pretrained for, other than the class of an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from rib.data.splits import named_seed
from rib.data.views import View
from rib.models.classifier import Classifier
from rib.recipe import Frozen

Features = Callable[[Tensor], Tensor]
"""Computes the head's input: from images (n, H, W, 3), uint8 or float on the scale 0 … 255, or token ids (n, L), to (n,
D).
"""


class Loss(nn.Module, ABC):
    """The loss of a batch. Its own parameters are trained with the net and dropped afterwards.

    Attributes:
        reads_tokens: whether `features` gives it the hidden state of each token (n, L, D) instead of the head's input.
    """

    reads_tokens: bool = False

    @abstractmethod
    def forward(self, features: Features, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the number of images that were matched correctly.

        Args:
            features: of the net in training.
            images: a batch of the model's inputs (n, *view.shape).
            labels: int64 (n,), the data set's own classes.

        Returns:
            The loss, a scalar; and a count of at most n, a scalar without gradient.
        """

    def chance(self, labels: Tensor, batch_size: int) -> float | None:
        """Percent of the images that are matched correctly in the mean if the net does not tell them apart.

        Args:
            labels: int64 (N,), of the whole training set.
            batch_size: images of a batch.

        Returns:
            None if no chance is known: the training is then never said to end at chance.
        """
        return None

    def finish(self, classifier: Classifier) -> None:
        """Change the net after the last step, without gradients: write its head, for example."""


class Objective(Frozen, ABC):
    """An objective. Its fields are its hyper-parameters.

    It does not involve the head, which keeps its random weights. So a reference stage must follow.

    Attributes:
        name: its name in suites.
        views: how often the net sees each image of a batch.
    """

    name: ClassVar[str]
    views: ClassVar[int] = 1

    @final
    def drawn(self, classifier: Classifier, classes: int, seed: int) -> Loss:
        """The loss for a classifier, on its device, with parameters from a separate generator; see `loss`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(named_seed("objective", seed))
            return self.loss(classifier.width, classes).to(classifier.device)

    def require_view(self, view: View) -> None:
        """Refuse the view of a model that it cannot train.

        Raises:
            UserError: it cannot train models with that view.
        """

    @abstractmethod
    def loss(self, width: int, classes: int) -> Loss:
        """The loss, with parameters drawn from torch's random state.

        Args:
            width: number of features, which are the head's input.
            classes: number of classes of the pretraining set.
        """
