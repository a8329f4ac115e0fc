"""One value for a training: the examples, the recipe, the parameters that change and the terms of the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from rib.data.examples import Examples
from rib.data.labels import LabelMap
from rib.objectives.base import Loss
from rib.recipe import Recipe
from rib.training.hooks import FeatureTerm, Replayed, SecondPass, StepHook


class Penalty(Protocol):
    """A term added to the cross-entropy of a batch."""

    def __call__(self, net: nn.Module, logits: Tensor, rows: Tensor) -> Tensor:
        """The term, a scalar.

        Args:
            net: the module in training, with its parameters as they are.
            logits: its masked logits on the batch, (n, classes of the data set).
            rows: int64 (n,), which examples of the tuning set are in the batch, on the device of the training.
        """
        ...


@dataclass(frozen=True)
class Pull:
    """A quadratic term strength · Σ F (θ - θ0)² of the loss, added as its gradient 2 · strength · F (θ - θ0).

    It does not go through autograd: that would keep and walk a graph as large as the weights at every step.

    Attributes:
        strength: of the pull.
        anchor: θ0 by the name of the parameter, on the device of the training; what is not named is not pulled.
        weight: F by name, where it is not one everywhere.
    """

    strength: float
    anchor: Mapping[str, Tensor]
    weight: Mapping[str, Tensor] | None = None

    @torch.no_grad()
    def add_to(self, net: nn.Module) -> None:
        """Add its gradient to the gradients of the parameters, wherever there is one."""
        pulled = [(n, v) for n, v in net.named_parameters() if v.grad is not None and n in self.anchor]
        if not pulled:
            return
        gradients = [value.grad for _, value in pulled if value.grad is not None]
        change = torch._foreach_sub([value for _, value in pulled], [self.anchor[name] for name, _ in pulled])
        if self.weight is not None:
            torch._foreach_mul_(change, [self.weight[name] for name, _ in pulled])
        torch._foreach_add_(gradients, change, alpha=2 * self.strength)


@dataclass(frozen=True)
class Training:
    """The inputs of a training. It minimises the cross-entropy of masked logits, or else an objective.

    Attributes:
        examples: the tuning set, N of them.
        label_map: of the tuning set.
        recipe: optimizer, schedule, precision.
        seed: of everything random.
        trainable: names of the parameters that may change; None for all. A BatchNorm whose parameters may not change
            uses and keeps its statistics; with the head alone, the whole net stays in evaluation mode. What the net's
            author has frozen stays frozen.
        penalty: a further term of the cross-entropy.
        pull: a further term on the weights.
        objective: takes the place of the cross-entropy; on the same device, and trained too.
        stages: in equal parts of the run, batches come from this share of the tuning set, its first examples.
        features: what the head sees of the examples, float32 (N, D) on the device, for a head that is trained alone;
            None to compute them when the training begins.
        rates: factors of the learning rate by the names of parameters; 1 for those without.
        hold: share of the run after which the learning rate stays as it is.
        stop: steps after which the run ends, though its rates are those of the whole run; None for the whole run.
        hook: changes gradients or weights at every step.
        feature_term: a further term of the cross-entropy that sees features; the net is not compiled then.
        second_pass: where the gradient of a step is taken, if that is not where the step begins.
        replay: images of the reference set in every batch.
    """

    examples: Examples
    label_map: LabelMap
    recipe: Recipe
    seed: int
    trainable: frozenset[str] | None = None
    penalty: Penalty | None = None
    pull: Pull | None = None
    objective: Loss | None = None
    stages: Sequence[float] = (1.0,)
    features: Tensor | None = None
    rates: Mapping[str, float] | None = None
    hold: float = 1.0
    stop: int | None = None
    hook: StepHook | None = None
    feature_term: FeatureTerm | None = None
    second_pass: SecondPass | None = None
    replay: Replayed | None = None
