"""Feed: which road batches take to a device, and that by every road they are the same."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from helpers import SIDE, WHOLE, classifier, examples, same_weights
from rib.arrays import Rows
from rib.data import feed
from rib.data.examples import Examples
from rib.data.feed import Shelf, fed
from rib.models.weights import take_weights
from rib.recipe import Recipe
from rib.training.loop import train
from rib.training.predict import predict
from rib.training.training import Training

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
BYTES = 23 * SIDE * SIDE * 3
WANTED = [np.array([3, 1, 22]), slice(4, 9), np.array([0]), slice(0, 0), np.arange(23)[::-1].copy()]

DEVICES = [
    CPU,
    pytest.param(GPU, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is at hand")),
]


class Forced(Shelf):
    """A shelf that takes the same road to every device."""

    def __init__(self, road: feed.Road) -> None:
        super().__init__()
        self._road = road

    def road(self, images: object, device: torch.device) -> feed.Road:
        return self._road


@pytest.mark.parametrize(
    ("free", "total", "road"),
    [
        (BYTES + 1000, 4000, "resident"),
        (BYTES + 999, 4000, "pinned"),
        (10**9, 10**9, "resident"),
        (10**9, 5 * 10**9, "pinned"),
        (0, 10**9, "pinned"),
    ],
)
def test_a_pack_lives_on_a_gpu_that_has_a_quarter_left(free: int, total: int, road: str) -> None:
    images = examples(23).images
    assert Shelf(lambda _: (free, total)).road(images, GPU) == road


def test_a_cpu_is_not_asked_for_its_memory() -> None:
    assert Shelf(lambda _: pytest.fail("asked")).road(examples(23).images, CPU) == "plain"


def test_a_pack_is_copied_once_and_for_as_long_as_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PIECE", 5 * SIDE * SIDE * 3)
    shelf, seen = Shelf(lambda _: (10**9, 10**9)), examples(23)
    whole = shelf.on(seen.images, CPU)
    assert np.array_equal(whole.numpy(), seen.images)
    assert shelf.on(seen.take(np.array([2, 1])).images, CPU) is whole
    full = Shelf(lambda _: (0, 10**9), shelf._kept)
    assert full.road(examples(23).images, GPU) == "pinned"
    shelf._kept[id(seen.images), GPU] = whole
    assert full.road(seen.images, GPU) == "resident"  # it is there already, whatever is free now
    del shelf._kept[id(seen.images), GPU]
    assert len(shelf._kept) == 1
    del seen, whole
    gc.collect()
    assert len(shelf._kept) == 0


def test_a_device_that_ran_out_of_memory_gets_it_back_from_its_packs() -> None:
    shelf, seen = Shelf(lambda _: (10**9, 10**9)), examples(23)
    shelf._kept[id(seen.images), GPU] = torch.zeros(1)
    assert shelf.road(seen.images, GPU) == "resident"
    shelf.clear()
    assert shelf._kept == {}
    assert shelf.road(seen.images, GPU) == "pinned"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("road", ["plain", "resident", "pinned"])
def test_batches_are_the_same_by_every_road(road: feed.Road, device: torch.device) -> None:
    seen = examples(30).take(np.random.default_rng(0).permutation(30)[:23])
    found = list(fed(seen, iter(WANTED), device, Forced(road)))
    assert len(found) == len(WANTED)
    for batch, chosen in zip(found, WANTED, strict=True):
        assert batch.device == device
        assert np.array_equal(batch.cpu().numpy(), seen.batch(chosen))
    assert list(fed(seen, [], device, Forced(road))) == []


def test_the_next_batch_is_on_its_way_while_one_is_used() -> None:
    asked: list[int] = []

    def wanted() -> Iterator[Rows]:
        for number in range(4):
            asked.append(number)
            yield np.array([number])

    batches = fed(examples(5), wanted(), CPU, Forced("pinned"))
    next(batches)
    assert asked == [0, 1]
    next(batches)
    assert asked == [0, 1, 2]


def test_what_no_pack_holds_is_decoded_a_batch_ahead() -> None:
    asked: list[list[int]] = []
    told = threading.Condition()
    whole = examples(23)

    def decode(rows: Rows) -> Any:
        with told:
            asked.append(rows.tolist())
            told.notify()
        return whole.images[rows]

    seen = replace(whole, images=decode).take(np.arange(23)[::-1].copy())
    batches = fed(seen, WANTED, CPU)
    assert np.array_equal(next(batches).numpy(), whole.images[[19, 21, 0]])
    with told:
        assert told.wait_for(lambda: len(asked) == 2, timeout=60)
    assert asked == [[19, 21, 0], [18, 17, 16, 15, 14]]
    for batch, chosen in zip(batches, WANTED[1:], strict=True):
        assert np.array_equal(batch.numpy(), seen.batch(chosen))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("road", ["resident", "pinned"])
def test_training_and_prediction_are_the_same_by_every_road(
    road: feed.Road, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(seen: Examples) -> tuple[dict[str, torch.Tensor], np.ndarray]:
        net = classifier("resnet").to(device)
        train(net, Training(seen, WHOLE, Recipe(epochs=2, batch_size=5, lr=0.01), seed=0))
        found = predict(net, seen, WHOLE, batch_size=4)
        return take_weights(net.net), found.masked_confidence

    expected = run(examples(23))
    forced = Forced(road)
    for name in ("rib.training.loop.fed", "rib.training.predict.fed"):
        monkeypatch.setattr(name, lambda feed, rows, device: fed(feed, rows, device, forced))
    found = run(examples(23))
    if device.type == "cpu":
        assert same_weights(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])
    else:  # convolutions choose their order of summing anew
        assert np.allclose(found[1], expected[1], atol=1e-4)
