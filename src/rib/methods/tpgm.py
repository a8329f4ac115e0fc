"""TPGM: the trainable projected gradient method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from rib.arrays import Rows
from rib.data.feed import fed
from rib.data.splits import named_generator
from rib.methods.base import Method, Passes, Task
from rib.models.weights import Weights
from rib.recipe import Recipe

LEAST = 1e-8
"""Minimum radius, and a term that keeps divisors from 0."""


class TPGM(Method):
    """Projects every tensor of the tuned model onto a ball around its start; the radii are learned on held-out images
    (Tian et al. 2023, arXiv 2303.10720, TPGM at the end of training, with the MARS norm of its code).

    Let n be the sum of |θ - θ0| over each row of a matrix (each entry of a vector). Then θ ← θ0 + min(1, γ / n) (θ -
    θ0). Each tensor has its own radius γ, which starts at half of the tensor's smallest n and takes `steps` Adam steps
    along the held-out cross-entropy, in evaluation mode; it stays between 1e-8 and the largest n. Statistics and
    counters are those of the tuned model.
    """

    name: ClassVar[str] = "tpgm"
    key_name: ClassVar[str] = "rib.methods.tpgm:TPGM"
    needs_held_out: ClassVar[bool] = True
    tuned: str = Field("finetune", description="the method whose weights are projected")
    rate: float = Field(0.01, gt=0, description="learning rate of the radii")
    steps: int = Field(200, ge=1, description="steps of the radii, on held-out batches of the recipe's size")

    def ingredients(self) -> tuple[str | Method, ...]:
        """The tuned model."""
        return (self.tuned,)

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts one held-out batch per step of the radii."""
        return Passes(trained=self.steps * min(recipe.batch_size, held_out))

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """The projected weights. The record has the held-out loss at the first and at the last step."""
        classifier = task.build(fitted[0]).eval()
        net, device = classifier.net, task.device
        names = [name for name, _ in net.named_parameters() if name not in classifier.frozen]
        anchor = {name: start[name].to(device) for name in names}
        away = {name: fitted[0][name].to(device) - anchor[name] for name in names}
        norms = {name: row_norms(value) for name, value in away.items()}
        radii = {name: (norms[name].min() / 2).clamp(min=LEAST).requires_grad_() for name in names}
        optimizer = torch.optim.Adam(radii.values(), lr=self.rate)
        labels = torch.from_numpy(task.held_out.labels).to(device)
        losses = []
        chosen = self._rows(task)
        for rows, batch in zip(chosen, fed(task.held_out, chosen, device), strict=True):
            theta = projected(anchor, away, norms, radii)
            logits = functional_call(net, theta, (classifier.prepared(batch),))
            loss = F.cross_entropy(task.label_map.mask(logits), labels[torch.from_numpy(rows).to(device)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for name, radius in radii.items():
                    radius.clamp_(min=LEAST).copy_(torch.minimum(radius, norms[name].max() + LEAST))
            losses.append(float(loss.detach()))
            task.watch(len(rows))
        task.note("first_held_out_loss", losses[0])
        task.note("last_held_out_loss", losses[-1])
        with torch.no_grad():
            found = {name: value.cpu() for name, value in projected(anchor, away, norms, radii).items()}
        return {**fitted[0], **found}

    def _rows(self, task: Task) -> list[Rows]:
        """The held-out images of each step: all of them in turn, each time in another order."""
        size, count = task.recipe.batch_size, len(task.held_out)
        size = min(size, count)
        found: list[Rows] = []
        turn = 0
        while len(found) < self.steps:
            order = named_generator("tpgm", task.seed, turn).permutation(count)
            found += [order[first : first + size] for first in range(0, count - size + 1, size)]
            turn += 1
        return found[: self.steps]


def row_norms(away: Tensor) -> Tensor:
    """Sums of absolute values over each row of a matrix or kernel, (rows, 1, ...); for a vector, its absolute
    values.
    """
    return away.abs().sum(dim=tuple(range(1, away.dim())), keepdim=True) if away.dim() > 1 else away.abs()


def projected(
    anchor: Mapping[str, Tensor], away: Mapping[str, Tensor], norms: Mapping[str, Tensor], radii: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """θ0 + min(1, γ / n) (θ - θ0) of each tensor; all arguments are by tensor name."""
    return {name: anchor[name] + (radii[name] / (norms[name] + LEAST)).clamp(max=1) * away[name] for name in anchor}
