"""Hooks of a training: each method that uses one, against a plain loop, and resumed bit for bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rib
from helpers import classifier, same_weights
from plain_loop import RECIPE, Kept, close, fitted, method, plain
from rib.cli.listing import list_methods
from rib.methods import METHODS
from rib.methods.base import TrainedMethod
from rib.models.weights import take_weights
from rib.steps import How
from rib.training.schedule import rate
from test_methods import of_methods

# -- resumed -----------------------------------------------------------------------------------------------------------


TRAINED = sorted(name for name, kind in METHODS.classes.items() if issubclass(kind, TrainedMethod))


@pytest.mark.parametrize("name", TRAINED)
def test_resumed_equals_uninterrupted(name: str) -> None:
    """Killed after a random epoch; dropout and BatchNorm included."""
    family = "resnet" if name == "llrd" else "dropout"  # the latter has no blocks
    expected = fitted(method(name), family)
    first = Kept(int(np.random.default_rng(len(name)).integers(1, RECIPE.epochs)))
    with pytest.raises(InterruptedError):
        fitted(method(name), family, checkpoint=first)
    assert same_weights(fitted(method(name), family, checkpoint=Kept(None, first.state)), expected)
    if name not in ("finetune", "curriculum", "lp_ft"):  # the last, without its ingredient
        assert not same_weights(expected, fitted(method("finetune"), family))


# -- against plain loops -----------------------------------------------------------------------------------------------


def test_the_plain_loop_is_fine_tuning() -> None:
    close(fitted(method("finetune")), plain(), 1e-6)


def test_ema_is_the_moving_average_of_the_weights() -> None:
    average = {name: value.clone() for name, value in classifier("resnet").net.state_dict().items()}

    def after(step: int, now: Any, before: Any, slopes: Any) -> None:
        for name, value in now.items():
            average[name] = 0.8 * average[name] + 0.2 * value

    plain(after)
    close(fitted(method("ema", decay=0.8)), average)


def test_swa_is_the_mean_of_the_last_weights_at_a_rate_that_stays() -> None:
    seen: list[dict[str, Tensor]] = []

    def after(step: int, now: Any, before: Any, slopes: Any) -> None:
        if step in (7, 9, 11):  # of 12 steps: half, then cycles of 2
            seen.append({name: value.clone() for name, value in now.items()})

    plain(after, rates=lambda step, total: rate(min(step, 6), 0, total))
    average = {name: torch.stack([one[name] for one in seen]).mean(0) for name in seen[0]}
    close(fitted(method("swa", begin=0.5, cycle=2)), average)


def test_swa_estimates_the_statistics_of_batch_norm_again() -> None:
    found = fitted(method("swa"), "batch_norm")
    assert int(found["norm.num_batches_tracked"]) == 3  # one pass over ten images in batches of four
    frozen = fitted(method("swa"), "batch_norm", recipe=RECIPE.model_copy(update={"batchnorm": "freeze"}))
    assert torch.equal(frozen["norm.running_mean"], take_weights(classifier("batch_norm").net)["norm.running_mean"])


def test_spd_pulls_back_where_momentum_goes_on_against_the_gradient() -> None:
    start = take_weights(classifier("resnet").net)
    chosen = 0

    def after(step: int, now: Any, before: Any, slopes: Any) -> None:
        nonlocal chosen
        for name, value in now.items():
            was, away = before[name] - start[name], value - start[name]
            if float((slopes[name] * was).sum()) > 0 and away.norm() > was.norm():
                value -= 0.6 * (away.norm() - was.norm()) / away.norm() * away
                chosen += 1

    expected = plain(after)
    assert chosen > 5
    close(fitted(method("spd", strength=0.6)), expected)
    assert same_weights(fitted(method("spd", strength=0.0)), fitted(method("finetune")))


def test_spd_projects_to_the_distance_before() -> None:
    """By hand: θ0 = 0, θ = (3, 4), the gradient points back, the step goes to (6, 8): back to distance 5."""
    from rib.methods.spd import SelectiveDecay

    net = nn.Linear(2, 1, bias=False)
    hook = SelectiveDecay(1.0, {"weight": torch.zeros(1, 2)})
    with torch.no_grad():
        for slope, expected in (([1.0, 0.0], [3.0, 4.0]), ([-1.0, 0.0], [6.0, 8.0])):
            net.weight.copy_(torch.tensor([[3.0, 4.0]]))
            net.weight.grad = torch.tensor([slope])
            hook.gradients(net, 0)
            net.weight.copy_(torch.tensor([[6.0, 8.0]]))
            hook.weights(net, 0)
            torch.testing.assert_close(net.weight, torch.tensor([expected]))


def test_ftp_by_hand() -> None:
    """Two rows of one tensor, two steps: the radius starts at 1e-8, then takes a step of Adam, 0.01 long at first."""
    from rib.methods.ftp import TrainableProjection

    net = nn.Linear(2, 2, bias=False)
    hook = TrainableProjection({"weight": torch.zeros(2, 2)}, rate=0.01, anneal=1.0)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.3, -0.1], [0.0, 0.002]]))
        net.weight.grad = torch.tensor([[-1.0, 1.0], [-1.0, 0.0]])
        hook.gradients(net, 0)
        hook.weights(net, 0)
        torch.testing.assert_close(net.weight, torch.tensor([[0.75e-8, -0.25e-8], [0.0, 1e-8]]))
        hook.gradients(net, 1)  # slope: (-0.3 - 0.1) / 0.4 + 0 = -1, so the radius grows
        slope, second = 0.1 * -1 / (1 - 0.9**2), 0.001 / (1 - 0.999**2)
        radius = 1e-8 - 0.01 * slope / second**0.5
        net.weight.copy_(torch.tensor([[0.3, -0.1], [0.0, 0.002]]))
        hook.weights(net, 1)
        expected = torch.tensor([[0.75 * radius, -0.25 * radius], [0.0, 0.002]])  # the second row lies within
        torch.testing.assert_close(net.weight, expected, rtol=1e-4, atol=1e-9)


def test_a_radius_never_exceeds_the_largest_row() -> None:
    from rib.methods.ftp import TrainableProjection

    net = nn.Linear(2, 1, bias=False)
    hook = TrainableProjection({"weight": torch.zeros(1, 2)}, rate=10.0, anneal=1.0)
    with torch.no_grad():
        for step in range(3):
            net.weight.copy_(torch.tensor([[0.3, -0.1]]))
            net.weight.grad = torch.tensor([[-1.0, 1.0]])
            hook.gradients(net, step)
            hook.weights(net, step)
    torch.testing.assert_close(hook.state["weight/radius"], torch.tensor(0.4))
    torch.testing.assert_close(net.weight.data, torch.tensor([[0.3, -0.1]]))


def test_digrap_by_hand() -> None:
    """θ - θ0 = (1, 0): a gradient (-2, 3) leads away along it; the next one says that this was wrong, so ω = 0.1 and
    0.1 of it goes; a gradient (2, 3) is no conflict."""
    from rib.methods.digrap import DirectionalProjection

    net = nn.Linear(2, 1, bias=False)
    hook = DirectionalProjection({"weight": torch.zeros(1, 2)}, rate=0.1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0.0]]))
        for slope, expected in (([-2.0, 3.0], [-2.0, 3.0]), ([2.0, 3.0], [2.0, 3.0])):
            net.weight.grad = torch.tensor([slope])
            hook.gradients(net, 0)
            torch.testing.assert_close(net.weight.grad, torch.tensor([expected]))
        assert float(hook.state["weight/share"]) == pytest.approx(0.1, rel=1e-4)  # slope 2 · -2 < 0: one step of Adam
        net.weight.grad = torch.tensor([[-2.0, 3.0]])
        hook.gradients(net, 2)
        omega = float(hook.state["weight/share"])
        assert 0.1 < omega <= 0.2
        torch.testing.assert_close(net.weight.grad, torch.tensor([[-2.0 + omega * 2.0, 3.0]]))


def test_digrap_learns_as_a_plain_loop_does() -> None:
    start = take_weights(classifier("resnet").net)
    state: dict[str, Any] = {}

    def change(step: int, now: Any) -> None:
        for name, value in now.items():
            omega, first, second, component = state.get(name, (0.0, 0.0, 0.0, None))
            if component is not None:
                slope = float((value.grad * component).sum())
                first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
                move = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)) ** 0.5 + 1e-8)
                omega = min(1.0, max(0.0, omega - 0.1 * move))
            away = value - start[name]
            inner, square = float((value.grad * away).sum()), float((away**2).sum())
            component = inner / square * away if inner < 0 else torch.zeros_like(away)
            state[name] = omega, first, second, component
            value.grad -= omega * component

    expected = plain(change=change)
    assert max(one[0] for one in state.values()) > 0.2
    close(fitted(method("digrap")), expected, 1e-4)


# -- the list ----------------------------------------------------------------------------------------------------------


def test_every_method_is_listed_with_source_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    list_methods()
    text = " ".join(capsys.readouterr().out.split())
    listed = {name for name, kind in METHODS.classes.items() if kind.listed}
    assert text.count("cost ") == len(listed)
    assert text.count("arXiv ") >= len(listed) - 3  # pretrained, best_rate and curriculum are of no paper
    for name, words in {
        "sam": "arXiv 2010.01412 · cost 2",
        "replay": "arXiv 1811.11682 · cost 1.11 · needs reference images",
        "vpt": "needs a net of its own; timm's VisionTransformer",
        "greedy_soup": "needs held-out images; the weights of pretrained",
    }.items():
        assert re.search(rf"\b{name} .*{re.escape(words)}", text), name


# -- the page for users ------------------------------------------------------------------------------------------------


def test_the_methods_of_the_page_for_users_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "extending.md").read_text("utf-8")
    (tmp_path / "myhooks.py").write_text("# myhooks.py" + page.partition("# myhooks.py")[2].partition("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    names = re.findall(r"^class (\w+)\(TrainedMethod\)", (tmp_path / "myhooks.py").read_text(), re.MULTILINE)
    assert len(names) == 8
    suite = of_methods(
        tmp_path,
        runs=[{"methods": ["finetune", *(name.lower() for name in names)], "downstream": ["part"]}],
        method={name.lower(): {"kind": f"myhooks:{name}"} for name in names},
    )
    finished = rib.run(suite, store=tmp_path / "store", how=How(workers=1))
    assert finished.failed == {}
    tuned = {
        run.method: finished.results.store.weights(run.fit.key) for run in finished.results.plan.runs if run.tuned_on
    }
    for name in names:
        assert not same_weights(tuned[name.lower()], tuned["finetune"]), name
    pieces = re.split(r"^(?=class )", (tmp_path / "myhooks.py").read_text(), flags=re.MULTILINE)[1:]
    assert max(sum(bool(line.strip()) for line in piece.splitlines()) for piece in pieces) <= 15
