"""Tuners of the peft library: merged into plain weights, refused where they would change a layer wrongly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from helpers import PART, classifier, examples, same_weights
from plain_loop import RECIPE, Kept, fitted, method
from rib.data.splits import named_seed
from rib.errors import UserError
from rib.methods.lora import LowRank, projections
from rib.methods.peft_tuning import Peft, merge
from rib.models.classifier import Classifier
from rib.models.weights import take_weights
from rib.training.loop import train
from rib.training.training import Training

pytest.importorskip("peft")

OPTIONS: dict[str, dict[str, Any]] = {
    "lora": {"r": 2}, "dora": {"r": 2}, "ia3": {}, "oft": {"oft_block_size": 4, "r": 0},
    "loha": {"r": 2}, "lokr": {"r": 2}, "hra": {"r": 2},
}  # fmt: skip
RATE = 0.05


@pytest.mark.parametrize("tuner", OPTIONS)
def test_a_tuner_changes_its_layers_alone(tuner: str) -> None:
    start = take_weights(classifier("vit").net)
    chosen = method("peft", tuner=tuner, layers=("fc1", "attn.proj"), options=OPTIONS[tuner], lr=RATE)
    tuned = fitted(chosen, "vit")
    assert tuned.keys() == start.keys()
    changed = {name for name in start if not torch.equal(start[name], tuned[name])}
    layers = {"blocks.0.mlp.fc1.weight", "blocks.0.attn.proj.weight"}
    assert layers <= changed <= layers | {name.replace("weight", "bias") for name in layers}
    assert same_weights(tuned, fitted(chosen, "vit"))


def test_resumed_equals_uninterrupted() -> None:
    chosen, first = method("peft", options={"r": 2, "lora_dropout": 0.2}, lr=RATE), Kept(2)
    with pytest.raises(InterruptedError):
        fitted(chosen, "vit", checkpoint=first)
    assert same_weights(fitted(chosen, "vit", checkpoint=Kept(None, first.state)), fitted(chosen, "vit"))


def test_the_own_lora_agrees_with_that_of_peft() -> None:
    """A in one, two ranks beside one another; B of the keys at zero, and kept there by its gradient."""
    from peft import LoraConfig, inject_adapter_in_model

    own, other = classifier("vit"), classifier("vit")
    generator = torch.Generator().manual_seed(named_seed("lora", 3))
    ((module, name),) = projections(own.net)
    change = LowRank(module.weight, 2, 0.125, generator)  # type: ignore[arg-type]
    drawn = torch.cat([change.query_a, change.value_a]).detach().clone()
    parametrize.register_parametrization(module, name, change)
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=0.5, target_modules=["qkv"]), other.net)
    layer: Any = other.net.get_submodule("blocks.0.attn.qkv")
    mask = torch.zeros(36, 4)
    mask[:12, :2] = mask[24:, 2:] = 1
    with torch.no_grad():
        layer.lora_A.default.weight.copy_(drawn)
    layer.lora_B.default.weight.register_hook(lambda gradient: gradient * mask)
    for net in (own, other):
        wanted = ("query_", "value_", "lora_")
        names = frozenset(n for n, _ in net.net.named_parameters() if any(word in n for word in wanted))
        train(net, Training(examples(10, 3), PART, RECIPE.model_copy(update={"lr": 4.0}), 3, trainable=names))
    parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    merge(other.net)
    before = classifier("vit").net.state_dict()["blocks.0.attn.qkv.weight"]
    mine, theirs = (net.net.state_dict()["blocks.0.attn.qkv.weight"] for net in (own, other))
    moved = float((mine - before).abs().max())
    assert moved > 0
    torch.testing.assert_close(theirs - before, mine - before, rtol=0, atol=min(1e-5, 0.01 * moved))


class Attending(nn.Module):
    """A net with torch's own attention, which reads the weight of `out_proj`."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("fields", "net", "words"),
    [
        ({"layers": ("qvk",)}, None, "none of the layers"),
        ({"tuner": "ia3", "layers": ("qkv",)}, None, "scales keys and values"),
        ({"layers": ("head",)}, None, "it is the head"),
        ({"layers": ("out_proj",)}, Attending, "does not call it"),
        ({"options": {"rank": 3}}, None, "does not take these options"),
    ],
)
def test_what_a_tuner_would_change_wrongly_is_refused(fields: dict[str, Any], net: Any, words: str) -> None:
    with pytest.raises(UserError) as error:
        Peft(**fields).require(Classifier(net(), 4) if net else classifier("vit"))
    assert words in str(error.value)


@pytest.mark.parametrize("options", [{"target_modules": 3}, {"init_lora_weights": "eva"}, {"corda_config": {}}])
def test_options_are_numbers(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="options"):
        Peft(options=options)
