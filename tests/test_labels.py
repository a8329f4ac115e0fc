"""Label maps, and predictions masked and unmasked, against plain loops."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from helpers import classifier, examples
from rib.data.catalogue import DataRow
from rib.data.imagenet_classes import wnids
from rib.data.labels import LabelMap, match_classes
from rib.data.named_maps import read_map
from rib.errors import UserError
from rib.training.predict import judge, predict

REFERENCE = ("ant", "bee", "cat", "dog", "elk")
SYNONYMS = LabelMap("x", ((4, 1), (0,), (2,)), 5)
MAPS = {
    "whole": LabelMap("x", tuple((index,) for index in range(5)), 5),
    "subset": LabelMap("x", ((3,), (0,), (4,)), 5),
    "synonyms": SYNONYMS,
    "mean": replace(SYNONYMS, combine="mean"),
    "sum": replace(SYNONYMS, combine="sum"),
}


def combined(label_map: LabelMap, values: list[float], group: tuple[int, ...]) -> float:
    """The logit of a class of the set: of the largest, the mean or the sum of what its synonyms have."""
    if label_map.combine is None:
        return max(values[index] for index in group)
    powers = [math.exp(values[index]) for index in group]
    return math.log(sum(powers) / (len(powers) if label_map.combine == "mean" else 1))


def test_classes_are_matched_by_name_and_not_by_place() -> None:
    assert match_classes("x", ("dog", "ant"), REFERENCE).groups == ((3,), (0,))
    assert match_classes("x", REFERENCE, REFERENCE).whole
    assert not match_classes("x", REFERENCE[::-1], REFERENCE).whole


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Dog", "'Dog' = 'dog'"),
        ("_dog ", "'_dog ' = 'dog'"),
        ("dog ", "got:    'dog '"),
        ("wasp", "'wasp' = 'a class of the reference set'"),
    ],
)
def test_the_remedy_for_a_class_without_a_partner_names_no_wrong_one(name: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        match_classes("x", (name,), REFERENCE)
    assert words in str(error.value)


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
        (("a", "b"), {"a": ["ant", "bee", "ant"], "b": ["cat"]}, "names the reference class 'ant' twice for class 'a'"),
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
        masked = [combined(label_map, values, group) for group in label_map.groups]
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
    if label_map.combine is None:
        assert found.masked_right.sum() >= found.unmasked_right.sum()
    if name == "whole":
        assert np.array_equal(found.masked_right, found.unmasked_right)
    if name == "subset":
        assert found.masked_right.sum() > found.unmasked_right.sum()


def test_sums_of_probabilities_can_choose_another_class_than_the_largest_does() -> None:
    values = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.2, 0.0, 1.0]])
    largest, mean, total = (
        replace(SYNONYMS, combine=combine).mask(values).argmax(dim=1).tolist() for combine in (None, "mean", "sum")
    )
    assert (largest, mean, total) == ([0, 2], [0, 2], [0, 0])


def test_the_rule_is_part_of_the_map_only_if_a_class_has_synonyms() -> None:
    plain = match_classes("x", ("dog", "ant"), REFERENCE)
    assert match_classes("x", ("dog", "ant"), REFERENCE, combine="mean") == plain
    several = match_classes("x", ("pet",), REFERENCE, {"pet": ("cat", "dog")}, combine="mean")
    assert several.combine == "mean"


def test_the_shipped_maps_have_the_published_sizes(tmp_path: Path) -> None:
    sizes = {"airplane": 1, "bear": 4, "bicycle": 2, "bird": 49, "boat": 5, "bottle": 7, "car": 3, "cat": 6, "chair": 4}
    sizes |= {"clock": 3, "dog": 109, "elephant": 2, "keyboard": 2, "knife": 1, "oven": 1, "truck": 8}
    entry16 = read_map("imagenet:entry16", tmp_path)
    assert {name: len(each) for name, each in entry16.items()} == sizes
    pacs = read_map("imagenet:pacs", tmp_path)
    assert {name: len(each) for name, each in pacs.items()} == {"dog": 118, "elephant": 3, "guitar": 2, "horse": 1}
    for table in (entry16, pacs):
        listed = [wnid for each in table.values() for wnid in each]
        assert len(set(listed)) == len(listed)
        assert set(listed) <= set(wnids())
    assert pacs["horse"] == ("n02389026",)


@pytest.mark.parametrize("text", ["dog = 3", "dog = []", "dog = ['a', 2]", "[dog]\na = 'b'", "not toml"])
def test_a_file_that_is_no_map_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(UserError, match=r"map\.toml"):
        read_map("map.toml", tmp_path)


def test_one_class_written_in_two_ways_is_refused(tmp_path: Path) -> None:
    """ "é" as one character, and as a letter with an accent: the second line would replace the first."""
    (tmp_path / "map.toml").write_text('"caf\u00e9" = "ant"\n"cafe\u0301" = "bee"\n', "utf-8")
    with pytest.raises(UserError, match="two lines for the class 'café'"):
        read_map("map.toml", tmp_path)


def test_a_map_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no label map") as caught:
        read_map("imagenet:pascal", tmp_path)
    assert "imagenet:entry16" in str(caught.value)


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


def test_a_list_of_classes_can_be_named() -> None:
    row = DataRow(folder="photos", classes="imagenet", absent_classes=True)
    assert row.classes == wnids()
    with pytest.raises(ValidationError, match="absent_classes goes with"):
        DataRow(folder="photos", absent_classes=True)


def test_a_named_map_is_cut_to_the_classes_of_the_set(tmp_path: Path) -> None:
    row = DataRow(folder="x", labels="imagenet:pacs", combine="mean")
    assert row.label_targets(tmp_path, ("horse", "house")) == {"horse": ("n02389026",)}
    assert row.labels_words == "labels imagenet:pacs, mean of the synonyms' probabilities"


@pytest.mark.parametrize(("count", "listed"), [(12, "c11"), (13, "c11, … (13 in all)")])
def test_many_valid_classes_are_cut_short(count: int, listed: str) -> None:
    names = tuple(f"c{place}" for place in range(count))
    with pytest.raises(UserError) as caught:
        match_classes("x", names, names, {"unknown": ("c0",)})
    assert f"{listed}\n" in f"{caught.value}\n"
