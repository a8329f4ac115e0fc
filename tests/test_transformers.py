"""Models of transformers: RIB's answers are the library's own, whatever is padded and whatever else is in the batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

import rib
from helpers import SETS, document
from rib.data.tokens import tokenized
from rib.data.views import Tokens
from rib.errors import UserError
from rib.methods.lora import WholeLowRank, projections, separate
from rib.models.build import build
from rib.models.catalogue import ModelRow
from rib.models.classifier import Classifier
from rib.models.describe import describe, stated_inputs
from rib.models.loading import load_pretrained, weights_identity
from rib.models.skeleton import skeleton
from rib.models.text import read_texts_alike
from rib.models.weights import put_weights
from rib.plan import make_plan
from rib.plan.pair import make_pair
from rib.report.views import unstated
from rib.steps import How
from rib.suite.load import parse_suite
from tiny_transformers import DECODERS, SHAPES, VOCABULARY, sentences, write_model, write_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")

CLASSES = ("neg", "mid", "pos")


def loaded(folder: Path, **row: Any) -> tuple[Classifier, Tokens]:
    """A folder's model as RIB reads it, and its view."""
    model = ModelRow(transformers=str(folder), **row)
    architecture = describe(model, len(CLASSES))
    found = skeleton(architecture)
    assert found is not None
    assert found.architecture.heads is None, "the head's input is read as the features"
    classifier = build(found.architecture)
    put_weights(classifier.net, load_pretrained("m", model, found.architecture, Path(), CLASSES))
    assert isinstance(architecture.view, Tokens)
    return classifier.eval(), architecture.view


def batch(view: Tokens, texts: list[str], seconds: list[str] | None = None) -> torch.Tensor:
    return torch.from_numpy(tokenized(view, texts, seconds))


@pytest.mark.parametrize("pairs", [False, True], ids=["single", "pairs"])
@pytest.mark.parametrize("kind", SHAPES)
def test_logits_are_those_of_transformers(kind: str, pairs: bool, tmp_path: Path) -> None:
    model = write_model(tmp_path, kind)
    classifier, view = loaded(tmp_path, length=16)
    texts, seconds = sentences(17), sentences(17, seed=1) if pairs else None
    tokenizer = write_tokenizer(tmp_path / "again", kind)
    tokenizer.padding_side = "right"
    with torch.inference_mode():
        inputs = tokenizer(texts, seconds, padding=True, truncation=True, max_length=16, return_tensors="pt")
        want = model(**inputs).logits
        got = classifier(batch(view, texts, seconds))
    assert want.std() > 0.1, "a model whose answers are all alike shows nothing"
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    if kind == "bert":
        assert view.segments == 2
    torch.testing.assert_close(
        classifier.head(classifier.features(batch(view, texts, seconds))), want, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("kind", SHAPES)
def test_what_else_is_in_a_batch_changes_no_row(kind: str, tmp_path: Path) -> None:
    write_model(tmp_path, kind)
    classifier, view = loaded(tmp_path, length=16)
    texts = sentences(12)
    with torch.inference_mode():
        together = classifier(batch(view, texts))
        alone = torch.cat([classifier(batch(view, [text])) for text in texts])
        turned = classifier(batch(view, texts[::-1])).flip(0)
        longer, wide = loaded(tmp_path, length=22)
        padded = longer(batch(wide, texts))
    for other in (alone, turned, padded):
        assert float((together - other).abs().max()) <= 1e-6 * max(1.0, float(together.abs().max()))


@pytest.mark.parametrize("kind", SHAPES)
def test_a_new_head_stands_on_the_pretrained_tokens(kind: str, tmp_path: Path) -> None:
    """A checkpoint of the bare model, or of language modelling: the backbone is its, the head is drawn."""
    for task in ("", "CausalLM" if kind in DECODERS else "MaskedLM"):
        folder = tmp_path / (task or "bare")
        model = write_model(folder, kind, task=task)
        base = model.base_model
        pooling = "last" if kind in DECODERS else "mean"
        classifier, view = loaded(folder, length=16, head="new", pooling=pooling)
        texts = sentences(9)
        rows = batch(view, texts)
        with torch.inference_mode():
            ids, there = rows.long(), rows.long() != view.blank
            hidden = base(input_ids=torch.where(there, ids, 0), attention_mask=there.long()).last_hidden_state
            if pooling == "mean":
                want = torch.stack([hidden[row, : int(size)].mean(0) for row, size in enumerate(there.sum(1))])
            else:
                want = torch.stack([hidden[row, int(size) - 1] for row, size in enumerate(there.sum(1))])
            torch.testing.assert_close(classifier.features(rows), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "opt"])
def test_lora_adds_a_product_to_queries_and_values_alone(kind: str, tmp_path: Path) -> None:
    write_model(tmp_path, kind)
    classifier, view = loaded(tmp_path, length=16)
    layers = separate(classifier.net)
    assert len(layers) == 2 * 2
    assert projections(classifier.net) == []
    rows, changes = batch(view, sentences(7)), []
    for place, layer in enumerate(layers):
        change = WholeLowRank(layer.weight, 2, 0.5, torch.Generator().manual_seed(place))
        torch.nn.init.normal_(change.factor_b, std=0.5)
        changes.append((layer, change))

    def adapted(change: WholeLowRank) -> Callable[..., torch.Tensor]:
        return lambda _, given, output: output + 0.5 * (given[0] @ change.factor_a.T @ change.factor_b.T)

    with torch.no_grad():
        plain = classifier(rows)
        handles = [
            layer.register_forward_hook(
                lambda _, given, output, change=change: (
                    output + 0.5 * (given[0] @ change.factor_a.T @ change.factor_b.T)
                )
            )
            for layer, change in changes
        ]
        want = classifier(rows)
        for handle in handles:
            handle.remove()
        for layer, change in changes:
            layer.weight.copy_(change(layer.weight))
        torch.testing.assert_close(classifier(rows), want, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain, want, atol=1e-2)


def test_a_suite_of_a_transformer_runs_by_every_method_that_fits(tmp_path: Path) -> None:
    """From a folder to a table: masked and unmasked, trained, merged, probed and analysed."""
    write_model(tmp_path / "bert", "bert", classes=len(SETS["clean"][0]))
    methods = ["finetune", "linear_probe", "ewc", "lwf", "wise_ft", "lora", "soup"]
    row = {"transformers": "bert", "length": 12}
    fields: dict[str, Any] = {"runs": [{"methods": methods}], "analyses": [{"names": ["cka", "drift"]}]}
    rows = document(tmp_path, ("text",), **fields) | {"models": ["bert"], "model": {"bert": row}}
    suite = parse_suite(rows).based_at(tmp_path)
    finished = rib.run(suite, store=tmp_path / "store", how=How(workers=1, device="cpu"))
    assert finished.failed == {}
    found = {summary.method: summary for summary in finished.summaries}
    assert set(methods) <= set(found)
    assert all(found[method].mri is not None for method in methods)


def test_the_order_of_a_models_labels_is_that_of_its_files(tmp_path: Path) -> None:
    model = write_model(tmp_path, "bert", classes=("pos", "neg", "mid"))
    classifier, view = loaded(tmp_path, length=16)
    texts = sentences(5)
    tokenizer = write_tokenizer(tmp_path / "again", "bert")
    with torch.inference_mode():
        want = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, [1, 2, 0]]
        torch.testing.assert_close(classifier(batch(view, texts)), want, atol=1e-5, rtol=1e-5)
    write_model(tmp_path / "other", "bert", classes=("joy", "fear", "anger"))
    row = ModelRow(transformers=str(tmp_path / "other"), length=16)
    with pytest.raises(UserError, match=r"(?s)other.*joy"):
        weights_identity("m", row, describe(row, 3), Path(), CLASSES)


def refused(folder: Path, words: str, **row: Any) -> None:
    with pytest.raises(UserError, match=f"(?s){words}"):
        describe(ModelRow(transformers=str(folder), **row), 3)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m", "bert")
    write_tokenizer(tmp_path / "larger", "bert", [*VOCABULARY, "more"])
    refused(tmp_path / "m", r"tokenizer in .*larger is that of another model.*30 token ids, and embeddings for 29",
            tokenizer=str(tmp_path / "larger"))  # fmt: skip
    write_model(tmp_path / "far", "bert")
    document = json.loads((tmp_path / "far" / "config.json").read_text("utf-8"))
    (tmp_path / "far" / "config.json").write_text(json.dumps(document | {"vocab_size": 5_000}), "utf-8")
    refused(tmp_path / "far", r"is that of another model.*29 token ids, and embeddings for 5,000")
    write_tokenizer(tmp_path / "turned", "bert", ["[UNK]", "[PAD]", *VOCABULARY[2:]])
    refused(tmp_path / "m", r"pad with different tokens.*1 and 0", tokenizer=str(tmp_path / "turned"))


def stating(folder: Path, **fields: Any) -> Path:
    """A model's folder whose config.json states more."""
    document = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(document | fields), "utf-8")
    return folder


def marked(folder: Path, **marks: str) -> Path:
    """A folder whose tokenizer names more special tokens."""
    document = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(document | marks), "utf-8")
    return folder


TURNED = [*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]]
"""A vocabulary of the same size and special tokens, with two other words exchanged."""


def test_a_tokenizer_of_another_vocabulary_of_equal_size_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m", "bert")
    write_tokenizer(tmp_path / "turned", "bert", TURNED)
    write_tokenizer(tmp_path / "shorter", "bert", VOCABULARY[:-1])
    refused(tmp_path / "m", "another vocabulary than the one beside.*2 tokens have other ids, such as 'red': 28 and 27",
            tokenizer=str(tmp_path / "turned"))  # fmt: skip
    refused(tmp_path / "m", "another vocabulary.*1 tokens.*'two': none and 28", tokenizer=str(tmp_path / "shorter"))
    write_tokenizer(tmp_path / "same", "bert")
    row = ModelRow(transformers=str(tmp_path / "m"), tokenizer=str(tmp_path / "same"))
    assert not stated_inputs(row).unstated


def test_a_special_token_that_config_json_numbers_otherwise_is_refused(tmp_path: Path) -> None:
    """GPT-2's tokenizer on Pythia's weights: 20 ids fewer than embeddings, which are rounded up, but another end."""
    write_model(tmp_path / "end", "gpt2")
    marked(tmp_path / "end", eos_token="[SEP]")
    assert describe(ModelRow(transformers=str(tmp_path / "end")), 3)
    stating(tmp_path / "end", eos_token_id=0)
    refused(tmp_path / "end", "another model.*eos_token '\\[SEP\\]' with id 3, and eos_token_id = 0 in config.json")
    write_model(tmp_path / "list", "gpt2")
    stating(marked(tmp_path / "list", eos_token="[SEP]"), eos_token_id=[0, 3])
    assert describe(ModelRow(transformers=str(tmp_path / "list")), 3)
    for mark, number in {"cls": 3, "sep": 2, "mask": 1, "unk": 0}.items():
        write_model(tmp_path / mark, "bert")
        stating(tmp_path / mark, **{f"{mark}_token_id": number})
        refused(tmp_path / mark, f"{mark}_token_id = {number}")


@pytest.mark.parametrize("name", ["vocab.txt", "vocab.json"])
def test_two_vocabularies_in_one_folder_are_refused(name: str, tmp_path: Path) -> None:
    """A tokenizer.json of another model beside the model's own vocab file."""
    write_model(tmp_path, "bert")

    def listed(words: list[str]) -> str:
        numbers = {word: place for place, word in enumerate(words)}
        return json.dumps(numbers) if name.endswith("json") else "".join(f"{word}\n" for word in words)

    (tmp_path / name).write_text(listed(list(VOCABULARY)), "utf-8")
    assert describe(ModelRow(transformers=str(tmp_path)), 3)
    (tmp_path / name).write_text(listed(TURNED), "utf-8")
    refused(tmp_path, f"{name} and tokenizer.json.*2 tokens have other ids")


def test_a_tokenizer_that_nothing_ties_to_the_weights_is_named_in_every_report(tmp_path: Path) -> None:
    write_model(tmp_path / "bert", "bert", classes=len(SETS["clean"][0]))
    write_tokenizer(tmp_path / "words", "bert")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bert" / file).unlink()
    refused(tmp_path / "bert", "no tokenizer in")
    row = {"transformers": "bert", "tokenizer": "words", "length": 12}
    rows = document(tmp_path, ("text",), runs=[]) | {"models": ["bert"], "model": {"bert": row}}
    plan = make_plan(parse_suite(rows).based_at(tmp_path), tmp_path / "facts")
    assert any(words.startswith("bert has a tokenizer from another folder") for words in unstated(plan))


@pytest.mark.parametrize(("number", "words"), [(-1, "id -1"), (29, "id 29")])
def test_a_padding_token_without_an_embedding_is_refused(number: int, words: str, tmp_path: Path) -> None:
    write_model(tmp_path, "gpt2", pad=False)
    stating(tmp_path, pad_token_id=number)
    refused(tmp_path, f"padding token has no embedding.*{words}")


def test_labels_in_capitals_and_another_order_are_not_read_as_the_reference_sets(tmp_path: Path) -> None:
    """As published models of inference have them: CONTRADICTION first. They are refused, or put into order."""
    model = write_model(tmp_path, "bert", classes=("POS", "NEG", "MID"))
    row = ModelRow(transformers=str(tmp_path), length=16)
    try:
        weights_identity("m", row, describe(row, 3), Path(), CLASSES)
    except UserError as error:
        assert "POS" in str(error)  # noqa: PT017
    else:
        classifier, view = loaded(tmp_path, length=16)
        tokenizer = write_tokenizer(tmp_path / "again", "bert")
        with torch.inference_mode():
            want = model(**tokenizer(sentences(5), padding=True, return_tensors="pt")).logits[:, [1, 2, 0]]
            torch.testing.assert_close(classifier(batch(view, sentences(5))), want, atol=1e-5, rtol=1e-5)


def test_label2id_that_contradicts_id2label_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, "bert", classes=CLASSES)
    stating(tmp_path, label2id={"pos": 0, "neg": 1, "mid": 2})
    row = ModelRow(transformers=str(tmp_path), length=16)
    with pytest.raises(UserError):
        weights_identity("m", row, describe(row, 3), Path(), CLASSES)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_model_without_a_padding_token_says_which_could_be_it(kind: str, tmp_path: Path) -> None:
    write_model(tmp_path, kind, pad=False)
    refused(tmp_path, r"no padding token.*pad = ")
    refused(tmp_path, r"`pad` is no token", pad="<pad>")
    described = describe(ModelRow(transformers=str(tmp_path), pad="[SEP]", length=16), 3)
    assert described.arguments["pad"] == 3


@pytest.mark.parametrize(("kind", "most"), [("bert", 24), ("roberta", 23), ("gpt2", 24), ("opt", 24)])
def test_texts_longer_than_the_table_of_positions_are_refused(kind: str, most: int, tmp_path: Path) -> None:
    write_model(tmp_path, kind)
    refused(tmp_path, f"no positions for texts of {most + 1} tokens.*2 to {most}", length=most + 1)
    classifier, view = loaded(tmp_path, length=most)
    with torch.inference_mode():
        assert classifier(batch(view, [" ".join(["film"] * 40)])).isfinite().all()
    assert describe(ModelRow(transformers=str(tmp_path)), 3).view.shape == (most,)


@pytest.mark.parametrize("lost", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_names_it(lost: str, tmp_path: Path) -> None:
    write_model(tmp_path, "bert")
    (tmp_path / lost).unlink()
    row = ModelRow(transformers=str(tmp_path), length=16)
    with pytest.raises(UserError) as found:
        weights_identity("m", row, describe(row, 3), Path(), CLASSES)
    assert lost.partition(".")[0] in str(found.value)


def test_a_checkpoint_without_a_head_is_refused_with_the_way_to_train_one(tmp_path: Path) -> None:
    write_model(tmp_path, "bert", task="MaskedLM")
    row = ModelRow(transformers=str(tmp_path), length=16)
    with pytest.raises(UserError, match=r'(?s)no classification head.*head = "new"'):
        weights_identity("m", row, describe(row, 3), Path(), CLASSES)


def test_the_tokenizer_is_part_of_what_a_model_is(tmp_path: Path) -> None:
    write_model(tmp_path, "bert")
    row = ModelRow(transformers=str(tmp_path), length=16)
    before = describe(row, 3)
    write_tokenizer(tmp_path, "bert", [*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]])
    after = describe(row, 3)
    assert before.view != after.view
    assert before.view.name != after.view.name
    assert isinstance(before.view, Tokens)
    with pytest.raises(UserError, match="was replaced after the plan"):
        tokenized(before.view, ["a film"])
    ids = tokenized(after.view, ["a film"])  # type: ignore[arg-type]
    np.testing.assert_array_equal(ids[0][:4], [2, VOCABULARY.index("a"), VOCABULARY.index("film"), 3])


def test_compare_gates_a_text_model_and_refuses_another_reading(tmp_path: Path) -> None:
    write_model(tmp_path / "base", "bert", classes=SETS["clean"][0])
    write_model(tmp_path / "tuned", "bert", classes=SETS["clean"][0], seed=1)
    write_model(tmp_path / "shorter", "bert", classes=SETS["clean"][0], max_position_embeddings=12)
    suite = parse_suite(document(tmp_path, ("text",)) | {"runs": []}).based_at(tmp_path)
    pair = make_pair(suite, str(tmp_path / "base"), str(tmp_path / "tuned"), tuned_on="whole", cache=tmp_path / "facts")
    assert {run.fit.architecture.view for run in pair.plan.runs} == {pair.plan.runs[0].fit.architecture.view}
    with pytest.raises(UserError):
        make_pair(suite, str(tmp_path / "base"), str(tmp_path / "shorter"), cache=tmp_path / "facts")
    with pytest.raises(UserError, match="different kinds"):
        read_texts_alike(ModelRow(transformers=str(tmp_path / "base")), ModelRow(timm="resnet18"), tmp_path)
    one, two = (ModelRow(transformers=str(tmp_path / "base"), length=length) for length in (12, 16))
    with pytest.raises(UserError, match="read texts differently"):
        read_texts_alike(one, two, tmp_path)
