"""One value for a training: the examples, the recipe, the parameters that change and the terms of the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from rib.data.examples import Examples
from rib.data.labels import LabelMap
from rib.errors import UserError
from rib.objectives.base import Loss
from rib.recipe import Recipe
from rib.training.hooks import FeatureTerm, Replayed, SecondPass, StepHook


class Penalty(Protocol):
    """A term added to the cross-entropy of a batch."""

    def __call__(self, net: nn.Module, logits: Tensor, rows: Tensor) -> Tensor:
        """The term, a scalar.

        Args:
            net: the module in training, with its current parameters.
            logits: its masked logits on the batch, (n, classes of the data set).
            rows: int64 (n,), which examples of the tuning set are in the batch, on the device of the training.
        """
        ...


@dataclass(frozen=True)
class Pull:
    """A quadratic term strength · Σ F (θ - θ0)² of the loss, added as its gradient 2 · strength · F (θ - θ0).

    It bypasses autograd, which would build a graph as large as the weights at every step.

    Attributes:
        strength: factor of the term.
        anchor: θ0 by parameter name, on the device of the training; other parameters are not pulled.
        weight: F by name; None for 1 everywhere.
    """

    strength: float
    anchor: Mapping[str, Tensor]
    weight: Mapping[str, Tensor] | None = None

    @torch.no_grad()
    def add_to(self, net: nn.Module) -> None:
        """Add the gradient of the term to all existing gradients of parameters."""
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
    """The inputs of a training, which minimises the cross-entropy of masked logits or an objective.

    Attributes:
        examples: the tuning set, N of them.
        label_map: of the tuning set.
        recipe: optimizer, schedule, precision.
        seed: of all random draws.
        trainable: names of the parameters that change; None for all. A BatchNorm with fixed parameters uses and keeps
            its statistics. If only the head is trained, the whole net stays in evaluation mode. Parameters that the
            net's author has frozen stay frozen.
        penalty: a term that is added to the cross-entropy.
        pull: a term of the weights.
        objective: replaces the cross-entropy; on the same device, with trained parameters.
        stages: shares of the tuning set, one per equal part of the run; batches use the first examples only.
        features: input of the head, float32 (N, D) on the device, if only the head is trained; None to compute them
            at the start.
        rates: factors of the learning rate by parameter name; 1 for all others.
        hold: share of the run after which the learning rate is constant.
        stop: steps after which the run ends, though its rates are those of the whole run; None for the whole run.
        hook: changes gradients or weights at every step.
        feature_term: a term that is added to the cross-entropy and reads features; it disables compilation.
        second_pass: moves the weights to where the gradient of a step is computed; None for the current point.
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

    def require_one_loss(self, name: str) -> None:
        """Refuse an objective beside terms that it would replace without a word. Raises UserError."""
        terms = {"penalty": self.penalty, "feature_term": self.feature_term, "replayed": self.replay}
        if self.objective is not None and (given := [term for term, value in terms.items() if value is not None]):
            raise UserError(
                f"method {name!r} has an objective, which takes the place of the cross-entropy and of all terms",
                got=", ".join(given),
                remedy="put the terms into the objective",
            )
