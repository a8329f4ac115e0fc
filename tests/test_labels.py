"""Label maps, and predictions masked and unmasked, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from helpers import classifier, examples
from rib.data.labels import LabelMap, match_classes
from rib.errors import UserError
from rib.training.predict import judge, predict

REFERENCE = ("ant", "bee", "cat", "dog", "elk")
SYNONYMS = LabelMap("x", ((4, 1), (0,), (2,)), 5)
MAPS = {
    "whole": LabelMap("x", tuple((index,) for index in range(5)), 5),
    "subset": LabelMap("x", ((3,), (0,), (4,)), 5),
    "synonyms": SYNONYMS,
}


def test_classes_are_matched_by_name_and_not_by_place() -> None:
    assert match_classes("x", ("dog", "ant"), REFERENCE).groups == ((3,), (0,))
    assert match_classes("x", REFERENCE, REFERENCE).whole
    assert not match_classes("x", REFERENCE[::-1], REFERENCE).whole


def test_other_names_and_synonyms() -> None:
    found = match_classes("x", ("hound", "insect", "cat"), REFERENCE, {"hound": ["dog"], "insect": ["bee", "ant"]})
    assert found.groups == ((3,), (1, 0), (2,))
    assert found.inverse() == (1, 1, 2, 0, -1)
    assert found.outputs == 5


@pytest.mark.parametrize(
    ("classes", "labels", "text"),
    [
        (("ant", "wasp"), {}, "does not cover class 'wasp'"),
        (("ant", "wasp"), {"wasp": ["hornet"]}, "does not cover class 'wasp'"),
        (("ant",), {"wasp": ["bee"]}, "names a class that the data set does not have"),
        (("ant", "pismire"), {"pismire": ["ant"]}, "gives the reference class 'ant' to two classes"),
        (("a", "b"), {"a": ["ant", "bee"], "b": ["bee"]}, "gives the reference class 'bee' to two classes"),
    ],
)
def test_maps_that_do_not_fit(classes: tuple[str, ...], labels: dict[str, list[str]], text: str) -> None:
    with pytest.raises(UserError, match=text):
        match_classes("mine", classes, REFERENCE, labels)


@pytest.mark.parametrize("name", MAPS)
def test_predictions_against_a_loop(name: str) -> None:
    label_map = MAPS[name]
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 2, (40, 5)).astype(np.float32)
    labels = generator.integers(len(label_map.groups), size=40)
    found = judge(torch.from_numpy(logits), torch.from_numpy(labels), label_map)
    for row, (values, label) in enumerate(zip(logits.tolist(), labels.tolist(), strict=True)):
        masked = [max(values[index] for index in group) for group in label_map.groups]
        powers = [math.exp(value) for value in masked]
        probabilities = [power / sum(powers) for power in powers]
        chosen = masked.index(max(masked))
        assert found.masked_class[row] == chosen
        assert found.masked_right[row] == (chosen == label)
        assert found.masked_confidence[row] == pytest.approx(max(probabilities), rel=1e-5)
        assert found.masked_label_probability[row] == pytest.approx(probabilities[label], rel=1e-5)
        truth = [float(index == label) for index in range(len(masked))]
        brier = sum((p - t) ** 2 for p, t in zip(probabilities, truth, strict=True))
        assert found.masked_brier[row] == pytest.approx(brier, rel=1e-4, abs=1e-6)
        output = values.index(max(values))
        assert found.unmasked_class[row] == output
        assert found.unmasked_right[row] == (output in label_map.groups[label])
        everything = sum(math.exp(value) for value in values)
        assert found.unmasked_confidence[row] == pytest.approx(math.exp(max(values)) / everything, rel=1e-5)
    assert found.masked_right.sum() >= found.unmasked_right.sum()
    if name == "whole":
        assert np.array_equal(found.masked_right, found.unmasked_right)
    if name == "subset":
        assert found.masked_right.sum() > found.unmasked_right.sum()


def test_the_mask_passes_gradients_to_the_classes_of_the_set_alone() -> None:
    logits = torch.zeros(2, 5, requires_grad=True)
    MAPS["subset"].mask(logits)[:, 0].sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0, 0, 0, 1, 0]] * 2


@pytest.mark.parametrize("batch_size", [1, 7, 23, 100])
def test_batches_do_not_matter_and_none_is_lost(batch_size: int) -> None:
    net, pool = classifier("dropout"), examples(23)
    net.train()  # prediction puts it in evaluation mode
    counts: list[int] = []
    label_map = LabelMap("x", ((0,), (1,), (2,), (3,)), 4)
    found = predict(net, pool, label_map, batch_size=batch_size, watch=counts.append)
    expected = net.eval()(torch.from_numpy(pool.batch(slice(None)))).argmax(dim=1).numpy()
    assert found.masked_class.tolist() == expected.tolist()
    assert found.masked_right.tolist() == (expected == pool.labels).tolist()
    assert sum(counts) == 23
    assert max(counts) <= batch_size
