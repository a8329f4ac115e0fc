"""Steps: frozen descriptions of work. A step's key says what its result is, not who does it, where or when."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from rib.analysis.base import Analysis
from rib.data.examples import Part
from rib.data.labels import LabelMap
from rib.identity import OPTION, RUNTIME, identity_fields, identity_values, key_of
from rib.methods.base import MergedMethod, Method
from rib.models.catalogue import Architecture
from rib.objectives.base import Objective
from rib.recipe import LastBatch, LastBlock, Precision, Recipe
from rib.text.names import short as short


@dataclass(frozen=True)
class DataPart:
    """A part of a data set, by content.

    Attributes:
        name: the data set's name in the suite.
        part: which part.
        fingerprint: digest of its content.
        label_map: the model's classes for each of its own.
        both: whether the other part holds the same images: the set plays both roles whole.
    """

    name: str = field(metadata=RUNTIME)
    part: Part
    fingerprint: str
    label_map: LabelMap
    both: bool = field(default=False, metadata=RUNTIME)
    called: str = field(default="", metadata=RUNTIME)

    @property
    def label(self) -> str:
        """What it is called in the suite; else the name without its namespace."""
        return self.called or short(self.name)


class _Keyed:
    """A frozen description that is named by its content.

    Attributes:
        key_name: what keys and records call the class, whatever its name.
    """

    key_name: ClassVar[str]

    @cached_property
    def key(self) -> str:
        """Hash of the identity fields, and of the keys of what this needs."""
        return key_of(self.key_name, identity_values(self))

    @property
    def spec(self) -> dict[str, Any]:
        """The identity fields as JSON types; what this needs appears by key."""
        return identity_fields(self)


@dataclass(frozen=True)
class Load(_Keyed):
    """Pretrained weights that are there already. Not a step: nothing is done and nothing is recorded."""

    key_name: ClassVar[str] = "Load"

    model: str = field(metadata=RUNTIME)
    architecture: Architecture
    weights: str
    called: str = field(default="", metadata=RUNTIME)

    @property
    def label(self) -> str:
        """What the model is called in the suite; else its name without its namespace."""
        return self.called or short(self.model)


@dataclass(frozen=True)
class Reference:
    """The stage that brings pretrained features to the reference set's classes, as CLIP's to ImageNet's.

    Attributes:
        data: what it is done on.
        probe: recipe of the head, trained on frozen features.
        finetune: recipe of the whole net afterwards.
    """

    data: DataPart
    probe: Recipe
    finetune: Recipe


@dataclass(frozen=True)
class Pretrain(_Keyed):
    """Weights trained from scratch.

    Attributes:
        model: as the suite names it.
        architecture: of the model.
        data: what it is trained on.
        recipe: of the training.
        seed: of everything random, the first weights among it.
        objective: what is minimised; None for the cross-entropy.
        reference: what is done afterwards; None for nothing.
        last_batch: "merged" where a last batch of one image joins the one before it, for a BatchNorm.
    """

    key_name: ClassVar[str] = "Pretrain"

    model: str = field(metadata=RUNTIME)
    architecture: Architecture
    data: DataPart
    recipe: Recipe
    seed: int
    objective: Objective | None = field(default=None, metadata=OPTION)
    reference: Reference | None = field(default=None, metadata=OPTION)
    last_batch: LastBatch | None = field(default=None, metadata=OPTION)
    called: str = field(default="", metadata=RUNTIME)

    keeps_weights: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    @property
    def needs(self) -> tuple[Step, ...]:
        """Nothing."""
        return ()

    @property
    def features(self) -> None:
        """It reads none."""
        return None

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """What it looks at."""
        return (self.data, self.reference.data) if self.reference else (self.data,)

    @property
    def label(self) -> str:
        """What the model is called in the suite; else its name without its namespace."""
        return self.called or short(self.model)

    @property
    def views(self) -> int:
        """How often the net sees each image of a batch, before the reference stage."""
        return self.objective.views if self.objective else 1

    @property
    def start(self) -> Pretrain:
        """The pretrained weights that it is about: its own."""
        return self

    @property
    def subject(self) -> str:
        """Key of the weights that it works on."""
        return self.key

    @property
    def title(self) -> str:
        """For people."""
        return f"pretrain {self.label} on {self.data.label}"


@dataclass(frozen=True)
class Embed(_Keyed):
    """What the head of a pretrained model sees of some examples: made once, where several steps would each make it.

    Steps that read it need not have it: they make it anew where it is not kept, and their results are the same.

    Attributes:
        start: the pretrained weights.
        data: whose examples.
        size, held_out, seed: of the tuning set drawn from it, as in `Fit`; size None and held_out 0 for all of it.
        batch_size: images a forward pass.
        precision: of the forward pass.
        last_block: as in the recipe.
    """

    key_name: ClassVar[str] = "Embed"

    start: Load | Pretrain
    data: DataPart
    size: int | None
    held_out: float
    seed: int | None
    batch_size: int
    precision: Precision
    last_block: LastBlock | None = field(default=None, metadata=OPTION)

    keeps_weights: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[Step, ...]:
        """The weights, if they have to be made."""
        return (self.start,) if isinstance(self.start, Pretrain) else ()

    @property
    def features(self) -> None:
        """It reads no other's."""
        return None

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """What it looks at."""
        return (self.data,)

    @property
    def architecture(self) -> Architecture:
        """Of the model."""
        return self.start.architecture

    @property
    def subject(self) -> str:
        """Key of what it makes."""
        return self.key

    @property
    def title(self) -> str:
        """For people."""
        words = [str(self.size)] if self.size is not None else []
        words += [f"seed {self.seed}"] if self.seed else []
        count = f" ({', '.join(words)})" if words else ""
        return f"features {self.start.label} of {self.data.label}{count}"


@dataclass(frozen=True)
class Fit(_Keyed):
    """Weights that a method made of pretrained ones.

    Attributes:
        start: the pretrained weights.
        method: the method with its hyper-parameters.
        data: the downstream set; None for a method that looks at no data, as are the four after it.
        size: number of images tuned on; None for all.
        held_out: share of the pool that is kept for choices.
        recipe: of the training.
        seed: of everything random.
        ingredients: the steps whose weights the method starts from.
        last_batch: "merged" where a last batch of one image joins the one before it, for a BatchNorm.
    """

    key_name: ClassVar[str] = "Fit"

    start: Load | Pretrain
    method: Method
    data: DataPart | None
    size: int | None
    held_out: float
    recipe: Recipe | None
    seed: int | None
    ingredients: tuple[Fit, ...]
    last_batch: LastBatch | None = field(default=None, metadata=OPTION)

    trains: ClassVar[bool] = True

    @property
    def needs(self) -> tuple[Step, ...]:
        """The start, if it has to be made, and the ingredients."""
        return (*((self.start,) if isinstance(self.start, Pretrain) else ()), *self.ingredients)

    @cached_property
    def features(self) -> Embed | None:
        """What its method reads of the pretrained model's features of the tuning set."""
        if not (self.method.reads_features and self.data and self.recipe) or self.architecture.heads:
            return None
        data, seed = self.data, self.seed if self.size is not None else 0  # of all images every seed draws the same
        if self.size is None and not self.held_out and data.both:  # then predictions of that set read them too
            data, seed = replace(data, part="test"), None
        size, block = self.recipe.eval_batch_size, self.recipe.last_block
        return Embed(self.start, data, self.size, self.held_out, seed, size, "fp32", block)

    @property
    def keeps_weights(self) -> bool:
        """Whether the weights are kept, rather than merged anew whenever they are needed."""
        return not isinstance(self.method, MergedMethod)

    @property
    def architecture(self) -> Architecture:
        """Of the model."""
        return self.start.architecture

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """What it looks at."""
        return (self.data,) if self.data else ()

    @property
    def subject(self) -> str:
        """Key of the weights that it works on."""
        return self.key

    @property
    def tuned_on(self) -> DataPart | None:
        """The downstream set that these weights have seen, if any."""
        return self.data or next((seen for item in self.ingredients if (seen := item.tuned_on)), None)

    @property
    def title(self) -> str:
        """For people."""
        seen, sized = self.tuned_on, next((f for f in (self, *self.ingredients) if f.size is not None), self)
        words = [str(sized.size)] if sized.size is not None else []
        words += [f"seed {sized.seed}"] if sized.seed else []
        count = f" ({', '.join(words)})" if words else ""
        return f"{self.method.name} {self.start.label}" + (f" on {seen.label}{count}" if seen else "")


@dataclass(frozen=True)
class Predict(_Keyed):
    """Predictions of some weights for every example of a part."""

    key_name: ClassVar[str] = "Predict"

    fit: Fit
    data: DataPart
    batch_size: int
    precision: Precision
    last_block: LastBlock | None = field(default=None, metadata=OPTION)

    keeps_weights: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[Step, ...]:
        """The weights."""
        return (self.fit,)

    @cached_property
    def features(self) -> Embed | None:
        """The pretrained model's, where weights differ from it in the head alone and answers are head(features)."""
        if not self.fit.method.keeps_backbone or self.architecture.heads:
            return None
        return Embed(self.fit.start, self.data, None, 0.0, None, self.batch_size, self.precision, self.last_block)

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """What it looks at."""
        return (self.data,)

    @property
    def start(self) -> Load | Pretrain:
        """The pretrained weights that it is about."""
        return self.fit.start

    @property
    def architecture(self) -> Architecture:
        """Of the model."""
        return self.fit.architecture

    @property
    def subject(self) -> str:
        """Key of the weights that it works on."""
        return self.fit.key

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.fit.title} → {self.data.label}"


@dataclass(frozen=True)
class Compare(_Keyed):
    """A look inside a model, or inside a pretrained one and what a method made of it.

    Attributes:
        analysis: what is looked for, with its parameters.
        before: the pretrained weights.
        after: the tuned ones; None for an analysis of the pretrained model alone.
        on: names of the data sets, by which its values speak of them.
        data: their test parts; none for an analysis of weights alone.
        batch_size: images a forward pass.
        precision: of forward passes.
    """

    key_name: ClassVar[str] = "Compare"

    analysis: Analysis
    before: Fit
    after: Fit | None
    on: tuple[str, ...]
    data: tuple[DataPart, ...]
    batch_size: int
    precision: Precision

    keeps_weights: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[Step, ...]:
        """The weights."""
        return (self.before, self.after) if self.after else (self.before,)

    @property
    def features(self) -> None:
        """It looks at every layer."""
        return None

    @property
    def parts(self) -> tuple[DataPart, ...]:
        """What it looks at."""
        return self.data

    @property
    def start(self) -> Load | Pretrain:
        """The pretrained weights that it is about."""
        return self.before.start

    @property
    def architecture(self) -> Architecture:
        """Of the model, before and after."""
        return self.before.architecture

    @property
    def subject(self) -> str:
        """Key of the weights that it works on."""
        return (self.after or self.before).key

    @property
    def title(self) -> str:
        """For people."""
        seen = f" → {self.data[0].label}" if len(self.data) == 1 else ""
        return f"{self.analysis.name} of {(self.after or self.before).title}{seen}"


Step = Pretrain | Embed | Fit | Predict | Compare


def distinct(step: Step, taken: Container[str]) -> str:
    """The step's title, with some of its key where another step has that title (another rate, another alpha)."""
    return f"{step.title} · {step.key[:8]}" if step.title in taken else step.title
