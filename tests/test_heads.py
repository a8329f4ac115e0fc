"""Models whose answer is not what one head makes of features: shared only where it is, right everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import CLASSES, HALF, SIDE, WHOLE, Say, classifier, document, examples, toml
from rib.analysis.drift import layer_places
from rib.errors import StepError, UserError
from rib.execute.run import execute
from rib.methods import Task
from rib.methods.ewc import diagonal_fisher
from rib.methods.lora import LowRank, projections
from rib.models.classifier import Classifier
from rib.models.layers import visible
from rib.models.trace import Trace, require_steady, trace
from rib.models.weights import put_weights, take_weights, write_weights
from rib.plan import Plan, make_plan
from rib.recipe import Recipe
from rib.steps import Embed, How
from rib.store.store import Store
from rib.suite.load import parse_suite
from rib.training.predict import collect

RIB_FILES = ()  # the module reads only files that its tests write


class Net(nn.Module):
    """A convolution and two linear layers, whose outputs become an answer in one of several ways."""

    def __init__(self, num_classes: int, way: str = "mean") -> None:
        super().__init__()
        self.way = way
        self.conv = nn.Conv2d(3, 6, 3, 2)
        self.norm = nn.BatchNorm1d(6)
        self.head, self.other = nn.Linear(6, num_classes), nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Any:
        x = self.norm(F.relu(self.conv(x)).mean((2, 3)))
        first, second = self.head(x), self.other(x.square())
        return WAYS[self.way](self, x, first, second)


WAYS: dict[str, Callable[..., Any]] = {
    "mean": lambda net, x, first, second: (first + second) / 2,
    "one": lambda net, x, first, second: second,
    "first": lambda net, x, first, second: (net.other(x), first)[1],
    "scaled in place": lambda net, x, first, second: second.mul_(3),
    "log softmax": lambda net, x, first, second: second.log_softmax(1),
    "softmax": lambda net, x, first, second: second.softmax(1),
    "sigmoid": lambda net, x, first, second: second.sigmoid(),
    "dropout": lambda net, x, first, second: F.dropout(second, 0.5, training=True),
    "batch": lambda net, x, first, second: second - second.mean(0),
    "tuple": lambda net, x, first, second: (second, first) if net.training else second,
    "odd tuple": lambda net, x, first, second: (first + second, first) if net.training else second,
    "dict": lambda net, x, first, second: {"logits": second},
    "always a tuple": lambda net, x, first, second: (second, first),
    "tokens": lambda net, x, first, second: torch.stack([first, second], 1),
}


def net(num_classes: int, way: str = "mean") -> nn.Module:
    """A model of which little is the head's."""
    return Net(num_classes, way)


@pytest.mark.parametrize(
    ("way", "heads", "direct", "odd"),
    [
        ("mean", ("head", "other"), None, None),
        ("one", ("head", "other"), "other", None),
        ("first", ("head", "other"), "head", None),
        ("scaled in place", ("head", "other"), None, None),
        ("log softmax", ("head", "other"), None, None),
        ("tuple", ("head", "other"), "other", None),
        ("odd tuple", ("head", "other"), "other", "a tuple of 2"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_how_an_answer_comes_about(
    way: str, heads: tuple[str, ...], direct: str | None, odd: str | None, device: str
) -> None:
    with torch.device(device):
        assert trace(net(4, way), SIDE, 4) == Trace(heads, direct, odd)


@pytest.mark.parametrize(
    ("way", "words"),
    [("dict", "a dict of logits"), ("always a tuple", "a tuple of 2"), ("tokens", r"shape \(2, 2, 4\)")],
)
def test_what_is_no_answer_is_refused_when_it_is_planned(tmp_path: Path, way: str, words: str) -> None:
    with pytest.raises(UserError, match=rf"one number per class\n  got: +.*{words}"):
        planned(tmp_path, way, ["finetune"])


@pytest.mark.parametrize("way", ["softmax", "sigmoid"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_probabilities_are_no_logits(way: str, device: str) -> None:
    with (
        torch.device(device),
        pytest.raises(UserError, match=f"probabilities, not logits\n  got: +a net that ends in a {way}"),
    ):
        trace(net(4, way), SIDE, 4)


@pytest.mark.parametrize(
    ("way", "words"),
    [("dropout", "two answers to the same images differ"), ("batch", "depends on the other images of its batch")],
)
def test_an_answer_that_the_image_alone_does_not_make_is_refused_when_it_is_planned(
    tmp_path: Path, way: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        planned(tmp_path, way, ["finetune"])


class Untracked(nn.Module):
    """Normalises by the batch in evaluation too."""

    def __init__(self, num_classes: int, tracked: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2)
        self.norm = nn.BatchNorm2d(6, track_running_stats=tracked)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(F.relu(self.norm(self.conv(x))).mean((2, 3)))
        return found


@pytest.mark.parametrize("tracked", [True, False])
def test_batchnorm_without_running_statistics(tracked: bool) -> None:
    torch.manual_seed(0)
    model = Untracked(4, tracked).eval()
    if tracked:
        return require_steady(model, torch.zeros(2, 3, SIDE, SIDE))
    with pytest.raises(UserError, match=r"depends on the other images(.|\n)*track_running_stats"):
        require_steady(model, torch.zeros(2, 3, SIDE, SIDE))
    return None


def planned(folder: Path, way: str, methods: list[str], **fields: Any) -> tuple[Plan, Store]:
    torch.manual_seed(1)
    model = net(4, way)
    for buffer in (model.norm.running_mean, model.norm.running_var):
        buffer.uniform_(0.5, 1.5)
    nn.init.normal_(model.other.weight, std=3)  # without it the answer is another
    write_weights(folder / "net.safetensors", take_weights(model))
    row = {"build": "test_heads:net", "arguments": {"way": way}, "size": SIDE, "weights": "net.safetensors"}
    made = document(folder, runs=[{"methods": methods}], **fields) | {"models": ["two"], "model": {"two": row}}
    suite = parse_suite(made).based_at(folder)
    store = Store(folder / "store")
    return make_plan(suite, store.facts), store


def done(plan: Plan, store: Store, **how: Any) -> None:
    outcome = execute(plan, store, How(workers=1, device="cpu", **how))
    assert not outcome.failed, outcome.failed


def plain(weights: dict[str, Tensor], way: str, images: np.ndarray[Any, Any]) -> Tensor:
    """What the net itself answers."""
    model = net(4, way)
    model.load_state_dict(weights)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        answer: Tensor = model.eval()(pixels)
    return answer


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("way", ["mean", "scaled in place", "first"])
def test_predictions_are_the_nets_own(tmp_path: Path, way: str, streamed: bool) -> None:
    """Pretrained, and of a linear probe, which would share features with it."""
    plan, store = planned(tmp_path, way, ["linear_probe", "lwf"])
    assert not [step for step in plan.steps if isinstance(step, Embed)]
    done(plan, store, pack_budget=0 if streamed else None)
    for run in plan.runs[:2]:
        weights = store.weights(run.fit.key) if run.tuned_on else torch_file(tmp_path / "net.safetensors")
        for name, step in run.scores.items():
            data = plan.world[name]
            pixels = data.read("test", np.arange(len(data.index("test"))), step.architecture.view)
            expected = plain(weights, way, pixels)
            found = store.predictions(step.key)
            assert found["unmasked_class"].to_pylist() == expected.argmax(1).tolist()
            expected_confidence = expected.softmax(1).amax(1).numpy()
            assert np.allclose(found["unmasked_confidence"].to_numpy(), expected_confidence, atol=1e-5)


def torch_file(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(file))


@pytest.mark.parametrize(("way", "made_of"), [("mean", ["head", "other"]), ("first", ["head"]), ("one", [])])
def test_a_plan_names_the_models_whose_features_are_not_shared(
    tmp_path: Path, way: str, made_of: list[str], rib_says: Say
) -> None:
    row = {"build": "test_heads:net", "arguments": {"way": way}, "size": SIDE, "weights": "net.safetensors"}
    write_weights(tmp_path / "net.safetensors", take_weights(net(4, way)))
    made = document(tmp_path, runs=[{"methods": ["linear_probe"]}]) | {"models": ["two"], "model": {"two": row}}
    (tmp_path / "suite.toml").write_text(toml(made))
    words = ["plan", tmp_path / "suite.toml", "--store", tmp_path / "store"]
    said = " ".join(rib_says(*words)[1].split())
    named = f"Features two: its output is not that of its last linear layer, but made of {', '.join(made_of)};"
    assert (named in said) if made_of else ("Features" not in said)
    printed, _ = json.JSONDecoder().raw_decode(rib_says(*words, "--json")[1])
    assert printed["unshared"] == ({"two": made_of} if made_of else {})


def test_a_probe_trains_every_head_on_the_forward_pass(tmp_path: Path) -> None:
    """As many images go through the net as the plan says; the body, and its statistics, stay as they were."""
    plan, store = planned(tmp_path, "mean", ["linear_probe", "lwf"])
    done(plan, store)
    start = torch_file(tmp_path / "net.safetensors")
    fits = {run.method: run.fit for run in plan.runs if run.tuned_on == "whole"}
    probe = store.weights(fits["linear_probe"].key)
    changed = {name for name, value in probe.items() if not torch.equal(value, start[name])}
    assert changed == {"head.weight", "head.bias", "other.weight", "other.bias"}
    images = plan.passes(fits["linear_probe"])
    count = len(plan.world["whole"].index("tune"))
    assert images.trained == 0
    assert images.seen == 2 * store.record(fits["linear_probe"].key).images // 2  # type: ignore[union-attr]
    assert plan.passes(fits["lwf"]).seen < count


def test_the_teacher_of_lwf_is_the_net_and_not_its_last_layer(tmp_path: Path) -> None:
    plan, _ = planned(tmp_path, "mean", ["finetune"])
    weights, pool = torch_file(tmp_path / "net.safetensors"), examples(9)
    task = Task(
        plan.runs[0].fit.architecture, pool, pool, WHOLE, Recipe(eval_batch_size=4), 0, torch.device("cpu"),
        watch=lambda _: None, checkpoint=None, note=lambda *_: None,
    )  # fmt: skip
    assert torch.allclose(task.answers(weights), plain(weights, "mean", np.array(pool.images)), atol=1e-5)


def test_keys_of_models_with_two_heads_are_new(tmp_path: Path) -> None:
    plan, _ = planned(tmp_path, "mean", ["finetune"])
    assert plan.runs[0].fit.architecture.heads == ("head", "other")
    one, _ = planned(tmp_path, "one", ["finetune"])
    assert one.runs[0].fit.architecture.heads is None
    assert "heads" not in one.runs[0].fit.start.spec["architecture"]


def test_layers_and_groups_of_two_heads() -> None:
    model = Classifier(net(4), 4, HALF, HALF, heads=("head", "other")).eval()
    images = torch.from_numpy(np.array(examples(4).images))
    assert visible(model, images)[-4:] == ("input of head", "head", "input of other", "other")
    places = layer_places(model)
    assert {name for name, place in places.items() if place.group == "head"} == model.head_parameters
    assert model.features(images).shape == (4, 12)


def test_forgetting_is_refused_when_it_is_planned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"takes a model apart(.|\n)*head, other"):
        planned(tmp_path, "mean", ["finetune"], analyses=[{"names": ["forgetting"]}])


def test_features_are_held_against_the_answer_where_they_are_made() -> None:
    """Should a trial run have shown nothing: a net whose weights decide what becomes of the answer."""
    model = Classifier(net(4, "one"), 4, HALF, HALF).eval()
    collect(model, model.features, examples(5), 3)
    model = Classifier(net(4, "softmax"), 4, HALF, HALF).eval()
    with pytest.raises(StepError, match="is not that of its head 'other' for its features"):
        collect(model, model.features, examples(5), 3)


@pytest.mark.parametrize("method", ["finetune", "linear_probe"])
def test_auxiliary_answers_of_training(tmp_path: Path, method: str) -> None:
    """The first of several is the answer of evaluation; the layer beside it learns nothing."""
    plan, store = planned(tmp_path, "tuple", [method])
    done(plan, store)
    (fit, *_) = [run.fit for run in plan.runs if run.tuned_on == "whole"]
    start, end = torch_file(tmp_path / "net.safetensors"), store.weights(fit.key)
    assert torch.equal(start["head.weight"], end["head.weight"])
    assert not torch.equal(start["other.weight"], end["other.weight"])


def test_another_answer_in_training_is_refused_when_it_is_planned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"output in training differs from that in evaluation(.|\n)*a tuple of 2"):
        planned(tmp_path, "odd tuple", ["finetune"])
    plan, store = planned(tmp_path, "odd tuple", ["linear_probe"])  # in evaluation mode
    done(plan, store)


def test_a_head_that_is_not_the_last_layer_is_refused(tmp_path: Path) -> None:
    model = {"build": "test_heads:net", "arguments": {"way": "one"}, "size": SIDE, "head": "conv"}
    made = document(tmp_path) | {"models": ["two"], "model": {"two": model | {"weights": "x"}}}
    with pytest.raises(UserError, match="not a linear layer"):
        make_plan(parse_suite(made).based_at(tmp_path))
    made["model"]["two"]["head"] = "head"
    with pytest.raises(UserError, match=r"does not come from the linear layer 'head'(.|\n)*valid: +other"):
        make_plan(parse_suite(made).based_at(tmp_path))


def test_what_an_author_has_frozen_stays_frozen(tmp_path: Path) -> None:
    model = net(len(CLASSES), "one")
    model.conv.weight.requires_grad_(False)
    classifier = Classifier(model, 4, HALF, HALF)
    assert classifier.frozen == {"conv.weight"}


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("test_vit", None),
        ("swin_tiny_patch4_window7_224", None),
        ("maxvit_tiny_tf_224", None),
        ("maxvit_rmlp_pico_rw_256", "stages.0.blocks.0.attn_block.attn.qkv.weight"),  # rows of a head together
        ("gcvit_xxtiny", "attn.qkv.weight"),  # keys and values alone
        ("tiny_vit_5m_224", "attn.qkv.weight"),  # rows of a head together
        ("crossvit_tiny_240", "attn.wq.weight"),
    ],
)
def test_lora_on_layouts_that_it_knows_alone(name: str, tensor: str | None) -> None:
    import timm

    with torch.device("meta"):
        model = timm.create_model(name, num_classes=4)
    if tensor is None:
        assert projections(model)
        return
    with pytest.raises(UserError, match="does not know where query and value lie") as caught:
        projections(model)
    assert tensor in str(caught.value)


def test_merged_lora_answers_as_an_explicit_adapter_does() -> None:
    model = classifier("vit")
    torch.manual_seed(3)
    images = torch.from_numpy(np.array(examples(4).images))
    changes = []
    for module, name in projections(model.net):
        change = LowRank(getattr(module, name), 2, 0.5, torch.Generator().manual_seed(1))
        for factor in change.parameters():
            nn.init.normal_(factor, std=0.5)
        changes.append((module, change))

    def adapted(change: LowRank) -> Callable[..., Tensor]:
        def add(_: nn.Module, given: tuple[Tensor], output: Tensor) -> Tensor:
            query = given[0] @ change.query_a.T @ change.query_b.T
            value = given[0] @ change.value_a.T @ change.value_b.T
            return output + 0.5 * torch.cat([query, torch.zeros_like(query), value], dim=-1)

        return add

    with torch.no_grad():
        plain_answer = model.eval()(images)
        handles = [module.register_forward_hook(adapted(change)) for module, change in changes]
        expected = model(images)
        for handle in handles:
            handle.remove()
        for module, change in changes:
            module.weight.copy_(change(module.weight))
        found = model(images)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, plain_answer, atol=1e-2)


def test_the_fisher_of_a_net_that_takes_no_batch_of_gradients() -> None:
    """One image after the other gives what a net without the offence gives at once."""
    model, pool = classifier("batch_norm"), examples(6)
    expected = diagonal_fisher(model, pool, WHOLE, 0)
    model.net.register_forward_hook(lambda _, __, output: output + 0 * float(output.detach().sum()))
    found = diagonal_fisher(model, pool, WHOLE, 0)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-8) for name in expected)


class Keeping(nn.Linear):
    """A layer that keeps its bias in evaluation mode, as attentions of LeViT and EfficientFormer keep theirs."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__(width, outputs)
        self.attention_bias_cache: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> Keeping:
        super().train(mode)
        if mode:
            self.attention_bias_cache = {}
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return F.linear(x, self.weight, self.bias * 2)
        kept = self.attention_bias_cache.setdefault("cpu", self.bias * 2)
        return F.linear(x, self.weight, kept)


def keeping() -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Sequential(nn.Flatten(), Keeping(3 * SIDE * SIDE, 8), nn.Linear(8, 4)), 4, HALF, HALF).eval()


def test_what_a_net_keeps_of_its_weights_goes_with_them() -> None:
    model, images = keeping(), torch.from_numpy(np.array(examples(4).images))
    weights = take_weights(model.net) | {"1.bias": torch.full((8,), 5.0)}
    with torch.no_grad():
        model(images)
        put_weights(model.net, weights)
        found = model(images)
        fresh = keeping()
        put_weights(fresh.net, weights)
        assert torch.equal(found, fresh(images))
    assert not model.training


def test_the_fisher_of_what_a_net_keeps() -> None:
    found = diagonal_fisher(keeping(), examples(4), WHOLE, 0)
    assert (found["1.bias"] > 0).all()
