"""PEFT: a tuner of the peft library, merged into plain weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, JsonValue, field_validator
from torch import nn

from rib.data.splits import named_seed
from rib.errors import StepError, UserError
from rib.methods.base import Method, Passes, Task, run_recipe
from rib.models.classifier import Classifier
from rib.models.weights import Weights, take_weights
from rib.recipe import Recipe

Tuner = Literal["lora", "dora", "ia3", "oft", "boft", "loha", "lokr", "hra"]
"""Tuners whose change can be merged into the weights of linear and convolutional layers."""

HELD = ("target_modules", "modules_to_save", "task_type", "peft_type", "inference_mode", "layers_to_transform")
"""Fields of a tuner's configuration that `options` may not set."""

FUSED = frozenset({"qkv", "kv", "qk"})


class Peft(Method):
    """Trains a tuner of the peft library on named layers: LoRA (arXiv 2106.09685), DoRA (2402.09353), IA3 (2205.05638),
    OFT (2306.07280), BOFT (2311.06243), LoHa (2108.06098), LoKr (2309.14859), HRA (2405.17484).

    `options` are fields of the tuner's configuration in peft, with peft's defaults. Everything else is frozen,
    including the head. In the end the change is merged into the weights, so the result is plain weights of the same
    model. Needs the extra `peft`.
    """

    name: ClassVar[str] = "peft"
    key_name: ClassVar[str] = "rib.methods.peft_tuning:Peft"
    takes: ClassVar[str] = "the extra `peft`, and the layers that `layers` names"
    tuner: Tuner = "lora"
    layers: tuple[str, ...] = Field(
        ("qkv", "proj", "fc1", "fc2"), min_length=1, description="names of layers, or the ends of their names"
    )
    options: dict[str, JsonValue] = Field({}, description="fields of the tuner's configuration in peft")
    lr: float | None = Field(None, gt=0, description="in place of the recipe's")
    epochs: int | None = Field(None, ge=1, description="in place of the recipe's")

    def __hash__(self) -> int:
        """The hash of its JSON text, because dictionaries have no hash."""
        return hash(self.model_dump_json())

    @field_validator("options")
    @classmethod
    def _plain(cls, options: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if held := [name for name in options if name in HELD]:
            raise ValueError(f"{held[0]} is not for options; `layers` names the layers")
        if words := [name for name, value in options.items() if not isinstance(value, bool | int | float)]:
            raise ValueError(f"options are numbers, true or false, not {words[0]} = {options[words[0]]!r}")
        return options

    def require(self, classifier: Classifier) -> None:
        """Refuse a model without these layers, or with layers that the tuner would change wrongly or not at all.

        Raises:
            UserError: it is refused.
        """
        _require_installed()
        self.configuration()
        found = list(self._chosen(classifier))
        if not found:
            raise UserError(
                "peft: the model has none of the layers",
                got=", ".join(self.layers),
                valid=", ".join(sorted({name.rpartition(".")[2] for name, _ in _linear(classifier.net)})),
                remedy="name others as `layers` under [method.NAME]",
            )
        for name, module in found:
            self._require_changeable(name, module, classifier)

    def _require_changeable(self, name: str, module: nn.Module, classifier: Classifier) -> None:
        owner, _, last = name.rpartition(".")
        reason = ""
        if isinstance(classifier.net.get_submodule(owner), nn.MultiheadAttention):
            reason = "nn.MultiheadAttention reads its weight and does not call it"
        elif name in classifier.head_names:
            reason = "it is the head"
        elif self.tuner == "ia3" and last in FUSED:
            reason = "IA3 scales keys and values, and this layer makes queries too"
        if reason:
            raise UserError(
                f"peft: {self.tuner} would change {name!r} wrongly",
                got=reason,
                valid="linear and convolutional layers that are called one by one",
                remedy="leave it out of `layers`",
            )

    def _chosen(self, classifier: Classifier) -> Iterator[tuple[str, nn.Module]]:
        """The layers that peft would find: those whose name is in `layers`, or ends with one of them."""
        for name, module in _linear(classifier.net):
            if any(name == layer or name.endswith(f".{layer}") for layer in self.layers):
                yield name, module

    def configuration(self) -> Any:
        """The tuner's configuration in peft.

        Raises:
            UserError: an option does not exist or has a wrong value.
        """
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        kind = PEFT_TYPE_TO_CONFIG_MAPPING["LORA" if self.tuner == "dora" else self.tuner.upper()]
        own: dict[str, Any] = {"use_dora": True} if self.tuner == "dora" else {}
        own |= {"feedforward_modules": []} if self.tuner == "ia3" else {}
        try:
            return kind(target_modules=list(self.layers), **own, **self.options)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"peft: {self.tuner} does not take these options",
                got=f"{self.options}: {error}",
                valid=f"fields of {kind.__name__}, numbers, true or false",
            ) from None

    def trains(self, classifier: Classifier) -> frozenset[str]:
        """The names of the layers, none of which is a BatchNorm."""
        return frozenset(name for name, _ in self._chosen(classifier))

    def run_recipe(self, recipe: Recipe) -> Recipe:
        """The suite's recipe with the values of this method's own fields."""
        return run_recipe(recipe, self.epochs, self.lr)

    def passes(self, recipe: Recipe, images: int, held_out: int) -> Passes:
        """Counts every image of every epoch, and two images twice, to check that the merge changes no output."""
        return Passes(trained=self.run_recipe(recipe).images(images), seen=2 * min(2, images))

    def fit(self, start: Weights, task: Task, fitted: Sequence[Weights]) -> Weights:
        """Train the tuner and merge it.

        Raises:
            StepError: training diverged, or the outputs of the merged weights differ from the tuner's.
        """
        from peft import inject_adapter_in_model

        task = replace(task, recipe=task.recipe.model_copy(update={"last_block": None}))  # reads weights of layers
        classifier = task.build(start)
        self.require(classifier)
        layers = list(dict(self._chosen(classifier)))
        configuration = self.configuration()
        configuration.target_modules = set(layers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(named_seed("peft", task.seed))
            inject_adapter_in_model(configuration, classifier.net)
        classifier.to(task.device)
        added = frozenset(name for name, value in classifier.net.named_parameters() if value.requires_grad)
        task.train(classifier, replace(task.training, recipe=self.run_recipe(task.recipe), trainable=added))
        batch = torch.from_numpy(task.tuning.batch(slice(2))).to(task.device)
        with torch.no_grad():
            before = classifier.eval()(batch)
            merge(classifier.net)
            after = classifier(batch)
        if task.seen:
            task.seen(2 * len(batch))
        if not torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max())):
            raise StepError(f"peft: {self.tuner} cannot be merged into this model: the outputs change")
        return take_weights(classifier.net)


def merge(net: nn.Module) -> None:
    """Merge every tuner's layer into the layer that it wraps, and put that one back."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(net.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            owner, _, last = name.rpartition(".")
            setattr(net.get_submodule(owner), last, module.get_base_layer())


def _linear(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.Conv2d))


def _require_installed() -> None:
    try:
        import peft  # noqa: F401
    except ImportError:
        raise UserError(
            "the method peft needs the library peft",
            got="it is not installed",
            remedy="pip install 'rib-benchmark[peft]'",
        ) from None
