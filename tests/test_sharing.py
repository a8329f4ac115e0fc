"""What is made once for many steps: the results of each step alone, in as many forward passes as the plan says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rib
from helpers import WHOLE, Say, classifier, document, examples, same_weights, tiny, toml
from rib.data import ahead
from rib.data.arrays import ArraySet
from rib.data.decoded import Decoded
from rib.data.examples import Examples, Part
from rib.data.pack import pack_file
from rib.errors import StepError, StoppedError
from rib.execute import decode as packing
from rib.execute.progress import Silent
from rib.methods import METHODS, Passes, ewc
from rib.models.classifier import Classifier
from rib.models.last_block import compute_pooled_only
from rib.models.small import small_vit
from rib.models.weights import take_weights
from rib.plan import make_plan, missing
from rib.recipe import Recipe
from rib.results.results import Results
from rib.steps import Embed, Fit, How, Predict, Workshop
from rib.steps import sweep as sweeping
from rib.steps.sweep import backbone
from rib.store.store import Store
from rib.suite.load import load_suite, parse_suite
from rib.suite.suite import Suite
from rib.training.loop import train
from rib.training.sweep import predict_chunk
from rib.training.training import Training

OF_ONE_SET = {name for name, kind in METHODS.classes.items() if not (kind.merges_sets or kind.needs_texts)}
"""Methods for any model: tests/test_text_side.py has those that need the texts of a model."""
FAMILIES = {
    "resnet": sorted(OF_ONE_SET - {"lora", "peft", "vpt"}),
    "vit": sorted(OF_ONE_SET),
    "text": sorted(OF_ONE_SET - {"vpt"}),
}
"""LoRA changes attention; the other net has none."""

RECIPE = {"epochs": 2, "batch_size": 5, "lr": 0.01, "warmup_steps": 3, "eval_batch_size": 8}


def suite_of_all(folder: Path, family: str, **fields: Any) -> Suite:
    """Every method, on a whole set and on one that is masked."""
    return tiny(folder, (family,), runs=[{"methods": FAMILIES[family]}], **fields)


def suite_of_two(folder: Path) -> Suite:
    """Two models, and heads that ride on either."""
    runs = [{"methods": ["finetune", "linear_probe", "lwf", "wise_ft"]}]
    return tiny(folder, ("resnet", "batch_norm"), runs=runs, recipe=RECIPE)


def assert_same_findings(suite: Suite, one: Path, other: Path) -> None:
    """Values, weights and predictions of every step that was asked for are equal bit for bit."""
    mine, theirs = Store(one), Store(other)
    for step in make_plan(suite).steps:
        if isinstance(step, Embed):
            continue
        a, b = mine.record(step.key), theirs.record(step.key)
        assert a is not None
        assert b is not None
        assert a.values == b.values, step.title
        if isinstance(step, Predict):
            assert mine.predictions(step.key).equals(theirs.predictions(step.key)), step.title
        elif step.keeps_weights:
            assert same_weights(mine.weights(step.key), theirs.weights(step.key)), step.title


class Counted:
    """Images that nets are given, as they are normalised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained = self.seen = 0
        plain, fisher = Classifier.prepared, ewc.diagonal_fisher

        def normalise(net: Classifier, images: Tensor) -> Tensor:
            if bool((images == images.flatten()[0]).all()):
                return plain(net, images)  # blank: a trial run, which shows the order of layers
            if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
                self.trained += len(images)
            else:
                self.seen += len(images)
            return plain(net, images)

        def diagonal_fisher(net: Classifier, pool: Any, *args: Any, **words: Any) -> dict[str, Tensor]:
            self.seen += len(pool)  # normalised once for two passes: a draw of labels without gradients comes first
            return fisher(net, pool, *args, **words)

        monkeypatch.setattr(Classifier, "prepared", normalise)
        monkeypatch.setattr(ewc, "diagonal_fisher", diagonal_fisher)

    @property
    def passes(self) -> Passes:
        return Passes(self.trained, self.seen)


class Progress(Silent):
    """The work that a run announces, and of each step the passes counted while it runs and at its end.

    What is decoded before the work begins is not counted.
    """

    def __init__(self) -> None:
        self.work = 0.0
        self.title = ""
        self.counted: Counter[str] = Counter()
        self.settled: Counter[str] = Counter()

    def begin(self, steps: int, done: int, work: float) -> None:
        self.work = work
        self.counted.clear()

    def now(self, title: str) -> None:
        self.title = title

    def images(self, count: int, passes: float) -> None:
        self.counted[self.title] += round(passes)

    def finished(self, work: float) -> None:
        self.settled[self.title] += round(work)


def planned(suite: Suite, share: bool) -> Passes:
    """What the plan says of all of its steps."""
    plan = replace(make_plan(suite), share=share)
    each = [plan.passes(step) for step in plan.steps]
    return Passes(sum(one.trained for one in each), sum(one.seen for one in each))


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_and_alone_find_the_same_in_as_many_passes_as_planned(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_of_all(tmp_path, family)
    for share, store in ((True, tmp_path / "shared"), (False, tmp_path / "alone")):
        with monkeypatch.context() as patch:
            counted, progress = Counted(patch), Progress()
            finished = rib.run(suite, store=store, how=How(workers=1, share=share), watcher=progress)
        assert finished.failed == {}
        assert counted.passes == planned(suite, share)
        assert progress.counted == progress.settled
        assert progress.counted.total() == progress.work
    assert_same_findings(suite, tmp_path / "shared", tmp_path / "alone")
    assert planned(suite, True).trained == planned(suite, False).trained
    assert planned(suite, True).seen < planned(suite, False).seen


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_streamed_and_packed_find_the_same_and_decode_as_planned(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks smaller than a set; two models; every image decoded once for all nets of a sweep."""
    suite = suite_of_two(tmp_path)
    rib.run(suite, store=tmp_path / "packed", how=How(workers=1))
    decoded: Counter[tuple[str, str]] = Counter()
    plain = ArraySet.read

    def read(self: ArraySet, part: Part, rows: Any, view: Any) -> Any:
        decoded[self.name, part] += len(rows)
        return plain(self, part, rows, view)

    with monkeypatch.context() as patch:
        patch.setattr(ArraySet, "read", read)
        counted = Counted(patch)
        # room for what is tuned on, and for no more
        how = How(workers=1, pack_budget=1, at_once=at_once, chunk_bytes=2 * 8 * 3 * 12**2)
        patch.setattr(packing, "require_room", lambda *_: None)
        finished = rib.run(suite, store=tmp_path / "streamed", how=how)
    assert finished.failed == {}
    plan = make_plan(suite)
    assert counted.passes == planned(suite, True)
    for name in suite.tested:
        nets = len({backbone(step) for step in plan.steps if isinstance(step, Predict) and step.data.name == name})
        assert decoded[name, "test"] == -(-nets // at_once) * len(plan.world[name].index("test"))
    for name in suite.downstream:
        assert decoded[name, "tune"] == len(plan.world[name].index("tune"))
    assert_same_findings(suite, tmp_path / "packed", tmp_path / "streamed")


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_a_pack_larger_than_memory_is_read_once_for_many_nets(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_of_two(tmp_path)
    rib.run(suite, store=tmp_path / "alone", how=How(workers=1))
    plan, read = make_plan(suite), Counter[int]()

    def copied(examples: Examples, rows: int, first: int) -> Iterator[Examples]:
        for chunk in ahead.copied(examples, rows, first):
            assert len(chunk) <= rows == 8
            read[len(examples)] += len(chunk)
            yield chunk

    with monkeypatch.context() as patch:
        patch.setattr(packing, "memory", lambda: 1)
        patch.setattr(sweeping, "copied", copied)
        counted = Counted(patch)
        how = How(workers=1, at_once=at_once, chunk_bytes=2 * 8 * 3 * 12**2)
        assert rib.run(suite, store=tmp_path / "together", how=how).failed == {}
    assert counted.passes == planned(suite, True)
    expected = Counter[int]()
    for name in suite.tested:
        nets = len({backbone(step) for step in plan.steps if isinstance(step, Predict) and step.data.name == name})
        images = len(plan.world[name].index("test"))
        expected[images] += -(-nets // at_once) * images
    assert read == expected
    assert_same_findings(suite, tmp_path / "alone", tmp_path / "together")


def test_a_set_in_both_roles_is_seen_by_the_pretrained_model_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the paper: all of a set is tuned on, by every seed, and all of it is tested."""
    words: dict[str, Any] = {"runs": [{"methods": ["linear_probe", "lwf"], "seeds": [0, 1]}], "recipe": RECIPE}
    whole = document(tmp_path, held_out=0.0, **words)
    for row in whole["data"].values():
        del row["test_fraction"]
    suite = parse_suite(whole).based_at(tmp_path)
    plan = make_plan(suite)
    embeds = [step for step in plan.steps if isinstance(step, Embed)]
    assert sorted(step.data.name for step in embeds) == sorted(suite.tested)
    with monkeypatch.context() as patch:
        counted = Counted(patch)
        rib.run(suite, store=tmp_path / "shared", how=How(workers=1))
    assert counted.passes == planned(suite, True)
    rib.run(suite, store=tmp_path / "alone", how=How(workers=1, share=False))
    assert_same_findings(suite, tmp_path / "shared", tmp_path / "alone")
    held = make_plan(tiny(tmp_path, **words))  # of what is not held out, every seed has the same
    tuned_on = [step for step in held.steps if isinstance(step, Embed) and step.data.part == "tune"]
    assert sorted(step.data.name for step in tuned_on) == sorted(suite.downstream)


def test_everything_off_finds_the_same(tmp_path: Path) -> None:
    """No features kept, no packs, every prediction alone: the straight road to the same numbers."""
    suite = tiny(tmp_path, ("resnet",), runs=[{"methods": ["finetune", "linear_probe", "lwf", "ewc", "wise_ft"]}])
    rib.run(suite, store=tmp_path / "on", how=How(workers=1))
    rib.run(suite, store=tmp_path / "off", how=How(workers=1, share=False, pack_budget=0))
    assert not list((tmp_path / "off" / "packs").glob("*.npy"))
    assert not (tmp_path / "off" / "features").exists()
    assert_same_findings(suite, tmp_path / "on", tmp_path / "off")


def test_a_sweep_goes_on_from_the_chunk_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = tiny(tmp_path, ("resnet",), runs=[{"methods": ["finetune", "linear_probe"]}], recipe=RECIPE)
    how = How(workers=1, pack_budget=0, checkpoint_seconds=0.0, chunk_bytes=2 * 8 * 3 * 12**2)
    rib.run(suite, store=tmp_path / "whole", how=how)
    seen: list[int] = []

    def interrupted(chunk: Examples, *args: Any) -> None:
        seen.append(int(chunk.rows[0]))
        if len(seen) == 3:
            raise KeyboardInterrupt
        predict_chunk(chunk, *args)

    monkeypatch.setattr(sweeping, "predict_chunk", interrupted)
    with pytest.raises(StoppedError):
        rib.run(suite, store=tmp_path / "store", how=how)
    assert seen == [0, 8, 16]
    assert list((tmp_path / "store" / "checkpoints").rglob("*.pt"))
    rib.run(suite, store=tmp_path / "store", how=how)
    assert seen[3] == 16
    assert not list((tmp_path / "store" / "checkpoints").rglob("*.pt"))
    assert_same_findings(suite, tmp_path / "whole", tmp_path / "store")


def test_a_sweep_without_the_models_that_cannot_be_asked(tmp_path: Path) -> None:
    suite = tiny(tmp_path, ("resnet",), runs=[{"methods": ["finetune", "l2_sp"], "downstream": ["whole"]}])
    how = How(workers=1, pack_budget=0, keep="none")
    rib.run(suite, store=tmp_path / "store", how=how)
    store, plan = Store(tmp_path / "store"), make_plan(suite)
    fits = {step.method.name: step for step in plan.steps if isinstance(step, Fit)}
    swept = [step for step in plan.steps if isinstance(step, Predict) and step.data.name == "part"]
    streamed = frozenset([pack_file(Decoded(plan.world["part"], "test", swept[0].architecture.view), store.packs).name])
    workshop = Workshop(suite, store, How(device="cpu", streamed=streamed), lambda _images, _passes: None)
    for step in swept:
        (store.root / "records" / step.key[:2] / f"{step.key}.json").unlink()
    store.write_weights(fits["finetune"].key, workshop.weights(fits["pretrained"].start))
    assert not store.has_weights(fits["l2_sp"].key)
    store.path("records", fits["l2_sp"].key).unlink()  # with it, the weights would be made again
    failed = sweeping.sweep(workshop, swept)
    assert list(failed) == [step.key for step in swept if step.fit == fits["l2_sp"]]
    assert {step.fit.method.name for step in swept if store.has(step.key)} == {"pretrained", "finetune"}


def test_a_probe_and_the_pretrained_model_share_one_pass(tmp_path: Path) -> None:
    suite = tiny(tmp_path, ("resnet",), runs=[{"methods": ["linear_probe", "lwf"]}])
    plan = make_plan(suite)
    sets = 3  # the reference set and two others
    tested = sum(len(plan.world[name].index("test")) for name in suite.tested)
    assert sum(isinstance(step, Embed) for step in plan.steps) == sets + 2  # and the sets tuned on
    for step in plan.steps:
        if isinstance(step, Predict):
            assert (plan.passes(step).seen == 0) == step.fit.method.keeps_backbone
    embedded = [plan.passes(step).seen for step in plan.steps if isinstance(step, Embed) and step.seed is None]
    assert sum(embedded) == tested


def test_what_only_one_step_reads_is_not_kept(tmp_path: Path) -> None:
    plan = make_plan(tiny(tmp_path, ("resnet",), runs=[{"methods": ["finetune"]}]))
    assert not any(isinstance(step, Embed) for step in plan.steps)


def test_features_are_made_again_only_for_two_that_read_them(tmp_path: Path) -> None:
    suite = tiny(tmp_path, ("resnet",), runs=[{"methods": ["linear_probe", "lwf"]}])
    rib.run(suite, store=tmp_path / "store", how=How(workers=1))
    store, plan = Store(tmp_path / "store"), make_plan(suite)
    features = next(step for step in plan.steps if isinstance(step, Embed) and step.seed is not None)
    store.drop_features(features.key)
    assert missing(plan.steps, store) == ()
    readers = [step for step in plan.steps if step.features == features]
    assert {step.method.name for step in readers if isinstance(step, Fit)} == {"linear_probe", "lwf"}
    before = {step.key: (store.record(step.key), store.weights(step.key)) for step in readers}
    for step in readers:
        (store.root / "records" / step.key[:2] / f"{step.key}.json").unlink()
        made_again = missing(plan.steps, store)
        assert (features in made_again) == (step is readers[-1])
    rib.run(suite, store=tmp_path / "store", how=How(workers=1))
    for step in readers:
        record, weights = before[step.key]
        again = store.record(step.key)
        assert record is not None
        assert again is not None
        assert again.values == record.values
        assert same_weights(store.weights(step.key), weights)


@pytest.mark.parametrize("fails", [True, False])
def test_a_failed_shared_step_ends_with_exit_code_1_though_every_result_is_there(
    tmp_path: Path, rib_says: Say, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    made = document(tmp_path, runs=[{"methods": ["linear_probe", "lwf"]}])
    (tmp_path / "tiny.toml").write_text(toml(made))

    def run(*_: Any) -> None:
        raise StepError("no space for features")

    if fails:
        monkeypatch.setattr(Embed, "run", run)
    code, said = rib_says("run", "tiny.toml", "--workers", 1)
    plan = make_plan(load_suite(tmp_path / "tiny.toml"))
    results = Results(plan, Store(tmp_path / "rib-store"))
    assert not results.unfinished()
    assert (code, "failed: features resnet" in said) == (int(fails), fails), said


@pytest.mark.parametrize("family", FAMILIES)
def test_a_method_that_keeps_the_backbone_does(family: str, tmp_path: Path) -> None:
    """And no other does: a name is a claim, and a flag is one too."""
    suite = suite_of_all(tmp_path, family)
    rib.run(suite, store=tmp_path / "store", how=How(workers=1))
    plan = make_plan(suite)
    workshop = Workshop(suite, Store(tmp_path / "store"), How(device="cpu"), lambda _images, _passes: None)
    head = classifier(family).head_parameters
    kept: dict[str, bool] = {}
    for step in plan.steps:
        if isinstance(step, Fit) and step.method.name not in ("greedy_soup", "soup", "wise_ft", "wise_ft_held_out"):
            start, weights = workshop.weights(step.start), workshop.weights(step)
            same = all(torch.equal(weights[name], start[name]) for name in start if name not in head)
            kept[step.method.name] = same and weights.keys() == start.keys()  # an extension changes what the head sees
    assert {name for name, same in kept.items() if same} == {"pretrained", "linear_probe"}
    assert {name for name in METHODS.classes if METHODS.find(name).keeps_backbone} == {"pretrained", "linear_probe"}


# -- the last block ----------------------------------------------------------------------------------------------------


def token_vit(seed: int = 0, **words: Any) -> Classifier:
    """A transformer of timm's that pools the class token, its weights large enough that blocks do something."""
    from timm.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = VisionTransformer(
            img_size=12, patch_size=4, embed_dim=24, depth=3, num_heads=4, num_classes=4, **{"init_values": 0.5} | words
        )
        for value in net.parameters():
            torch.nn.init.normal_(value, std=0.3)
    return Classifier(net, 4, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    "words",
    [{}, {"qkv_bias": False}, {"qk_norm": True}, {"init_values": None}, {"reg_tokens": 2}, {"class_token": True}],
    ids=str,
)
def test_the_pooled_token_alone_gives_the_same_logits_and_gradients(words: dict[str, Any]) -> None:
    whole, pooled = token_vit(**words), token_vit(**words)
    names = list(whole.net.state_dict())
    assert compute_pooled_only(pooled.net)
    assert list(pooled.net.state_dict()) == names
    images = torch.from_numpy(examples(9).batch(slice(None)))
    for net in (whole, pooled):
        net(images).square().sum().backward()
    torch.testing.assert_close(pooled(images), whole(images), atol=1e-5, rtol=1e-5)
    for (name, mine), (_, theirs) in zip(pooled.net.named_parameters(), whole.net.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    "words", [{"global_pool": "avg"}, {"global_pool": "map"}, {"proj_drop_rate": 0.1}, {"attn_drop_rate": 0.1}], ids=str
)
def test_a_net_that_reads_more_of_its_last_block_is_left_alone(words: dict[str, Any]) -> None:
    net = token_vit(**words)
    images = torch.from_numpy(examples(3).batch(slice(None)))
    net.eval()
    before = net(images)
    assert not compute_pooled_only(net.net)
    assert torch.equal(net(images), before)


def test_training_with_the_pooled_token_alone_ends_where_the_whole_does() -> None:
    ends = []
    for pooled in (False, True):
        net = token_vit()
        if pooled:
            compute_pooled_only(net.net)
        recipe = Recipe(epochs=2, batch_size=6, lr=1e-3)
        train(net, Training(examples(20), WHOLE, recipe, seed=0))
        ends.append(take_weights(net.net))
    for name in ends[0]:
        torch.testing.assert_close(ends[1][name], ends[0][name], atol=1e-5, rtol=1e-5)


def test_the_embedded_transformer_pools_all_tokens_or_one() -> None:
    """Whichever it is, what is said of it in the recipe changes nothing beyond rounding."""
    net = Classifier(small_vit(num_classes=4, image_size=12, dim=12, depth=1, heads=2), 4, (0.5,) * 3, (0.5,) * 3)
    net.eval()
    images = torch.from_numpy(examples(3).batch(slice(None)))
    before = net(images)
    compute_pooled_only(net.net)
    torch.testing.assert_close(net(images), before, atol=1e-5, rtol=1e-5)
