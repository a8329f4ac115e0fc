"""A view that is no image passes from a data set to predictions: above data/ and models/ nothing knows of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import write_tree
from rib.data.ahead import chunks, streamed
from rib.data.base import DataSet
from rib.data.budget import divided, pack_bytes
from rib.data.catalogue import DataRow, open_data
from rib.data.decoded import Decoded
from rib.data.examples import Examples, Index, Part
from rib.data.feed import Road, Shelf, fed
from rib.data.labels import LabelMap
from rib.data.pack import check_pack, open_pack, pack_file
from rib.data.views import Inputs, Pixels, View
from rib.errors import UserError
from rib.models.classifier import Classifier
from rib.models.weights import take_weights
from rib.recipe import Recipe
from rib.training.loop import train
from rib.training.predict import Predictions, collect, predict, read_out
from rib.training.sweep import Asked, predict_chunk
from rib.training.training import Training

WORDS, LENGTH, CLASSES = 300, 7, 3


@dataclass(frozen=True)
class Tokens(View):
    """Token ids, uint16 (length,)."""

    length: int

    @property
    def name(self) -> str:
        return f"tokens-{self.length}"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16)

    @property
    def words(self) -> str:
        return f"{self.length} tokens"

    @property
    def form(self) -> str:
        return f"token ids, uint16 (n, {self.length})"


class Sentences(DataSet):
    """Sentences of random words; the label is written in the first one's remainder."""

    name, family, units = "own:sentences", "sentences", "sentence"
    classes = ("ant", "bee", "cat")
    disjoint, chunk = True, 4

    def __init__(self) -> None:
        drawn = np.random.default_rng(0)
        self.sentences = drawn.integers(0, WORDS, (24, 9)).astype(np.uint16)

    def index(self, part: Part) -> Index:
        return Index((self.sentences[:, 0] % CLASSES).astype(np.int64), np.arange(24))

    def fingerprint(self, part: Part) -> str:
        return f"{part}-of-the-sentences-0123456789"

    def reading_order(self, part: Part) -> Any:
        return np.arange(24)[::-1]

    def read(self, part: Part, rows: Sequence[int], view: View) -> Inputs:
        return self.sentences[np.asarray(rows), : view.shape[0]]


class Bag(nn.Module):
    """The mean of embedded words, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens).mean(dim=1))


class Long(nn.Module):
    """Token ids as torch looks them up."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.long()


def bag() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Bag(), CLASSES, prepare=Long())


VIEW = Tokens(LENGTH)
MAP = LabelMap("by name", ((0,), (1,), (2,)), CLASSES)
RECIPE = Recipe(epochs=2, batch_size=5, lr=0.1)


@pytest.fixture(params=["pack", "stream"])
def sentences(request: pytest.FixtureRequest, tmp_path: Path) -> Examples:
    decoded = Decoded(Sentences(), "test", VIEW)
    return open_pack(decoded, tmp_path) if request.param == "pack" else streamed(decoded)


def test_a_pack_of_tokens_is_a_file_of_tokens(tmp_path: Path) -> None:
    data = Sentences()
    decoded = Decoded(data, "test", VIEW)
    assert (VIEW.bytes, decoded.bytes, pack_bytes(decoded)) == (14, 24 * 14, 24 * 18)
    assert divided([decoded], tmp_path, 24 * 18) == ([decoded], [])
    assert divided([decoded], tmp_path, 24 * 18 - 1) == ([], [decoded])
    pack = open_pack(decoded, tmp_path)
    file = pack_file(decoded, tmp_path)
    assert file.name == "test-of-the-sentences-01-tokens-7.npy"
    assert np.load(file).dtype == np.uint16
    assert np.array_equal(np.load(file), data.sentences[:, :LENGTH])
    assert np.array_equal(pack.take(np.array([5, 1])).batch(slice(None)), data.sentences[[5, 1], :LENGTH])
    content = np.load(file)
    content[3, 2] += 1
    np.save(file, content)
    said: list[str] = []
    check_pack(decoded, tmp_path, say=said.append)
    assert "1 images" in said[0]
    assert np.array_equal(np.load(file), data.sentences[:, :LENGTH])


def by_road(road: Road) -> Shelf:
    class Forced(Shelf):
        def road(self, images: Inputs, device: torch.device) -> Road:
            return road

    return Forced()


@pytest.mark.parametrize("road", ["plain", "resident", "pinned"])
def test_tokens_reach_the_device_by_every_road(road: Road, sentences: Examples) -> None:
    batches = list(fed(sentences, [np.array([3, 1]), slice(5, 8)], torch.device("cpu"), by_road(road)))
    assert [batch.dtype for batch in batches] == [torch.uint16] * 2
    assert np.array_equal(torch.cat(batches).numpy(), Sentences().sentences[[3, 1, 5, 6, 7], :LENGTH])


def test_tokens_are_trained_on_as_a_plain_loop_would(sentences: Examples) -> None:
    net, plain = bag(), bag().net
    recipe = Recipe(steps=1, batch_size=24, lr=0.1)
    outcome = train(net, Training(sentences, MAP, recipe, seed=0))
    tokens = torch.from_numpy(Sentences().sentences[:, :LENGTH].astype(np.int64))
    loss = F.cross_entropy(plain(tokens), torch.from_numpy(sentences.labels))
    loss.backward()
    assert outcome.losses == pytest.approx([float(loss.detach())], rel=1e-5)
    for name, value in plain.named_parameters():
        assert value.grad is not None
        stepped = value.detach() - recipe.lr * recipe_rate(recipe) * value.grad
        torch.testing.assert_close(net.net.get_parameter(name), stepped, rtol=1e-4, atol=1e-6)


def recipe_rate(recipe: Recipe) -> float:
    """Of the only step: all of the peak, or the first of the warm-up."""
    return 1 / recipe.warmup(1) if recipe.warmup(1) else 1.0


def same(one: Predictions, other: Predictions) -> bool:
    return all(np.array_equal(value, vars(other)[name]) for name, value in vars(one).items())


def test_tokens_are_predicted_whole_in_chunks_and_from_features(sentences: Examples) -> None:
    net = bag()
    train(net, Training(sentences, MAP, RECIPE, seed=0))
    found = predict(net, sentences, MAP, batch_size=4)
    logits = net.eval()(torch.from_numpy(sentences.batch(slice(None))))
    assert np.array_equal(found.masked_class, logits.argmax(dim=1).numpy())
    asked = Asked(net, net.head, MAP, "fp32")
    for chunk in chunks(Decoded(Sentences(), "test", VIEW), 8):
        predict_chunk(chunk, [asked], 4, lambda images: None)
    assert same(asked.predictions, found)
    features = collect(net, net.features, sentences, 4)
    assert torch.equal(read_out(net, features, 4, "fp32"), collect(net, net.forward, sentences, 4))


def test_a_head_alone_is_trained_on_features_of_tokens(sentences: Examples) -> None:
    net = bag()
    before = take_weights(net.net)
    train(net, Training(sentences, MAP, RECIPE, seed=0, trainable=net.head_parameters))
    after = take_weights(net.net)
    assert {name for name in after if not torch.equal(before[name], after[name])} == net.head_parameters


def test_images_are_not_given_to_a_model_of_tokens(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", per_class=2)
    data = open_data("own", DataRow(folder="tree", test_fraction=0.5), tmp_path, None)
    with pytest.raises(UserError, match="holds images, and the model takes none") as error:
        data.read("test", [0], VIEW)
    assert "7 tokens" in str(error.value)
    assert data.read("test", [0], Pixels(5)).shape == (1, 5, 5, 3)
