"""Protocol: the recipes, and training under them against plain PyTorch loops that share nothing with RIB's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import FAMILIES, HALF, PART, WHOLE, classifier, examples, same_weights
from rib.data.examples import Examples
from rib.data.labels import LabelMap
from rib.data.splits import named_generator
from rib.errors import StepError, UserError
from rib.methods import Method
from rib.methods.base import Task
from rib.methods.ewc import EWC
from rib.methods.finetune import FineTune
from rib.methods.l2_sp import L2SP
from rib.methods.linear_probe import LinearProbe
from rib.methods.lora import LoRA, LowRank
from rib.methods.lwf import LwF
from rib.models.catalogue import Architecture
from rib.models.weights import Weights, take_weights
from rib.recipe import RECIPES, Recipe
from rib.suite.load import parse_suite
from rib.training.schedule import rate

SEED = 5
CLIP = 5.0
SYNONYMS = LabelMap("synonyms", ((2,), (0, 3)), 4)
Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]

# -- recipes -----------------------------------------------------------------------------------------------------------


def suite_recipe(recipe: object) -> Recipe:
    names = {"name": "s", "reference": "r", "downstream": ["a", "b"], "models": ["m"]}
    return parse_suite(names | {"recipe": recipe}).recipe


def test_the_paper_recipe_is_the_published_one() -> None:
    paper = suite_recipe("paper")
    assert paper == RECIPES["paper"]
    assert (paper.epochs, paper.batch_size, paper.lr, paper.momentum, paper.weight_decay) == (10, 64, 1e-3, 0.9, 0.0)
    assert (paper.optimizer, paper.label_smoothing, paper.steps) == ("sgd", 0.0, None)
    assert (paper.precision, paper.eval_precision) == ("fp16", "fp32")
    assert paper.warmup(paper.total_steps(7_500)) == paper.warmup(paper.total_steps(50_889)) == 196
    assert paper.total_steps(7_500) == 1_180


def test_the_scaled_recipe_warms_up_in_proportion() -> None:
    scaled = suite_recipe("scaled")
    assert scaled.warmup(scaled.total_steps(50_000)) == 196
    assert scaled.warmup(scaled.total_steps(7_500)) == 30
    assert scaled.model_copy(update={"warmup_steps": 196, "warmup_fraction": 0.0}) == RECIPES["paper"]


def test_a_named_recipe_can_be_changed() -> None:
    assert suite_recipe({"base": "paper", "lr": 0.01}) == RECIPES["paper"].model_copy(update={"lr": 0.01})
    assert suite_recipe({"epochs": 3}) == Recipe(epochs=3)
    with pytest.raises(UserError, match="there is no recipe 'papr'; valid: paper, scaled"):
        suite_recipe("papr")
    with pytest.raises(UserError, match="there is no recipe 'x'"):
        suite_recipe({"base": "x"})
    with pytest.raises(UserError, match=r"unknown key 'recipe\.rate'"):
        suite_recipe({"base": "paper", "rate": 1})


@pytest.mark.parametrize("steps", [40, 196, 1180])
def test_the_schedule_step_by_step(steps: int) -> None:
    rates = [rate(step, 196, steps) for step in range(steps)]
    assert rates[0] == 1 / 196
    if steps <= 196:
        assert rates == [(step + 1) / 196 for step in range(steps)]
        return
    assert rates[195] == rates[196] == 1
    assert rates[(196 + steps) // 2] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * (steps - 197) / (steps - 196))))
    assert rates[196:] == sorted(rates[196:], reverse=True)


# -- training against plain loops --------------------------------------------------------------------------------------


def architecture(family: str) -> Architecture:
    row = FAMILIES[family]
    fields: dict[str, Any] = {"timm": None, "build_source": None, "head": None, "arguments": {}} | row
    return Architecture(classes=4, crop=1.0, interpolation="bicubic", mean=HALF, std=HALF, **fields)


def task(family: str, tuning: Examples, label_map: LabelMap, recipe: Recipe, notes: dict[str, Any]) -> Task:
    note = notes.__setitem__
    cpu = torch.device("cpu")
    return Task(architecture(family), tuning, tuning, label_map, recipe, SEED, cpu, lambda _: None, None, note)


def plain(logits: Tensor, groups: tuple[tuple[int, ...], ...]) -> Tensor:
    """The masked logits, class by class."""
    return torch.stack([torch.stack([logits[:, index] for index in group]).amax(0) for group in groups], 1)


def reference_loop(
    net: nn.Module, tuning: Examples, label_map: LabelMap, recipe: Recipe, extra: Loss | None, head_only: bool = False
) -> list[float]:
    """The published recipe in plain PyTorch. Mean cross-entropy of each epoch; `net` is changed."""
    half = recipe.precision == "fp16"
    images = (torch.from_numpy(tuning.images).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    labels = torch.from_numpy(tuning.labels)
    parameters = [value for name, value in net.named_parameters() if not head_only or name.startswith("head.")]
    optimizer = torch.optim.SGD(parameters, lr=recipe.lr, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", enabled=half)
    per_epoch = math.ceil(len(labels) / recipe.batch_size)
    total, step, means = recipe.epochs * per_epoch, 0, []
    net.train(not head_only)
    for epoch in range(recipe.epochs):
        order = torch.from_numpy(named_generator("shuffle", SEED, epoch).permutation(len(labels)))
        losses = 0.0
        for rows in order.split(recipe.batch_size):
            decay = 0.5 * (1 + math.cos(math.pi * (step - 196) / max(1, total - 196)))
            optimizer.param_groups[0]["lr"] = recipe.lr * ((step + 1) / 196 if step < 196 else decay)
            with torch.autocast("cpu", torch.float16, enabled=half):
                logits = plain(net(images[rows]), label_map.groups)
                loss = F.cross_entropy(logits, labels[rows])
                whole = loss + extra(net, logits, rows, images) if extra else loss
            optimizer.zero_grad()
            scaler.scale(whole).backward()
            scaler.step(optimizer)
            scaler.update()
            losses += loss.item() * len(rows)
            step += 1
        means.append(losses / len(labels))
    return means


def anchored(start: Weights, strength: Mapping[str, Tensor] | None = None) -> Loss:
    def pull(net: nn.Module, logits: Tensor, rows: Tensor, images: Tensor) -> Tensor:
        total = torch.zeros(())
        for name, value in net.named_parameters():
            weight = 1.0 if strength is None else strength[name]
            total = total + (weight * (value - start[name]) ** 2).sum()
        return total

    return pull


def teacher_loss(start: Weights, family: str, label_map: LabelMap) -> Loss:
    teacher = classifier(family).net.eval()
    teacher.load_state_dict(start)

    def distil(net: nn.Module, logits: Tensor, rows: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            target = (plain(teacher(images[rows]), label_map.groups) / 2).softmax(1)
        return (target * (target.log() - (logits.float() / 2).log_softmax(1))).sum() / len(rows)

    return distil


def fisher(start: Weights, family: str, tuning: Examples, label_map: LabelMap) -> dict[str, Tensor]:
    """Squared gradients of single samples, one backward pass each; labels drawn as EWC draws them."""
    from rib.data.splits import named_seed

    net = classifier(family).net.eval()
    net.load_state_dict(start)
    chosen = named_generator("fisher samples", SEED).permutation(len(tuning))
    images = (torch.from_numpy(tuning.images[chosen]).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        odds = plain(net(images), label_map.groups).softmax(1)
    drawn = torch.multinomial(odds, 1, generator=torch.Generator().manual_seed(named_seed("fisher labels", SEED)))[:, 0]
    total = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
    for image, label in zip(images, drawn, strict=True):
        net.zero_grad()
        plain(net(image[None]), label_map.groups).log_softmax(1)[0, label].backward()
        for name, value in net.named_parameters():
            total[name] += value.grad**2 if value.grad is not None else 0
    mean = torch.cat([value.flatten() for value in total.values()]).mean()
    return {name: (value / mean).clamp(max=CLIP) for name, value in total.items()}


METHODS: dict[str, Method] = {
    "finetune": FineTune(),
    "linear_probe": LinearProbe(),
    "l2_sp": L2SP(),
    "ewc": EWC(clip=CLIP),
    "lwf": LwF(),
}


def expected(
    name: str, family: str, start: Weights, tuning: Examples, label_map: LabelMap, recipe: Recipe
) -> tuple[Weights, list[float]]:
    extra = {
        "l2_sp": lambda: anchored(start),
        "ewc": lambda: anchored(start, fisher(start, family, tuning, label_map)),
        "lwf": lambda: teacher_loss(start, family, label_map),
    }.get(name, lambda: None)()
    net = classifier(family).net
    net.load_state_dict(start)
    losses = reference_loop(net, tuning, label_map, recipe, extra, head_only=name == "linear_probe")
    return take_weights(net), losses


@pytest.mark.parametrize(
    ("label_map", "precision"),
    [(WHOLE, "fp32"), (PART, "fp32"), (SYNONYMS, "fp32"), (PART, "fp16")],
    ids=["whole-fp32", "part-fp32", "synonyms-fp32", "part-fp16"],
)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["batch_norm", "vit"])
def test_training_under_paper_equals_a_plain_loop(
    family: str, method: str, label_map: LabelMap, precision: str
) -> None:
    """Two epochs of three steps at a rate that makes every term of the loss matter."""
    recipe = suite_recipe({"base": "paper", "precision": precision, "epochs": 2, "batch_size": 9, "lr": 3.0})
    tuning = examples(23, len(label_map.groups))
    start = take_weights(classifier(family).net)
    notes: dict[str, Any] = {}
    tuned = METHODS[method].fit(start, task(family, tuning, label_map, recipe, notes), [])
    weights, losses = expected(method, family, start, tuning, label_map, recipe)
    close = 1e-6 if precision == "fp32" else 2e-3
    assert not same_weights(tuned, start)
    assert notes["first_loss"] == pytest.approx(losses[0], rel=close)
    assert notes["last_loss"] == pytest.approx(losses[1], rel=close)
    for name, value in weights.items():
        assert torch.allclose(tuned[name].float(), value.float(), rtol=close, atol=close), name


def test_one_step_of_fine_tuning_is_the_same_bit_for_bit() -> None:
    recipe = suite_recipe({"base": "paper", "precision": "fp32", "epochs": 1})
    tuning = examples(40)
    start = take_weights(classifier("resnet").net)
    tuned = FineTune().fit(start, task("resnet", tuning, WHOLE, recipe, {}), [])
    assert same_weights(tuned, expected("finetune", "resnet", start, tuning, WHOLE, recipe)[0])


def test_half_precision_gives_other_numbers_and_says_so_in_its_identity() -> None:
    start, tuning = take_weights(classifier("resnet").net), examples(23)
    tuned = [
        FineTune().fit(start, task("resnet", tuning, WHOLE, suite_recipe({"base": "paper", "precision": name}), {}), [])
        for name in ("fp32", "fp16")
    ]
    assert not same_weights(*tuned)
    assert RECIPES["paper"] != RECIPES["paper"].model_copy(update={"precision": "fp32"})


# -- freezing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", [("norm",), ("head",), ("norm", "head")])
@pytest.mark.parametrize("family", ["resnet", "vit", "batch_norm"])
def test_what_is_frozen_stays_and_the_rest_moves(family: str, freeze: tuple[str, ...]) -> None:
    net = classifier(family)
    names = {"norm": net.norm_parameters, "head": net.head_parameters}
    frozen = set().union(*(names[part] for part in freeze))
    start = take_weights(net.net)
    tuned = FineTune(freeze=freeze).fit(start, task(family, examples(), WHOLE, Recipe(epochs=1, lr=0.1), {}), [])
    for name, value in start.items():
        statistics = "running" in name or "num_batches" in name
        stays = name in frozen or (statistics and "norm" in freeze)
        assert torch.equal(tuned[name], value) == stays, name


def test_norm_layers_are_told_by_type() -> None:
    assert classifier("batch_norm").norm_parameters == {"norm.weight", "norm.bias"}
    assert {name.rpartition(".")[2] for name in classifier("resnet").norm_parameters} == {"weight", "bias"}
    vit = classifier("vit")
    named = {name for name, _ in vit.net.named_parameters() if "norm" in name or ".norm" in name}
    assert named <= vit.norm_parameters
    assert not vit.norm_parameters & vit.head_parameters


def test_a_wrong_word_for_what_to_freeze_is_refused() -> None:
    with pytest.raises(ValueError, match="norm"):
        FineTune(freeze=("norms",))  # type: ignore[arg-type]


# -- LoRA --------------------------------------------------------------------------------------------------------------


def test_lora_changes_query_and_value_by_a_matrix_of_its_rank() -> None:
    start = take_weights(classifier("vit").net)
    tuned = LoRA(rank=2, scale=100.0).fit(start, task("vit", examples(), WHOLE, Recipe(epochs=3, lr=1.0), {}), [])
    assert tuned.keys() == start.keys()
    changed = {name for name in start if not torch.equal(tuned[name], start[name])}
    assert changed == {name for name in start if name.endswith("qkv.weight")}
    for name in changed:
        query, key, value = (tuned[name] - start[name]).chunk(3)
        assert torch.equal(key, torch.zeros_like(key))
        for part in (query, value):
            assert 1 <= int(torch.linalg.matrix_rank(part, rtol=1e-3)) <= 2


def test_lora_adds_scale_times_b_times_a() -> None:
    weight = torch.randn(12, 4)
    change = LowRank(weight, 2, 1 / 8, torch.Generator().manual_seed(0))
    assert torch.equal(change(weight), weight)
    with torch.no_grad():
        change.query_b.fill_(1.0)
        change.value_b.fill_(2.0)
    expected_change = torch.cat(
        [change.query_a.sum(0).expand(4, 4), torch.zeros(4, 4), 2 * change.value_a.sum(0).expand(4, 4)]
    )
    assert torch.allclose(change(weight) - weight, expected_change / 8, atol=1e-6)


def test_lora_needs_attention() -> None:
    start = take_weights(classifier("resnet").net)
    with pytest.raises(StepError, match="leave lora out"):
        LoRA().fit(start, task("resnet", examples(), WHOLE, Recipe(epochs=1), {}), [])
