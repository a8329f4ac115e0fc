"""Methods that look at features, take a second pass, replay reference images or learn from a teacher: plain loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import beta as beta_distribution
from torch import Tensor, nn

from helpers import WHOLE, classifier, document, examples, tiny
from plain_loop import RECIPE, close, fitted, method, plain
from rib.data.splits import named_generator
from rib.errors import UserError
from rib.methods.sam import climb
from rib.methods.tpgm import projected, row_norms
from rib.models.classifier import Classifier
from rib.models.weights import take_weights
from rib.plan import make_plan
from rib.suite.load import parse_suite
from rib.training.hooks import Replayed
from test_methods import make_task

# -- LDIFS -------------------------------------------------------------------------------------------------------------


def blocks_by_hand(net: Classifier, images: Tensor) -> Tensor:
    """Stem, both blocks and what the head sees of the small residual net, each averaged over its places."""
    inner: Any = net.net
    x = net.prepared(images)
    stem = F.relu(inner.norm(inner.stem(x)))
    first = inner.blocks[0](stem)
    second = inner.blocks[1](first)
    means = [output.mean(dim=(2, 3)) for output in (inner.norm(inner.stem(x)), first, second)]
    return torch.cat([*means, second.mean(dim=(2, 3))], dim=1)


def test_ldifs_is_the_distance_of_features() -> None:
    start = classifier("resnet").eval()

    def term(net: Classifier, images: Tensor, rows: Any, logits: Tensor) -> Tensor:
        with torch.no_grad():
            before = blocks_by_hand(start, images)
        return 0.3 * (blocks_by_hand(net, images) - before).square().sum(dim=1).mean()

    close(fitted(method("ldifs", weight=0.3)), plain(term=term))
    close(fitted(method("ldifs", weight=0.0)), plain(), 1e-6)


# -- SAM and ASAM ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sam", "asam"])
def test_the_gradient_is_taken_at_the_worst_weights_nearby(name: str) -> None:
    rho, eta = (0.2, None) if name == "sam" else (0.4, 0.05)

    def scale(place: str, value: Tensor) -> Tensor:
        return value.abs() + eta if eta and "weight" in place else torch.ones_like(value)

    def again(values: Any, compute: Any) -> None:
        with torch.no_grad():
            before = {place: value.clone() for place, value in values.items()}
            scaled = {place: scale(place, value) * value.grad for place, value in values.items()}
            norm = sum(float(one.square().sum()) for one in scaled.values()) ** 0.5
            for place, value in values.items():
                value += rho * scale(place, value) * scaled[place] / norm
        compute()
        with torch.no_grad():
            for place, value in values.items():
                value.copy_(before[place])

    fields = {"rho": rho} | ({"eta": eta} if eta else {})
    close(fitted(method(name, **fields)), plain(again=again))


def test_sam_climbs_along_the_gradient_by_rho() -> None:
    """By hand: g = (3, 4) of a weight and a bias; ASAM's T is |θ| + η of the weight, 1 of the bias."""
    net = nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(2.0)
        net.bias.fill_(1.0)
    net.weight.grad, net.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
    back = climb(net, 0.5, None)
    assert (net.weight.item(), net.bias.item()) == pytest.approx((2.3, 1.4))
    back()
    assert (net.weight.item(), net.bias.item()) == (2.0, 1.0)
    climb(net, 0.5, 0.5)  # T g = (7.5, 4), of norm 8.5
    assert (net.weight.item(), net.bias.item()) == pytest.approx((2 + 0.5 * 2.5 * 7.5 / 8.5, 1 + 0.5 * 4 / 8.5))


def test_statistics_are_those_of_the_first_pass() -> None:
    """With a step that does not move, two passes leave the statistics that one leaves."""
    recipe = RECIPE.model_copy(update={"lr": 1e-12})
    once, twice = (fitted(method(name), "batch_norm", recipe) for name in ("finetune", "sam"))
    assert torch.allclose(once["norm.running_mean"], twice["norm.running_mean"])
    assert once["norm.num_batches_tracked"] == twice["norm.num_batches_tracked"] == 12


# -- replay ------------------------------------------------------------------------------------------------------------


def test_replay_adds_reference_images_to_every_batch() -> None:
    """A quarter of each batch: of 4, 4 and 2 tuning images there are 1, 1 and then 1 image, or none, beside them."""
    reference, seen = examples(12, seed=7), 0
    drawn: list[int] = []

    def term(net: Classifier, images: Tensor, rows: Any, logits: Tensor) -> Tensor:
        nonlocal seen
        epoch, first = divmod(seen, 10)
        count = int((seen + len(rows)) / 3 + 1e-9) - int(seen / 3 + 1e-9)
        if first == 0:
            drawn[:] = named_generator("replay", 3, epoch).permutation(12).tolist()
        chosen = np.array([drawn.pop(0) for _ in range(count)], dtype=np.int64)
        seen += len(rows)
        own = F.cross_entropy(logits, torch.from_numpy(examples(10, 3).labels[rows]))
        if not count:
            return 0 * own
        other = F.cross_entropy(net(torch.from_numpy(reference.batch(chosen))), torch.from_numpy(chosen % 4))
        return (len(rows) * own + count * other) / (len(rows) + count) - own

    close(fitted(method("replay", share=0.25)), plain(term=term))
    assert seen == 40


def test_a_hundredth_of_each_batch_is_carried_over() -> None:
    replay = Replayed(examples(12, seed=7), WHOLE, 0.01, 0)
    sizes = [4, 4, 2] * 20
    before, counts = 0, []
    for epoch in range(20):
        some = sizes[3 * epoch : 3 * epoch + 3]
        counts += [len(batch.labels) for batch in replay.batches(before, some, epoch, torch.device("cpu"))]
        before += sum(some)
    assert sum(counts) == 2  # 200 tuning images / 99
    assert max(counts) == 1


def test_replay_is_refused_where_the_reference_set_is_scored_whole(tmp_path: Path) -> None:
    fields = document(tmp_path, runs=[{"methods": ["replay"]}])
    del fields["data"]["clean"]["test_fraction"]
    with pytest.raises(UserError, match="all of them are scored") as error:
        make_plan(parse_suite(fields).based_at(tmp_path))
    assert "leave replay out" in str(error.value)


def test_replay_is_refused_where_another_set_is_scored_on_its_images(tmp_path: Path) -> None:
    fields = document(tmp_path, runs=[{"methods": ["replay"]}])
    with np.load(tmp_path / "clean.npz") as clean:
        np.savez(tmp_path / "copy.npz", **{name: clean[name] for name in clean})
    fields["data"]["copy"] = {"arrays": "copy.npz"}
    fields["evaluate"] = ["copy"]
    with pytest.raises(UserError, match="'copy' is scored on 24 of them"):
        make_plan(parse_suite(fields).based_at(tmp_path))


def test_replay_draws_from_the_training_part_alone(tmp_path: Path) -> None:
    plan = make_plan(tiny(tmp_path, runs=[{"methods": ["replay", "finetune"]}]))
    fits = {run.method: run.fit for run in plan.runs if run.tuned_on == "part"}
    assert fits["replay"].replay is not None
    assert (fits["replay"].replay.name, fits["replay"].replay.part) == ("clean", "tune")
    assert fits["finetune"].replay is None
    other = replace(fits["replay"], replay=replace(fits["replay"].replay, fingerprint="other"))
    assert other.key != fits["replay"].key


# -- a teacher that is an average of the weights -----------------------------------------------------------------------


def test_the_teacher_is_a_weighted_mean_of_all_weights() -> None:
    start = take_weights(classifier("resnet").net)
    weights = beta_distribution.pdf((np.arange(13) + 0.5) / 13, 0.5, 0.5)
    path = [start]

    def after(step: int, now: Any, before: Any, slopes: Any) -> None:
        path.append({name: value.clone() for name, value in now.items()})

    def term(net: Classifier, images: Tensor, rows: Any, logits: Tensor) -> Tensor:
        share = weights[: len(path)] / weights[: len(path)].sum()
        teacher = classifier("resnet")
        mean = {name: sum(float(w) * one[name] for w, one in zip(share, path, strict=True)) for name in start}
        teacher.net.load_state_dict(mean)
        with torch.no_grad():
            target = (teacher.eval()(images)[:, [3, 1, 0]] / 2).softmax(dim=1)
        return 1.5 * (target * (target.log() - (logits / 2).log_softmax(dim=1))).sum(dim=1).mean()

    close(fitted(method("wma_teacher", weight=1.5)), plain(after, term=term))
    task, _ = make_task("resnet")
    assert method("wma_teacher").passes(RECIPE, 10, 0).seen == 40
    assert method("wma_teacher", weight=0.0).passes(task.recipe, 10, 0).trained == 20


# -- TPGM --------------------------------------------------------------------------------------------------------------


def test_tpgm_learns_radii_on_held_out_images() -> None:
    """A plain loop: the same batches, the projection by hand, Adam by torch."""
    task, notes = make_task("resnet")
    task = replace(task, recipe=RECIPE.model_copy(update={"batch_size": 16}))
    start, tuned = take_weights(classifier("resnet").net), take_weights(classifier("resnet", 1).net)
    found = method("tpgm", steps=5, rate=0.02).fit(start, task, [tuned])
    net, pool = classifier("resnet").eval(), task.held_out
    delta = {name: tuned[name] - start[name] for name, _ in net.net.named_parameters()}
    size = {
        name: d.abs().flatten(1).sum(1).view(-1, *[1] * (d.dim() - 1)) if d.dim() > 1 else d.abs()
        for name, d in delta.items()
    }
    gamma = {name: (one.min() / 2).clamp(min=1e-8).requires_grad_() for name, one in size.items()}
    adam = torch.optim.Adam(gamma.values(), lr=0.02)

    def weights() -> dict[str, Tensor]:
        return {n: start[n] + (gamma[n] / (size[n] + 1e-8)).clamp(max=1) * delta[n] for n in delta}

    orders = [named_generator("tpgm", 3, turn).permutation(40) for turn in range(3)]
    for rows in [order[first : first + 16] for order in orders for first in (0, 16)][:5]:
        logits = torch.func.functional_call(net.net, weights(), (net.prepared(torch.from_numpy(pool.batch(rows))),))
        adam.zero_grad()
        F.cross_entropy(logits[:, [3, 1, 0]], torch.from_numpy(pool.labels[rows])).backward()
        adam.step()
        with torch.no_grad():
            for name, radius in gamma.items():
                radius.copy_(radius.clamp(1e-8, float(size[name].max()) + 1e-8))
    close(found, {name: value.detach() for name, value in weights().items()})
    assert notes["first_held_out_loss"] != notes["last_held_out_loss"]


def test_a_projection_by_hand() -> None:
    """Rows of length 0.4 and 0.002 in a ball of radius 0.1: the first is drawn in, the second lies within."""
    away = {"w": torch.tensor([[0.3, -0.1], [0.0, 0.002]]), "b": torch.tensor([0.5, -0.05])}
    anchor = {name: torch.ones_like(value) for name, value in away.items()}
    norms = {name: row_norms(value) for name, value in away.items()}
    found = projected(anchor, away, norms, {name: torch.tensor(0.1) for name in away})
    torch.testing.assert_close(found["w"], torch.tensor([[1.075, 0.975], [1.0, 1.002]]))
    torch.testing.assert_close(found["b"], torch.tensor([1.1, 0.95]))
