"""LoRA: low-rank changes of the attention's query and value projections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rib.data.splits import named_seed
from rib.errors import StepError
from rib.methods.base import Method, Passes, Task, run_recipe
from rib.models.weights import Weights, take_weights
from rib.recipe import Recipe


class LoRA(Method):
    """Trains W + scale · B A for the query and value parts of every fused qkv projection (arXiv 2106.09685).

    A is drawn as `nn.Linear` draws its weight, B starts at zero, and everything else is frozen. The change is merged
    into the weights at the end, so that the result is plain weights of the same model. As in the code of arXiv
    2410.21582: rank 8, scale 1/8.
    """

    name: ClassVar[str] = "lora"
    rank: int = Field(8, ge=1)
    scale: float = Field(1 / 8, gt=0)
    lr: float | None = Field(None, gt=0, description="in place of the recipe's")
    epochs: int | None = Field(None, ge=1, description="in place of the recipe's")

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Every image of every epoch."""
        return Passes(trained=self._recipe(recipe).images(images))

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """Train the low-rank factors and merge them.

        Raises:
            StepError: training diverged, or the model has no fused qkv projection.
        """
        classifier = task.build(start)
        places = projections(classifier.net)
        if not places:
            raise StepError("lora changes query and value projections, and this model has none; leave lora out for it")
        generator = torch.Generator().manual_seed(named_seed("lora", task.seed))
        for module, name in places:
            change = LowRank(getattr(module, name), self.rank, self.scale, generator)
            parametrize.register_parametrization(module, name, change.to(task.device))
        factors = frozenset(
            name for name, _ in classifier.net.named_parameters() if name.rpartition(".")[2] in LowRank.FACTORS
        )
        task.train(classifier, self._recipe(task.recipe), factors)
        for module, name in places:
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        return take_weights(classifier.net)

    def _recipe(self, recipe: Recipe) -> Recipe:
        return run_recipe(recipe, self.epochs, self.lr)


class LowRank(nn.Module):
    """Adds scale · B A to the first and to the last third of the rows of a qkv weight (3 D, D).

    Args:
        weight: the projection's.
        rank: r of A (r, D) and B (D, r).
        scale: of the change.
        generator: draws A.
    """

    FACTORS = ("query_a", "query_b", "value_a", "value_b")
    query_a: nn.Parameter
    query_b: nn.Parameter
    value_a: nn.Parameter
    value_b: nn.Parameter

    def __init__(self, weight: Tensor, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        rows, width = weight.shape[0] // 3, weight.shape[1]
        self.scale = scale
        for part in ("query", "value"):
            bound = 1 / math.sqrt(width)
            drawn = torch.empty(rank, width).uniform_(-bound, bound, generator=generator)
            self.register_parameter(f"{part}_a", nn.Parameter(drawn))
            self.register_parameter(f"{part}_b", nn.Parameter(torch.zeros(rows, rank)))

    def forward(self, weight: Tensor) -> Tensor:
        query = self.query_b @ self.query_a
        value = self.value_b @ self.value_a
        return weight + self.scale * torch.cat([query, torch.zeros_like(query), value]).to(weight.dtype)


def projections(net: nn.Module) -> list[tuple[nn.Module, str]]:
    """Every fused qkv weight: timm's `qkv` layers, and the `in_proj_weight` of torch's own attention."""
    found: list[tuple[nn.Module, str]] = []
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] == "qkv":
            found.append((module, "weight"))
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found.append((module, "in_proj_weight"))
    return found
