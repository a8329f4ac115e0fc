"""LoRA: low-rank changes of the attention's query and value projections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rib.data.splits import named_seed
from rib.errors import StepError, UserError
from rib.methods.base import Method, Passes, Task, run_recipe
from rib.models.classifier import Classifier
from rib.models.weights import Weights, take_weights
from rib.recipe import Recipe


class LoRA(Method):
    """Trains W + scale · B A for the query and value parts of every fused qkv projection (arXiv 2106.09685).

    A is drawn as `nn.Linear` draws its weight, B starts at zero, and everything else is frozen. In the end the change
    is merged into the weights, so the result is plain weights of the same model. As in the code of arXiv 2410.21582:
    rank 8, scale 1/8.
    """

    name: ClassVar[str] = "lora"
    key_name: ClassVar[str] = "rib.methods.lora:LoRA"
    takes: ClassVar[str] = "fused query, key and value projections"
    rank: int = Field(8, ge=1)
    scale: float = Field(1 / 8, gt=0)
    lr: float | None = Field(None, gt=0, description="in place of the recipe's")
    epochs: int | None = Field(None, ge=1, description="in place of the recipe's")
    rows: Literal["qkv"] | None = Field(
        None,
        description="'qkv': trust that fused projections of any class have rows of query, key, value",
    )

    def require(self, classifier: Classifier) -> None:
        """Refuse a model without fused projections, or with one whose rows are not known to be query, key, value.

        Raises:
            UserError: there is no such projection, or as `projections`.
        """
        if not (projections(classifier.net, self.rows is not None) or separate(classifier.net)):
            raise UserError(
                "lora changes query and value projections, and this model has none",
                got="no layer `qkv`, no nn.MultiheadAttention",
                remedy="leave lora out for it",
            )

    def trains(self, classifier: Classifier) -> frozenset[str]:
        """The names of the projections, none of which is a BatchNorm."""
        fused = (module for module, _ in projections(classifier.net, self.rows is not None))
        found = {id(module) for module in (*fused, *separate(classifier.net))}
        return frozenset(name for name, module in classifier.net.named_modules() if id(module) in found)

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts every image of every epoch."""
        return Passes(trained=self._recipe(recipe).images(images))

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """Train the low-rank factors and merge them.

        Raises:
            StepError: training diverged, or the model has no fused qkv projection.
        """
        classifier = task.build(start)
        places = projections(classifier.net, self.rows is not None)
        apart = separate(classifier.net)
        if not places and not apart:
            raise StepError("lora changes query and value projections, and this model has none; leave lora out for it")
        generator = torch.Generator().manual_seed(named_seed("lora", task.seed))
        for module, name in places:
            change = LowRank(getattr(module, name), self.rank, self.scale, generator)
            parametrize.register_parametrization(module, name, change.to(task.device))
        for module in apart:
            whole = WholeLowRank(module.weight, self.rank, self.scale, generator)
            parametrize.register_parametrization(module, "weight", whole.to(task.device))
        names = (*LowRank.FACTORS, *WholeLowRank.FACTORS)
        parameters = (name for name, _ in classifier.net.named_parameters())
        factors = frozenset(name for name in parameters if name.rpartition(".")[2] in names)
        task.train(classifier, replace(task.training, recipe=self._recipe(task.recipe), trainable=factors))
        for module, name in [*places, *((module, "weight") for module in apart)]:
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        return take_weights(classifier.net)

    def _recipe(self, recipe: Recipe) -> Recipe:
        return run_recipe(recipe, self.epochs, self.lr)


class WholeLowRank(nn.Module):
    """Adds scale · B A to a weight of only queries or only values. Args: as `LowRank`."""

    FACTORS = ("factor_a", "factor_b")

    def __init__(self, weight: Tensor, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        rows, width = weight.shape
        bound = 1 / math.sqrt(width)
        self.scale = scale
        self.factor_a = nn.Parameter(torch.empty(rank, width).uniform_(-bound, bound, generator=generator))
        self.factor_b = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.factor_b @ self.factor_a).to(weight.dtype)


class LowRank(nn.Module):
    """Adds scale · B A to the first and to the last third of the rows of a qkv weight (3 D, D).

    Args:
        weight: the projection's weight.
        rank: r of A (r, D) and B (D, r).
        scale: factor of the change.
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


IN_ROWS = frozenset({
    "rib.models.characters:TextBlock",
    "timm.layers.attention:Attention",
    "timm.layers.attention:AttentionRope",
    "timm.models.beit:Attention",
    "timm.models.eva:EvaAttention",
    "timm.models.swin_transformer:WindowAttention",
    "timm.models.swin_transformer_v2:WindowAttention",
    "timm.models.vision_transformer_relpos:RelPosAttention",
    "timm.models.vision_transformer_sam:Attention",
    "timm.models.maxxvit:AttentionCl",
    "torchvision.models.swin_transformer:ShiftedWindowAttention",
    "torchvision.models.swin_transformer:ShiftedWindowAttentionV2",
})  # fmt: skip
"""Attention layers whose `qkv` has first all rows of the queries, then of the keys, then of the values."""

APART = frozenset({"q", "k", "v", "kv", "qk", "q_proj", "k_proj", "v_proj", "wq", "wk", "wv", "to_q", "to_kv", "qkv"})
"""Names of projections that are not fused, or not by rows."""


SEPARATE = (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"), ("query_proj", "value_proj"))
"""Names of the separate query and value layers in attentions of transformers."""


def separate(net: nn.Module) -> list[nn.Linear]:
    """The separate query and value layers in attentions of transformers."""
    return [layer for module in net.modules() for layer in _pair(module)]


def _pair(module: nn.Module) -> list[nn.Linear]:
    if not type(module).__module__.startswith("transformers.models."):
        return []
    for names in SEPARATE:
        layers = [layer for name in names if isinstance(layer := getattr(module, name, None), nn.Linear)]
        if len(layers) == 2:
            return layers
    return []


def projections(net: nn.Module, vouched: bool = False) -> list[tuple[nn.Module, str]]:
    """Every fused qkv weight: timm's `qkv` layers, and the `in_proj_weight` of torch's attention.

    Args:
        net: the model.
        vouched: whether `qkv` layers of any class are trusted to have rows of query, key, value.

    Raises:
        UserError: a projection is not fused, or its rows are not known to be query, key, value. To change only some
            attentions of a model would be another method.
    """
    found: list[tuple[nn.Module, str]] = []
    for name, module in net.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            if module.in_proj_weight is None:
                raise _unknown(f"{name}.q_proj_weight", module, "projections of different widths")
            found.append((module, "in_proj_weight"))
            continue
        for part, layer in () if _pair(module) else module.named_children():
            weight = getattr(layer, "weight", None)
            if part not in APART or not isinstance(weight, Tensor):
                continue
            if part != "qkv" or not isinstance(layer, nn.Linear) or not _in_rows(module, layer, vouched):
                raise _unknown(f"{name}.{part}.weight", module, f"shape {tuple(weight.shape)}")
            found.append((layer, "weight"))
    return found


def _in_rows(owner: nn.Module, layer: nn.Linear, vouched: bool) -> bool:
    kind = f"{type(owner).__module__}:{type(owner).__qualname__}"
    known = vouched or kind in IN_ROWS
    return known and not getattr(owner, "head_first", False) and layer.out_features == 3 * layer.in_features


def _unknown(tensor: str, owner: nn.Module, what: str) -> UserError:
    return UserError(
        f"lora does not know where query and value lie in {tensor!r} of this model",
        got=f"{what}, in {type(owner).__module__}.{type(owner).__qualname__}",
        valid="fused `qkv` layers whose rows are all queries, then all keys, then all values; nn.MultiheadAttention",
        remedy="leave lora out for this model; or, for a net of your own with such rows, say rows = 'qkv' under "
        "[method.lora]",
    )
