"""The training loop against a plain one, its schedule by hand, frozen backbones, checkpoints, divergence."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import PART, WHOLE, classifier, examples, same_weights
from rib.data.labels import LabelMap
from rib.data.splits import named_generator, named_seed
from rib.errors import StepError
from rib.models import compiled
from rib.models.classifier import Classifier
from rib.models.small import small_resnet
from rib.models.weights import take_weights
from rib.recipe import Recipe
from rib.training import predict as predicting
from rib.training.checkpoint import FileCheckpoint
from rib.training.loop import train
from rib.training.outcome import is_diverged
from rib.training.predict import predict
from rib.training.schedule import rate
from rib.training.training import Pull, Training

MAPS = {"whole": WHOLE, "part": PART}
PLAIN = Recipe(epochs=3, batch_size=6, lr=0.03, momentum=0.9, weight_decay=0.01, warmup_steps=4, label_smoothing=0.1)


def plain_loop(
    family: str, recipe: Recipe, label_map: LabelMap, seed: int, count: int
) -> tuple[nn.Module, list[float]]:
    """Training as anyone would write it: the oracle. 23 images in batches of 6 leave a last batch of 5."""
    net, pool = classifier(family).net, examples(count, len(label_map.groups))
    images = (torch.from_numpy(np.array(pool.images)).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    labels, chosen = torch.from_numpy(pool.labels), [group[0] for group in label_map.groups]
    kinds: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(
            net.parameters(), lr=1.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        ),
        "adamw": lambda: torch.optim.AdamW(net.parameters(), lr=1.0, weight_decay=recipe.weight_decay),
    }
    optimizer = kinds[recipe.optimizer]()
    total = recipe.steps or recipe.epochs * math.ceil(count / recipe.batch_size)
    step, epoch, losses = 0, 0, []
    while step < total:
        net.train()
        torch.manual_seed(named_seed("torch state", seed, epoch))
        seen: list[float] = []
        for rows in torch.from_numpy(named_generator("shuffle", seed, epoch).permutation(count)).split(
            recipe.batch_size
        ):
            if step == total:
                break
            warm = recipe.warmup_steps
            share = (step + 1) / warm if step < warm else (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2
            optimizer.param_groups[0]["lr"] = recipe.lr * share
            loss = F.cross_entropy(net(images[rows])[:, chosen], labels[rows], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += [float(loss.detach())] * len(rows)
            step += 1
        losses.append(float(np.mean(seen)))
        epoch += 1
    return net, losses


@pytest.mark.parametrize(
    ("family", "label_map", "change"),
    [
        ("resnet", "whole", {}),
        ("resnet", "part", {"optimizer": "adamw", "lr": 0.003}),
        ("vit", "part", {"steps": 9}),
        ("dropout", "whole", {"warmup_steps": 40}),
        ("batch_norm", "part", {"epochs": 1, "batch_size": 64, "warmup_steps": 0}),
    ],
)
def test_the_loop_is_the_plain_loop(family: str, label_map: str, change: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(PLAIN.model_dump() | change)
    expected, losses = plain_loop(family, recipe, MAPS[label_map], seed=5, count=23)
    net = classifier(family)
    before = take_weights(net.net)
    outcome = train(net, Training(examples(23, len(MAPS[label_map].groups)), MAPS[label_map], recipe, seed=5))
    assert outcome.losses == pytest.approx(losses, rel=1e-4)
    for name, tensor in net.net.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=1e-4, atol=2e-5, msg=name)
    assert not same_weights(before, take_weights(net.net))


def test_another_seed_is_another_run_and_the_global_state_is_left_alone() -> None:
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(runs))
        state = torch.get_rng_state()
        net = classifier("dropout")
        train(net, Training(examples(), WHOLE, PLAIN, seed=seed))
        assert torch.equal(state, torch.get_rng_state())
        runs.append(take_weights(net.net))
    assert same_weights(runs[0], runs[1])
    assert not same_weights(runs[1], runs[2])


# -- schedule ----------------------------------------------------------------------------------------------------------


def test_the_rate_by_hand() -> None:
    half = math.sqrt(0.5) / 2
    table = [0.25, 0.5, 0.75, 1.0, 1.0, 0.5 + half, 0.5, 0.5 - half]  # four steps of warm-up, four of half a cosine
    assert [rate(step, 4, 8) for step in range(8)] == pytest.approx(table)
    assert [rate(step, 0, 4) for step in range(4)] == pytest.approx([1.0, 0.5 + half, 0.5, 0.5 - half])
    assert [rate(step, 196, 3) for step in range(3)] == pytest.approx([1 / 196, 2 / 196, 3 / 196])  # never decays
    assert rate(195, 196, 196) == 1.0


def test_the_length_of_a_run() -> None:
    assert Recipe(epochs=10, batch_size=64).total_steps(7500) == 10 * 118  # ImageNet-A: the last batch is partial
    assert Recipe(epochs=2, batch_size=5).total_steps(10) == 4
    assert Recipe(steps=7, epochs=3).total_steps(1000) == 7
    paper = Recipe(warmup_steps=196)
    assert paper.warmup(1180) == 196
    assert Recipe(warmup_fraction=0.1).warmup(1180) == 118
    assert Recipe(warmup_fraction=0.1, warmup_steps=196).warmup(1180) == 196


def test_the_rate_is_set_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    step = torch.optim.SGD.step

    def spy(self: Any, *args: Any, **words: Any) -> Any:
        seen.append(self.param_groups[0]["lr"])
        return step(self, *args, **words)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    recipe = Recipe(epochs=2, batch_size=6, lr=0.5, warmup_steps=2)
    counts: list[int] = []
    train(classifier("resnet"), Training(examples(20), WHOLE, recipe, seed=0), watch=counts.append)
    assert seen == pytest.approx([0.5 * rate(number, 2, 8) for number in range(8)])
    assert counts == [0, 6, 6, 6, 2, 6, 6, 6, 2]


# -- linear probe ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["resnet", "vit", "dropout"])
def test_a_probe_leaves_the_backbone_bit_identical(family: str) -> None:
    net = classifier(family)
    before = take_weights(net.net)
    train(net, Training(examples(), WHOLE, PLAIN, seed=0, trainable=net.head_parameters))
    after = take_weights(net.net)
    assert {name for name in after if not torch.equal(before[name], after[name])} == net.head_parameters
    assert net.head_parameters == {"head.weight", "head.bias"}


@pytest.mark.parametrize("family", ["dropout", "vit"])
def test_a_probe_is_the_head_trained_in_the_frozen_net(family: str) -> None:
    """The features computed once equal the whole net run at every step, in evaluation mode."""
    net = classifier(family)
    train(net, Training(examples(), WHOLE, PLAIN, seed=2, trainable=net.head_parameters))
    other = classifier(family)
    pool, names = examples(), sorted(other.head_parameters)
    other.eval()
    head = [other.net.get_parameter(name) for name in names]
    optimizer = torch.optim.SGD(head, lr=1.0, momentum=PLAIN.momentum, weight_decay=PLAIN.weight_decay)
    images, labels = torch.from_numpy(np.array(pool.images)), torch.from_numpy(pool.labels)
    step, total = 0, PLAIN.total_steps(len(pool))
    for epoch in range(PLAIN.epochs):
        order = torch.from_numpy(named_generator("shuffle", 2, epoch).permutation(len(pool)))
        for rows in order.split(PLAIN.batch_size):
            optimizer.param_groups[0]["lr"] = PLAIN.lr * rate(step, PLAIN.warmup_steps, total)
            loss = F.cross_entropy(other(images[rows]), labels[rows], label_smoothing=PLAIN.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    for name in names:
        torch.testing.assert_close(net.net.get_parameter(name), other.net.get_parameter(name), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("trainable", "statistics"), [({"conv.weight", "head.weight"}, False), ({"norm.weight", "head.bias"}, True)]
)
def test_some_parameters_alone_train(trainable: set[str], statistics: bool) -> None:
    """A BatchNorm whose parameters are frozen keeps its statistics too."""
    net = classifier("batch_norm")
    before = take_weights(net.net)
    train(net, Training(examples(), WHOLE, PLAIN, seed=0, trainable=frozenset(trainable)))
    after = take_weights(net.net)
    moving = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"} if statistics else set()
    assert {name for name in after if not torch.equal(before[name], after[name])} == trainable | moving


# -- checkpoints -------------------------------------------------------------------------------------------------------


class Kept:
    """A checkpoint in memory that keeps the state of every epoch."""

    def __init__(self, start: dict[str, Any] | None = None) -> None:
        self.start, self.states = start, []  # type: ignore[var-annotated]

    def load(self) -> dict[str, Any] | None:
        return copy.deepcopy(self.start)

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        self.states.append(copy.deepcopy(state()))


@pytest.mark.parametrize("change", [{}, {"optimizer": "adamw", "lr": 0.003}, {"steps": 14}])
@pytest.mark.parametrize("family", ["dropout", "vit"])
def test_resumed_from_every_epoch_equals_uninterrupted(family: str, change: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(PLAIN.model_dump() | {"epochs": 4} | change)
    net, kept = classifier(family), Kept()
    expected = train(net, Training(examples(), WHOLE, recipe, seed=1), checkpoint=kept)
    assert len(kept.states) == 3
    for state in kept.states:
        again = classifier(family, seed=9)  # whose own weights do not matter
        outcome = train(again, Training(examples(), WHOLE, recipe, seed=1), checkpoint=Kept(state))
        assert outcome == expected
        assert same_weights(take_weights(again.net), take_weights(net.net))


def test_a_probe_resumes_too() -> None:
    net, kept = classifier("dropout"), Kept()
    train(net, Training(examples(), WHOLE, PLAIN, seed=1, trainable=net.head_parameters), checkpoint=kept)
    again = classifier("dropout")
    train(
        again,
        Training(examples(), WHOLE, PLAIN, seed=1, trainable=again.head_parameters),
        checkpoint=Kept(kept.states[0]),
    )
    assert same_weights(take_weights(again.net), take_weights(net.net))


def test_a_checkpoint_file_gives_back_what_it_was_given(tmp_path: Any) -> None:
    file = FileCheckpoint(tmp_path / "a" / "b.pt", seconds=0)
    assert file.load() is None
    net, kept = classifier("dropout"), Kept()
    train(net, Training(examples(), WHOLE, PLAIN, seed=1), checkpoint=kept)
    file.save(lambda: kept.states[0])
    again = classifier("dropout")
    outcome = train(again, Training(examples(), WHOLE, PLAIN, seed=1), checkpoint=file)
    assert len(outcome.losses) == PLAIN.epochs
    assert same_weights(take_weights(again.net), take_weights(net.net))


def test_a_checkpoint_is_not_written_more_often_than_asked(tmp_path: Any) -> None:
    file = FileCheckpoint(tmp_path / "b.pt", seconds=100)
    file.save(lambda: pytest.fail("too early"))
    assert not (tmp_path / "b.pt").exists()


# -- divergence and precision ------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    with pytest.raises(StepError, match=r"diverged: the loss is no longer finite after epoch 1"):
        train(
            classifier("resnet"),
            Training(examples(), WHOLE, PLAIN, seed=0, penalty=lambda net, logits, rows: logits.sum() * math.nan),
        )


@pytest.mark.parametrize(("lr", "epochs", "diverged"), [(0.01, 3, False), (1.0, 3, True), (3.0, 1, True)])
def test_finite_divergence_is_flagged(lr: float, epochs: int, diverged: bool) -> None:
    recipe = Recipe(epochs=epochs, batch_size=6, lr=lr)
    outcome = train(classifier("vit"), Training(examples(), WHOLE, recipe, seed=0))
    assert math.isfinite(outcome.losses[-1])
    assert outcome.diverged == diverged


def test_a_pretrained_model_that_begins_badly_has_not_diverged() -> None:
    """A high loss that falls is no divergence."""
    net = classifier("resnet")
    with torch.no_grad():
        net.net.get_parameter("head.weight").mul_(60)
    outcome = train(net, Training(examples(), WHOLE, Recipe(epochs=2, batch_size=6, lr=1e-5), seed=0))
    assert outcome.losses[0] > 3 * math.log(4)
    assert not outcome.diverged


def test_logits_of_a_whole_set_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are judged some batches at a time, and what is said is the same."""
    net, seen = classifier("resnet"), examples(23)
    whole = predict(net, seen, WHOLE, batch_size=3)
    features = predicting.collect(net, net.features, seen, 3)
    held: list[int] = []
    judge = predicting.judge

    def counted(logits: Tensor, labels: Tensor, label_map: LabelMap) -> predicting.Predictions:
        held.append(len(logits))
        return judge(logits, labels, label_map)

    monkeypatch.setattr(predicting, "judge", counted)
    monkeypatch.setattr(predicting, "JUDGED", 2)
    for known in (None, features):
        found = predict(net, seen, WHOLE, batch_size=3, features=known)
        for name, values in vars(whole).items():
            assert np.array_equal(getattr(found, name), values), name
            assert getattr(found, name).dtype == values.dtype
    assert held == [6, 6, 6, 5] * 2


def test_the_penalty_is_added_and_told_the_batch() -> None:
    seen: list[Tensor] = []

    def spy(net: nn.Module, logits: Tensor, rows: Tensor) -> Tensor:
        assert logits.shape == (len(rows), 3)
        seen.append(rows)
        return 0.0 * logits.sum()

    net, bare = classifier("resnet"), classifier("resnet")
    pool = examples(23, 3)
    train(net, Training(pool, PART, PLAIN, seed=0, penalty=spy))
    train(bare, Training(pool, PART, PLAIN, seed=0))
    assert all(
        torch.allclose(a, b, atol=1e-6)
        for a, b in zip(net.net.state_dict().values(), bare.net.state_dict().values(), strict=True)
    )
    epochs = [sorted(torch.cat(seen[start : start + 4]).tolist()) for start in (0, 4, 8)]
    assert epochs == [list(range(23))] * 3
    assert not torch.equal(seen[0], seen[4])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_and_keeps_its_weights_in_float32(precision: str) -> None:
    full, mixed = classifier("resnet"), classifier("resnet")
    recipe = PLAIN.model_copy(update={"precision": precision})
    expected = train(full, Training(examples(), WHOLE, PLAIN, seed=0))
    outcome = train(mixed, Training(examples(), WHOLE, recipe, seed=0))
    assert outcome.losses == pytest.approx(expected.losses, rel=0.05)
    assert outcome.losses != expected.losses
    assert {tensor.dtype for tensor in mixed.net.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_pull_trains_as_its_term_in_the_loss_would(precision: str) -> None:
    """With fp16 the gradients are scaled when the pull is added, which must not be scaled with them."""
    pulled, taught = classifier("resnet"), classifier("resnet")
    anchor = {name: value.detach() + 0.05 for name, value in pulled.net.named_parameters()}
    recipe = PLAIN.model_copy(update={"precision": precision})

    def term(net: nn.Module, logits: Tensor, rows: Tensor) -> Tensor:
        return (
            0.5 * torch.stack([(value - anchor[name]).square().sum() for name, value in net.named_parameters()]).sum()
        )

    train(pulled, Training(examples(), WHOLE, recipe, seed=0, pull=Pull(0.5, anchor)))
    train(taught, Training(examples(), WHOLE, recipe, seed=0, penalty=term))
    for one, other in zip(pulled.net.parameters(), taught.net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 if precision == "fp32" else 2e-3)


# -- partly frozen -----------------------------------------------------------------------------------------------------


def test_training_through_a_frozen_group_norm_equals_planes() -> None:
    """Biases alone train through GroupNorm with its weight frozen; torch 2.13 crashes there on NHWC pixels."""
    data, label_map = examples(24), LabelMap("all", ((0,), (1,), (2,), (3,)), 4)
    model = Classifier(small_resnet(4, width=8), 4, (0.5,) * 3, (0.5,) * 3)
    biases = frozenset(name for name, _ in model.net.named_parameters() if name.endswith("bias"))
    before = take_weights(model.net)
    train(model, Training(data, label_map, Recipe(epochs=1, batch_size=8, lr=0.01), seed=0, trainable=biases))
    after = take_weights(model.net)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert changed <= biases


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Graphs that torch.compile hands over; they are run as they are."""
    handed: list[Any] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        handed.append(graph)
        return graph.forward

    monkeypatch.setattr(compiled, "BACKEND", backend)
    return handed


@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_a_compiled_net_trains_as_it_would(family: str, graphs: list[Any], tmp_path: Any) -> None:
    recipe = PLAIN.model_copy(update={"compile": "default"})
    plain, net = classifier(family), classifier(family)
    train(plain, Training(examples(), WHOLE, PLAIN, seed=0))
    names = list(net.net.state_dict())
    train(net, Training(examples(), WHOLE, recipe, seed=0))
    assert len(graphs) == 2  # a whole batch, and the smaller last one
    assert same_weights(take_weights(net.net), take_weights(plain.net))
    assert list(net.net.state_dict()) == names
    predict(net, examples(), WHOLE, batch_size=3)
    assert len(graphs) == 2


def test_a_head_alone_is_not_compiled(graphs: list[Any]) -> None:
    net = classifier("resnet")
    recipe = PLAIN.model_copy(update={"compile": "default"})
    train(net, Training(examples(), WHOLE, recipe, seed=0, trainable=net.head_parameters))
    assert not graphs


def test_a_net_that_cannot_be_compiled_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(*_: Any) -> Any:
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(compiled, "BACKEND", backend)
    net = classifier("resnet")
    with pytest.raises(StepError, match=r"(?s)cannot be compiled here \(.*no compiler found.*leave `compile` out"):
        train(net, Training(examples(), WHOLE, PLAIN.model_copy(update={"compile": "default"}), seed=0))
    predict(net, examples(), WHOLE, batch_size=3)


@pytest.mark.parametrize(
    ("losses", "first_batch", "classes", "diverged"),
    [
        ((2.3, 2.5), 2.3, 10, False),  # below 1.1 ln 10
        ((2.3, 2.6), 2.3, 10, True),
        ((4.0, 4.3), 4.0, 10, False),  # below 1.1 of the first epoch
        ((9.0, 7.5), 2.0, 10, True),  # above three times the first batch
        ((2.57, 2.89), 2.6, None, False),  # SimCLR on nine images, rate 0.003
        ((4.04, 4.53), 4.1, None, False),  # SimCLR on 24 images, rate 0.0001
        ((2.0, 6.1), 1.9, None, True),
        ((-0.4, -0.3), -0.1, None, False),  # an objective may be negative
        ((-0.4, 1.3), -0.1, None, True),
    ],
)
def test_what_counts_as_divergence(
    losses: tuple[float, ...], first_batch: float, classes: int | None, diverged: bool
) -> None:
    assert is_diverged(losses, first_batch, classes) == diverged
