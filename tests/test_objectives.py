"""Pretraining objectives: the named losses against plain loops, the stages that follow, and their resumption."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import WHOLE, classifier, document, examples, same_weights
from rib.errors import StepError, UserError
from rib.methods import Passes
from rib.models.weights import take_weights
from rib.objectives import OBJECTIVES
from rib.objectives.augment import LUMA, Augmentation
from rib.objectives.simclr import nt_xent
from rib.objectives.unicl import UniCL, bidirectional
from rib.plan import make_plan
from rib.recipe import Recipe
from rib.steps import How, Pretrain, Workshop
from rib.store.store import Store
from rib.suite.load import parse_suite
from rib.training.loop import train
from rib.training.pretrain import pretrain
from rib.training.training import Training

OF_IMAGES = sorted(set(OBJECTIVES.classes) - {"masked", "next"})
"""Those of text are tested in tests/test_texts.py."""

RECIPE = Recipe(epochs=3, batch_size=6, optimizer="adamw", lr=0.01, weight_decay=0.01)


# -- the losses, written out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_is_the_published_loss(temperature: float) -> None:
    """Equation 1 and algorithm 1 of arXiv 2002.05709, view by view."""
    views = torch.randn(10, 4, generator=torch.Generator().manual_seed(1))
    similarity = [[float(F.cosine_similarity(a, b, dim=0)) / temperature for b in views] for a in views]
    losses, found = [], 0
    for i in range(10):
        match = (i + 5) % 10
        others = {k: similarity[i][k] for k in range(10) if k != i}
        losses.append(-math.log(math.exp(others[match]) / sum(map(math.exp, others.values()))))
        found += max(others, key=others.__getitem__) == match
    loss, right = nt_xent(views, temperature)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(right) == found / 2


def test_the_bidirectional_loss_is_the_published_one() -> None:
    """Equations 3 and 4 of arXiv 2204.03610, pair by pair; with labels all different, CLIP's."""
    logits = 3 * torch.randn(6, 6, generator=torch.Generator().manual_seed(2))
    labels = [2, 0, 2, 1, 0, 2]
    total = 0.0
    for table in (logits.tolist(), logits.T.tolist()):
        for i, row in enumerate(table):
            positives = [k for k in range(6) if labels[k] == labels[i]]
            total -= sum(math.log(math.exp(row[k]) / sum(map(math.exp, row))) for k in positives) / len(positives)
    assert float(bidirectional(logits, torch.tensor(labels))) == pytest.approx(total / 6 / 2, rel=1e-5)
    order = torch.arange(6)
    clip = (F.cross_entropy(logits, order) + F.cross_entropy(logits.T, order)) / 2
    assert float(bidirectional(logits, order)) == pytest.approx(float(clip), rel=1e-5)


def test_unicl_multiplies_cosines_by_a_learned_scale_of_at_most_a_hundred() -> None:
    loss = UniCL(dimensions=3).loss(5, 4)
    features, labels = torch.randn(7, 5), torch.arange(7) % 4
    images = torch.zeros(7, 2, 2, 3, dtype=torch.uint8)
    for log_scale in (-math.log(0.07), math.log(500)):
        loss.get_parameter("log_scale").data.fill_(log_scale)
        shown = features @ loss.get_parameter("projection.weight").detach().T
        names = loss.get_parameter("names").detach()
        cosines = torch.stack([F.cosine_similarity(shown, names[label][None]) for label in labels], dim=1)
        got, right = loss(lambda images: features, images, labels)
        own = torch.stack([F.cosine_similarity(shown, name[None]) for name in names], dim=1)
        assert int(right) == int((own.argmax(dim=1) == labels).sum())
        expected = bidirectional(min(math.exp(log_scale), 100.0) * cosines, labels)
        assert float(got.detach()) == pytest.approx(float(expected), rel=1e-4)


# -- augmentation ------------------------------------------------------------------------------------------------------

STILL = Augmentation.model_validate(dict.fromkeys(Augmentation.model_fields, 0.0))
SLIGHT = STILL.model_copy(update={"brightness": 0.1, "contrast": 0.2, "noise": 0.05})


def test_a_view_without_amounts_is_the_image() -> None:
    images = torch.from_numpy(np.array(examples(5).images))
    torch.testing.assert_close(STILL(images), images.float(), rtol=0, atol=0.01)


@pytest.mark.parametrize("field", Augmentation.model_fields)
def test_every_amount_changes_a_view(field: str) -> None:
    images = torch.from_numpy(np.array(examples(30).images))
    amount = Augmentation.model_fields[field].default
    view = STILL.model_copy(update={field: amount})
    torch.manual_seed(3)
    seen = view(images)
    assert seen.shape == images.shape
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 255
    assert not torch.allclose(seen, images.float(), atol=1)
    torch.manual_seed(3)
    assert torch.equal(view(images), seen)


def test_geometry_moves_the_image_as_it_says() -> None:
    image = torch.zeros(1, 9, 9, 3, dtype=torch.uint8)
    image[0, 2, 4] = 255  # above the centre
    torch.manual_seed(0)
    turned = Augmentation.model_validate(STILL.model_dump() | {"rotation": 180.0})
    spots = torch.stack([turned(image)[0, :, :, 0].flatten().argmax() for _ in range(40)])
    distance = ((spots // 9 - 4) ** 2 + (spots % 9 - 4) ** 2).float().sqrt()
    assert len(set(spots.tolist())) > 5  # all round the centre, at the same distance from it
    assert float((distance - 2).abs().max()) < 0.9


def test_grey_and_inversion_are_what_they_say() -> None:
    images = torch.randint(0, 256, (4, 5, 5, 3), dtype=torch.uint8)
    grey = STILL.model_copy(update={"grey": 1.0})(images)
    luma = (images.float() * torch.tensor(LUMA)).sum(dim=3)
    torch.testing.assert_close(grey, luma[..., None].expand(-1, -1, -1, 3), rtol=0, atol=0.01)
    inverted = STILL.model_copy(update={"inversion": 1.0})(images)
    torch.testing.assert_close(inverted, 255 - images.float(), rtol=0, atol=0.01)


# -- training ----------------------------------------------------------------------------------------------------------


class Kept:
    """A checkpoint in memory that keeps every state."""

    def __init__(self, start: dict[str, Any] | None = None) -> None:
        self.start = start
        self.states: list[dict[str, Any]] = []

    def load(self) -> dict[str, Any] | None:
        return copy.deepcopy(self.start)

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        self.states.append(copy.deepcopy(state()))


def trained(kind: str, family: str, kept: Kept, seed: int = 0) -> tuple[dict[str, Tensor], Any]:
    """Three stages: the objective, the head, the whole net."""
    net = classifier(family, seed)
    options = {"augmentation": SLIGHT} if kind in OF_IMAGES else {}
    objective = cast(Any, OBJECTIVES.find(kind))(**options).drawn(net, 4, seed=1)
    few = examples(20, family=family)
    stages = [
        Training(examples(family=family), WHOLE, RECIPE, 1, objective=objective),
        Training(few, WHOLE, RECIPE, 1, trainable=net.head_parameters),
        Training(few, WHOLE, RECIPE, 1),
    ]
    outcome = pretrain(net, stages, kept, lambda images: None)
    return take_weights(net.net), outcome


def test_images_of_a_head_alone_are_counted_once() -> None:
    """As the plan counts them: their features are computed once, however many epochs follow."""
    net, few, seen = classifier("resnet"), examples(20), list[int]()
    head = Training(few, WHOLE, RECIPE, 1, trainable=net.head_parameters)
    kept = Kept()
    pretrain(net, [head], kept, seen.append)
    assert sum(seen) == 20
    pretrain(net, [head, Training(few, WHOLE, RECIPE, 1)], kept, seen.append)
    assert sum(seen) == 20 + 20 + RECIPE.images(20)
    resumed = list[int]()
    state = kept.states[-1]
    assert state["stage"] == 1
    pretrain(classifier("resnet"), [head, Training(few, WHOLE, RECIPE, 1)], Kept(state), resumed.append)
    assert sum(resumed) == 20 + RECIPE.images(20)


NETS = [*itertools.product(OF_IMAGES, ("dropout", "resnet")), ("masked", "text"), ("next", "causal")]
"""Objectives, each with nets that it trains."""


@pytest.mark.parametrize(("kind", "family"), NETS)
def test_resumed_from_every_checkpoint_of_every_stage_equals_uninterrupted(kind: str, family: str) -> None:
    kept = Kept()
    expected, outcome = trained(kind, family, kept)
    assert [(state.get("stage"), state["epoch"]) for state in kept.states] == [
        (stage, epoch) for stage in (0, 1, 2) for epoch in (1, 2)
    ]
    assert all(("objective" in state) == (state["stage"] == 0) for state in kept.states)
    for state in kept.states:
        weights, again = trained(kind, family, Kept(state), seed=7)  # whose own weights do not matter
        assert again == outcome
        assert same_weights(weights, expected)


@pytest.mark.parametrize("kind", OF_IMAGES)
def test_an_objective_trains_all_but_the_head_and_leaves_the_global_state_alone(kind: str) -> None:
    net = classifier("resnet")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    objective = cast(Any, OBJECTIVES.find(kind))(augmentation=SLIGHT).drawn(net, 4, seed=0)
    drawn = take_weights(objective)
    before = take_weights(net.net)
    outcome = train(net, Training(examples(), WHOLE, RECIPE, seed=0, objective=objective))
    assert torch.equal(state, torch.get_rng_state())
    assert outcome.losses[-1] < outcome.losses[0]
    assert not outcome.diverged
    after = take_weights(net.net)
    assert {name for name in after if torch.equal(before[name], after[name])} == net.head_parameters
    assert all(not torch.equal(drawn[name], tensor) for name, tensor in take_weights(objective).items())


def test_simclr_does_not_look_at_labels() -> None:
    nets = [classifier("resnet"), classifier("resnet")]
    for net, count in zip(nets, (4, 2), strict=True):
        pool = examples(23)
        pool.labels[:] = pool.labels % count
        train(net, Training(pool, WHOLE, RECIPE, seed=0, objective=OBJECTIVES.find("simclr")().drawn(net, 4, 0)))
    assert same_weights(take_weights(nets[0].net), take_weights(nets[1].net))


def test_an_objective_that_grows_has_diverged() -> None:
    net = classifier("resnet")
    stages = [
        Training(examples(), WHOLE, Recipe(epochs=3, batch_size=6, lr=1e9), 1, objective=UniCL().drawn(net, 4, 0)),
        Training(examples(), WHOLE, RECIPE, 1),
    ]
    with pytest.raises(StepError, match="training diverged"):
        pretrain(net, stages, Kept(), lambda images: None)


# -- from a suite to weights -------------------------------------------------------------------------------------------

SHORT = {"epochs": 2, "batch_size": 5, "lr": 0.01}
STAGES = {"probe": SHORT, "finetune": SHORT}


def pretrained(folder: Path, **pretrain: Any) -> dict[str, Any]:
    """A suite whose model is made from scratch, and nothing tuned."""
    made = document(folder, runs=[])
    made["model"]["resnet"].pop("weights")
    made["model"]["resnet"]["pretrain"] = {"data": "whole", "recipe": SHORT} | pretrain
    return made


def step_of(made: dict[str, Any], folder: Path) -> Pretrain:
    plan = make_plan(parse_suite(made).based_at(folder))
    return next(step for step in plan.steps if isinstance(step, Pretrain))


@pytest.mark.parametrize("objective", [*OF_IMAGES, None])
def test_a_suite_pretrains_and_brings_the_model_to_the_reference_set(tmp_path: Path, objective: str | None) -> None:
    words = {"objective": objective} if objective else {}
    made = pretrained(tmp_path, reference=STAGES, **words)
    suite = parse_suite(made).based_at(tmp_path)
    store = Store(tmp_path / "store")
    plan = make_plan(suite, store.facts)
    step = next(step for step in plan.steps if isinstance(step, Pretrain))
    assert step.reference is not None
    assert step.reference.data.name == "clean"
    views = step.objective.views if step.objective else 1
    # two epochs of 24 images, and two of the whole net; the head's see features that are computed once
    assert plan.passes(step) == Passes(trained=(views + 1) * 2 * 24, seen=24)
    seen: list[int] = []
    Workshop(suite, store, How(workers=1, device="cpu"), lambda images, passes: seen.append(images)).do(step)
    assert sum(seen) == (2 + 1 + 2) * 24  # the head reads each image once, whatever its epochs
    net = classifier("resnet").net
    net.load_state_dict(store.weights(step.key))  # nothing of the objective is in it
    record = store.record(step.key)
    assert record is not None
    assert set(record.values) == {"last_loss", "tuning_accuracy", "chance", "at_chance"}


def test_hyper_parameters_of_an_objective(tmp_path: Path) -> None:
    table = {"kind": "simclr", "temperature": 0.2, "augmentation": {"grey": 1.0}}
    step = step_of(pretrained(tmp_path, objective=table, reference=STAGES), tmp_path)
    assert step.objective == OBJECTIVES.find("simclr").model_validate(
        {"temperature": 0.2, "augmentation": {"grey": 1.0}}
    )


@pytest.mark.parametrize(
    ("pretrain", "texts"),
    [
        ({"objective": "simcrl", "reference": STAGES}, ["unknown objective 'simcrl'", "did you mean 'simclr'?"]),
        ({"objective": {"temperature": 1}, "reference": STAGES}, ["no `kind`", "simclr, masked, next, unicl"]),
        (
            {"objective": {"kind": "simclr", "temprature": 1}, "reference": STAGES},
            ["model 'resnet': objective", "unknown key 'temprature'", "did you mean 'temperature'?"],
        ),
        (
            {"objective": {"kind": "simclr", "augmentation": {"gray": 1}}, "reference": STAGES},
            ["unknown key 'augmentation.gray'", "did you mean 'grey'?"],
        ),
        ({"objective": {"kind": "simclr", "temperature": 0}, "reference": STAGES}, ["temperature", "greater than 0"]),
        ({"objective": "simclr"}, ["trains no head", "`reference`"]),
        ({"reference": {"probe": SHORT}}, ["reference.finetune' is missing"]),
        ({"reference": STAGES | {"data": "claen"}}, ["unknown data set 'claen'", "did you mean 'clean'?"]),
        ({"seed": 1, "seeds": [0, 1]}, ["give seed or seeds, not both"]),
        ({"seeds": [0, -1]}, ["pretrain.seeds.1", "greater than or equal to 0"]),
        ({"seeds": [1, 1]}, ["two rows make the model 'resnet_1'"]),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, pretrain: dict[str, Any], texts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        step_of(pretrained(tmp_path, **pretrain), tmp_path)
    for text in texts:
        assert text in str(caught.value)


def test_seeds_make_one_model_each(tmp_path: Path) -> None:
    made = pretrained(tmp_path, seeds=[0, 2]) | {"models": ["resnet", "resnet_2"]}
    suite = parse_suite(made).based_at(tmp_path)
    assert list(suite.model) == ["resnet", "resnet_2"]
    steps = [step for step in make_plan(suite).steps if isinstance(step, Pretrain)]
    assert [(step.model, step.seed) for step in steps] == [("resnet", 0), ("resnet_2", 2)]
    assert steps[0].key == step_of(pretrained(tmp_path), tmp_path).key
    assert parse_suite(suite.model_dump(exclude_unset=True)).model == suite.model
