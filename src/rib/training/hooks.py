"""Hooks: what a method may do at a training step besides adding a term to the loss. It can change gradients or weights,
read features, compute the gradient at other weights, and add images of the reference set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rib.arrays import Rows
from rib.data.examples import Examples
from rib.data.feed import fed
from rib.data.labels import LabelMap
from rib.data.splits import named_generator


class StepHook:
    """Changes gradients before an optimizer's step, or weights after it. Every function is optional.

    In fp16, a step that the scaler skips calls neither `gradients` nor `weights`.

    Attributes:
        total: number of steps of the training, set before the first.
    """

    total: int = 0

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """Tensors by name, on the device of the training. Checkpoints contain them, so all state that later steps need
        belongs here."""
        return {}

    def loss(self, net: nn.Module, logits: Tensor, rows: Tensor) -> Tensor | None:
        """A term that is added to the cross-entropy, like a `Penalty`, for a hook that has its own weights; None for
        none.
        """
        return None

    def gradients(self, net: nn.Module, step: int) -> None:
        """Change the gradients of the parameters before the optimizer's step `step`, counted from 0."""

    def weights(self, net: nn.Module, step: int) -> None:
        """Change the weights after the optimizer's step."""

    def finish(self, net: nn.Module) -> None:
        """Change the weights after the last step."""


class FeatureTerm(Protocol):
    """A term that is added to the loss and reads the outputs of layers for a batch."""

    @property
    def layers(self) -> Sequence[str]:
        """Names of modules of the net; `input of HEAD` for the input of the head `HEAD`."""
        ...

    def __call__(self, features: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        """The term, a scalar.

        Args:
            features: the layers' outputs (n, ...), by name.
            rows: int64 (n,), which examples of the tuning set are in the batch.
        """
        ...


SecondPass = Callable[[nn.Module], Callable[[], None]]
"""Moves the weights of a net, by its gradients, to where the step's gradient is computed; returns a function that moves
them back."""


@dataclass(frozen=True)
class Replayed:
    """Images of the reference set in every batch, with cross-entropy among the reference set's classes.

    The loss of a batch is the mean over all of its images. A batch of n tuning images gets share / (1 - share) · n
    reference images, the fractions carried over to the next batch.

    Attributes:
        examples: of the reference set's part `tune`.
        label_map: of the reference set.
        share: share of reference images in each batch, in (0, 1).
        seed: of the draw.
    """

    examples: Examples
    label_map: LabelMap
    share: float
    seed: int

    def count(self, tuned: int) -> int:
        """Number of reference images that accompany the first `tuned` tuning images."""
        return beside(self.share, tuned)

    def batches(self, before: int, sizes: Sequence[int], epoch: int, device: torch.device) -> Iterator[ReplayBatch]:
        """The reference images of each batch of an epoch.

        Args:
            before: tuning images of all earlier epochs.
            sizes: tuning images of each batch.
            epoch: its number, which determines the draw together with the seed.
            device: where the images go.
        """
        ends = [self.count(int(total)) for total in before + np.cumsum([0, *sizes])]
        counts = np.diff(ends)
        generator = named_generator("replay", self.seed, epoch)
        rounds = [generator.permutation(len(self.examples)) for _ in range(-(-int(counts.sum()) // len(self.examples)))]
        drawn: Rows = np.concatenate([*rounds, np.zeros(0, np.int64)])[: counts.sum()].astype(np.int64)
        wanted = np.split(drawn, np.cumsum(counts)[:-1])
        inputs = fed(self.examples, [rows for rows in wanted if len(rows)], device)
        for rows in wanted:
            labels = torch.from_numpy(self.examples.labels[rows]).to(device)
            yield ReplayBatch(next(inputs), labels) if len(rows) else ReplayBatch(None, labels)


def beside(share: float, tuned: int) -> int:
    """Number of reference images that accompany the first `tuned` tuning images if they are `share` of all."""
    return int(share / (1 - share) * tuned + 1e-9)


@dataclass(frozen=True)
class ReplayBatch:
    """Reference images of a batch.

    Attributes:
        inputs: (m, ...) as the net's view has them; None if m is 0.
        labels: int64 (m,) into the reference set's classes.
    """

    inputs: Tensor | None
    labels: Tensor
