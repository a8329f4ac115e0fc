"""Adapted predictions: by hand and by a plain loop, in an order of their own, and never among other numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rib
from helpers import PART, WHOLE, Say, classifier, document, examples, tiny, toml
from rib.data.examples import Examples, Index
from rib.data.splits import named_generator
from rib.errors import UserError
from rib.models.classifier import Classifier
from rib.plan import make_plan
from rib.report.headline import headline
from rib.report.parquet import write_parquet
from rib.report.results_json import results_json
from rib.steps import Adapt, How
from rib.studies import find_study
from rib.training.adapt import BatchNormAdaptation, Tent, adapted
from rib.training.predict import judge, predict
from test_report import printed

ALONE = How(workers=1)


def fresh(family: str = "batch_norm") -> Classifier:
    return classifier(family)


def order(count: int, cell: int = 0) -> Any:
    return named_generator("adapt", 0, cell).permutation(count)


@torch.no_grad()
def by_hand(images: Tensor, prior: int) -> Tensor:
    """The answers to one batch of a convolution, a BatchNorm and a head, in plain arithmetic."""
    whole = fresh().eval()
    net: Any = whole.net
    seen = net.conv(whole.prepared(images))
    n = len(seen)
    mean = (prior * net.norm.running_mean + n * seen.mean(dim=(0, 2, 3))) / (prior + n)
    spread = ((seen - seen.mean(dim=(0, 2, 3), keepdim=True)) ** 2).mean(dim=(0, 2, 3))
    variance = (prior * net.norm.running_var + n * spread) / (prior + n)
    scaled = (seen - mean[:, None, None]) / (variance + net.norm.eps).sqrt()[:, None, None]
    scaled = scaled * net.norm.weight[:, None, None] + net.norm.bias[:, None, None]
    return net.head(F.adaptive_avg_pool2d(torch.relu(scaled), 3).flatten(1))


@pytest.mark.parametrize("prior", [0, 4, 10**9])
def test_bn_adapt_mixes_the_statistics_of_each_batch(prior: int) -> None:
    pool = examples(23)
    found = adapted(fresh, pool, WHOLE, BatchNormAdaptation(batch=10, prior=prior))
    rows = order(23)
    for some in (rows[:10], rows[10:]):  # the last three join the second batch
        logits = by_hand(torch.from_numpy(pool.batch(some)), prior)
        expected = judge(logits, torch.from_numpy(pool.labels[some]), WHOLE)
        np.testing.assert_allclose(found.masked_confidence[some], expected.masked_confidence, rtol=1e-4)
        assert found.masked_class[some].tolist() == expected.masked_class.tolist()
    plain = predict(fresh(), pool, WHOLE, batch_size=10)
    same = np.allclose(found.masked_confidence, plain.masked_confidence, rtol=1e-4)
    assert same == (prior == 10**9)


@pytest.mark.parametrize("family", ["batch_norm", "resnet", "vit", "text"])
def test_tent_is_a_plain_loop(family: str) -> None:
    """Answer, then step: entropy of the masked answers, SGD of momentum 0.9 on weights and biases of norm layers."""
    pool = examples(23, 3, family=family)
    found = adapted(lambda: fresh(family), pool, PART, Tent(batch=10, lr=0.1))
    net = fresh(family).eval()
    net.contiguous = True  # as in training: torch's GroupNorm crashes otherwise
    for module in net.net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
    values = [value for name, value in net.net.named_parameters() if name in net.norm_parameters]
    velocity = [torch.zeros_like(value) for value in values]
    rows, confidences = order(23), []
    for some in (rows[:10], rows[10:]):
        logits = net(torch.from_numpy(pool.batch(some)))
        chosen = logits[:, [3, 1, 0]].softmax(dim=1)
        entropy = -(chosen * chosen.log()).sum(dim=1).mean()
        for place, slope in enumerate(torch.autograd.grad(entropy, values)):
            velocity[place] = 0.9 * velocity[place] + slope
            values[place].data -= 0.1 * velocity[place]
        confidences.append((some, chosen.amax(dim=1).detach().numpy()))
    for some, expected in confidences:
        np.testing.assert_allclose(found.masked_confidence[some], expected, rtol=2e-4)
    still = predict(fresh(family), pool, PART, batch_size=10)
    assert not np.allclose(found.masked_confidence, still.masked_confidence, rtol=1e-5)


def test_each_cell_starts_again() -> None:
    """A cell is predicted as if it stood alone, but for its place in the draw of the order."""
    whole = examples(24)
    cells = np.repeat(np.array([0, 1], np.int16), 12)
    index = Index(whole.labels, np.arange(24), cells=cells)
    pool = Examples.whole(whole.images, index)
    found = adapted(fresh, pool, WHOLE, Tent(batch=4, lr=0.5))
    first = Examples.whole(whole.images[:12], Index(whole.labels[:12], np.arange(12)))
    alone = adapted(fresh, first, WHOLE, Tent(batch=4, lr=0.5))
    np.testing.assert_array_equal(found.masked_confidence[:12], alone.masked_confidence)
    second = Examples.whole(whole.images[12:], Index(whole.labels[12:], np.arange(12), cells=cells[12:]))
    np.testing.assert_array_equal(
        found.masked_confidence[12:], adapted(fresh, second, WHOLE, Tent(batch=4, lr=0.5)).masked_confidence
    )


def test_images_in_the_order_of_their_classes_are_mixed() -> None:
    labels = np.repeat(np.arange(4), 8)
    rows = order(32)
    assert min(len(set(labels[rows[place : place + 8]].tolist())) for place in range(0, 32, 8)) >= 3


def with_blocks(folder: Path, *blocks: dict[str, Any], **fields: Any) -> Any:
    return tiny(folder, ("batch_norm",), adapted=list(blocks), **fields)


def test_no_other_number_contains_adapted_predictions(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    runs = [{"methods": ["finetune", "linear_probe"]}]
    plain = rib.run(tiny(tmp_path / "a", ("batch_norm",), runs=runs), store=tmp_path / "a" / "s", how=ALONE)
    blocks = [{"kind": "bn_adapt", "batch": 8}, {"kind": "tent", "batch": 8, "lr": 0.01, "methods": ["finetune"]}]
    both = rib.run(with_blocks(tmp_path / "b", *blocks, runs=runs), store=tmp_path / "b" / "s", how=ALONE)
    assert both.failed == {}
    assert both.summaries == plain.summaries
    assert both.results.scores == plain.results.scores
    assert both.results.changes == plain.results.changes
    rows = {(row["kind"], row["method"]): row for row in results_json(both.results)["adapted_on_test_inputs"]}
    files = {file.stem: pq.read_table(file).to_pylist() for file in write_parquet(both.results, tmp_path / "out")}
    assert {(row["kind"], row["method"]): row["change"] for row in files["adapted"]} == {
        place: row["change"]["value"] for place, row in rows.items()
    }
    assert not any("kind" in row for row in files["summaries"])
    assert set(rows) == {("bn_adapt batch=8", name) for name in ("pretrained", "finetune", "linear_probe")} | {
        ("tent batch=8 lr=0.01", name) for name in ("pretrained", "finetune")
    }
    store, plan = both.results.store, both.results.plan
    for each in plan.adapted:
        for name, step in each.scores.items():
            record = store.record(step.key)
            assert record is not None
            assert record.values["adapted_on_test_inputs"]["kind"] == each.kind.split()[0]
            assert record.spec["adaptation"]["batch"] == 8
            assert step.key != each.run.scores[name].key

    def level(kind: str, method: str) -> float:
        """The mean over sets tuned on, of the mean over the others."""
        found = []
        for each in plan.adapted:
            if (each.kind, each.run.method) == (kind, method):
                others = [name for name in ("whole", "part") if name != each.run.tuned_on]
                for name in others:
                    kept = store.predictions(each.scores[name].key).column("masked_right").to_pylist()
                    found.append(100 * sum(kept) / len(kept))
        return float(np.mean(found))

    for (kind, method), row in rows.items():
        assert row["after"]["value"] == pytest.approx(level(kind, method)), (kind, method)
        assert row["change"]["value"] == pytest.approx(row["after"]["value"] - row["before"]["value"])
    with_them, without = ("\n".join(printed(headline(each.results, 100), 100)) for each in (both, plain))
    assert "Adapted to the test inputs" in with_them
    first = [text.partition("\n")[2].partition("Adapted to")[0] for text in (with_them, without)]  # less the step count
    assert len(first[0]) > 300
    assert without.partition("\n")[2].startswith(first[0].rstrip())
    both.page(tmp_path / "both.html")
    plain.page(tmp_path / "plain.html")
    assert 'id="adapted"' in (tmp_path / "both.html").read_text("utf-8")
    assert 'id="adapted"' not in (tmp_path / "plain.html").read_text("utf-8")


def test_the_key_holds_the_adaptation(tmp_path: Path) -> None:
    blocks = [{"kind": "tent"}, {"kind": "tent", "lr": 0.001}, {"kind": "bn_adapt"}, {"kind": "bn_adapt", "prior": 16}]
    plan = make_plan(with_blocks(tmp_path, *blocks))
    keys = {step.key for step in plan.steps if isinstance(step, Adapt)}
    assert len(keys) == 4 * 3 * 3  # adaptations, models, sets
    assert {step.batch_size for step in plan.steps if isinstance(step, Adapt)} == {64, 512}


def test_a_study_leaves_adapted_predictions_out(tmp_path: Path) -> None:
    suite = with_blocks(tmp_path, {"kind": "tent", "sizes": ["all"]})
    assert suite.with_seeds(2).adapted == suite.adapted
    assert suite.with_models(["batch_norm"]).adapted
    several = [{"methods": ["finetune", "l2_sp"], "sizes": [8, 12]}]
    methods = find_study("methods", suite).suite(with_blocks(tmp_path, {"kind": "tent"}, runs=several))
    assert methods.adapted == ()


@pytest.mark.parametrize(
    ("family", "block", "words"),
    [
        ("resnet", {"kind": "bn_adapt"}, "model 'resnet' has none"),
        ("batch_norm", {"kind": "bn_adapt", "batch": 1}, "greater than or equal to 2"),
        ("batch_norm", {"kind": "bn_adapt", "lr": 0.1}, "unknown key"),
        ("batch_norm", {"kind": "tent", "prior": 3}, "unknown key"),
        ("batch_norm", {"kind": "tent", "lr": 0}, "greater than 0"),
        ("batch_norm", {"kind": "eata"}, "'bn_adapt' or 'tent'"),
        ("batch_norm", {"kind": "tent", "methods": ["l2_sp"]}, "is not among the suite's methods"),
        ("batch_norm", {"kind": "tent", "models": ["other"]}, "is not among the suite's models"),
    ],
)
def test_mistakes_are_found_by_the_plan(
    tmp_path: Path, rib_says: Say, family: str, block: dict[str, Any], words: str
) -> None:
    (tmp_path / "s.toml").write_text(toml(document(tmp_path, (family,), adapted=[block])))
    code, said = rib_says("plan", tmp_path / "s.toml")
    assert code == 2
    assert words in said


def test_a_net_without_weights_in_its_norms_cannot_be_adapted_by_tent() -> None:
    net = fresh()
    net.net.norm = torch.nn.BatchNorm2d(6, affine=False)
    with pytest.raises(UserError, match="model 'mine' has none"):
        Tent().require(net, "mine")
    BatchNormAdaptation().require(net, "mine")


def test_sharing_and_streaming_change_nothing(tmp_path: Path) -> None:
    suite = with_blocks(tmp_path, {"kind": "tent", "batch": 8}, runs=[{"methods": ["linear_probe"]}])
    kept = rib.run(suite, store=tmp_path / "one", how=ALONE)
    other = rib.run(suite, store=tmp_path / "two", how=dataclasses.replace(ALONE, share=False, pack_budget=0))
    assert kept.failed == other.failed == {}
    for each in kept.results.plan.adapted:
        for step in each.scores.values():
            one, two = (run.results.store.predictions(step.key) for run in (kept, other))
            assert one.equals(two)
