"""Methods that train with texts, against plain loops; the text side of CLIP models and of class vectors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

import rib
from helpers import CLASSES, PART, Say, classifier, document, examples, model_row, same_weights, tiny, toml
from plain_loop import RECIPE, Kept, close, method, plain
from rib.data import digits
from rib.data.examples import Examples, Index
from rib.data.splits import named_generator
from rib.errors import UserError
from rib.methods.flyp import ImagesAndTexts
from rib.models.build import build
from rib.models.catalogue import ROWS, ModelRow, named_file
from rib.models.describe import describe
from rib.models.loading import load_pretrained
from rib.models.text_side import ClassVectors, ClipTexts, TextSide, read_class_vectors
from rib.models.text_sources import load_text, text_digest
from rib.models.weights import Weights, read_weights, take_weights
from rib.plan import make_plan
from rib.recipe import Recipe
from rib.steps import Fit, How
from rib.store.store import Store
from rib.suite.load import load_suite, parse_suite
from rib.suite.suite import Suite
from rib.training.predict import collect
from rib.training.schedule import rate
from test_methods import make_task

WITH_TEXTS = ("car_ft", "flyp", "lipsum_ft")
ALONE = How(workers=1)
CPU = torch.device("cpu")


def width(family: str = "resnet") -> int:
    return classifier(family).width


def vectors(family: str = "resnet", scale: float = 4.0) -> ClassVectors:
    drawn = torch.randn(4, width(family), generator=torch.Generator().manual_seed(8))
    return ClassVectors(drawn, scale)


def fitted(name: str, family: str = "resnet", texts: TextSide | None = None, **changes: Any) -> Weights:
    """What a method makes of random weights in four epochs of three batches of ten pictures."""
    task, _ = make_task(family)
    fields = {name: changes.pop(name) for name in ("weight", "texts_drawn", "length") if name in changes}
    if "texts_drawn" in fields:
        fields["texts"] = fields.pop("texts_drawn")
    task = replace(task, **{"recipe": RECIPE, "texts": texts or vectors(family)} | changes)
    return method(name, **fields).fit(take_weights(classifier(family).net), task, [])


def head_input(net: Any, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = net.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(images)
    handle.remove()
    return seen[0]


# -- the arithmetic ----------------------------------------------------------------------------------------------------


def test_car_ft_keeps_the_distribution_over_contexts() -> None:
    texts = vectors()
    frozen = classifier("resnet").eval()

    def logs(features: Tensor) -> Tensor:
        unit = features / features.norm(dim=1, keepdim=True)
        return torch.log_softmax(4.0 * unit @ texts.contexts.T, dim=1)

    def term(net: Any, images: Tensor, rows: Any, logits: Tensor) -> Tensor:
        with torch.no_grad():
            before = logs(head_input(frozen, images))
        now = logs(head_input(net, images))
        return 0.7 * (before.exp() * (before - now)).sum(dim=1).mean()

    close(fitted("car_ft", weight=0.7), plain(term=term), 1e-5)


def test_lipsum_ft_keeps_the_answers_to_random_texts() -> None:
    texts, frozen, state = vectors(), classifier("resnet").eval(), {"step": 0}
    drawn = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 5, width()))).float()

    class Told(ClassVectors):
        def random(self, count: int, length: int) -> Tensor:
            assert (count, length) == (5, 3)
            state["step"] += 1
            return F.normalize(drawn[state["step"] - 1], dim=1)

    own = iter(drawn)

    def term(net: Any, images: Tensor, rows: Any, logits: Tensor) -> Tensor:
        with torch.no_grad():
            before = head_input(frozen, images)
        now, random = head_input(net, images), next(own)
        total = torch.zeros(())
        for one, other in zip(now, before, strict=True):
            for text in random:
                unit = text / text.norm()
                total = total + (4.0 * (one / one.norm()) @ unit - 4.0 * (other / other.norm()) @ unit) ** 2
        return 0.5 * total / (2 * 5) / len(images)

    found = fitted("lipsum_ft", texts=Told(texts.classes, 4.0), weight=0.5, texts_drawn=5, length=3)
    close(found, plain(term=term), 1e-5)


def test_a_random_text_of_class_vectors_is_a_mean_of_some_of_them() -> None:
    texts = ClassVectors(torch.eye(4), 1.0)
    torch.manual_seed(0)
    drawn = texts.random(50, 3)
    thirds = drawn / drawn.sum(dim=1, keepdim=True) * 3
    torch.testing.assert_close(thirds, thirds.round(), atol=1e-5, rtol=0)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(50))
    assert len(drawn.unique(dim=0)) > 10


def test_flyp_is_clips_loss_step_by_step_and_its_head_what_the_texts_say() -> None:
    texts, net, pool = vectors(), classifier("resnet"), examples(10, 3)
    names, log_scale = texts.classes.clone().requires_grad_(), torch.tensor(4.0).log().requires_grad_()
    net.train()
    values = [*(value for name, value in net.net.named_parameters() if not name.startswith("head")), names, log_scale]
    optimizer = torch.optim.SGD(values, lr=1.0, momentum=0.9)
    step, length = 0, torch.ones(())
    for epoch in range(RECIPE.epochs):
        order = named_generator("shuffle", 3, epoch).permutation(10)
        for rows in (order[:4], order[4:8], order[8:]):
            optimizer.param_groups[0]["lr"] = RECIPE.lr * rate(step, 0, 12)
            seen = head_input(net, torch.from_numpy(pool.batch(rows)))
            length = seen.detach().norm(dim=1).mean()
            own = names[[PART.groups[label][0] for label in pool.labels[rows].tolist()]]
            cosine = log_scale.exp() * F.cosine_similarity(seen[:, None], own[None], dim=2)
            loss = torch.zeros(())
            for place in range(len(rows)):
                loss = loss - (cosine[place, place] - cosine[place].logsumexp(0)) / 2 / len(rows)
                loss = loss - (cosine[place, place] - cosine[:, place].logsumexp(0)) / 2 / len(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    expected = dict(take_weights(net.net))
    matrix = names.detach() / names.detach().norm(dim=1, keepdim=True)
    expected["head.weight"] = log_scale.detach().exp() * matrix / length
    expected["head.bias"] = torch.zeros(4)
    close(fitted("flyp"), expected, 2e-5)


def test_the_scale_of_flyp_is_at_most_a_hundred() -> None:
    assert ImagesAndTexts(vectors(scale=400.0).tower(), PART).scale.item() == pytest.approx(100)


@pytest.mark.parametrize("name", WITH_TEXTS)
@pytest.mark.parametrize("family", ["vit", "text"])  # "dropout": tests/test_hooks.py
def test_resumed_equals_uninterrupted(name: str, family: str) -> None:
    expected = fitted(name, family)
    first = Kept(int(np.random.default_rng(len(name)).integers(1, RECIPE.epochs)))
    with pytest.raises(InterruptedError):
        fitted(name, family, checkpoint=first)
    assert same_weights(fitted(name, family, checkpoint=Kept(None, first.state)), expected)
    task, _ = make_task(family)
    tuned = method("finetune").fit(take_weights(classifier(family).net), replace(task, recipe=RECIPE), [])
    assert not same_weights(expected, tuned)


# -- a CLIP model ------------------------------------------------------------------------------------------------------


def clip_model(folder: Path) -> Any:
    """A tiny CLIP model with random weights, saved as open_clip saves one."""
    open_clip = pytest.importorskip("open_clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(2)
    model = open_clip.CLIP(**config).eval()
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return model


def clip_row(**fields: Any) -> ModelRow:
    return ModelRow.model_validate({"open_clip": "clip", "prompts": ["a {}", "no {} here"]} | fields)


def test_the_texts_of_a_clip_model_by_hand(tmp_path: Path) -> None:
    model = clip_model(tmp_path / "clip")
    from open_clip import get_tokenizer

    row = clip_row()
    architecture = describe(row, 4, tmp_path)
    expected = text_digest("m", row, architecture, tmp_path, CLASSES, None)
    place = ("m", row, architecture, tmp_path, CLASSES, tmp_path / "facts", CPU, expected)
    texts = load_text(*place)
    assert isinstance(texts, ClipTexts)
    tokenizer = get_tokenizer("ViT-B-32", context_length=12)
    with torch.no_grad():
        single = {
            (name, text): F.normalize(model.encode_text(tokenizer([text.format(name)]))[0], dim=0)
            for name in CLASSES
            for text in ("a {}", "no {} here")
        }
        for number, name in enumerate(CLASSES):
            mean = single[name, "a {}"] + single[name, "no {} here"]
            torch.testing.assert_close(texts.classes[number], mean / mean.norm())
        for number, text in enumerate(("a {}", "no {} here")):
            mean = torch.stack([single[name, text] for name in CLASSES]).sum(0)
            torch.testing.assert_close(texts.contexts[number], mean / mean.norm())
        assert texts.scale == pytest.approx(float(model.logit_scale.exp()))
        torch.manual_seed(4)
        drawn = texts.random(3, 5)
        torch.manual_seed(4)
        tokens = torch.randint(49406, (3, 5))
        whole = torch.cat([torch.full((3, 1), 49406), tokens, torch.full((3, 1), 49407), torch.zeros(3, 5).long()], 1)
        torch.testing.assert_close(drawn, F.normalize(model.encode_text(whole), dim=1))
        tower = texts.tower()
        torch.testing.assert_close(tower.matrix(), texts.classes)
        one = tower(torch.tensor([2]))[0]
        assert any(torch.allclose(one, single["cat", text], atol=1e-5) for text in ("a {}", "no {} here"))
    again = load_text(*place)  # from the cache
    assert torch.equal(again.classes, texts.classes)
    assert (torch.equal(again.contexts, texts.contexts), again.scale) == (True, texts.scale)
    assert len(list((tmp_path / "facts").glob("texts-*.safetensors"))) == 1


def test_other_names_or_templates_are_other_texts(tmp_path: Path) -> None:
    clip_model(tmp_path / "clip")
    rows = [clip_row(), clip_row(prompts=["a {}"]), clip_row(class_names=["1", "2", "3", "4"])]
    found = {text_digest("m", row, describe(row, 4, tmp_path), tmp_path, CLASSES, None) for row in rows}
    assert len(found) == 3


def test_each_method_on_a_clip_model(tmp_path: Path) -> None:
    """In a suite; FLYP's head is the zero-shot head of its own texts."""
    clip_model(tmp_path / "clip")
    given = document(tmp_path, runs=[{"methods": ["finetune", *WITH_TEXTS], "downstream": ["part"]}])
    given |= {"models": ["clip"], "model": {"clip": clip_row().model_dump(exclude_unset=True)}}
    given["method"] = {"lipsum_ft": {"texts": 4, "length": 3}}
    suite = parse_suite(given).based_at(tmp_path)
    finished = rib.run(suite, store=tmp_path / "store", how=ALONE)
    assert finished.failed == {}
    store, runs = Store(tmp_path / "store"), finished.results.plan.runs
    tuned = {run.method: store.weights(run.fit.key) for run in runs if run.tuned_on}
    heads = {name: weights["head.weight"] for name, weights in tuned.items()}
    assert len({str(head.flatten()[:3].tolist()) for head in heads.values()}) == 4
    head = heads["flyp"]
    lengths = head.norm(dim=1)
    torch.testing.assert_close(lengths, lengths.mean().expand(4))  # unit vectors times one scale
    assert torch.count_nonzero(tuned["flyp"]["head.bias"]) == 0


# -- in suites ---------------------------------------------------------------------------------------------------------


def with_vectors(folder: Path, family: str = "resnet", **tensors: Any) -> dict[str, Any]:
    """A model's row with class vectors in a file."""
    made = {"classes": vectors(family).classes, "scale": torch.tensor(4.0)} | tensors
    save_file({name: value.contiguous() for name, value in made.items()}, folder / "names.safetensors")
    return model_row(folder, family) | {"class_vectors": "names.safetensors"}


def test_the_key_holds_the_vectors_and_only_for_methods_with_texts(tmp_path: Path) -> None:
    keys = []
    for place, factor in enumerate((1.0, 1.0, -1.0)):
        folder = tmp_path / str(place)
        folder.mkdir()
        row = with_vectors(folder, classes=factor * vectors().classes)
        suite = tiny(folder, model={"resnet": row}, runs=[{"methods": ["finetune", *WITH_TEXTS]}])
        keys.append({run.method: run.fit.key for run in make_plan(suite).runs if run.tuned_on == "part"})
    assert keys[0] == keys[1]
    assert {name for name in keys[0] if keys[0][name] != keys[2][name]} == set(WITH_TEXTS)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"class_vectors": None}, "has no texts to train with"),
        ({"class_vectors": "missing.safetensors"}, "weights not found"),
        ({"classes": torch.ones(3, 5)}, "class vectors of model 'resnet' do not fit"),
        ({"classes": torch.ones(4, 4, dtype=torch.int64)}, "do not fit"),
        ({"classes": torch.full((4, 32), torch.nan)}, "NaN or infinity in classes"),
        ({"classes": torch.zeros(4, 32)}, "have no direction"),
        ({"scale": torch.tensor(-1.0)}, "scale = -1"),
        ({"class_vectors": "zoo:no/such"}, "names no shipped weights"),
    ],
)
@pytest.mark.parametrize("name", WITH_TEXTS[:1])
def test_mistakes_are_found_by_the_plan(
    tmp_path: Path, rib_says: Say, row: dict[str, Any], words: str, name: str
) -> None:
    tensors = {key: value for key, value in row.items() if isinstance(value, Tensor)}
    if "classes" in tensors and tensors["classes"].shape == (4, 32):
        tensors["classes"] = tensors["classes"][:, :1].expand(4, width())
    model = with_vectors(tmp_path, **tensors) | {key: value for key, value in row.items() if key not in tensors}
    fields = document(tmp_path, model={"resnet": {k: v for k, v in model.items() if v is not None}})
    (tmp_path / "s.toml").write_text(toml(fields | {"runs": [{"methods": [name]}]}))
    code, said = rib_says("plan", tmp_path / "s.toml")
    assert code == 2
    assert words in said


def test_a_tuned_image_tower_has_no_text_tower(tmp_path: Path) -> None:
    clip_model(tmp_path / "clip")
    row = clip_row()
    net = build(describe(row, 4, tmp_path)).net
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, tmp_path / "tuned.safetensors")
    tuned = clip_row(weights="tuned.safetensors")
    with pytest.raises(UserError, match="no texts to train with"):
        text_digest("m", tuned, describe(tuned, 4, tmp_path), tmp_path, CLASSES, None)


# -- the embedded UniCL models -----------------------------------------------------------------------------------------


UNICL = sorted(name for name, row in ROWS.items() if row.class_vectors)


def test_the_shipped_class_vectors_name_digits_as_well_as_the_heads_do() -> None:
    assert len(UNICL) == 9
    assert all(ROWS[name].objective == "unicl" for name in UNICL)
    data = digits.render("ref", "test")
    pool = Examples.whole(data.images, Index(data.labels, np.arange(len(data.labels))))
    for name in UNICL:
        row = ROWS[name]
        architecture = describe(row, 10)
        net = build(architecture)
        net.net.load_state_dict(load_pretrained(name, row, architecture, Path()))
        features = collect(net, net.features, pool, 449).clone()
        assert row.class_vectors
        texts = read_class_vectors(named_file(row.class_vectors, Path()), 10, net.width, name)
        answers = [texts.classes @ F.normalize(features, dim=1).T, net.head(features).T]
        by_names, by_head = (100 * float((each.argmax(0).numpy() == data.labels).mean()) for each in answers)
        assert by_names > by_head - 2, name
        assert 1 < texts.scale <= 100


def test_each_method_on_an_embedded_unicl_model(tmp_path: Path) -> None:
    suite = Suite.model_validate(
        load_suite("digits-quick").model_dump(exclude_unset=True)
        | {
            "models": ["digits:resnet_unicl_large"],
            "downstream": ["digits:sketch", "digits:renditions"],
            "evaluate": [],
            "analyses": [],
            "seeds": [0],
            "runs": [{"methods": ["finetune", *WITH_TEXTS], "sizes": [50], "downstream": ["digits:sketch"]}],
            "recipe": Recipe(epochs=1, batch_size=25, optimizer="adamw", lr=1e-4).model_dump(),
            "tuning": {},
        }
    )
    finished = rib.run(suite, store=tmp_path / "store", how=ALONE)
    assert finished.failed == {}
    found = {
        (score.method, score.tested_on): score.masked for score in finished.results.scores if score.masked is not None
    }
    before = next(value for (name, tested), value in found.items() if name == "pretrained" and "renditions" in tested)
    for name in WITH_TEXTS:
        after = next(value for (one, tested), value in found.items() if one == name and "renditions" in tested)
        assert after > before - 15, (name, before, after)
    fits = {step.method.name: step for step in finished.results.plan.steps if isinstance(step, Fit)}
    assert {name for name, fit in fits.items() if fit.texts} == set(WITH_TEXTS)
    stored = Store(tmp_path / "store").weights(fits["flyp"].key)
    assert not torch.equal(
        stored["head.weight"], read_weights(named_file("zoo:resnet_unicl_large", Path()))["head.weight"]
    )


# -- what a method needs is found by the plan --------------------------------------------------------------------------


def clip_suite(folder: Path, **lipsum: Any) -> Suite:
    clip_model(folder / "clip")
    given = document(folder, runs=[{"methods": ["lipsum_ft"]}], method={"lipsum_ft": lipsum})
    given |= {"models": ["clip"], "model": {"clip": clip_row().model_dump(exclude_unset=True)}}
    return parse_suite(given).based_at(folder)


def test_texts_longer_than_the_tower_reads_are_refused_by_the_plan(tmp_path: Path) -> None:
    """The tower reads 12 tokens: 10 random ones, the first and the last."""
    assert make_plan(clip_suite(tmp_path, length=10)).runs
    with pytest.raises(UserError, match="longer than what the model's text tower reads") as caught:
        make_plan(clip_suite(tmp_path, length=11))
    assert (caught.value.got, "at most 10" in str(caught.value.valid)) == ("length = 11", True)


def test_a_tokenizer_without_first_and_last_token_is_refused_by_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        """A tokenizer of another library."""

    monkeypatch.setattr("rib.models.clip.tokenizer_of", lambda name: Other())
    suite = clip_suite(tmp_path)
    with pytest.raises(UserError, match="tokenizer does not state") as caught:
        make_plan(suite)
    assert caught.value.got == "Other"
    others = suite.model_copy(update={"runs": (suite.runs[0].model_copy(update={"methods": ("car_ft", "flyp")}),)})
    assert make_plan(others).runs


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("lora", "changes query and value projections, and this model has none"),
        ("peft", "the model has none of the layers"),
        ("norm_tuning", "trains norm layers, and this model has none"),
        ("bitfit", "trains biases, and this model has none outside its head"),
    ],
)
def test_a_net_of_ribs_own_that_lacks_what_a_method_changes_is_refused_by_the_plan(
    tmp_path: Path, method: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such nets have no trial run, and were once refused only when training began."""
    from rib.models import skeleton

    suite = tiny(tmp_path, runs=[{"methods": [method], "downstream": ["part"]}])
    if method in ("norm_tuning", "bitfit"):
        net = classifier("resnet")
        for module in net.net.modules():
            module._parameters.pop("bias", None) if method == "bitfit" and module is not net.head else None
            if "norm" in type(module).__name__.lower():
                module._parameters.clear()
        monkeypatch.setattr(skeleton, "meta_classifier", lambda architecture: net)
        skeleton._bare_net.cache_clear()
    with pytest.raises(UserError, match=words):
        make_plan(suite)
    skeleton._bare_net.cache_clear()
