"""The shipped weights, and the road that made them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import rib
from rib.data import digits
from rib.data.digits.domains import PRETRAINING_TABLE
from rib.data.examples import Examples, Index
from rib.data.labels import LabelMap
from rib.models.build import build
from rib.models.catalogue import ROWS, ZOO
from rib.models.describe import describe
from rib.models.loading import load_pretrained
from rib.models.weights import read_weights
from rib.steps import How
from rib.suite.load import load_suite, shipped
from rib.suite.suite import Suite
from rib.training.predict import predict

ALONE = How(workers=1, device="cpu")

# Table of docs/zoo.md: mean accuracy on the seven downstream sets, percent.
OOD = {
    "resnet_small": 50.1,
    "resnet_medium": 65.6,
    "resnet_large": 82.4,
    "vit_small": 47.7,
    "vit_medium": 69.9,
    "vit_large": 83.1,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo") / "store"


def _only(suite: Suite, **fields: object) -> Suite:
    return Suite.model_validate(suite.model_dump(exclude_unset=True) | fields)


def test_the_zoo_scores_what_its_table_says(store: Path) -> None:
    finished = rib.run(
        _only(load_suite("digits"), models=[f"digits:{name}" for name in OOD], runs=[], analyses=[]),
        store=store,
        how=ALONE,
    )
    start = {row.model: row.ood_before.value for row in finished.summaries if row.ood_before}
    assert start == pytest.approx(OOD, abs=0.3)  # pixels may differ in the last bit between kinds of processor
    for family in ("resnet", "vit"):
        assert start[f"{family}_small"] < start[f"{family}_medium"] < start[f"{family}_large"]
        assert 60 < start[f"{family}_large"] < 85


def test_the_pretraining_suite_makes_every_shipped_model() -> None:
    suite = load_suite("digits-pretrain")
    assert {f"digits:{name}" for name in suite.models} == {name for name in ROWS if name.startswith("digits:")}
    for name in suite.models:
        assert suite.model[name].build == ROWS[f"digits:{name}"].build
        assert (ZOO / f"{name}.safetensors").is_file()


def test_the_pretraining_road_learns(store: Path, tmp_path: Path) -> None:
    """One epoch in place of fifteen: far above chance, of the shipped shapes, and written where export says."""
    whole = load_suite("digits-pretrain")
    row = whole.model["resnet_small"].model_dump(exclude_unset=True)
    row["pretrain"]["recipe"]["epochs"] = 2
    short = _only(whole, models=["resnet_small"], model={"resnet_small": row}, evaluate=[])
    finished = rib.run(short, store=store, how=ALONE)
    (summary,) = finished.summaries
    assert summary.reference_before is not None
    assert summary.reference_before.value > 40
    pretrained = next(step for step in finished.results.plan.steps if type(step).__name__ == "Pretrain")
    made = finished.results.store.weights(pretrained.key)
    shapes = {name: tensor.shape for name, tensor in read_weights(ZOO / "resnet_small.safetensors").items()}
    assert {name: tensor.shape for name, tensor in made.items()} == shapes


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_suite_loads(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert suite.description


def test_corruptions_are_never_tuned_on() -> None:
    for name in ("digits", "digits-quick"):
        assert "digits:corrupted" not in load_suite(name).downstream
        assert "digits:corrupted" in load_suite(name).evaluate
    assert len(digits.render("corrupted", "test", 75).cells) == 15 * 5


DIGITS = [name for name in ROWS if name.startswith("digits:")]


def test_every_shipped_model_is_as_good_on_the_reference_set_as_its_table_says() -> None:
    data, index = digits.render("ref", "test"), np.arange(449)
    examples = Examples.whole(data.images, Index(data.labels, index))
    label_map = LabelMap("all", tuple((label,) for label in range(10)), 10)
    table = (Path(__file__).parents[1] / "docs" / "zoo.md").read_text("utf-8")
    said = {
        name: float(ref) for name, ref in re.findall(r"^\| ((?:resnet|vit)_\w+) \| ([\d.]+) \|", table, re.MULTILINE)
    }
    found = {}
    for name in DIGITS:
        row = ROWS[name]
        architecture = describe(row, 10)
        classifier = build(architecture)
        classifier.net.load_state_dict(load_pretrained(name, row, architecture, Path()))
        right = predict(classifier, examples, label_map, batch_size=449).masked_right
        found[name.removeprefix("digits:")] = 100 * float(right.mean())
    assert found == pytest.approx(said, abs=0.5)
    assert min(found.values()) > 60


def test_the_catalogue_describes_what_it_ships() -> None:
    for name in DIGITS:
        row, made = ROWS[name], load_suite("digits-pretrain").model[name.removeprefix("digits:")].pretrain
        assert made is not None
        assert made.data == f"digits:pretrain_{row.pretraining}"
        assert made.seed == row.pretraining_seed
        assert (made.objective or "supervised") == row.objective or made.objective["kind"] == row.objective
        assert row.pretraining_images == sum(count for _, _, count in PRETRAINING_TABLE[f"pretrain_{row.pretraining}"])
    groups = Counter((row.family, row.objective, row.pretraining) for row in map(ROWS.__getitem__, DIGITS))
    assert len(groups) == 14
    assert set(groups.values()) == {3}  # seeds


def test_imagenet_rows_are_described_too() -> None:
    rows = {name.removeprefix("imagenet:"): row for name, row in ROWS.items() if name.startswith("imagenet:")}
    assert all(row.family and row.objective for row in rows.values())
    assert (rows["vit_b16_in21k_p"].family, rows["vit_b16_in21k_p"].objective) == ("vit_base_patch16", "supervised")
    assert (rows["vit_b32_laion2b"].family, rows["vit_b32_laion2b"].objective) == (
        "vit_base_patch32",
        "clip, fine-tuned",
    )
    assert (rows["clip_b32_laion2b"].family, rows["clip_b32_laion2b"].objective) == ("vit_base_patch32", "clip")
    assert rows["resnet50"].family == "resnet50"


def test_zoo_weights_are_finite_and_small() -> None:
    for file in ZOO.glob("*.safetensors"):
        assert file.stat().st_size < 500_000
        assert all(torch.isfinite(tensor).all() for tensor in read_weights(file).values())
