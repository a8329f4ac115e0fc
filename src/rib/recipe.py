"""Recipe: every hyper-parameter that changes the result of training or prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Precision = Literal["fp32", "bf16", "fp16"]

LastBlock = Literal["pooled"]

LastBatch = Literal["merged"]
"""Treatment of a last batch of one image, which a BatchNorm cannot use: it joins the batch before it."""

ShortBatch = Literal["kept", "merged", "dropped"]
"""Treatment of a last batch that is smaller than the others."""

OneImage = Literal["dense"]
"""How a two-dimensional norm computes the gradient of one image: plane by plane, as torch's backward pass needs it."""

Compile = Literal["default", "reduce-overhead"]

BatchNorm = Literal["freeze", "reestimate", "pretrained"]


class Frozen(BaseModel):
    """A strict value: it is frozen, has no unknown keys, and all numbers are finite.

    Attributes:
        unhashed: for fields that are newer than their class, the values that mean the earlier behaviour; keys leave
            them out.
        key_name: name of the class in keys (`rib.identity.key_name`), for a class of RIB whose values are hashed.
    """

    key_name: ClassVar[str]
    unhashed: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Recipe(Frozen):
    """How weights are trained. Part of the identity of everything trained with it.

    The learning rate rises linearly over the warm-up steps and then falls to 0 along a half cosine, per step. Data are
    shuffled each epoch, without augmentation, and the weights of the last epoch are kept. A smaller last batch of an
    epoch is kept, unless `last_batch` says otherwise. If a BatchNorm learns, a last batch of fewer than half of
    `batch_size` images joins the batch before it. A frozen BatchNorm normalises with its running statistics in training
    too, while its scale and shift are trained.
    """

    key_name: ClassVar[str] = "rib.recipe:Recipe"
    unhashed: ClassVar[Mapping[str, str]] = {"last_batch": "kept"}

    epochs: int = Field(10, ge=1, description="passes over the tuning set")
    steps: int | None = Field(None, ge=1, description="fixed number of steps; replaces `epochs`")
    batch_size: int = Field(64, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum; unused by adamw")
    weight_decay: float = Field(0.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    warmup_steps: int = Field(0, ge=0, description="fixed number of linear warm-up steps")
    warmup_fraction: float = Field(0.0, ge=0, lt=1, description="warm-up as a share of all steps")
    precision: Precision = Field("fp32", description="autocast in training")
    eval_batch_size: int = Field(256, ge=1)
    eval_precision: Precision = Field("fp32", description="autocast in prediction")
    last_block: LastBlock | None = Field(
        None,
        description="'pooled': compute only the pooled token in a transformer's last block; equal up to rounding",
    )
    last_batch: ShortBatch | None = Field(
        None,
        description="a smaller last batch of an epoch: 'kept'; 'merged' with the batch before it, if it has fewer than "
        "half of batch_size images; 'dropped', unless it is the only one; default 'merged' if a BatchNorm learns, "
        "else 'kept'",
    )
    batchnorm: Annotated[BatchNorm | None, BeforeValidator(lambda given: None if given == "update" else given)] = Field(
        None,
        description="running statistics of BatchNorm: 'update' (default) in training; 'freeze' them; 'reestimate' them "
        "on the tuning set after training; or put the 'pretrained' ones back after training",
    )
    compile: Compile | None = Field(
        None,
        description="torch.compile's mode if cross-entropy trains a whole net; 'reduce-overhead': CUDA graphs",
    )

    def total_steps(self, examples: int, merged: bool = False) -> int:
        """Optimizer steps for a tuning set of `examples` images; `merged` as in `batches`."""
        return self.steps or self.epochs * self.steps_per_epoch(examples, merged)

    def steps_per_epoch(self, examples: int, merged: bool = False) -> int:
        """Batches per epoch; `merged` as in `batches`."""
        full, rest = divmod(examples, self.batch_size)
        return full + (rest > 0 and not (full and self._joins(rest, merged)))

    def batches(self, examples: int, merged: bool = False) -> list[int]:
        """Sizes of an epoch's batches; their sum is less than `examples` only if `last_batch` drops the last one.

        Args:
            examples: number of images in the tuning set.
            merged: whether a BatchNorm learns. Then a last batch of one image joins the batch before it, and so does by
                default any last batch with fewer than half of the images of others.
        """
        sizes = [self.batch_size] * self.steps_per_epoch(examples, merged)
        rest = examples - sum(sizes)
        if rest < 0 or self.last_batch != "dropped":
            sizes[-1] += rest
        return sizes

    def _joins(self, rest: int, merged: bool) -> bool:
        """Whether a last batch of `rest` images is not a batch by itself: it joins the one before it, or is dropped."""
        if self.last_batch == "dropped":
            return True
        short = self.last_batch == "merged" or (merged and self.last_batch is None)
        return (merged and rest == 1) or (short and 2 * rest < self.batch_size)

    def leaves_one(self, examples: int) -> bool:
        """Whether the last batch has one image, and another batch precedes it."""
        return examples > self.batch_size > 1 and examples % self.batch_size == 1 and not self._joins(1, False)

    def merges(self, examples: int) -> bool:
        """Whether the last batch joins the one before it because of a BatchNorm."""
        return self.batch_size > 1 and self.batches(examples, True) != self.batches(examples)

    def images(self, examples: int, merged: bool = False) -> int:
        """Images that a training on `examples` images processes; `merged` as in `batches`."""
        sizes = self.batches(examples, merged)
        full, rest = divmod(self.total_steps(examples, merged), len(sizes))
        return full * sum(sizes) + sum(sizes[:rest])

    def warmup(self, total: int) -> int:
        """Warm-up steps of a run of `total` steps."""
        return max(self.warmup_steps, round(self.warmup_fraction * total))


RECIPES: Mapping[str, Recipe] = {
    "paper": Recipe(warmup_steps=196, precision="fp16", last_block="pooled", last_batch="kept"),
    "scaled": Recipe(warmup_fraction=0.025, precision="fp16", last_block="pooled", last_batch="kept"),
}
"""Recipes that a suite can name.

`paper` is the recipe of arXiv 2410.21582: 10 epochs, batches of 64, SGD at 1e-3 with momentum 0.9 and no weight decay,
196 warm-up steps whatever the length of the run, a smaller last batch kept, fp16 autocast in training and fp32 in
evaluation. Of the last block it computes only the tokens that pooling uses, which is the same up to rounding. `scaled`
differs only in its warm-up, which is 2.5 % of every run: the share of 196 steps in a run over 50,000 images.
"""


def named_recipe(value: object) -> object:
    """The recipe for a name, or for a table with `base`; any other value unchanged.

    Raises:
        ValueError: there is no recipe of that name.
    """
    if isinstance(value, str):
        return _known(value)
    if isinstance(value, dict) and "base" in value:
        own = {field: given for field, given in value.items() if field != "base"}
        return _known(value["base"]).model_dump() | own
    return value


def _known(name: Any) -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; valid: {', '.join(RECIPES)}, or a table")
    return RECIPES[name]


RecipeField = Annotated[Recipe, BeforeValidator(named_recipe)]
"""A recipe in a suite file: a name, a table, or a table that changes a named one (`base`)."""
