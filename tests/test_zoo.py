"""The shipped weights, and the road that made them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import rib
from rib.data import digits
from rib.models.catalogue import ROWS, ZOO
from rib.models.weights import read_weights
from rib.suite import Suite, load_suite, shipped
from rib.work import How

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
    finished = rib.run(_only(load_suite("digits"), runs=[]), store=store, how=ALONE)
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
    for name in ("digits", "digits-quick", "digits-study"):
        assert "digits:corrupted" not in load_suite(name).downstream
        assert "digits:corrupted" in load_suite(name).evaluate
    assert len(digits.render("corrupted", "test", 75).cells) == 15 * 5


def test_zoo_weights_are_finite_and_small() -> None:
    for file in ZOO.glob("*.safetensors"):
        assert file.stat().st_size < 500_000
        assert all(torch.isfinite(tensor).all() for tensor in read_weights(file).values())
