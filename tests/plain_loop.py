"""A plain loop of fine-tuning, to which a method's own arithmetic is added by hand; and a checkpoint in memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import PART, classifier, examples
from rib.data.splits import named_generator
from rib.methods import METHODS, Method
from rib.models.classifier import Classifier
from rib.models.weights import Weights, take_weights
from rib.recipe import Recipe
from rib.training.schedule import rate
from test_methods import make_task

RECIPE = Recipe(epochs=4, batch_size=4, lr=0.02)


def method(name: str, **fields: Any) -> Method:
    return METHODS.find(name)(**fields)


def fitted(chosen: Method, family: str = "resnet", recipe: Recipe = RECIPE, **changes: Any) -> Weights:
    """What a method makes of random weights in four epochs of three batches of ten pictures."""
    task, _ = make_task(family)
    return chosen.fit(take_weights(classifier(family).net), replace(task, recipe=recipe, **changes), [])


class Kept:
    """A checkpoint in memory that keeps the state after some epochs, as a file would: as bytes."""

    def __init__(self, stop: int | None, state: bytes | None = None) -> None:
        self.stop, self.state = stop, state

    def load(self) -> dict[str, Any] | None:
        return torch.load(io.BytesIO(self.state), weights_only=True) if self.state else None

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        buffer = io.BytesIO()
        torch.save(state(), buffer)
        self.state = buffer.getvalue()
        if self.stop is not None and state()["epoch"] == self.stop:
            raise InterruptedError


Values = Mapping[str, Tensor]
CHOSEN = [group[0] for group in PART.groups]


def nothing(*_: Any) -> None:
    return None


def plain(
    after: Callable[[int, Values, Values, Values], None] = nothing,
    change: Callable[[int, Values], None] = nothing,
    term: Callable[[Classifier, Tensor, Any, Tensor], Tensor] | None = None,
    again: Callable[[Values, Callable[[], None]], None] | None = None,
    rates: Callable[[int, int], float] = lambda step, total: rate(step, 0, total),
    factors: Mapping[str, float] | None = None,
) -> Weights:
    """Fine-tuning of a residual net in float32, step by step, with SGD of momentum 0.9 by hand.

    Args:
        after: given the step, the parameters, those before the step, and the gradients, after each step.
        change: given the step and the parameters, whose `grad` it may change.
        term: given the net, the images, their rows and the masked logits: what is added to the loss.
        again: given the parameters and what computes their gradients at their present values.
        rates: factor of the learning rate at a step of so many.
        factors: of the learning rate of each parameter.
    """
    net, pool = classifier("resnet"), examples(10, 3)
    net.train()
    values = dict(net.net.named_parameters())
    velocity = {name: torch.zeros_like(value) for name, value in values.items()}
    step, total = 0, 3 * RECIPE.epochs
    for epoch in range(RECIPE.epochs):
        order = named_generator("shuffle", 3, epoch).permutation(10)
        for rows in (order[:4], order[4:8], order[8:]):
            images, labels = torch.from_numpy(pool.batch(rows)), torch.from_numpy(pool.labels[rows])

            def compute(images: Tensor = images, labels: Tensor = labels, rows: Any = rows) -> None:
                logits = net(images)[:, CHOSEN]
                loss = F.cross_entropy(logits, labels)
                net.zero_grad()
                (loss + term(net, images, rows, logits) if term else loss).backward()

            compute()
            if again:
                again(values, compute)
            with torch.no_grad():
                change(step, values)
                before = {name: value.clone() for name, value in values.items()}
                for name, value in values.items():
                    assert value.grad is not None
                    velocity[name] = value.grad.clone() if step == 0 else 0.9 * velocity[name] + value.grad
                    value.sub_(RECIPE.lr * rates(step, total) * (factors or {}).get(name, 1.0) * velocity[name])
                after(step, values, before, {name: value.grad for name, value in values.items()})  # type: ignore[misc]
            step += 1
    return take_weights(net.net)


def close(found: Weights, expected: Values, tolerance: float = 1e-5) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance)
